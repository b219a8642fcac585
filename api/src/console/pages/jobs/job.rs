//! A job, as the API returns it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::accounts::scopes::Scope;
use uuid::Uuid;

use crate::console::parts;

/// A job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub id: Uuid,
    pub kind: String,
    pub status: String,
    pub progress: Progress,
    pub result: Option<Value>,
    pub error: Option<String>,
    pub retry_at: Option<DateTime<Utc>>,
    pub attempt: i64,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub subject: Option<Subject>,
}

/// How far a job is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Progress {
    pub done: u64,
    pub total: Option<u64>,
}

/// What a job is about.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Subject {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Uuid,
}

/// What people call a kind of job.
pub(crate) fn title(kind: &str) -> String {
    let title = match kind {
        "nurture_leads" => "Nurture",
        "process_followups" => "Follow-ups",
        "remind_feedback" => "Feedback reminders",
        "snapshot_health" => "Customer health",
        "find_themes" => "Themes of feedback",
        "nightly" => "Nightly run",
        _ => return parts::words(kind),
    };
    title.to_owned()
}

/// The page of a record, if the console has one.
pub(crate) fn page_of(kind: &str, id: &str) -> Option<String> {
    let place = match kind {
        "lead" => "leads",
        "customer" => "customers",
        "order" => "orders",
        "job" => "jobs",
        _ => return None,
    };
    Some(format!("/console/{place}/{id}"))
}

impl Job {
    /// Its page.
    pub fn page(&self) -> String {
        format!("/console/jobs/{}", self.id)
    }

    /// Whether it still has something to do.
    pub fn is_active(&self) -> bool {
        matches!(self.status.as_str(), "queued" | "running")
    }

    /// Whether it changes nothing.
    pub fn is_dry_run(&self) -> bool {
        self.part("dry_run").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether it imports a file.
    pub fn is_import(&self) -> bool {
        self.kind.starts_with("import_")
    }

    /// Whether what it wrote can be taken back.
    pub fn is_undoable(&self) -> bool {
        let has_written = !self.is_active() && !self.is_dry_run();
        has_written && (self.is_import() || (self.kind.starts_with("bulk_") && !self.does("convert")))
    }

    fn does(&self, action: &str) -> bool {
        self.part("action").and_then(Value::as_str) == Some(action)
    }

    /// The scope that starts such jobs.
    pub fn scope(&self) -> Scope {
        Scope::of_job(&self.kind)
    }

    /// A part of its result.
    pub fn part(&self, name: &str) -> Option<&Value> {
        self.result.as_ref()?.get(name)
    }

    /// A count of its result.
    pub fn count(&self, name: &str) -> u64 {
        self.part(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The number of emails that it was stopped from writing, if it was.
    pub fn stopped_at(&self) -> Option<u64> {
        let error = self.error.as_deref()?.strip_prefix("too_many_emails: ")?;
        error.split_once("confirm=")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Its status, and whether it is a dry run.
    pub fn badge(&self) -> Markup {
        html! { (parts::badge(&self.status)) @if self.is_dry_run() { " " span.badge { "Dry run" } } }
    }

    /// How far it is.
    pub fn progress(&self) -> Markup {
        let Progress { done, total } = self.progress;
        match total {
            _ if !self.is_active() => html! { span.quiet { (parts::count(done)) } },
            None if done == 0 => html! { span.quiet { "–" } },
            total => parts::progress(&format!("Progress of {}", title(&self.kind)), done, total),
        }
    }

    /// Its result in a line: why it failed, or its first counts.
    pub fn outcome(&self) -> Markup {
        if let Some(error) = &self.error {
            return html! { (shortened(error, 120)) };
        }
        let counts = self.result.as_ref().and_then(Value::as_object).into_iter().flatten();
        let counts = counts.filter_map(|(name, value)| Some((name, value.as_u64().filter(|count| *count > 0)?)));
        let counts: Vec<String> =
            counts.take(4).map(|(name, count)| format!("{} {}", parts::count(count), name.replace('_', " "))).collect();
        let skipped = self.part("skipped").and_then(Value::as_str).filter(|_| counts.is_empty());
        html! { span.quiet { (counts.join(", ")) @if let Some(why) = skipped { "skipped: " (why) } } }
    }

    /// What makes a form about the job count once: another try after another end is another one.
    pub fn once(&self, what: &str) -> String {
        let at = self.finished_at.or(self.retry_at).unwrap_or(self.created_at);
        format!("{what}-{}-{}-{}", self.id, self.attempt, at.timestamp_millis())
    }
}

/// The beginning of a text.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_to_confirm_is_in_the_error() {
        let error = "too_many_emails: the run would write 23456 emails, and max_emails_per_run is 20000; nothing was \
             written. Retry the job with confirm=23456 to write at most so many";
        let job = serde_json::json!({
            "id": Uuid::nil(), "kind": "nurture_leads", "status": "failed", "progress": { "done": 0, "total": null },
            "error": error, "attempt": 1, "created_at": "2026-01-01T00:00:00Z",
        });
        assert_eq!(serde_json::from_value::<Job>(job).unwrap().stopped_at(), Some(23456));
    }

    #[test]
    fn a_text_is_shortened_between_letters() {
        assert_eq!((shortened("ééé", 2), shortened("ééé", 3)), ("éé…".to_owned(), "ééé".to_owned()));
    }
}
