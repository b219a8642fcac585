//! Finding jobs of all workspaces.
//!
//! Unfinished jobs and those that did not succeed are few, and their indexes find them in all workspaces at once. Those
//! that succeeded may be a million, so they are listed workspace by workspace, the newest first.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{JobDecision, JobFilter, JobState, JobSummary};
use crate::error::Result;
use crate::operations::filter::id_bounds;
use crate::operations::found::{self, Found, Query};
use crate::queue::JobStatus;

/// What jobs must meet, for the arguments of [`JobFilter::query`].
macro_rules! matching {
    () => {
        "($2::text IS NULL OR queue = $2) AND ($3::text IS NULL OR kind = $3) AND ($4::text IS NULL OR status = $4)
            AND ($5::boolean IS NULL OR (run_at <= now()) = $5) AND ($6::boolean IS NULL OR (error IS NOT NULL) = $6)
            AND ($7::uuid IS NULL OR worker_id = $7)
            AND ($8::text IS NULL OR strpos(lower(error), lower($8)) > 0)
            AND ($9::timestamptz IS NULL OR created_at >= $9) AND ($10::timestamptz IS NULL OR created_at < $10)
            AND id >= $11 AND id <= $12"
    };
}

/// The unfinished jobs of all workspaces, each branch by an index of its own.
macro_rules! unfinished {
    ($select:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM (
                SELECT workspace_id, id, queue, kind, status, run_at, error, worker_id, created_at
                FROM jobs WHERE status = 'queued' AND crashes = 0
                UNION ALL
                SELECT workspace_id, id, queue, kind, status, run_at, error, worker_id, created_at
                FROM jobs WHERE status = 'queued' AND crashes > 0
                UNION ALL
                SELECT workspace_id, id, queue, kind, status, run_at, error, worker_id, created_at
                FROM jobs WHERE lease_until IS NOT NULL
            ) AS unfinished
            WHERE ($1::uuid IS NULL OR workspace_id = $1) AND ",
            matching!()
        )
    };
}

/// The finished jobs of a workspace, or of all.
macro_rules! finished {
    ($select:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM jobs WHERE finished_at IS NOT NULL AND ($1::uuid IS NULL OR workspace_id = $1) AND ",
            matching!()
        )
    };
}

const UNFINISHED: &str = concat!(unfinished!("workspace_id, id"), " ORDER BY id DESC LIMIT $13");
const FINISHED: &str = concat!(finished!("workspace_id, id"), " ORDER BY id DESC LIMIT $13");
const COUNT_UNFINISHED: &str = unfinished!("count(*)");
const COUNT_FINISHED: &str = finished!("count(*)");

/// The statement of [`still_matching`].
const STILL_MATCHING: &str = concat!(
    "SELECT id FROM jobs WHERE workspace_id = $1 AND ",
    matching!(),
    " AND id = ANY ($13) ORDER BY id FOR UPDATE"
);

/// Jobs in the states of a filter, as one kind of statement finds them.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    is_finished: bool,
    status: Option<JobStatus>,
    /// Whether their due time has come, if that matters.
    due: Option<bool>,
    /// Only those that wait for a retry after an error.
    waiting: Option<bool>,
}

impl Part {
    fn of(state: JobState) -> Self {
        let status = state.status();
        let due = match state {
            JobState::Due => Some(true),
            JobState::Future => Some(false),
            _ => None,
        };
        let waiting = (state == JobState::Waiting).then_some(true);
        Self { is_finished: status.is_finished(), status: Some(status), due, waiting }
    }
}

impl JobFilter {
    /// All jobs in the states of the filter.
    fn parts(&self) -> Vec<Part> {
        match self.status {
            Some(state) => vec![Part::of(state)],
            None => vec![Part::default(), Part { is_finished: true, ..Part::default() }],
        }
    }

    /// Those of them that a decision can change.
    fn changeable(&self, decision: JobDecision) -> Vec<Part> {
        let parts = match (decision, self.status) {
            (JobDecision::Retry, None) => {
                [JobState::Failed, JobState::Cancelled, JobState::Waiting].map(Part::of).to_vec()
            }
            (JobDecision::Retry, Some(state)) => vec![Part { waiting: Some(true), ..Part::of(state) }],
            (JobDecision::Cancel, _) => self.parts(),
        };
        let can = |part: &Part| match (decision, part.status) {
            (JobDecision::Retry, status) => !matches!(status, Some(JobStatus::Succeeded | JobStatus::Running)),
            (JobDecision::Cancel, _) => !part.is_finished,
        };
        // A finished job waits for nothing.
        let plain = |part: Part| if part.is_finished { Part { waiting: None, ..part } } else { part };
        parts.into_iter().filter(can).map(plain).collect()
    }

    /// A query by a statement of this file, for one workspace or all.
    fn query<O: for<'r> FromRow<'r, PgRow>>(
        &self,
        statement: &'static str,
        workspace_id: Option<Uuid>,
        part: Part,
    ) -> Query<'_, O> {
        let (first, last) = id_bounds(self.common.created_after, self.common.created_before);
        found::query(statement)
            .bind(workspace_id)
            .bind(&self.queue)
            .bind(&self.kind)
            .bind(part.status)
            .bind(part.due)
            .bind(part.waiting)
            .bind(self.worker)
            .bind(&self.error)
            .bind(self.common.created_after)
            .bind(self.common.created_before)
            .bind(first)
            .bind(last)
    }

    /// The queries that list parts: for each, one for all workspaces or, where there may be a million jobs, one for each
    /// workspace, which reads the newest ones only.
    async fn lists(&self, connection: &mut PgConnection, parts: Vec<Part>) -> Result<Vec<Query<'_, (Uuid, Uuid)>>> {
        let mut lists = Vec::new();
        for part in parts {
            let are_few = !part.is_finished || matches!(part.status, Some(JobStatus::Failed | JobStatus::Cancelled));
            let workspaces = match are_few {
                true => vec![self.common.workspace_id(connection).await?],
                false => self.common.workspaces(connection).await?.into_iter().map(Some).collect(),
            };
            let statement = if part.is_finished { FINISHED } else { UNFINISHED };
            lists.extend(workspaces.into_iter().map(|workspace_id| self.query(statement, workspace_id, part)));
        }
        Ok(lists)
    }
}

impl JobDecision {
    /// Finds all jobs that match, and that this can change.
    pub(in crate::operations) async fn find(self, connection: &mut PgConnection, filter: &JobFilter) -> Result<Found> {
        let lists = filter.lists(connection, filter.changeable(self)).await?;
        found::all(connection, lists).await
    }
}

/// Counts the jobs that match.
pub async fn count(connection: &mut PgConnection, filter: &JobFilter) -> Result<i64> {
    let workspace_id = filter.common.workspace_id(connection).await?;
    let counts = filter.parts().into_iter().map(|part| {
        let statement = if part.is_finished { COUNT_FINISHED } else { COUNT_UNFINISHED };
        filter.query(statement, workspace_id, part)
    });
    found::count(connection, counts.collect()).await
}

/// Lists jobs of all workspaces, the newest first.
pub async fn list(connection: &mut PgConnection, filter: &JobFilter, limit: i64) -> Result<Vec<JobSummary>> {
    let lists = filter.lists(connection, filter.parts()).await?;
    found::list(connection, lists, limit).await
}

/// Finds the workspaces of jobs. Unknown ids are left out.
pub(in crate::operations) async fn locate(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>> {
    let located = "SELECT jobs.workspace_id, jobs.id FROM workspaces
         JOIN jobs ON jobs.workspace_id = workspaces.id AND jobs.id = ANY ($1)";
    Ok(sqlx::query_as(located).bind(ids).fetch_all(connection).await?)
}

/// Those of the jobs that still match the filter. They are locked until the transaction ends.
pub(super) async fn still_matching(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    filter: &JobFilter,
) -> Result<Vec<Uuid>> {
    let part = filter.status.map(Part::of).unwrap_or_default();
    found::still_matching(connection, filter.query(STILL_MATCHING, Some(workspace_id), part), ids).await
}
