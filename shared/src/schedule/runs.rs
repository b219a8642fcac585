//! The runs of schedules: a row for each slot that a schedule has dealt with, and for each start by a caller.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::string_enum;
use crate::values::Time;
use crate::values::cron::Slot;

/// How many days runs are kept. Those of a night are fewer and kept longer.
pub(super) const KEPT_DAYS: i32 = 30;
/// How many days nightly runs are kept.
pub(super) const NIGHTS_KEPT_DAYS: i32 = 400;

string_enum! {
    /// How a run stands.
    RunStatus {
        /// Its job waits for its turn or for a worker.
        Queued = "queued",
        /// Its job is running.
        Running = "running",
        /// Its job finished its work.
        Succeeded = "succeeded",
        /// Its job failed, or could not be started.
        Failed = "failed",
        /// Its job was cancelled.
        Cancelled = "cancelled",
        /// It was not started, because an earlier job of the schedule had not ended.
        Skipped = "skipped",
        /// It was not started, because no worker could start it in time.
        Missed = "missed",
        /// It was not started, because another database may have run it before a restore.
        SetAside = "set_aside",
    }
}

/// A run of a schedule, as callers see it.
#[derive(Debug, Clone, Serialize, FromRow, ToSchema)]
pub struct ScheduledRun {
    /// The run's id; ids rise with time.
    pub id: Uuid,
    /// The time for which the schedule started it; `null` for a run that a caller started.
    pub slot: Option<DateTime<Utc>>,
    /// The local date of a nightly run.
    pub date: Option<NaiveDate>,
    /// When it was started, or when it was decided not to start it.
    pub created_at: DateTime<Utc>,
    /// The seconds from the slot to the start; `null` for a run that was not started, or not for a slot.
    pub delay_s: Option<f64>,
    /// Its job.
    pub job_id: Option<Uuid>,
    /// How it stands; `null` if its job was deleted before that was recorded.
    pub status: Option<RunStatus>,
    /// The result of its job, while the job is kept.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why it failed or was not started.
    pub error: Option<String>,
}

/// Lists the runs of a schedule, newest first: at most so many, older than the run with this id.
pub async fn list_runs(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    schedule_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ScheduledRun>> {
    Ok(sqlx::query_as(
        "SELECT runs.id, runs.slot, runs.date, runs.created_at, runs.job_id, jobs.result,
             CASE WHEN runs.job_id IS NOT NULL
                 THEN extract(epoch FROM runs.created_at - runs.slot)::double precision END AS delay_s,
             CASE WHEN jobs.status = 'queued' AND jobs.yielded THEN 'running'
                 ELSE coalesce(jobs.status, runs.status) END AS status,
             coalesce(jobs.error, runs.error) AS error
         FROM scheduled_runs AS runs
         LEFT JOIN jobs ON jobs.workspace_id = $1 AND jobs.id = runs.job_id
         WHERE runs.workspace_id = $1 AND runs.schedule_id = $2 AND runs.id < $3
         ORDER BY runs.id DESC LIMIT $4",
    )
    .bind(workspace_id)
    .bind(schedule_id)
    .bind(before.unwrap_or(Uuid::max()))
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// The last run of each schedule of a workspace, without the result of its job.
pub async fn last_runs(connection: &mut PgConnection, workspace_id: Uuid) -> Result<HashMap<Uuid, ScheduledRun>> {
    #[derive(FromRow)]
    struct Last {
        schedule_id: Uuid,
        #[sqlx(flatten)]
        run: ScheduledRun,
    }
    let last: Vec<Last> = sqlx::query_as(
        "SELECT schedules.id AS schedule_id, last.id, last.slot, last.date, last.created_at, last.job_id, NULL::jsonb AS result,
             CASE WHEN last.job_id IS NOT NULL
                 THEN extract(epoch FROM last.created_at - last.slot)::double precision END AS delay_s,
             CASE WHEN jobs.status = 'queued' AND jobs.yielded THEN 'running'
                 ELSE coalesce(jobs.status, last.status) END AS status,
             coalesce(jobs.error, last.error) AS error
         FROM schedules
         JOIN LATERAL (
             SELECT id, slot, date, created_at, job_id, status, error FROM scheduled_runs AS runs
             WHERE runs.workspace_id = $1 AND runs.schedule_id = schedules.id ORDER BY runs.id DESC LIMIT 1
         ) AS last ON true
         LEFT JOIN jobs ON jobs.workspace_id = $1 AND jobs.id = last.job_id
         WHERE schedules.workspace_id = $1",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?;
    Ok(last.into_iter().map(|Last { schedule_id, run }| (schedule_id, run)).collect())
}

/// The schedule of a run, and when it is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of {
    pub workspace_id: Uuid,
    pub schedule_id: Uuid,
    pub now: Time,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Key {
    /// The slot, unless a caller starts it.
    pub slot: Option<Time>,
    /// The local date of a nightly run.
    pub date: Option<NaiveDate>,
}

impl Key {
    pub fn of(slot: Slot, is_nightly: bool) -> Self {
        Self { slot: Some(slot.at), date: is_nightly.then_some(slot.date) }
    }
}

/// Records a run. Returns its id, or `None` if the slot has one. A concurrent transaction that records it, too, waits
/// for this one to end.
pub(super) async fn record(
    connection: &mut PgConnection,
    of: Of,
    key: Key,
    without_job: Option<(RunStatus, Option<&str>)>,
) -> Result<Option<Uuid>> {
    let (status, error) = without_job.unzip();
    Ok(sqlx::query_scalar(
        "INSERT INTO scheduled_runs (workspace_id, id, schedule_id, slot, date, status, error, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(of.workspace_id)
    .bind(Uuid::now_v7())
    .bind(of.schedule_id)
    .bind(key.slot)
    .bind(key.date)
    .bind(status)
    .bind(error.flatten())
    .bind(of.now)
    .fetch_optional(connection)
    .await?)
}

/// Records what became of the start of a run: its job, or why there is none.
pub(super) async fn record_start(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    started: Result<Uuid, String>,
) -> Result<()> {
    let status = started.as_ref().err().map(|_| RunStatus::Failed);
    let (job_id, error) = match started {
        Ok(job_id) => (Some(job_id), None),
        Err(error) => (None, Some(error)),
    };
    sqlx::query("UPDATE scheduled_runs SET job_id = $3, status = $4, error = $5 WHERE workspace_id = $1 AND id = $2")
        .bind(workspace_id)
        .bind(id)
        .bind(job_id)
        .bind(status)
        .bind(error)
        .execute(connection)
        .await?;
    Ok(())
}

/// The unfinished job of a run.
#[derive(Debug, FromRow)]
pub(super) struct Open {
    pub job_id: Uuid,
    /// Whether it waits for the jobs before it.
    pub is_parked: bool,
    /// When it was enqueued.
    pub created_at: Time,
}

/// Records how the jobs of a schedule ended, and returns those that have not, oldest first.
pub(super) async fn open(connection: &mut PgConnection, workspace_id: Uuid, schedule_id: Uuid) -> Result<Vec<Open>> {
    sqlx::query(
        "UPDATE scheduled_runs SET status = jobs.status FROM jobs
         WHERE scheduled_runs.workspace_id = $1 AND schedule_id = $2 AND scheduled_runs.status IS NULL
             AND jobs.workspace_id = $1 AND jobs.id = job_id AND jobs.finished_at IS NOT NULL",
    )
    .bind(workspace_id)
    .bind(schedule_id)
    .execute(&mut *connection)
    .await?;
    Ok(sqlx::query_as(
        "SELECT jobs.id AS job_id, jobs.created_at, jobs.status = 'queued' AND jobs.run_at = $3 AS is_parked
         FROM scheduled_runs AS runs JOIN jobs ON jobs.workspace_id = $1 AND jobs.id = runs.job_id
         WHERE runs.workspace_id = $1 AND runs.schedule_id = $2 AND runs.status IS NULL AND jobs.finished_at IS NULL
         ORDER BY runs.id",
    )
    .bind(workspace_id)
    .bind(schedule_id)
    .bind(crate::queue::PARKED)
    .fetch_all(connection)
    .await?)
}
