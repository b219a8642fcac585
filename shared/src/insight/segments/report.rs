//! The segment report: the customers of each segment, changes and history.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Segment, Thresholds};
use crate::crm::customers::Band;
use crate::crm::customers::{CustomerStatus, CustomerType};
use crate::error::Result;
use crate::insight::health;
use crate::insight::period::Period;
use crate::insight::ratio::Rate;
use crate::insight::reports::Report;
use crate::insight::scoring::{self, Day, State};
use crate::values::Time;

/// The segment report.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SegmentFigures {
    /// The time up to which all changes are included; `null` until all customers were scored once.
    pub as_of: Option<DateTime<Utc>>,
    /// Whether all customers are scored as of today. If not, a job is scoring them.
    pub complete: bool,
    /// The number of all customers.
    pub customers: i64,
    /// The number of customers with orders in the last 24 months that were not cancelled.
    pub buyers: i64,
    /// The thresholds of the scores 2, 3, 4 and 5.
    pub cuts: CutFigures,
    /// The segments; each customer is in exactly one.
    pub groups: Vec<Group>,
    /// The customers by type.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub by_type: BTreeMap<&'static str, i64>,
    /// The customers by status.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub by_status: BTreeMap<&'static str, i64>,
    /// The customers by health band.
    pub by_health: Vec<BandGroup>,
    /// The customers who changed segment since the last snapshot.
    pub changes: Changes,
    /// The segments in the period, from the last snapshot of each interval.
    pub history: Vec<Past>,
}

/// The thresholds of the scores 2, 3, 4 and 5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SegmentCuts)]
pub struct CutFigures {
    /// Whether the thresholds are quantiles of all customers with orders. With fewer than 500 such customers,
    /// the thresholds are fixed.
    pub ranked: bool,
    /// The thresholds of the time of the last order.
    pub recency: Vec<DateTime<Utc>>,
    /// The thresholds of the number of orders.
    pub frequency: Vec<i64>,
    /// The thresholds of the quantity ordered.
    pub monetary: Vec<i64>,
}

/// A segment and its customers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = SegmentGroup)]
pub struct Group {
    /// The segment.
    pub segment: Segment,
    /// The scores of customers in the segment: recency, and value, which is the mean of frequency and
    /// monetary, rounded half up.
    pub definition: String,
    /// The number of customers in the segment.
    pub count: i64,
    /// The share of all customers.
    pub share: Rate,
    /// The path of the request that lists the customers.
    pub query: String,
}

/// The customers of a health band.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = HealthGroup)]
pub struct BandGroup {
    /// The band; `null` for customers without a score.
    pub band: Option<Band>,
    /// The number of customers in the band.
    pub count: i64,
    /// The share of all customers.
    pub share: Rate,
    /// The path of the request that lists the customers; `null` for customers without a score.
    pub query: Option<String>,
}

/// Changes of segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SegmentChanges)]
pub struct Changes {
    /// The date of the last snapshot; `null` without one.
    pub since: Option<NaiveDate>,
    /// The moves between segments, most customers first.
    pub moves: Vec<Move>,
}

/// Customers who moved from one segment to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, FromRow)]
#[schema(as = SegmentMove)]
pub struct Move {
    /// The segment in the snapshot; `null` for customers who were not in the snapshot.
    pub from: Option<Segment>,
    /// The segment now.
    pub to: Segment,
    /// The number of customers.
    pub count: i64,
}

/// The segments on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PastSegments)]
pub struct Past {
    /// The date, in UTC.
    pub date: NaiveDate,
    /// The number of customers in each segment.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub groups: BTreeMap<&'static str, i64>,
}

/// The report of [`SegmentFigures`].
#[derive(Debug)]
pub struct SegmentReport {
    /// The period of the history.
    pub period: Period,
}

impl Report for SegmentReport {
    const NAME: &'static str = "customers/segments";
    type Figures = SegmentFigures;

    fn key(&self) -> String {
        self.period.key().to_owned()
    }

    async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<SegmentFigures> {
        report(connection, workspace_id, as_of, &self.period).await
    }
}

/// Computes the report from the present scores.
pub async fn report(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    as_of: Time,
    period: &Period,
) -> Result<SegmentFigures> {
    let day = Day(as_of.date_naive());
    let state = State::read(connection, workspace_id).await?;
    let (by_type, by_status, customers) = people(connection, workspace_id).await?;
    let (segments, bands) = scored(connection, workspace_id).await?;
    let thresholds = state.as_ref().map_or_else(|| Thresholds::fixed(0, day.0), |state| state.cuts.clone());
    let figures = SegmentFigures {
        as_of: up_to(connection, workspace_id, state.as_ref(), as_of).await?,
        complete: state.as_ref().is_some_and(|state| state.date == Some(day.0)),
        customers,
        buyers: thresholds.buyers,
        groups: groups(customers, &segments),
        by_health: band_groups(customers, &bands),
        by_type,
        by_status,
        changes: changes(connection, workspace_id, state.as_ref()).await?,
        history: past(connection, workspace_id, period).await?,
        cuts: CutFigures {
            ranked: thresholds.are_ranks(),
            recency: thresholds.recency_cuts,
            frequency: thresholds.frequency_cuts,
            monetary: thresholds.monetary_cuts,
        },
    };
    Ok(figures)
}

/// The time up to which the scores include all changes: now, if no customer is stale.
async fn up_to(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    state: Option<&State>,
    as_of: Time,
) -> Result<Option<Time>> {
    let Some(state) = state.filter(|state| state.date.is_some()) else { return Ok(None) };
    let is_stale: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM stale_customers WHERE workspace_id = $1)")
        .bind(workspace_id)
        .fetch_one(connection)
        .await?;
    Ok(if is_stale { state.refreshed_at } else { Some(as_of) })
}

type Counts = BTreeMap<&'static str, i64>;

/// The number of customers by type, by status and in total.
async fn people(connection: &mut PgConnection, workspace_id: Uuid) -> Result<(Counts, Counts, i64)> {
    let counted: Vec<(CustomerType, CustomerStatus, i64)> =
        sqlx::query_as("SELECT type, status, count(*) FROM customers WHERE workspace_id = $1 GROUP BY type, status")
            .bind(workspace_id)
            .fetch_all(connection)
            .await?;
    let mut by_type: Counts = CustomerType::WORDS.iter().map(|word| (*word, 0)).collect();
    let mut by_status: Counts = CustomerStatus::WORDS.iter().map(|word| (*word, 0)).collect();
    for (kind, status, count) in &counted {
        *by_type.entry(kind.as_str()).or_default() += count;
        *by_status.entry(status.as_str()).or_default() += count;
    }
    Ok((by_type, by_status, counted.iter().map(|(.., count)| count).sum()))
}

/// The number of scored customers in each segment and in each band.
async fn scored(
    connection: &mut PgConnection,
    workspace_id: Uuid,
) -> Result<(HashMap<Segment, i64>, HashMap<Band, i64>)> {
    let (mut segments, mut bands) = (HashMap::new(), HashMap::new());
    for counted in scoring::counts(connection, workspace_id).await? {
        *segments.entry(counted.segment).or_default() += counted.customers;
        if let Some(band) = counted.band {
            *bands.entry(band).or_default() += counted.customers;
        }
    }
    Ok((segments, bands))
}

/// The groups. Customers without scores are prospects.
fn groups(customers: i64, segments: &HashMap<Segment, i64>) -> Vec<Group> {
    let with_orders: i64 =
        segments.iter().filter(|(segment, _)| **segment != Segment::Prospects).map(|(_, count)| count).sum();
    let count = |segment: Segment| match segment {
        Segment::Prospects => customers - with_orders,
        other => segments.get(&other).copied().unwrap_or_default(),
    };
    let group = |&segment: &Segment| Group {
        segment,
        definition: segment.definition(),
        count: count(segment),
        share: Rate::new(count(segment), customers),
        query: format!("/dev/crm/customers?segment={}", segment.as_str()),
    };
    Segment::ALL.iter().map(group).collect()
}

fn band_groups(customers: i64, bands: &HashMap<Band, i64>) -> Vec<BandGroup> {
    let known: i64 = bands.values().sum();
    let group = |band: Option<Band>, count| BandGroup {
        band,
        count,
        share: Rate::new(count, customers),
        query: band.map(|band| format!("/dev/crm/customers?health={}", band.as_str())),
    };
    let of_band = |&band: &Band| group(Some(band), bands.get(&band).copied().unwrap_or_default());
    Band::ALL.iter().map(of_band).chain([group(None, customers - known)]).collect()
}

async fn changes(connection: &mut PgConnection, workspace_id: Uuid, state: Option<&State>) -> Result<Changes> {
    let Some(since) = state.and_then(|state| state.snapshot_date) else {
        return Ok(Changes { since: None, moves: Vec::new() });
    };
    let moves = sqlx::query_as(
        "SELECT former_segment AS \"from\", segment AS \"to\", count(*) FROM customer_scores
         WHERE workspace_id = $1 AND former_segment IS DISTINCT FROM segment
         GROUP BY former_segment, segment ORDER BY count(*) DESC, former_segment, segment",
    )
    .bind(workspace_id)
    .fetch_all(connection)
    .await?;
    Ok(Changes { since: Some(since), moves })
}

async fn past(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<Vec<Past>> {
    let rows: Vec<(NaiveDate, Segment, i64)> = sqlx::query_as(
        "SELECT date, segment, customers FROM segment_snapshots
         WHERE workspace_id = $1 AND date BETWEEN $2 AND $3 ORDER BY date",
    )
    .bind(workspace_id)
    .bind(period.from.date_naive())
    .bind(period.to.date_naive())
    .fetch_all(connection)
    .await?;
    let mut days: Vec<Past> = Vec::new();
    for (date, segment, count) in rows {
        if days.last().is_none_or(|day| day.date != date) {
            days.push(Past { date, groups: Segment::WORDS.iter().map(|word| (*word, 0)).collect() });
        }
        if let Some(day) = days.last_mut() {
            day.groups.insert(segment.as_str(), count);
        }
    }
    Ok(health::last_of_each(period, days, |day| day.date))
}
