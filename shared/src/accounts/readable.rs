//! What a key may read of what happened.

use uuid::Uuid;

use super::scopes::{Scope, Scopes};
use crate::error::Result;
use crate::events::EventType;
use crate::events::feed::Filter;

impl Scope {
    /// The scope that starts jobs of a kind.
    pub fn of_job(kind: &str) -> Self {
        match kind {
            "undo_import" => Self::Imports,
            "replay_webhook" => Self::Webhooks,
            kind if kind.starts_with("import_") => Self::Imports,
            _ => Self::Workflows,
        }
    }

    /// The scopes that start jobs.
    pub const STARTING: [Self; 3] = [Self::Imports, Self::Workflows, Self::Webhooks];

    /// The scope that reads events of a type; `None` for those of jobs, whose kind decides, and for tests of webhooks.
    pub fn of_event(event_type: EventType) -> Option<Self> {
        match event_type.family() {
            "job" | "ping" => None,
            "email" | "suppression" => Some(Self::EmailsRead),
            "settings" | "user" => Some(Self::Settings),
            "api_key" => Some(Self::Keys),
            "webhook" => Some(Self::Webhooks),
            "schedule" => Some(Self::Workflows),
            _ => Some(Self::RecordsRead),
        }
    }
}

/// The conditions of the kinds of jobs that keys start, as [`Scope::of_job`] decides: the place of a condition is the
/// sum of 1 for the scope `imports`, 2 for `workflows` and 4 for `webhooks`.
pub const KINDS: [Option<&str>; 8] = [
    Some("false"),
    Some("(starts_with(kind, 'import_') OR kind = 'undo_import')"),
    Some("NOT (starts_with(kind, 'import_') OR kind IN ('undo_import', 'replay_webhook'))"),
    Some("kind <> 'replay_webhook'"),
    Some("kind = 'replay_webhook'"),
    Some("(starts_with(kind, 'import_') OR kind IN ('undo_import', 'replay_webhook'))"),
    Some("NOT (starts_with(kind, 'import_') OR kind = 'undo_import')"),
    None,
];

/// The place in [`KINDS`] of the jobs that a key with these scopes may start.
pub fn kinds(scopes: Scopes) -> usize {
    let starts = Scope::STARTING.iter().enumerate().filter(|(_, scope)| scopes.allows(**scope));
    starts.map(|(at, _)| 1 << at).sum()
}

/// The events of the feed that a key with these scopes may read: of these types, or of all.
///
/// # Errors
/// [`Error::Forbidden`](crate::Error::Forbidden) for types that the key may not read.
pub fn feed(scopes: Scopes, types: Vec<EventType>, subject_id: Option<Uuid>) -> Result<Filter> {
    if scopes.has(Scope::All) {
        return Ok(Filter { types, subject_id, ..Filter::default() });
    }
    let kinds = kinds(scopes);
    let is_readable = |event_type: &EventType| match Scope::of_event(*event_type) {
        Some(scope) => scopes.allows(scope),
        None => event_type.family() != "job" || kinds > 0,
    };
    let unreadable = types.iter().filter(|event_type| !is_readable(event_type));
    let needed = unreadable.map(|event_type| Scope::of_event(*event_type).unwrap_or(Scope::Workflows)).collect();
    scopes.must(needed)?;
    let types = if types.is_empty() { EventType::PUBLIC.to_vec() } else { types };
    Ok(Filter {
        types: types.into_iter().filter(is_readable).collect(),
        subject_id,
        jobs: KINDS[kinds],
        without_previews: !scopes.allows(Scope::RecordsRead),
    })
}
