//! Headlines of the dashboard that are as of now: segments and health beside a snapshot, and themes.
//!
//! They read what is kept as sums already (`score_counts`, `segment_snapshots`, `band_snapshots`,
//! `theme_days`), so they take as long with a million customers as with a thousand.

use std::collections::HashMap;

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use crate::crm::customers::Band;
use crate::crm::customers::Segment;
use crate::error::Result;
use crate::insight::period::Period;
use crate::insight::ratio::{Comparison, Rate};
use crate::insight::scoring::{self, Day, ScoreCount, State};
use crate::insight::themes::ThemesReport;
use crate::values::Time;

/// How many themes are told; all others are at `/feedback/themes`.
const THEMES: usize = 3;
/// The band of those of whom nothing is known, in snapshots.
const UNKNOWN: &str = "unknown";

/// The headline of the report on segments, as of now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SegmentHeadline {
    /// Whether all customers are scored as of today. If not, a job is at it.
    pub complete: bool,
    /// The day of the last snapshot; `null` if there is none.
    pub since: Option<NaiveDate>,
    /// The segments; each customer is in exactly one.
    pub groups: Vec<SegmentChange>,
}

/// The customers of a segment, beside those of the last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct SegmentChange {
    /// The segment.
    pub segment: Segment,
    /// How many customers are in it.
    pub count: i64,
    /// Of all customers.
    pub share: Rate,
    /// `count` beside that of the last snapshot.
    pub change: Comparison,
}

/// The headline of customers' health, as of now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthHeadline {
    /// The day of the oldest snapshot of the period; `null` if there is none.
    pub since: Option<NaiveDate>,
    /// The mean score of the customers of whom something is known, beside that of then.
    pub mean_score: Comparison,
    /// The customers by their band.
    pub by_health: Vec<BandChange>,
}

/// The customers of a band of health, beside those of an earlier day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct BandChange {
    /// The band; `null` if nothing is known of them.
    pub band: Option<Band>,
    /// How many customers are in it.
    pub count: i64,
    /// Of all customers.
    pub share: Rate,
    /// `count` beside that of the snapshot.
    pub change: Comparison,
}

/// The headline of a theme.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ThemeHeadline {
    /// The same from day to day.
    pub id: Uuid,
    /// Its phrase, as it is mostly written.
    pub label: String,
    /// Comments of the period that speak of it.
    pub count: i64,
    /// `count` beside that of the period before.
    pub change: Comparison,
}

/// How the customers of a workspace, `customers` in all, are by segment and by health.
pub(super) async fn scored(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (as_of, period): (Time, &Period),
    customers: i64,
) -> Result<(SegmentHeadline, HealthHeadline)> {
    let today = Day(as_of.date_naive());
    let counts = scoring::counts(connection, workspace_id).await?;
    let state = State::read(connection, workspace_id).await?;
    let since = state.as_ref().and_then(|state| state.snapshot_date);
    let segments_then = match since {
        Some(date) => segments_of(connection, workspace_id, date).await?,
        None => HashMap::new(),
    };
    let bands_then = bands_within(connection, workspace_id, period, today).await?;
    let segments = SegmentHeadline {
        complete: state.is_some_and(|state| state.date == Some(today.0)),
        since,
        groups: groups(customers, &counts, since.is_some().then_some(&segments_then)),
    };
    Ok((segments, health(customers, &counts, &bands_then)))
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn beside(count: i64, before: Option<i64>) -> Comparison {
    Comparison::new(Some(count as f64), before.map(|before| before as f64))
}

/// Whoever is in none of the other segments is a prospect, also who has no scores yet.
fn groups(customers: i64, counts: &[ScoreCount], then: Option<&HashMap<Segment, i64>>) -> Vec<SegmentChange> {
    let sum = |is: &dyn Fn(Segment) -> bool| -> i64 {
        counts.iter().filter(|count| is(count.segment)).map(|count| count.customers).sum()
    };
    let group = |&segment: &Segment| {
        let count = match segment {
            Segment::Prospects => customers - sum(&|other| other != Segment::Prospects),
            _ => sum(&|other| other == segment),
        };
        let before = then.map(|then| then.get(&segment).copied().unwrap_or_default());
        SegmentChange { segment, count, share: Rate::new(count, customers), change: beside(count, before) }
    };
    Segment::ALL.iter().map(group).collect()
}

fn health(customers: i64, counts: &[ScoreCount], then: &[PastBand]) -> HealthHeadline {
    let in_band = |band: Band| counts.iter().filter(move |count| count.band == Some(band));
    let count = |band: Band| in_band(band).map(|count| count.customers).sum::<i64>();
    let known: i64 = Band::ALL.iter().map(|band| count(*band)).sum();
    let health: i64 = counts.iter().filter(|count| count.band.is_some()).map(|count| count.health).sum();
    let change = |band: Option<Band>| {
        let count = band.map_or(customers - known, count);
        let name = band.map_or(UNKNOWN, Band::as_str);
        let was: i64 = then.iter().filter(|past| past.band == name).map(|past| past.customers).sum();
        let before = (!then.is_empty()).then_some(was);
        BandChange { band, count, share: Rate::new(count, customers), change: beside(count, before) }
    };
    let known_then = || then.iter().filter(|past| past.band != UNKNOWN);
    let mean_then =
        Rate::new(known_then().map(|past| past.health).sum(), known_then().map(|past| past.customers).sum());
    HealthHeadline {
        since: then.first().map(|past| past.date),
        mean_score: Comparison::new(Rate::new(health, known).rate, mean_then.rate),
        by_health: Band::ALL.iter().copied().map(Some).chain([None]).map(change).collect(),
    }
}

/// How many customers were in each segment on a day that has a snapshot: eleven rows at most.
async fn segments_of(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    date: NaiveDate,
) -> Result<HashMap<Segment, i64>> {
    let rows: Vec<(Segment, i64)> =
        sqlx::query_as("SELECT segment, customers FROM segment_snapshots WHERE workspace_id = $1 AND date = $2")
            .bind(workspace_id)
            .bind(date)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

/// A band as it was on a day.
#[derive(Debug, sqlx::FromRow)]
struct PastBand {
    date: NaiveDate,
    band: String,
    customers: i64,
    health: i64,
}

/// The bands on the first day of a period, before today, that has a snapshot: four rows at most.
async fn bands_within(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    period: &Period,
    today: Day,
) -> Result<Vec<PastBand>> {
    Ok(sqlx::query_as(
        "SELECT date, band, customers, health FROM band_snapshots
         WHERE workspace_id = $1 AND date = (
             SELECT min(date) FROM band_snapshots
             WHERE workspace_id = $1 AND date >= $2 AND date < $3 AND date::timestamp AT TIME ZONE 'UTC' < $4
         )",
    )
    .bind(workspace_id)
    .bind(period.from.date_naive())
    .bind(today.0)
    .bind(period.to)
    .fetch_all(connection)
    .await?)
}

/// The most telling themes of the period: the sums of its days and of those of the period before, and of
/// three themes the comments that would be quoted.
pub(super) async fn themes(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (as_of, period): (Time, &Period),
) -> Result<Vec<ThemeHeadline>> {
    let report = ThemesReport { period: period.clone(), limit: THEMES };
    let themes = report.compute(connection, workspace_id, as_of).await?.themes;
    let headline = |theme: crate::insight::themes::Theme| ThemeHeadline {
        id: theme.id,
        label: theme.label,
        count: theme.count,
        change: theme.change,
    };
    Ok(themes.into_iter().map(headline).collect())
}
