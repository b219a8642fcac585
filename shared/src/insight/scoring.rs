//! Scores of customers, stored in a separate table.
//!
//! A customer's scores follow from the orders, interactions and feedback as of a day (in UTC), and from the
//! workspace's thresholds. Database triggers record customers as stale when any of these change. Readers
//! [`refresh_if_cheap`]; a worker refreshes every few seconds, however many customers are stale. When
//! the day changes, all customers are scored again: by the first reader if they are few, otherwise by the job
//! that takes the daily snapshot.

mod counts;
mod facts;
mod refresh;
mod write;

use chrono::{DateTime, Days, Months, NaiveDate, NaiveTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::Result;
use crate::insight::segments::Thresholds;
use crate::platform::db;
use crate::values::Time;

pub use counts::{ScoreCount, counts};
pub use facts::{FACTS, Facts, facts};
pub use refresh::{Freshness, maintain, marked, refresh, refresh_if_cheap, score_page};
pub(crate) use refresh::{last_of_page, lock};
pub(crate) use write::{reclassify, snapshot_page, start_thresholds};

/// The months for which orders and ratings count.
const MONTHS: Months = Months::new(24);

/// A day in UTC as of which customers are scored: events of the day count, later ones do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub NaiveDate);

impl Day {
    /// The present day.
    pub fn today() -> Self {
        Self(db::now().date_naive())
    }

    /// The start of the day.
    pub fn start(self) -> Time {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// The end of the day, excluded.
    pub fn end(self) -> Time {
        self.start().checked_add_days(Days::new(1)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The start of the 24 months for which orders count.
    pub fn since(self) -> Time {
        self.start().checked_sub_months(MONTHS).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// The state of a workspace's scores.
#[derive(Debug, Clone, FromRow)]
pub struct State {
    /// The day as of which all customers were last scored.
    pub date: Option<NaiveDate>,
    /// The time up to which all changes are included.
    pub refreshed_at: Option<Time>,
    /// The current thresholds.
    #[sqlx(flatten)]
    pub cuts: Thresholds,
    /// When the thresholds were computed.
    pub cut_at: Time,
    /// Whether scores have changed since.
    pub moved: bool,
    /// The last customer whose segment follows the current thresholds; `None` if all do.
    pub cut_after: Option<Uuid>,
    /// When the last snapshot was completed.
    pub snapshot_at: Option<Time>,
    /// The date of the last snapshot.
    pub snapshot_date: Option<NaiveDate>,
}

impl State {
    /// Reads the state of a workspace; `None` if no customer was scored yet.
    pub async fn read(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Option<Self>> {
        Ok(sqlx::query_as(
            "SELECT date, refreshed_at, buyers, recency_cuts, frequency_cuts, monetary_cuts, cut_at, moved, cut_after,
                 snapshot_at, snapshot_date
             FROM score_states WHERE workspace_id = $1",
        )
        .bind(workspace_id)
        .fetch_optional(connection)
        .await?)
    }
}
