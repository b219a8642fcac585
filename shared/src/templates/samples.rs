//! What templates are given: for each event, an example with everything and one with no more than must
//! be there. A template is checked, and previewed, over these.

use serde_json::{Value, json};

use super::{MAX_ITEMS, TemplateName};

/// An example in which everything is there.
pub fn full(name: TemplateName) -> Value {
    let person = json!({
        "name": "Jane Smith", "first_name": "Jane", "email": "jane@example.com", "company": "Tech Corp"
    });
    context(name, person, "https://crm.example.com/unsubscribe/token", 3)
}

/// An example in which nothing is there that may be missing.
pub(super) fn sparse(name: TemplateName) -> Value {
    let person = json!({ "name": "J", "first_name": "J", "email": "j@example.com", "company": null });
    context(name, person, "https://crm.example.com/unsubscribe/token", 1)
}

/// An example that is as large as any.
pub(super) fn large(name: TemplateName) -> Value {
    context(
        name,
        json!({
            "name": "N".repeat(200), "first_name": "N".repeat(200), "email": "jane@example.com", "company": "C".repeat(200)
        }),
        "https://crm.example.com/unsubscribe/token",
        MAX_ITEMS,
    )
}

fn context(name: TemplateName, person: Value, unsubscribe_url: &str, items: usize) -> Value {
    let sender = json!({ "name": "Example Ltd" });
    match name {
        TemplateName::Nurture => json!({ "lead": person, "sender": sender, "unsubscribe_url": unsubscribe_url }),
        TemplateName::FeedbackRequest | TemplateName::FeedbackReminder => json!({
            "customer": person,
            "sender": sender,
            "url": "https://crm.example.com/feedback/token",
            "unsubscribe_url": unsubscribe_url,
        }),
        TemplateName::Followups => json!({
            "user": { "name": person["name"] },
            "items": (0..items).map(|place| item(&person, place)).collect::<Vec<_>>(),
            "count": items,
        }),
    }
}

/// What is due, more and less of it in turn.
fn item(person: &Value, place: usize) -> Value {
    let is_full = place.is_multiple_of(2);
    json!({
        "name": person["name"],
        "email": person["email"],
        "kind": if is_full { "lead" } else { "customer" },
        "next_action": if is_full { json!("Send the offer") } else { Value::Null },
        "next_action_date": "2026-01-15",
        "subject": if is_full { json!("First call") } else { Value::Null },
    })
}
