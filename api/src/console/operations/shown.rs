//! What the pages show of the operator API's answers.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::console::parts;

/// How much waits in a queue, or of a kind.
#[derive(Debug, Deserialize)]
pub(super) struct Load {
    pub name: String,
    /// The queue of a kind.
    pub queue: Option<String>,
    pub due: i64,
    pub future: Option<i64>,
    pub running: Option<i64>,
    pub oldest_due_s: Option<f64>,
    pub per_minute: Option<i64>,
    pub eta_s: Option<f64>,
    pub paused_since: Option<DateTime<Utc>>,
    pub pause_reason: Option<String>,
}

/// A worker.
#[derive(Debug, Deserialize)]
pub(super) struct Worker {
    pub id: Uuid,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub queues: Vec<String>,
    pub state: String,
    pub jobs: i64,
    pub emails: i64,
    pub webhook_queues: i64,
    pub heartbeat_at: DateTime<Utc>,
    pub draining_since: Option<DateTime<Utc>>,
}

impl Worker {
    /// The first digits of its id, which PostgreSQL shows, too.
    pub fn short_id(&self) -> String {
        self.id.simple().to_string()[..8].to_owned()
    }
}

/// A workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Workspace {
    pub id: Uuid,
    pub name: String,
    pub suspended_at: Option<DateTime<Utc>>,
    pub paused_since: Option<DateTime<Utc>>,
    pub pause_reason: Option<String>,
    pub due_jobs: i64,
    pub running_jobs: i64,
    pub oldest_due_s: Option<f64>,
    pub waiting_emails: i64,
    pub unknown_emails: i64,
}

/// The connections to the database.
#[derive(Debug, Deserialize)]
pub(super) struct Connections {
    pub max_connections: i64,
    pub connections: i64,
    pub by_program: Vec<ProgramConnections>,
}

/// The connections of a program to the database.
#[derive(Debug, Deserialize)]
pub(super) struct ProgramConnections {
    pub program: String,
    pub connections: i64,
    pub active: i64,
    pub oldest_transaction_s: Option<f64>,
}

/// An action of an operator.
#[derive(Debug, Deserialize)]
pub(super) struct Action {
    pub actor: String,
    pub source: String,
    pub action: String,
    pub arguments: Value,
    pub matched: Option<i64>,
    pub done: Option<i64>,
    pub error: Option<String>,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

impl Action {
    /// How it ended.
    pub fn outcome(&self) -> Markup {
        html! {
            @if let Some(error) = &self.error { (error) }
            @else if self.finished_at.is_none() { (parts::badge("running")) }
            @else if let (Some(matched), Some(done)) = (self.matched, self.done) {
                (number(done)) " of " (number(matched))
            }
            @else { "done" }
        }
    }

    /// What it was about, such as `queue=imports`.
    pub fn about(&self) -> String {
        let Value::Object(arguments) = &self.arguments else { return self.arguments.to_string() };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let given = arguments.iter().filter(|(_, value)| !value.is_null());
        given.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(", ")
    }
}

/// A count; none is a dash.
pub(super) fn count(count: Option<i64>) -> Markup {
    match count {
        Some(count) => html! { (number(count)) },
        None => parts::text_or_dash(None),
    }
}

/// A number with its thousands apart.
pub(super) fn number(number: i64) -> String {
    parts::grouped(&number.to_string())
}

/// A duration for people, such as `2 h 5 min`; none is a dash.
pub(super) fn duration(seconds: Option<f64>) -> Markup {
    let Some(seconds) = seconds else { return parts::text_or_dash(None) };
    html! { (duration_text(seconds)) }
}

fn duration_text(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, minutes) => format!("{minutes} min {rest} s"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        for (seconds, text) in
            [(-1.0, "0 s"), (0.4, "0 s"), (59.6, "1 min 0 s"), (3_900.0, "1 h 5 min"), (90_000.0, "1 d 1 h")]
        {
            assert_eq!(duration_text(seconds), text);
        }
    }
}
