//! The health of a customer today and in the past.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Band, Health};
use crate::crm::customers::Segment;
use crate::error::{Error, Result};
use crate::insight::period::Period;
use crate::insight::scoring::{self, Day};

/// The number of days of the trend.
const TREND_DAYS: u64 = 30;

/// The health of a customer now and in a period.
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
    /// The last snapshot of each interval of the period, oldest first.
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
    /// The date, in UTC.
    pub date: NaiveDate,
    /// The score on that date; `null` if the customer had no data.
    #[sqlx(rename = "health")]
    pub score: Option<i16>,
    /// The band of the score.
    pub band: Option<Band>,
    /// The customer's segment on that date.
    pub segment: Segment,
}

/// Returns the health of a customer now and in a period.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    period: &Period,
) -> Result<CustomerHealth> {
    let (day, as_of) = (Day::today(), crate::platform::db::now());
    let facts = scoring::facts(connection, workspace_id, &[id], day).await?.pop().ok_or(Error::NotFound)?;
    let health = Health::of(&facts);
    let first_of_trend = day.0.checked_sub_days(Days::new(TREND_DAYS)).unwrap_or(day.0);
    let from = period.from.date_naive().min(first_of_trend);
    let snapshots = snapshots(connection, workspace_id, id, (from, period.to.date_naive().max(day.0))).await?;
    let oldest = snapshots.iter().find(|snapshot| snapshot.date >= first_of_trend && snapshot.date < day.0);
    let before = oldest.and_then(|snapshot| snapshot.score);
    let trend = Trend {
        since: oldest.map(|snapshot| snapshot.date),
        from: before,
        to: health.score,
        change: health.score.zip(before).map(|(to, from)| to - from),
    };
    let history = last_of_each(period, snapshots, |snapshot| snapshot.date);
    Ok(CustomerHealth { customer_id: id, as_of, health, trend, history })
}

async fn snapshots(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    id: Uuid,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<Vec<Snapshot>> {
    Ok(sqlx::query_as(
        "SELECT date, health, band, segment FROM health_snapshots
         WHERE workspace_id = $1 AND customer_id = $2 AND date BETWEEN $3 AND $4 ORDER BY date",
    )
    .bind(workspace_id)
    .bind(id)
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?)
}

/// Returns the items whose day is in the period, with only the last day of each interval. The items must be
/// ordered by day.
pub(crate) fn last_of_each<T>(period: &Period, all: Vec<T>, date: impl Fn(&T) -> NaiveDate) -> Vec<T> {
    let buckets = period.buckets();
    let mut kept: Vec<(usize, T)> = Vec::new();
    for item in all {
        // A day belongs to the interval of its noon in UTC, which is the same date in nearly every time zone.
        let noon = date(&item).and_time(NaiveTime::from_hms_opt(12, 0, 0).unwrap_or_default()).and_utc();
        let bucket = buckets.partition_point(|start| *start <= noon);
        let is_in =
            date(&item) >= period.from.date_naive() && date(&item).and_time(NaiveTime::MIN).and_utc() < period.to;
        if bucket == 0 || !is_in {
            continue;
        }
        kept.pop_if(|(last, _)| *last == bucket);
        kept.push((bucket, item));
    }
    kept.into_iter().map(|(_, item)| item).collect()
}
