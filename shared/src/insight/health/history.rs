//! The health of a customer today and in the past.

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Band, Health};
use crate::crm::customers::Segment;
use crate::error::{Error, Result};
use crate::insight::scoring::{self, Day};
use crate::insight::table::{Rows, Table};
use crate::platform::db;

/// The number of days of the trend.
const TREND_DAYS: u64 = 30;

/// The tables of a customer's health.
pub const TABLES: &[Table] = &[
    Table { name: "parts", at: "/parts", rows: Rows::Items(&["name", "points", "maximum"]) },
    Table { name: "history", at: "/history", rows: Rows::Items(&["date", "score", "band", "segment"]) },
];

/// The health of a customer now and in the past.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CustomerHealth {
    /// The id of the customer.
    pub customer_id: Uuid,
    /// When the score was computed.
    pub as_of: DateTime<Utc>,
    /// The health now.
    #[serde(flatten)]
    pub health: Health,
    /// The change of the score over the last 30 days.
    pub trend: Trend,
    /// The daily snapshots, oldest first. They are kept for 400 days.
    pub history: Vec<Snapshot>,
}

/// The change of a score over 30 days.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = HealthTrend)]
pub struct Trend {
    /// The date of the oldest snapshot of the last 30 days; `null` without one.
    pub since: Option<NaiveDate>,
    /// The score on that date.
    pub from: Option<i16>,
    /// The score now.
    pub to: Option<i16>,
    /// `to` − `from`; `null` unless both are known.
    pub change: Option<i16>,
}

/// The health of a customer on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, FromRow)]
#[schema(as = HealthSnapshot)]
pub struct Snapshot {
    /// The date in the workspace's time zone.
    pub date: NaiveDate,
    /// The score on that date; `null` if the customer had no data.
    #[sqlx(rename = "health")]
    pub score: Option<i16>,
    /// The band of the score; `null` if its coverage was below 0.3.
    pub band: Option<Band>,
    /// The customer's segment on that date.
    pub segment: Segment,
}

/// Returns the health of a customer now and in the past.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<CustomerHealth> {
    let (day, as_of) = (Day::today(connection, workspace_id).await?, db::now());
    let facts = scoring::facts(connection, workspace_id, &[id], day).await?.pop().ok_or(Error::NotFound)?;
    let health = Health::of(&facts);
    let first_of_trend = day.date.checked_sub_days(Days::new(TREND_DAYS)).unwrap_or(day.date);
    let history = snapshots(connection, workspace_id, id).await?;
    let oldest = history.iter().find(|snapshot| snapshot.date >= first_of_trend && snapshot.date < day.date);
    let before = oldest.and_then(|snapshot| snapshot.score);
    let trend = Trend {
        since: oldest.map(|snapshot| snapshot.date),
        from: before,
        to: health.score,
        change: health.score.zip(before).map(|(to, from)| to - from),
    };
    Ok(CustomerHealth { customer_id: id, as_of, health, trend, history })
}

async fn snapshots(connection: &mut PgConnection, workspace_id: Uuid, id: Uuid) -> Result<Vec<Snapshot>> {
    Ok(sqlx::query_as(
        "SELECT date, health, band, segment FROM health_snapshots
         WHERE workspace_id = $1 AND customer_id = $2 ORDER BY date",
    )
    .bind(workspace_id)
    .bind(id)
    .fetch_all(connection)
    .await?)
}
