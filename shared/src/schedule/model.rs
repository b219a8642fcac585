//! A schedule, as callers see it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::timing::{Rule, Timing};
use super::work::LISTED_KINDS;
use crate::accounts::nightly;
use crate::error::Result;
use crate::platform::db;
use crate::query::{Columns, Item, ListField, Order, OrderKind, Spec};
use crate::string_enum;
use crate::values::cron::Cron;
use crate::values::dates::zone;
use crate::values::etag::Tagged;
use crate::values::every::Every;
use crate::values::kind::{Compared, Kind};
use crate::values::{Fault, Field, Time};

/// How many of its next runs a schedule shows.
const SHOWN_RUNS: usize = 5;

string_enum! {
    /// What happens at a slot while an earlier job of the schedule has not ended.
    Overlap {
        /// The slot is skipped.
        Skip = "skip",
        /// Its job begins when those before it have ended.
        Queue = "queue",
    }
}

string_enum! {
    /// What happens to slots that were missed, because no worker could start them within a minute.
    CatchUp {
        /// The latest one is run.
        Latest = "latest",
        /// None is run.
        None = "none",
        /// All are run, one after the other, up to the latest 100.
        All = "all",
    }
}

string_enum! {
    /// Whether a schedule runs.
    ScheduleStatus {
        /// It runs at its times.
        Active = "active",
        /// It does not run until it is resumed.
        Paused = "paused",
        /// It has no further times.
        Ended = "ended",
    }
}

/// A schedule: starts jobs at its times.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44", "kind": "nurture_leads", "params": { "enroll": true, "status": "new" },
    "cron": "30 8 * * mon-fri", "every": null, "at": null, "time_zone": "Europe/Berlin", "overlap": "skip",
    "catch_up": "latest", "until": null, "status": "active",
    "next_runs": [
        "2026-12-03T07:30:00Z", "2026-12-04T07:30:00Z", "2026-12-07T07:30:00Z", "2026-12-08T07:30:00Z",
        "2026-12-09T07:30:00Z"
    ],
    "created_at": "2026-12-02T10:00:00Z", "updated_at": "2026-12-02T10:00:00Z"
})))]
pub struct Schedule {
    /// The schedule's id.
    pub id: Uuid,
    /// The kind of job that it starts.
    pub kind: String,
    /// The parameters of the job: those of the request that starts such a job.
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
    /// The cron expression by which it runs: minute, hour, day of the month, month, day of the week.
    pub cron: Option<String>,
    /// The interval at which it runs, counted from `created_at`, as an ISO 8601 duration. A day is 24 hours.
    pub every: Option<String>,
    /// The only time at which it runs.
    pub at: Option<DateTime<Utc>>,
    /// The time zone of `cron`.
    pub time_zone: String,
    /// What happens at its time while its job before has not ended.
    pub overlap: Overlap,
    /// What happens to runs that were missed.
    pub catch_up: CatchUp,
    /// It runs before this time only.
    pub until: Option<DateTime<Utc>>,
    /// Whether it runs.
    pub status: ScheduleStatus,
    /// The next five times at which it runs; none while it is paused.
    pub next_runs: Vec<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed, paused or resumed.
    pub updated_at: DateTime<Utc>,
    #[serde(skip)]
    pub(super) timing: Timing,
    /// Slots up to this time have been dealt with, or do not count.
    #[serde(skip)]
    pub(super) passed_until: Time,
}

impl Schedule {
    /// Whether it is the nightly run of the workspace.
    pub fn is_nightly(&self) -> bool {
        self.kind == nightly::KIND
    }

    pub(super) fn is_paused(&self) -> bool {
        self.status == ScheduleStatus::Paused
    }

    /// When it is due next.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.timing.next(self.passed_until).map(|slot| slot.at).filter(|_| !self.is_paused())
    }
}

impl Item for Schedule {}

impl Tagged for Schedule {
    /// They change as time passes.
    const COMPUTED: &'static [&'static str] = &["status", "next_runs"];
}

/// The columns of [`Schedule`], in a literal.
macro_rules! schedule_columns {
    () => {
        "id, kind, params, cron, every, at, time_zone, overlap, catch_up, until, paused_at, passed_until, last_date, \
         due_at, created_at, updated_at"
    };
}

pub(super) use schedule_columns;

/// The columns, for the statement of a list.
pub const COLUMNS: Columns = Columns::plain(schedule_columns!());

/// A schedule without a due time has nothing left to do.
const STATUS: &str = "CASE WHEN paused_at IS NOT NULL THEN 'paused' WHEN due_at IS NULL THEN 'ended' ELSE 'active' END";

/// How schedules are listed. A workspace has few.
pub const LIST: Spec = Spec {
    table: "schedules",
    fields: &[
        ListField::new("id", Kind::Id),
        ListField::new("kind", Kind::Word(&LISTED_KINDS)),
        ListField::new("params", Kind::Json),
        ListField::new("cron", Kind::Line),
        ListField::new("every", Kind::Line),
        ListField::new("at", Kind::Time),
        ListField::new("time_zone", Kind::Line),
        ListField::new("overlap", <Overlap as Compared>::KIND),
        ListField::new("catch_up", <CatchUp as Compared>::KIND),
        ListField::new("until", Kind::Time),
        ListField::computed("status", <ScheduleStatus as Compared>::KIND, STATUS),
        ListField::new("next_runs", Kind::Json),
        ListField::new("created_at", Kind::Time),
        ListField::new("updated_at", Kind::Time),
    ],
    filters: &[],
    orders: &[Order { name: "created_at", expression: "id", kind: OrderKind::Id }],
    indexed: &[],
    searchable: false,
    branches: None,
    only: None,
};

impl<'r> FromRow<'r, PgRow> for Schedule {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let (cron, every): (Option<String>, Option<String>) = (row.try_get("cron")?, row.try_get("every")?);
        let (at, until): (Option<Time>, Option<Time>) = (row.try_get("at")?, row.try_get("until")?);
        let created_at: Time = row.try_get("created_at")?;
        let time_zone: String = row.try_get("time_zone")?;
        let rule = match (&cron, &every, at) {
            (Some(cron), ..) => Rule::Cron(Cron::from_text(cron).map_err(|fault| undecoded("cron", fault))?),
            (_, Some(every), _) => {
                Rule::Every(Every::from_text(every).map_err(|fault| undecoded("every", fault))?, created_at)
            }
            (.., Some(at)) => Rule::At(at),
            _ => return Err(undecoded("cron", Fault::new("required", "is missing"))),
        };
        let zone = zone(&time_zone).map_err(|fault| undecoded("time_zone", fault))?;
        let paused_at: Option<Time> = row.try_get("paused_at")?;
        let due_at: Option<Time> = row.try_get("due_at")?;
        let status = match (paused_at, due_at) {
            (Some(_), _) => ScheduleStatus::Paused,
            (None, None) => ScheduleStatus::Ended,
            (None, Some(_)) => ScheduleStatus::Active,
        };
        let Json(params) = row.try_get("params")?;
        let mut schedule = Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            params,
            cron,
            every,
            at,
            time_zone,
            overlap: row.try_get("overlap")?,
            catch_up: row.try_get("catch_up")?,
            until,
            status,
            next_runs: Vec::new(),
            created_at,
            updated_at: row.try_get("updated_at")?,
            timing: Timing { rule, zone, until, last_date: row.try_get("last_date")? },
            passed_until: row.try_get("passed_until")?,
        };
        if status == ScheduleStatus::Active {
            let after = schedule.passed_until.max(db::now());
            schedule.next_runs = schedule.timing.slots(after).take(SHOWN_RUNS).map(|slot| slot.at).collect();
        }
        Ok(schedule)
    }
}

fn undecoded(column: &str, fault: Fault) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: fault.message.into() }
}

/// Returns a schedule.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound).
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Schedule> {
    let select = concat!("SELECT ", schedule_columns!(), " FROM schedules WHERE workspace_id = $1 AND id = $2");
    Ok(sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(connection).await?)
}

/// The schedules of a workspace, the oldest first.
pub async fn list(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<Schedule>> {
    let select = concat!("SELECT ", schedule_columns!(), " FROM schedules WHERE workspace_id = $1 ORDER BY id");
    Ok(sqlx::query_as(select).bind(workspace_id).fetch_all(connection).await?)
}

/// Returns a schedule and locks its row, which a worker does before it starts its jobs.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound).
pub(super) async fn lock(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Schedule> {
    let select =
        concat!("SELECT ", schedule_columns!(), " FROM schedules WHERE workspace_id = $1 AND id = $2 FOR UPDATE");
    Ok(sqlx::query_as(select).bind(workspace_id).bind(id).fetch_one(connection).await?)
}

/// Returns the nightly run of a workspace and locks its row.
pub(super) async fn lock_nightly(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Schedule> {
    let select =
        concat!("SELECT ", schedule_columns!(), " FROM schedules WHERE workspace_id = $1 AND kind = $2 FOR UPDATE");
    Ok(sqlx::query_as(select).bind(workspace_id).bind(nightly::KIND).fetch_one(connection).await?)
}
