//! Sample variables for each event: one sample with all optional values, one without them, and one
//! of the maximum size. Templates are checked with all three; previews use the first.

use serde_json::{Value, json};

use super::MAX_ITEMS;
use crate::mail::event::Event;

const UNSUBSCRIBE: &str = "https://crm.example.com/unsubscribe/token";

/// A sample with all optional values.
pub fn full(event: Event) -> Value {
    let person = json!({
        "name": "Jane Smith", "first_name": "Jane", "email": "jane@example.com", "company": "Tech Corp"
    });
    context(event, &person, 3, 3)
}

/// A sample without optional values.
pub(super) fn sparse(event: Event) -> Value {
    context(event, &json!({ "name": "J", "first_name": "J", "email": "j@example.com", "company": null }), 1, 1)
}

/// A sample of the maximum size.
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
            "items": (0..items).map(|index| item(person, index)).collect::<Vec<_>>(),
            "count": count,
        }),
        Event::WebhookDisabled => json!({ "webhook": {
            "url": "https://example.com/hooks",
            "description": person["company"],
            "failing_since": "2026-01-15 10:00 UTC",
        } }),
        // The email that is tested has the variables of its own event.
        Event::Test => json!({}),
    }
}

/// An item of the digest: every second one has no optional values.
fn item(person: &Value, index: usize) -> Value {
    let is_full = index.is_multiple_of(2);
    json!({
        "name": person["name"],
        "email": person["email"],
        "kind": if is_full { "lead" } else { "customer" },
        "next_action": if is_full { json!("Send the offer") } else { Value::Null },
        "next_action_date": "2026-01-15",
        "subject": if is_full { json!("First call") } else { Value::Null },
    })
}
