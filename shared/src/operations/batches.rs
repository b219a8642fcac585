//! Changing many rows: workspace by workspace, in transactions of at most 500.

use serde_json::{Value, json};
use uuid::Uuid;

use super::actions::Outcome;

/// How many ids a result names.
const NAMED: usize = 100;

/// What one transaction changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    /// The rows that it changed.
    pub done: Vec<Uuid>,
    /// Jobs that wait until somebody confirms how many emails they write.
    pub left_out: Vec<Uuid>,
    /// Queues whose workers have new work.
    pub queues: Vec<&'static str>,
}

/// What all transactions of an action changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    done: usize,
    left_out: Vec<Uuid>,
}

impl Sum {
    pub fn add(&mut self, changed: &Changed) {
        self.done += changed.done.len();
        self.left_out.extend(&changed.left_out);
    }

    /// The outcome of an action that was asked to change so many rows.
    pub fn outcome(self, matched: usize) -> Outcome {
        let Self { done, left_out } = self;
        let unchanged = matched.saturating_sub(done + left_out.len());
        let mut result = json!({ "unchanged": unchanged });
        if !left_out.is_empty() {
            result["too_many_emails"] = json!(left_out.len());
            result["too_many_emails_ids"] = left_out.iter().take(NAMED).map(Uuid::to_string).collect::<Value>();
        }
        Outcome { done: i64::try_from(done).ok(), result: Some(result) }
    }
}
