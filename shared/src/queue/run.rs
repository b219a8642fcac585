//! Runs: long jobs that are done page by page.
//!
//! A workflow says what it does with one page ([`Pages`]). A [`Run`] keeps the rest: where the next page
//! begins, which is the job's private `cursor`; what was done so far, which is its `result`; and the
//! progress. They are recorded in the page's transaction, so the next attempt resumes after the last page
//! that was committed. Callers see the same fields in the result after each page as at the end.

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

/// What a run does, page by page.
pub trait Pages: Send + Sync {
    /// Where a page begins. Callers never see it.
    type Cursor: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;
    /// What was done so far: the job's result.
    type Tally: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;

    /// The tally of a run that has done nothing yet.
    fn begin(&self) -> Self::Tally;

    /// How many records are done.
    fn done(&self, tally: &Self::Tally) -> i64;

    /// Whether an earlier attempt can be resumed; otherwise the run begins again.
    fn can_resume(&self, _: &Self::Tally) -> bool {
        true
    }

    /// Does the page that begins at the cursor, or the first one, and returns the cursor of the next; `None`
    /// after the last page. The caller's transaction fences it.
    ///
    /// # Errors
    /// Any: nothing of the page stays, and the job is retried after the page before.
    fn page(
        &self,
        page: &mut Page<'_>,
        cursor: Option<Self::Cursor>,
        tally: &mut Self::Tally,
    ) -> impl Future<Output = Result<Option<Self::Cursor>>> + Send;
}

/// What a page is done with.
#[derive(Debug)]
pub struct Page<'a> {
    /// The transaction of the page.
    pub connection: &'a mut PgConnection,
    /// The job whose run it is.
    pub job: &'a Claimed,
    /// The settings of the program.
    pub settings: &'a Settings,
    /// Signs links.
    pub signer: &'a Signer,
    /// How many records the run has in all, once that is known.
    pub total: Option<i64>,
    /// The queue for which the page has left work.
    pub notify: Option<&'static str>,
}

/// The job's cursor; NULL before the first page.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RunCursor<C> {
    Page(C),
    End,
}

/// A run at work.
#[derive(Debug)]
pub struct Run<P: Pages> {
    pages: P,
    cursor: Option<RunCursor<P::Cursor>>,
    tally: P::Tally,
    total: Option<i64>,
}

impl<P: Pages> Run<P> {
    /// The run of a job, after the last page that was committed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the job is gone; [`Error::Internal`] for a cursor or a result of another version.
    pub async fn resume(connection: &mut PgConnection, job: &Claimed, pages: P) -> Result<Self> {
        let recorded = resume(connection, job).await?;
        let recorded = recorded.filter(|recorded: &Resumed<_, P::Tally>| pages.can_resume(&recorded.result));
        Ok(match recorded {
            Some(Resumed { cursor, result, total }) => Self { pages, cursor: Some(cursor), tally: result, total },
            None => Self { tally: pages.begin(), pages, cursor: None, total: None },
        })
    }

    /// Whether no page is left.
    pub fn has_ended(&self) -> bool {
        matches!(self.cursor, Some(RunCursor::End))
    }

    /// Does the next page. Returns the queue whose workers are to be notified after the commit.
    ///
    /// # Errors
    /// Those of the page. The run is of no use afterwards: resume it.
    pub async fn page(&mut self, mut page: Page<'_>) -> Result<Option<&'static str>> {
        let cursor = match self.cursor.take() {
            Some(RunCursor::Page(cursor)) => Some(cursor),
            Some(RunCursor::End) => return Err(Error::internal("the run has no further page")),
            None => None,
        };
        page.total = self.total;
        let next = self.pages.page(&mut page, cursor, &mut self.tally).await?;
        self.cursor = Some(next.map_or(RunCursor::End, RunCursor::Page));
        self.total = page.total;
        Ok(page.notify)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let done = self.pages.done(&self.tally);
        Progress { done, total: self.total.map(|total| total.max(done)) }
    }

    /// What it did so far, for callers.
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be written as JSON.
    pub fn result(&self) -> Result<Value> {
        Ok(serde_json::to_value(&self.tally)?)
    }

    /// Where it goes on, for [`progress`](super::progress).
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be written as JSON.
    pub fn cursor(&self) -> Result<Option<Value>> {
        Ok(self.cursor.as_ref().map(serde_json::to_value).transpose()?)
    }
}

/// What the steps of a job with a cursor have recorded.
#[derive(Debug)]
pub struct Resumed<C, T> {
    /// Where it goes on.
    pub cursor: C,
    /// What it did so far.
    pub result: T,
    /// How many units of work it has, if known.
    pub total: Option<i64>,
}

/// Reads where a job goes on; `None` before its first step.
///
/// # Errors
/// [`Error::NotFound`] if the job is gone; [`Error::Internal`] for a cursor or a result of another version.
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
