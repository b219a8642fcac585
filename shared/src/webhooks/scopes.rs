//! What an endpoint may read: what the key that created it may read.

use serde::Deserialize;

use crate::events::Event;

/// The scope that reads everything.
const ALL: &str = "*";

/// The part of a job that decides who may read it.
#[derive(Deserialize)]
struct Kind<'a> {
    kind: &'a str,
}

/// Whether an owner with these scopes may read an event.
pub(super) fn may_read(scopes: &[String], event: &Event) -> bool {
    scopes.iter().any(|scope| scope == ALL || scope == needed(event))
}

/// The scope that an event needs.
fn needed(event: &Event) -> &'static str {
    match event.event_type.family() {
        "email" | "suppression" => "emails:read",
        "settings" | "user" => "settings",
        "api_key" => "keys",
        "webhook" => "webhooks",
        "job" => match serde_json::from_str::<Kind<'_>>(event.data.get()) {
            Ok(Kind { kind }) if kind.starts_with("import_") || kind == "undo_import" => "imports",
            _ => "workflows",
        },
        _ => "records:read",
    }
}
