//! Headlines of the dashboard for segments, health and themes.
//!
//! They read stored sums (`score_counts`, `segment_snapshots`, `band_snapshots`, `theme_days`), so they take
//! as long with a million customers as with a thousand.

use std::collections::HashMap;

use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::dashboard::Scope;
use crate::crm::customers::{Band, Segment};
use crate::error::Result;
use crate::insight::health::HealthBand;
use crate::insight::period::Period;
use crate::insight::ratio::{Comparison, Rate};
use crate::insight::scoring::{self, Day, ScoreCount, State};
use crate::insight::themes;
use crate::values::Time;

/// The number of themes reported; `/feedback/themes` lists all of them.
const THEMES: usize = 3;

/// The headline of the segment report, as of now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SegmentHeadline {
    /// Whether all customers are scored as of today. If not, a job is scoring them.
    pub complete: bool,
    /// The date of the last snapshot; `null` without one.
    pub since: Option<NaiveDate>,
    /// The segments; each customer is in exactly one.
    pub groups: Vec<SegmentChange>,
}

/// The customers of a segment, compared with the last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct SegmentChange {
    /// The segment.
    pub segment: Segment,
    /// The number of customers in the segment.
    pub count: i64,
    /// The share of all customers.
    pub share: Rate,
    /// `count` compared with the last snapshot.
    pub change: Comparison,
}

/// The headline of customer health, as of now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthHeadline {
    /// The date of the oldest snapshot of the period; `null` without one, and with a filter.
    pub since: Option<NaiveDate>,
    /// The mean score of the customers with a band, compared with that snapshot.
    pub mean_score: Comparison,
    /// The customers by band.
    pub by_health: Vec<BandChange>,
}

/// The customers of a health band, compared with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct BandChange {
    /// The band; `none` for customers whose score has a coverage below 0.3, or who have no score.
    pub band: HealthBand,
    /// The number of customers in the band.
    pub count: i64,
    /// The share of all customers.
    pub share: Rate,
    /// `count` compared with the snapshot.
    pub change: Comparison,
}

/// The headline of a theme.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ThemeHeadline {
    /// The permanent id of the theme.
    pub id: Uuid,
    /// The phrase of the theme, in its most frequent form.
    pub label: String,
    /// The number of comments of the period about the theme.
    pub count: i64,
    /// `count` compared with the period before.
    pub change: Comparison,
}

/// The headlines of segments and health; `customers` is the number of all customers.
pub(super) async fn scored(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    (as_of, zone, period): (Time, Tz, &Period),
    customers: i64,
) -> Result<(SegmentHeadline, HealthHeadline)> {
    let Scope { workspace_id, filters } = scope;
    let today = Day::of(as_of, zone);
    let counts = scoring::counts(connection, workspace_id, filters).await?;
    let state = State::read(connection, workspace_id).await?;
    let since = state.as_ref().and_then(|state| state.snapshot_date);
    let segments_before = match since {
        Some(date) if filters.is_empty() => segments_of(connection, workspace_id, date).await?,
        Some(_) => scoring::segments_before(connection, workspace_id, filters).await?,
        None => HashMap::new(),
    };
    let bands_before = match filters.is_empty() {
        true => bands_within(connection, workspace_id, period, today).await?,
        // The bands of single customers in the past are too many to count.
        false => Vec::new(),
    };
    let segments = SegmentHeadline {
        complete: state.is_some_and(|state| state.is_of(today)),
        since,
        groups: groups(customers, &counts, since.is_some().then_some(&segments_before)),
    };
    Ok((segments, health(customers, &counts, &bands_before)))
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn compared(count: i64, before: Option<i64>) -> Comparison {
    Comparison::new(Some(count as f64), before.map(|before| before as f64))
}

/// Customers without scores are not in the counts, and are prospects.
fn groups(customers: i64, counts: &[ScoreCount], before: Option<&HashMap<Segment, i64>>) -> Vec<SegmentChange> {
    let sum = |is: &dyn Fn(Segment) -> bool| -> i64 {
        counts.iter().filter(|count| is(count.segment)).map(|count| count.customers).sum()
    };
    let group = |&segment: &Segment| {
        let count = match segment {
            Segment::Prospects => customers - sum(&|other| other != Segment::Prospects),
            _ => sum(&|other| other == segment),
        };
        let before = before.map(|before| before.get(&segment).copied().unwrap_or_default());
        SegmentChange { segment, count, share: Rate::new(count, customers), change: compared(count, before) }
    };
    Segment::ALL.iter().map(group).collect()
}

fn health(customers: i64, counts: &[ScoreCount], snapshot: &[PastBand]) -> HealthHeadline {
    let in_band = |band: Band| counts.iter().filter(move |count| count.band == Some(band));
    let count = |band: Band| in_band(band).map(|count| count.customers).sum::<i64>();
    let known: i64 = Band::ALL.iter().map(|band| count(*band)).sum();
    let health: i64 = counts.iter().filter(|count| count.band.is_some()).map(|count| count.health).sum();
    let change = |band: &HealthBand| {
        let count = band.band().map_or(customers - known, count);
        let was: i64 = snapshot.iter().filter(|past| past.band == band.as_str()).map(|past| past.customers).sum();
        let before = (!snapshot.is_empty()).then_some(was);
        BandChange { band: *band, count, share: Rate::new(count, customers), change: compared(count, before) }
    };
    let known_before = || snapshot.iter().filter(|past| past.band != HealthBand::None.as_str());
    let mean_before =
        Rate::new(known_before().map(|past| past.health).sum(), known_before().map(|past| past.customers).sum());
    HealthHeadline {
        since: snapshot.first().map(|past| past.date),
        mean_score: Comparison::new(Rate::new(health, known).rate, mean_before.rate),
        by_health: HealthBand::ALL.iter().map(change).collect(),
    }
}

/// The number of customers in each segment on the day of a snapshot: at most eleven rows.
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

/// A band in a snapshot.
#[derive(Debug, sqlx::FromRow)]
struct PastBand {
    date: NaiveDate,
    band: String,
    customers: i64,
    health: i64,
}

/// The bands in the first snapshot of a period, before today: at most four rows.
async fn bands_within(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    period: &Period,
    today: Day,
) -> Result<Vec<PastBand>> {
    let (first, last) = period.dates();
    Ok(sqlx::query_as(
        "SELECT date, band, customers, health FROM band_snapshots
         WHERE workspace_id = $1 AND date = (
             SELECT min(date) FROM band_snapshots
             WHERE workspace_id = $1 AND date >= $2 AND date <= $3 AND date < $4
         )",
    )
    .bind(workspace_id)
    .bind(first)
    .bind(last)
    .bind(today.date)
    .fetch_all(connection)
    .await?)
}

/// The most significant themes of the period.
pub(super) async fn themes(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    as_of: Time,
    periods: (&Period, &Period),
) -> Result<Vec<ThemeHeadline>> {
    let report = themes::of_period(connection, scope.workspace_id, as_of, periods, scope.filters, THEMES).await?;
    let headline = |theme: themes::Theme| ThemeHeadline {
        id: theme.id,
        label: theme.label,
        count: theme.count,
        change: theme.change,
    };
    Ok(report.themes.into_iter().map(headline).collect())
}
