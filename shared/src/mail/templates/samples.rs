//! What templates are given: for each event, an example with everything and one with no more than must
//! be there. A template is checked, and previewed, over these.

use serde_json::{Value, json};

use super::MAX_ITEMS;
use crate::mail::event::Event;

const UNSUBSCRIBE: &str = "https://crm.example.com/unsubscribe/token";

/// An example in which everything is there.
pub fn full(event: Event) -> Value {
    let person = json!({
        "name": "Jane Smith", "first_name": "Jane", "email": "jane@example.com", "company": "Tech Corp"
    });
    context(event, &person, 3, 3)
}

/// An example in which nothing is there that may be missing.
pub(super) fn sparse(event: Event) -> Value {
    context(event, &json!({ "name": "J", "first_name": "J", "email": "j@example.com", "company": null }), 1, 1)
}

/// An example that is as large as any.
pub(super) fn large(event: Event) -> Value {
    let person = json!({
        "name": "N".repeat(200), "first_name": "N".repeat(200), "email": "jane@example.com", "company": "C".repeat(200)
    });
    context(event, &person, MAX_ITEMS, 10 * MAX_ITEMS)
}

fn context(event: Event, person: &Value, items: usize, count: usize) -> Value {
    let sender = json!({ "name": "Example Ltd" });
    match event {
        Event::Nurture => json!({ "lead": person, "sender": sender, "unsubscribe_url": UNSUBSCRIBE }),
        Event::FeedbackRequest | Event::FeedbackReminder => json!({
            "customer": person,
            "sender": sender,
            "url": "https://crm.example.com/feedback/token",
            "unsubscribe_url": UNSUBSCRIBE,
        }),
        Event::Followups => json!({
            "user": { "name": person["name"] },
            "items": (0..items).map(|place| item(person, place)).collect::<Vec<_>>(),
            "count": count,
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
