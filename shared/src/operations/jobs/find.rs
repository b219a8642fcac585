//! Finding jobs of all workspaces.
//!
//! Unfinished jobs and those that did not succeed are few, and their indexes find them in all workspaces at once. Those
//! that succeeded may be a million, so they are listed workspace by workspace, the newest first.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, PgConnection};
use uuid::Uuid;

use super::{JobDecision, JobFilter, JobState, JobSummary, summary};
use crate::error::{Error, Result};
use crate::operations::filter::{self, Found, by_workspace, id_bounds};
use crate::queue::JobStatus;

/// What jobs must meet, for the arguments of [`arguments`].
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

    /// The arguments of the statements here, for one workspace or all. The statements are planned with these values,
    /// because the best index depends on which of them are given: so no query here is prepared for later.
    fn arguments(&self, workspace_id: Option<Uuid>, part: Part) -> Result<PgArguments> {
        let (first, last) = id_bounds(self.common.created_after, self.common.created_before);
        let mut arguments = PgArguments::default();
        let added = [
            arguments.add(workspace_id),
            arguments.add(&self.queue),
            arguments.add(&self.kind),
            arguments.add(part.status),
            arguments.add(part.due),
            arguments.add(part.waiting),
            arguments.add(self.worker),
            arguments.add(&self.error),
            arguments.add(self.common.created_after),
            arguments.add(self.common.created_before),
            arguments.add(first),
            arguments.add(last),
        ];
        added.into_iter().collect::<Result<(), _>>().map_err(Error::Internal)?;
        Ok(arguments)
    }

    /// The arguments of the statements that list a part: one for all workspaces or, where there may be a million jobs,
    /// one for each, which reads the newest ones only.
    async fn lists(&self, connection: &mut PgConnection, part: Part) -> Result<Vec<PgArguments>> {
        let are_few = !part.is_finished || matches!(part.status, Some(JobStatus::Failed | JobStatus::Cancelled));
        let workspaces = match are_few {
            true => vec![self.common.workspace_id(connection).await?],
            false => self.common.workspaces(connection).await?.into_iter().map(Some).collect(),
        };
        workspaces.into_iter().map(|workspace_id| self.arguments(workspace_id, part)).collect()
    }
}

/// Finds jobs, the newest first, and at most so many: each with its workspace.
async fn newest(
    connection: &mut PgConnection,
    filter: &JobFilter,
    parts: &[Part],
    limit: i64,
) -> Result<Vec<(Uuid, Uuid)>> {
    let mut found: Vec<(Uuid, Uuid)> = Vec::new();
    for part in parts {
        let statement = if part.is_finished { FINISHED } else { UNFINISHED };
        for mut arguments in filter.lists(connection, *part).await? {
            arguments.add(limit).map_err(Error::Internal)?;
            let rows = sqlx::query_as_with::<_, (Uuid, Uuid), _>(statement, arguments).persistent(false);
            found.extend(rows.fetch_all(&mut *connection).await?);
        }
    }
    found.sort_unstable_by_key(|(_, id)| std::cmp::Reverse(*id));
    // A job that ends between two statements is found by both.
    found.dedup();
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// Finds all jobs that match, and that a decision can change: the ids of each workspace.
pub(in crate::operations) async fn find(
    connection: &mut PgConnection,
    filter: &JobFilter,
    decision: JobDecision,
) -> Result<Found> {
    Ok(by_workspace(newest(connection, filter, &filter.changeable(decision), i64::MAX).await?))
}

/// Counts the jobs that match.
pub async fn count(connection: &mut PgConnection, filter: &JobFilter) -> Result<i64> {
    let workspace_id = filter.common.workspace_id(connection).await?;
    let mut count = 0;
    for part in filter.parts() {
        let statement = if part.is_finished { COUNT_FINISHED } else { COUNT_UNFINISHED };
        let counted = sqlx::query_scalar_with(statement, filter.arguments(workspace_id, part)?).persistent(false);
        count += counted.fetch_one(&mut *connection).await.map(|count: i64| count)?;
    }
    Ok(count)
}

/// Lists jobs of all workspaces, the newest first.
pub async fn list(connection: &mut PgConnection, filter: &JobFilter, limit: i64) -> Result<Vec<JobSummary>> {
    let names = filter::names(connection).await?;
    let mut jobs: Vec<JobSummary> = Vec::new();
    for (workspace_id, ids) in by_workspace(newest(connection, filter, &filter.parts(), limit).await?) {
        let select = concat!("SELECT ", summary!(), " FROM jobs WHERE workspace_id = $1 AND id = ANY ($2)");
        let found: Vec<JobSummary> =
            sqlx::query_as(select).bind(workspace_id).bind(ids).fetch_all(&mut *connection).await?;
        jobs.extend(
            found
                .into_iter()
                .map(|job| JobSummary { workspace: names.get(&workspace_id).cloned().unwrap_or_default(), ..job }),
        );
    }
    jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
    Ok(jobs)
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
    let mut arguments = filter.arguments(Some(workspace_id), part)?;
    arguments.add(ids).map_err(Error::Internal)?;
    Ok(sqlx::query_scalar_with(STILL_MATCHING, arguments).persistent(false).fetch_all(connection).await?)
}
