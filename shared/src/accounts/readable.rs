//! What a key may read of what happened.

use uuid::Uuid;

use super::scopes::{Scope, Scopes};
use crate::error::Result;
use crate::events::EventType;
use crate::events::feed::Filter;

impl Scope {
    /// The scope that starts jobs of a kind.
    pub fn of_job(kind: &str) -> Self {
        if kind.starts_with("import_") || kind == "undo_import" { Self::Imports } else { Self::Workflows }
    }

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

/// The events of jobs that the scope `imports` starts, as [`Scope::of_job`] decides, and of all other subjects.
const IMPORTS: &str =
    "(subject_type <> 'job' OR starts_with(data ->> 'kind', 'import_') OR data ->> 'kind' = 'undo_import')";
/// The events of all other jobs, and of all other subjects.
const WORKFLOWS: &str =
    "(subject_type <> 'job' OR NOT (starts_with(data ->> 'kind', 'import_') OR data ->> 'kind' = 'undo_import'))";

/// The events of the feed that a key with these scopes may read: of these types, or of all.
///
/// # Errors
/// [`Error::Forbidden`](crate::Error::Forbidden) for types that the key may not read.
pub fn feed(scopes: Scopes, types: Vec<EventType>, subject_id: Option<Uuid>) -> Result<Filter> {
    if scopes.has(Scope::All) {
        return Ok(Filter { types, subject_id, ..Filter::default() });
    }
    let starts = [Scope::Imports, Scope::Workflows].map(|scope| scopes.allows(scope));
    let is_readable = |event_type: &EventType| match Scope::of_event(*event_type) {
        Some(scope) => scopes.allows(scope),
        None => event_type.family() != "job" || starts.contains(&true),
    };
    let unreadable = types.iter().filter(|event_type| !is_readable(event_type));
    let needed = unreadable.map(|event_type| Scope::of_event(*event_type).unwrap_or(Scope::Workflows)).collect();
    scopes.must(needed)?;
    let types = if types.is_empty() { EventType::PUBLIC.to_vec() } else { types };
    let jobs = match starts {
        [true, false] => Some(IMPORTS),
        [false, true] => Some(WORKFLOWS),
        _ => None,
    };
    Ok(Filter {
        types: types.into_iter().filter(is_readable).collect(),
        subject_id,
        jobs,
        without_previews: !scopes.allows(Scope::RecordsRead),
    })
}
