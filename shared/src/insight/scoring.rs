//! Scores of customers, stored in a separate table.
//!
//! A customer's scores follow from the orders, interactions and feedback as of a day of the workspace, and from the
//! workspace's thresholds. Database triggers record customers as stale when any of these change. Readers
//! [`refresh_if_cheap`]; a worker refreshes every few seconds, however many customers are stale. When
//! the day changes, all customers are scored again: by the first reader if they are few, otherwise by the job
//! that takes the daily snapshot.

mod activity;
mod counts;
mod facts;
mod refresh;
mod write;

use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::insight::period::{local, start_of};
use crate::insight::request::zone;
use crate::insight::segments::Thresholds;
use crate::platform::db;
use crate::values::Time;

pub(in crate::insight) use activity::each_activity;
pub use activity::{Activity, PlacedOrder};
pub(crate) use counts::segments_before;
pub use counts::{ScoreCount, counts};
pub use facts::{FACTS, Facts, facts};
pub use refresh::{Freshness, maintain, marked, refresh, refresh_if_cheap, score_page};
pub(crate) use refresh::{last_of_page, lock};
pub(crate) use write::{reclassify, snapshot_page, start_thresholds};

/// The months for which orders and ratings count.
const MONTHS: Months = Months::new(24);

/// A day of a workspace as of which customers are scored: events of the day count, later ones do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// The date in the workspace's time zone.
    pub date: NaiveDate,
    /// The time zone of the workspace.
    pub zone: Tz,
}

impl Day {
    /// The present day of a workspace.
    pub async fn today(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Self> {
        Ok(Self::of(db::now(), zone(connection, workspace_id).await?))
    }

    /// The day of a time.
    pub fn of(time: Time, zone: Tz) -> Self {
        Self { date: local(time, zone).date(), zone }
    }

    /// The start of the day.
    pub fn start(self) -> Time {
        start_of(self.date, self.zone)
    }

    /// The end of the day, excluded.
    pub fn end(self) -> Time {
        self.date.succ_opt().map_or(DateTime::<Utc>::MAX_UTC, |next| start_of(next, self.zone))
    }

    /// The start of the 24 months for which orders count.
    pub fn since(self) -> Time {
        self.date.checked_sub_months(MONTHS).map_or(DateTime::<Utc>::MIN_UTC, |first| start_of(first, self.zone))
    }

    /// The start of the day that was some days ago.
    pub fn days_ago(self, days: u64) -> Time {
        start_of(self.date.checked_sub_days(Days::new(days)).unwrap_or(self.date), self.zone)
    }

    /// The number of days from the date of a time to this one; 0 on the same day.
    pub fn age_of(self, time: Time) -> i32 {
        let days = (self.date - local(time, self.zone).date()).num_days();
        i32::try_from(days).unwrap_or(i32::MAX)
    }
}

/// The state of a workspace's scores.
#[derive(Debug, Clone, FromRow)]
pub struct State {
    /// The day as of which all customers were last scored.
    pub date: Option<NaiveDate>,
    /// The time zone of that day.
    pub time_zone: Option<String>,
    /// The time up to which all changes are included.
    pub refreshed_at: Option<Time>,
    /// The current thresholds.
    #[sqlx(flatten)]
    pub thresholds: Thresholds,
    /// When the thresholds were computed.
    pub thresholds_at: Time,
    /// Whether scores have changed since.
    pub moved: bool,
    /// The last customer whose segment follows the current thresholds; `None` if all do.
    pub reclassify_after: Option<Uuid>,
    /// When the last snapshot was completed.
    pub snapshot_at: Option<Time>,
    /// The date of the last snapshot.
    pub snapshot_date: Option<NaiveDate>,
}

impl State {
    /// Whether all customers are scored as of a day.
    pub fn is_of(&self, day: Day) -> bool {
        self.date == Some(day.date) && self.time_zone.as_deref() == Some(day.zone.name())
    }

    /// Reads the state of a workspace; `None` if no customer was scored yet.
    pub async fn read(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Self>> {
        Ok(sqlx::query_as(
            "SELECT date, time_zone, refreshed_at, buyers, recency_thresholds, frequency_thresholds, monetary_thresholds,
                 thresholds_at, moved, reclassify_after, snapshot_at, snapshot_date
             FROM score_states WHERE workspace_id = $1",
        )
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?)
    }
}
