//! Themes: the topics of feedback comments.
//!
//! The worker reads each comment once ([`read`]): its language, the phrases of one to three words that may
//! be a theme, and the sentiment of each phrase. [`choose`] selects the themes from the phrases of all
//! comments, nightly and when many comments are new; the themes of a comment then follow from its phrases.
//! Each reading updates counts per day, so a report adds up days and reads only the comments it quotes.

mod assign;
mod corpus;
mod counts;
mod days;
mod discover;
mod english;
mod extract;
mod language;
mod mood;
mod phrase;
mod quote;
mod quotes;
mod report;
mod select;
mod store;
#[cfg(test)]
mod tests;
mod tokens;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::insight::filters::{Filters, Sql};
use crate::platform::db;
use crate::queue::{self, Job, NewJob, Payload};

pub use corpus::{Corpus, Counter};
pub use discover::{Finding, Stage, Summary, ThemePreview, find, is_due, keep, list_found};
pub use extract::{Reading, read, usual};
pub use language::Language;
pub use phrase::Phrase;
pub use report::{Quote, Theme, Themes, ThemesReport};
pub(in crate::insight) use report::{ROWS, of_period};
pub use select::{Found, choose};
pub use store::{assign_step, is_unread, note_outdated, read_step};

/// How long a job waits for more comments to read with the first one.
const GATHER: Duration = Duration::from_secs(2);

/// The job that reads comments and finds themes.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindThemes {
    /// Only reports which themes would be found.
    pub dry_run: bool,
}

impl Payload for FindThemes {
    const KIND: &'static str = "find_themes";
    const QUEUE: &'static str = "workflows";

    type Result = Summary;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// The answers that a report is about.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    workspace_id: Uuid,
    /// With categories as they are written.
    filters: &'a Filters,
}

impl Scope<'_> {
    /// Joins the feedback of a reading, if there are filters.
    fn push_join(&self, sql: &mut Sql) {
        if !self.filters.is_empty() {
            sql.push(" JOIN feedback ON feedback.workspace_id = ").push_bind(self.workspace_id);
            sql.push(" AND feedback.id = reading.feedback_id");
        }
    }

    /// Adds the filters.
    fn push(&self, sql: &mut Sql) {
        self.filters.push_category(sql, "feedback.category");
        self.filters.push_customer_of(sql, self.workspace_id, "feedback.customer_id");
    }
}

/// Starts a job that finds the themes of a workspace again, or returns the one that is running. Dry runs are
/// separate jobs.
pub async fn start(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request_id: Option<&str>,
    dry_run: bool,
) -> Result<Job> {
    if !dry_run {
        note_outdated(connection, workspace_id).await?;
        sqlx::query(
            "INSERT INTO theme_states (workspace_id, wanted) VALUES ($1, true)
             ON CONFLICT ON CONSTRAINT theme_states_pkey DO UPDATE SET wanted = true",
        )
        .bind(workspace_id)
        .execute(&mut *connection)
        .await?;
    }
    enqueue(connection, workspace_id, request_id, (dry_run, Duration::ZERO)).await
}

/// Enqueues a job that soon reads a new comment, in the transaction of the answer. A trigger records that the
/// comment is unread.
pub async fn answered(connection: &mut PgConnection, workspace_id: Uuid, request_id: Option<&str>) -> Result<Job> {
    enqueue(connection, workspace_id, request_id, (false, GATHER)).await
}

/// Enqueues a job in each workspace with unread comments: those deleted or restored with their customer, or
/// written without [`answered`]. Returns the number of workspaces.
pub async fn wake(connection: &mut PgConnection) -> Result<usize> {
    let workspaces = db::workspaces(
        connection,
        "SELECT workspace_id FROM feedback_unread WHERE workspace_id > $1 AND ($2::uuid[] IS NULL OR workspace_id = ANY ($2))
         ORDER BY workspace_id LIMIT 1",
    )
    .await?;
    for workspace_id in &workspaces {
        enqueue(connection, *workspace_id, None, (false, Duration::ZERO)).await?;
    }
    Ok(workspaces.len())
}

async fn enqueue(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request_id: Option<&str>,
    (dry_run, delay): (bool, Duration),
) -> Result<Job> {
    let job = NewJob::run(workspace_id, &FindThemes { dry_run })?.request_id(request_id).delay(delay);
    queue::enqueue(connection, job).await
}
