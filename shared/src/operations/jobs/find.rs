//! Finding jobs of all workspaces.
//!
//! Unfinished jobs are few, and their indexes find them in all workspaces at once. Finished ones may be a million, so
//! they are read workspace by workspace, the newest first.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, PgConnection};
use uuid::Uuid;

use super::{JobFilter, JobSummary, summary};
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

/// The finished jobs of a workspace.
macro_rules! finished {
    ($select:literal) => {
        concat!("SELECT ", $select, " FROM jobs WHERE workspace_id = $1 AND finished_at IS NOT NULL AND ", matching!())
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

impl JobFilter {
    fn is_of_unfinished(&self) -> bool {
        self.status.is_none_or(|state| matches!(state.status(), JobStatus::Queued | JobStatus::Running))
    }

    fn is_of_finished(&self) -> bool {
        self.status.is_none_or(|state| state.status().is_finished())
    }

    /// The arguments of the statements here, for one workspace or all. The statements are planned with these values,
    /// because the best index depends on which of them are given: so no query here is prepared for later.
    fn arguments(&self, workspace_id: Option<Uuid>) -> Result<PgArguments> {
        let (first, last) = id_bounds(self.common.created_after, self.common.created_before);
        let due = match self.status {
            Some(super::JobState::Due) => Some(true),
            Some(super::JobState::Future) => Some(false),
            _ => None,
        };
        let waiting = (self.status == Some(super::JobState::Waiting)).then_some(true);
        let mut arguments = PgArguments::default();
        let added = [
            arguments.add(workspace_id),
            arguments.add(&self.queue),
            arguments.add(&self.kind),
            arguments.add(self.status.map(super::JobState::status)),
            arguments.add(due),
            arguments.add(waiting),
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
}

/// Finds jobs, the newest first, and at most so many: each with its workspace.
async fn newest(connection: &mut PgConnection, filter: &JobFilter, limit: i64) -> Result<Vec<(Uuid, Uuid)>> {
    let mut found: Vec<(Uuid, Uuid)> = Vec::new();
    let mut statements = Vec::new();
    if filter.is_of_unfinished() {
        statements.push((UNFINISHED, filter.common.workspace_id(connection).await?));
    }
    if filter.is_of_finished() {
        statements.extend(filter.common.workspaces(connection).await?.into_iter().map(|id| (FINISHED, Some(id))));
    }
    for (statement, workspace_id) in statements {
        let mut arguments = filter.arguments(workspace_id)?;
        arguments.add(limit).map_err(Error::Internal)?;
        let rows = sqlx::query_as_with::<_, (Uuid, Uuid), _>(statement, arguments).persistent(false);
        found.extend(rows.fetch_all(&mut *connection).await?);
    }
    found.sort_unstable_by_key(|(_, id)| std::cmp::Reverse(*id));
    // A job that ends between two statements is found by both.
    found.dedup();
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// Finds all jobs that match: the ids of each workspace.
pub(in crate::operations) async fn find(connection: &mut PgConnection, filter: &JobFilter) -> Result<Found> {
    Ok(by_workspace(newest(connection, filter, i64::MAX).await?))
}

/// Counts the jobs that match.
pub async fn count(connection: &mut PgConnection, filter: &JobFilter) -> Result<i64> {
    let mut statements = Vec::new();
    if filter.is_of_unfinished() {
        statements.push((COUNT_UNFINISHED, filter.common.workspace_id(connection).await?));
    }
    if filter.is_of_finished() {
        statements.extend(filter.common.workspaces(connection).await?.into_iter().map(|id| (COUNT_FINISHED, Some(id))));
    }
    let mut count = 0;
    for (statement, workspace_id) in statements {
        let counted = sqlx::query_scalar_with(statement, filter.arguments(workspace_id)?).persistent(false);
        count += counted.fetch_one(&mut *connection).await.map(|count: i64| count)?;
    }
    Ok(count)
}

/// Lists jobs of all workspaces, the newest first.
pub async fn list(connection: &mut PgConnection, filter: &JobFilter, limit: i64) -> Result<Vec<JobSummary>> {
    let names = filter::names(connection).await?;
    let mut jobs: Vec<JobSummary> = Vec::new();
    for (workspace_id, ids) in by_workspace(newest(connection, filter, limit).await?) {
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
    let mut arguments = filter.arguments(Some(workspace_id))?;
    arguments.add(ids).map_err(Error::Internal)?;
    Ok(sqlx::query_scalar_with(STILL_MATCHING, arguments).persistent(false).fetch_all(connection).await?)
}
