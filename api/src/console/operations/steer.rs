//! The buttons: pause, resume, suspend, drain.

use axum::extract::{Path, Request};
use axum::response::Response;
use serde_json::{Value, json};

use super::session::{OperatorVisit, done, form};
use crate::console::notice::Notice;
use crate::console::refusal::{Refusal, Result};
use crate::respond::Problem;

/// What each button does, and the notice that says so.
const VERBS: [(&str, &str, &str); 10] = [
    ("queues", "pause", "The queue is paused."),
    ("queues", "resume", "The queue is resumed."),
    ("kinds", "pause", "The kind of job is paused."),
    ("kinds", "resume", "The kind of job is resumed."),
    ("workspaces", "pause", "The workspace is paused."),
    ("workspaces", "resume", "The workspace is resumed."),
    ("workspaces", "suspend", "The workspace is suspended."),
    ("workspaces", "unsuspend", "The suspension has ended."),
    ("workers", "drain", "The worker is draining."),
    ("workers", "undrain", "The worker claims again."),
];

pub(super) async fn steer(
    visit: OperatorVisit,
    Path((group, name, verb)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response> {
    form(&visit, request).await?;
    let known = VERBS.iter().find(|(known, does, _)| *known == group && *does == verb);
    let Some((group, verb, notice)) = known else { return Err(Refusal::from(Problem::not_found())) };
    // The name stands in a path again.
    let name = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
    let _: Value = visit.api.act(&format!("/{group}/{name}/{verb}"), json!({})).await?;
    Ok(done("/console", &Notice::of(*notice)))
}
