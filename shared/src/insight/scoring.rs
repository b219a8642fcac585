//! Scores: what is known of each customer in figures, kept in a table beside the customers.
//!
//! A customer's row follows from their orders, interactions and feedback as of a day (of UTC), and from the
//! cuts of the workspace. Whatever changes one of these leaves a mark, by a trigger of the database. Readers
//! [`refresh_if_cheap`] what is marked, if it is little; a worker does so every few seconds, however much it is.
//! When the day changes, all are scored anew: at once if they are few, else by the job that takes
//! the daily snapshot.

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

/// Of how many months orders and ratings count.
const MONTHS: Months = Months::new(24);

/// A day of UTC, as of which customers are scored: its own events count, later ones do not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub NaiveDate);

impl Day {
    /// Today.
    pub fn today() -> Self {
        Self(db::now().date_naive())
    }

    /// Its beginning.
    pub fn start(self) -> Time {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// Its end, which is no part of it.
    pub fn end(self) -> Time {
        self.start().checked_add_days(Days::new(1)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// When the 24 months of which orders count began.
    pub fn since(self) -> Time {
        self.start().checked_sub_months(MONTHS).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// How far the scores of a workspace are.
#[derive(Debug, Clone, FromRow)]
pub struct State {
    /// The day as of which all customers were last scored.
    pub date: Option<NaiveDate>,
    /// Up to when all changes are in.
    pub refreshed_at: Option<Time>,
    /// The present cuts.
    #[sqlx(flatten)]
    pub cuts: Thresholds,
    /// When they were made.
    pub cut_at: Time,
    /// Whether orders changed since.
    pub moved: bool,
    /// The customer up to whom segments follow them; `None`: all do.
    pub cut_after: Option<Uuid>,
    /// When the last snapshot was complete.
    pub snapshot_at: Option<Time>,
    /// The day of the last snapshot.
    pub snapshot_date: Option<NaiveDate>,
}

impl State {
    /// The state of a workspace; `None` if nothing was scored yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
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
