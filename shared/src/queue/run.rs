//! Runs: long jobs that work page by page.
//!
//! A workflow defines how to process one page ([`Pages`]). A [`Run`] manages the rest: the position
//! of the next page, which is the job's private `cursor`; the work done so far, which is its
//! `result`; and the progress. All three are recorded in the page's transaction, so the next
//! attempt resumes after the last committed page. The result has the same fields after each page as
//! at the end.

use std::future::Future;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Claimed, Progress};
use crate::error::{Error, Result};
use crate::platform::config::Settings;
use crate::platform::signed_links::Signer;

/// The work of a run, page by page.
pub trait Pages: Send + Sync {
    /// The position of a page. It is not visible in the API.
    type Cursor: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;
    /// The work done so far: the job's result.
    type Tally: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;

    /// The tally of a run that has not started.
    fn begin(&self) -> Self::Tally;

    /// How many records have been processed.
    fn done(&self, tally: &Self::Tally) -> i64;

    /// Whether an earlier attempt can be resumed; otherwise the run starts over.
    fn can_resume(&self, _: &Self::Tally) -> bool {
        true
    }

    /// Processes the page that starts at the cursor (the first page without one), and returns the
    /// cursor of the next page, or `None` after the last. The caller's transaction checks the job's
    /// lease. After an error the page is rolled back, and the job is retried after the previous
    /// page.
    fn page(
        &self,
        page: &mut Page<'_>,
        cursor: Option<Self::Cursor>,
        tally: &mut Self::Tally,
    ) -> impl Future<Output = Result<Option<Self::Cursor>>> + Send;
}

/// What a page works with.
#[derive(Debug)]
pub struct Page<'a> {
    /// The page's transaction.
    pub connection: &'a mut PgConnection,
    /// The job that runs.
    pub job: &'a Claimed,
    /// The program's settings.
    pub settings: &'a Settings,
    /// Signs links.
    pub signer: &'a Signer,
    /// How many records the run has in all, once known.
    pub total: Option<i64>,
    /// The queue that the page added work to.
    pub notify: Option<&'static str>,
    /// Why the job fails after this page, whose work is committed. A retry resumes at the next page.
    pub failure: Option<String>,
}

/// What happens after the commit of a page.
#[derive(Debug, Default)]
pub struct PageEnd {
    /// The queue whose workers are notified.
    pub notify: Option<&'static str>,
    /// Why the job fails.
    pub failure: Option<String>,
}

/// The job's cursor; NULL before the first page.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RunCursor<C> {
    Page(C),
    End,
}

/// A run in progress.
#[derive(Debug)]
pub struct Run<P: Pages> {
    pages: P,
    cursor: Option<RunCursor<P::Cursor>>,
    tally: P::Tally,
    total: Option<i64>,
}

impl<P: Pages> Run<P> {
    /// Resumes a job's run after the last committed page.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the job no longer exists; [`Error::Internal`] for a cursor or a
    /// result of another version.
    pub async fn resume(connection: &mut PgConnection, job: &Claimed, pages: P) -> Result<Self> {
        let recorded = resume(connection, job).await?;
        let recorded = recorded.filter(|recorded: &Resumed<_, P::Tally>| pages.can_resume(&recorded.result));
        Ok(match recorded {
            Some(Resumed { cursor, result, total }) => Self { pages, cursor: Some(cursor), tally: result, total },
            None => Self { tally: pages.begin(), pages, cursor: None, total: None },
        })
    }

    /// Whether all pages have been processed.
    pub fn has_ended(&self) -> bool {
        matches!(self.cursor, Some(RunCursor::End))
    }

    /// Processes the next page. Returns what is to happen after the commit.
    ///
    /// # Errors
    /// Those of the page. The run is unusable afterwards; resume it.
    pub async fn page(&mut self, mut page: Page<'_>) -> Result<PageEnd> {
        let cursor = match self.cursor.take() {
            Some(RunCursor::Page(cursor)) => Some(cursor),
            Some(RunCursor::End) => return Err(Error::internal("the run has no further page")),
            None => None,
        };
        page.total = self.total;
        let next = self.pages.page(&mut page, cursor, &mut self.tally).await?;
        self.cursor = Some(next.map_or(RunCursor::End, RunCursor::Page));
        self.total = page.total;
        Ok(PageEnd { notify: page.notify, failure: page.failure })
    }

    /// The run's progress.
    pub fn progress(&self) -> Progress {
        let done = self.pages.done(&self.tally);
        Progress { done, total: self.total.map(|total| total.max(done)) }
    }

    /// The result so far.
    pub fn result(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.tally)?)
    }

    /// The position to resume from, for [`progress`](super::progress).
    pub fn cursor(&self) -> Result<Option<Value>> {
        Ok(self.cursor.as_ref().map(serde_json::to_value).transpose()?)
    }
}

/// What the steps of a job with a cursor have recorded.
#[derive(Debug)]
pub struct Resumed<C, T> {
    /// The position to resume from.
    pub cursor: C,
    /// The result so far.
    pub result: T,
    /// How many units of work the job has, if known.
    pub total: Option<i64>,
}

/// Returns what the job's steps have recorded; `None` before its first step.
///
/// # Errors
/// [`Error::NotFound`] if the job no longer exists; [`Error::Internal`] for a cursor or a result of
/// another version.
pub async fn resume<C, T>(connection: &mut PgConnection, job: &Claimed) -> Result<Option<Resumed<C, T>>>
where
    C: DeserializeOwned + Send + Unpin + 'static,
    T: DeserializeOwned + Send + Unpin + 'static,
{
    let (cursor, result, total): (Option<Json<C>>, Option<Value>, Option<i64>) =
        sqlx::query_as("SELECT cursor, result, progress_total FROM jobs WHERE workspace_id = $1 AND id = $2")
            .bind(job.workspace_id)
            .bind(job.id)
            .fetch_one(connection)
            .await?;
    let Some(Json(cursor)) = cursor else { return Ok(None) };
    let result = serde_json::from_value(result.unwrap_or_default())?;
    Ok(Some(Resumed { cursor, result, total }))
}
