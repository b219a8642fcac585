//! The segment report: the customers of each segment, changes and history.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Segment, Thresholds};
use crate::crm::customers::{Band, CustomerStatus, CustomerType};
use crate::error::Result;
use crate::insight::filters::{FilterBy, Filters, Sql};
use crate::insight::health::HealthBand;
use crate::insight::ratio::Rate;
use crate::insight::reports::Report;
use crate::insight::request::{Offers, Request};
use crate::insight::scoring::{self, Day, State};
use crate::insight::table::{Rows, Table};
use crate::values::Time;

/// The days of the history.
const HISTORY_DAYS: u64 = 90;

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
    pub thresholds: ThresholdFigures,
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
    /// The segments in the daily snapshots of the last 90 days, oldest first; `null` with a filter, since
    /// snapshots count all customers.
    pub history: Option<Vec<Past>>,
}

/// The thresholds of the scores 2, 3, 4 and 5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SegmentThresholds)]
pub struct ThresholdFigures {
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
    /// What the customers of the segment have in common.
    pub definition: &'static str,
    /// The scores of customers in the segment: recency, and value, which is the mean of frequency and
    /// monetary, rounded half up; `null` for prospects, who have none.
    pub scores: Option<String>,
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
    /// The band; `none` for customers whose score has a coverage below 0.3, or who have no score.
    pub band: HealthBand,
    /// The number of customers in the band.
    pub count: i64,
    /// The share of all customers.
    pub share: Rate,
    /// The path of the request that lists the customers.
    pub query: String,
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
    /// The date in the workspace's time zone.
    pub date: NaiveDate,
    /// The number of customers in each segment.
    #[schema(value_type = BTreeMap<String, i64>)]
    pub groups: BTreeMap<&'static str, i64>,
}

/// The tables of the report.
const TABLES: &[Table] = &[
    Table {
        name: "groups",
        at: "/groups",
        rows: Rows::Items(&["segment", "definition", "scores", "count", "share.rate", "query"]),
    },
    Table { name: "by_type", at: "/by_type", rows: Rows::Counts("type", "customers") },
    Table { name: "by_status", at: "/by_status", rows: Rows::Counts("status", "customers") },
    Table { name: "by_health", at: "/by_health", rows: Rows::Items(&["band", "count", "share.rate", "query"]) },
    Table { name: "moves", at: "/changes/moves", rows: Rows::Items(&["from", "to", "count"]) },
    Table {
        name: "history",
        at: "/history",
        rows: Rows::Items(&[
            "date",
            "groups.champions",
            "groups.loyal",
            "groups.active",
            "groups.new",
            "groups.promising",
            "groups.needs_attention",
            "groups.at_risk",
            "groups.previously_loyal",
            "groups.almost_lost",
            "groups.dormant",
            "groups.prospects",
        ]),
    },
];

/// The report of [`SegmentFigures`].
#[derive(Debug, Clone, Copy)]
pub struct SegmentReport;

impl Report for SegmentReport {
    const NAME: &'static str = "customers/segments";
    const OFFERS: Offers = Offers {
        period: false,
        interval: false,
        filters: &[FilterBy::CustomerType, FilterBy::CustomerStatus, FilterBy::AssignedTo],
    };
    const TABLES: &'static [Table] = TABLES;
    const SHOWS_SCORES: bool = true;
    type Figures = SegmentFigures;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<SegmentFigures>> {
        let scope = Scope { workspace_id, filters: &request.filters };
        Ok(vec![figures(connection, scope, as_of, Day::of(as_of, request.zone)).await?])
    }
}

/// The customers that the report is about.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    workspace_id: Uuid,
    filters: &'a Filters,
}

/// Computes the report from the present scores.
async fn figures(connection: &mut PgConnection, scope: Scope<'_>, as_of: Time, day: Day) -> Result<SegmentFigures> {
    let Scope { workspace_id, filters } = scope;
    let state = State::read(connection, workspace_id).await?;
    let (by_type, by_status, customers) = people(connection, scope).await?;
    let (segments, bands) = scored(connection, scope).await?;
    let thresholds = state.as_ref().map_or_else(|| Thresholds::fixed(0, day), |state| state.thresholds.clone());
    let history = if filters.is_empty() { Some(past(connection, workspace_id, day).await?) } else { None };
    Ok(SegmentFigures {
        as_of: up_to(connection, workspace_id, state.as_ref(), as_of).await?,
        complete: state.as_ref().is_some_and(|state| state.is_of(day)),
        customers,
        buyers: segments.iter().filter(|(segment, _)| **segment != Segment::Prospects).map(|(_, count)| count).sum(),
        groups: groups(customers, &segments, filters),
        by_health: band_groups(customers, &bands, filters),
        by_type,
        by_status,
        changes: changes(connection, scope, state.as_ref()).await?,
        history,
        thresholds: ThresholdFigures {
            ranked: thresholds.are_ranks(),
            recency: thresholds.recency,
            frequency: thresholds.frequency,
            monetary: thresholds.monetary,
        },
    })
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
async fn people(connection: &mut PgConnection, scope: Scope<'_>) -> Result<(Counts, Counts, i64)> {
    let mut sql = Sql::new("SELECT type, status, count(*) FROM customers WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    scope.filters.push_customers(&mut sql, scope.workspace_id);
    sql.push(" GROUP BY type, status");
    let counted: Vec<(CustomerType, CustomerStatus, i64)> = sql.build_query_as().fetch_all(connection).await?;
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
    scope: Scope<'_>,
) -> Result<(HashMap<Segment, i64>, HashMap<Band, i64>)> {
    let (mut segments, mut bands) = (HashMap::new(), HashMap::new());
    for counted in scoring::counts(connection, scope.workspace_id, scope.filters).await? {
        *segments.entry(counted.segment).or_default() += counted.customers;
        if let Some(band) = counted.band {
            *bands.entry(band).or_default() += counted.customers;
        }
    }
    Ok((segments, bands))
}

/// The groups. Customers without scores are prospects.
fn groups(customers: i64, segments: &HashMap<Segment, i64>, filters: &Filters) -> Vec<Group> {
    let with_orders: i64 =
        segments.iter().filter(|(segment, _)| **segment != Segment::Prospects).map(|(_, count)| count).sum();
    let count = |segment: Segment| match segment {
        Segment::Prospects => customers - with_orders,
        other => segments.get(&other).copied().unwrap_or_default(),
    };
    let group = |&segment: &Segment| Group {
        segment,
        definition: segment.definition(),
        scores: segment.scores(),
        count: count(segment),
        share: Rate::new(count(segment), customers),
        query: format!("/dev/crm/customers?segment={}{}", segment.as_str(), filters.as_parameters()),
    };
    Segment::ALL.iter().map(group).collect()
}

fn band_groups(customers: i64, bands: &HashMap<Band, i64>, filters: &Filters) -> Vec<BandGroup> {
    let known: i64 = bands.values().sum();
    let group = |&band: &HealthBand| {
        let count = band.band().map_or(customers - known, |band| bands.get(&band).copied().unwrap_or_default());
        let value = band.band().map_or("null", Band::as_str);
        let query = format!("/dev/crm/customers?health_band={value}{}", filters.as_parameters());
        BandGroup { band, count, share: Rate::new(count, customers), query }
    };
    HealthBand::ALL.iter().map(group).collect()
}

async fn changes(connection: &mut PgConnection, scope: Scope<'_>, state: Option<&State>) -> Result<Changes> {
    let Some(since) = state.and_then(|state| state.snapshot_date) else {
        return Ok(Changes { since: None, moves: Vec::new() });
    };
    let mut sql = Sql::new(
        "SELECT previous_segment AS \"from\", segment AS \"to\", count(*) FROM customer_scores AS scores
         WHERE previous_segment IS DISTINCT FROM segment AND workspace_id = ",
    );
    sql.push_bind(scope.workspace_id);
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "scores.customer_id");
    sql.push(" GROUP BY previous_segment, segment ORDER BY count(*) DESC, previous_segment, segment");
    Ok(Changes { since: Some(since), moves: sql.build_query_as().fetch_all(connection).await? })
}

/// The segments of all customers in the snapshots of the last days.
async fn past(connection: &mut PgConnection, workspace_id: Uuid, day: Day) -> Result<Vec<Past>> {
    let first = day.date.checked_sub_days(Days::new(HISTORY_DAYS - 1)).unwrap_or(day.date);
    let rows: Vec<(NaiveDate, Segment, i64)> = sqlx::query_as(
        "SELECT date, segment, customers FROM segment_snapshots
         WHERE workspace_id = $1 AND date BETWEEN $2 AND $3 ORDER BY date",
    )
    .bind(workspace_id)
    .bind(first)
    .bind(day.date)
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
    Ok(days)
}
