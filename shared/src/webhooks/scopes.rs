//! What an endpoint may read: what the key that made it may read.

use serde::Deserialize;

use super::patterns::Patterns;
use crate::accounts::readable;
use crate::accounts::scopes::{Scope, Scopes};
use crate::error::Result;
use crate::events::{Event, EventType};

/// The part of a job that decides who may read it.
#[derive(Deserialize)]
struct Kind<'a> {
    kind: &'a str,
}

/// Whether an owner with these scopes may read an event.
pub(super) fn may_read(scopes: Scopes, event: &Event) -> bool {
    match Scope::of_event(event.event_type) {
        Some(scope) => scopes.allows(scope),
        None if event.event_type == EventType::Ping => true,
        None => {
            let kind = serde_json::from_str::<Kind<'_>>(event.data.get()).map_or("", |job| job.kind);
            scopes.allows(Scope::of_job(kind))
        }
    }
}

/// Checks that an owner with these scopes may read the events that an endpoint names. `*` is whatever it may read.
///
/// # Errors
/// [`Error::Forbidden`](crate::Error::Forbidden) with the scopes that the owner lacks.
pub(super) fn check(scopes: Scopes, patterns: &Patterns) -> Result<()> {
    let starts_jobs = readable::kinds(scopes) > 0;
    let needed = patterns.named_types().filter_map(|event_type| match Scope::of_event(event_type) {
        None if event_type != EventType::Ping && !starts_jobs => Some(Scope::Workflows),
        needed => needed,
    });
    scopes.must(needed.collect())
}
