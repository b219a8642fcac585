//! The report on leads: how many there are, and what becomes of those that a period brings.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::counts::{Counts, IntervalCount, Spread, by_interval};
use crate::crm::leads::{LeadSource, LeadStatus};
use crate::error::Result;
use crate::insight::period::Period;
use crate::insight::ratio::Rate;
use crate::string_enum;
use crate::values::Time;

/// The most owners that are told one by one.
const MAX_OWNERS: i64 = 1_000;

string_enum! {
    /// The stages of the funnel, in their order.
    FunnelStage {
        /// Every lead has been new.
        New = "new",
        /// Somebody has talked to them.
        Contacted = "contacted",
        /// They fit.
        Qualified = "qualified",
        /// They have had an offer.
        Proposal = "proposal",
        /// The offer was talked about.
        Negotiation = "negotiation",
        /// They became a customer.
        Converted = "converted",
        /// They bought.
        Won = "won",
    }
}

/// Metrics of leads. Everything but `totals` is about the leads that were created in the period.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LeadMetrics {
    /// The moment of whose data this tells.
    pub as_of: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// All leads that there are.
    pub totals: LeadTotals,
    /// The leads that were created in the period.
    pub created: LeadsCreated,
    /// Of them, those that are `converted` or `won` by now.
    pub conversion_rate: Rate,
    /// Of those that are decided by now (`converted`, `won` or `lost`), those that are `converted` or `won`.
    pub win_rate: Rate,
    /// How far they have come, whatever became of them then.
    pub funnel: Vec<FunnelStep>,
    /// Days from their creation until those that are `converted` or `won` first became so.
    pub days_to_convert: Spread,
    /// Their mean score; `null` if there are none.
    pub average_score: Option<f64>,
    /// What the sources bring.
    pub by_source: Vec<SourceMetrics>,
}

/// How many leads there are.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LeadTotals {
    /// All of them.
    pub leads: i64,
    /// By status.
    pub by_status: Counts,
    /// By source.
    pub by_source: Counts,
    /// By the user who looks after them: the 1,000 who have most, with most first.
    pub by_owner: Vec<OwnerCount>,
    /// How many owners there are in all, counting those that nobody looks after as one's.
    pub owners: i64,
}

/// The leads of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct OwnerCount {
    /// The user; `null`: nobody looks after these.
    pub assigned_to: Option<Uuid>,
    /// How many leads they look after.
    pub leads: i64,
}

/// The leads that a period brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeadsCreated {
    /// How many.
    pub leads: i64,
    /// When.
    pub by_interval: Vec<IntervalCount>,
}

/// A stage of the funnel. A lead has reached it if it was ever in it or in a later one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct FunnelStep {
    /// The stage.
    pub stage: FunnelStage,
    /// How many have reached it.
    pub leads: i64,
    /// The share of all.
    pub rate: Rate,
    /// The share of those that have reached the stage before.
    pub step_rate: Rate,
    /// The median of the days from creation to when those that were in this stage first were; `null` if
    /// none was.
    pub median_days: Option<f64>,
}

/// What a source brings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct SourceMetrics {
    /// The source.
    pub source: LeadSource,
    /// The leads it brought in the period.
    pub leads: i64,
    /// Those of them that are `converted` or `won` by now.
    pub conversions: i64,
    /// Their share.
    pub rate: Rate,
}

/// The report, as it is asked for.
#[derive(Debug)]
pub struct LeadReport {
    /// The period.
    pub period: Period,
}

impl Report for LeadReport {
    const NAME: &'static str = "reports/leads";
    type Figures = LeadMetrics;

    fn key(&self) -> String {
        self.period.key().to_owned()
    }

    async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<LeadMetrics> {
        let period = &self.period;
        let totals = totals(connection, workspace_id).await?;
        let cells = cells(connection, workspace_id, period).await?;
        let days = days(connection, workspace_id, period).await?;
        let all = Cell::sum(&cells);
        Ok(LeadMetrics {
            as_of,
            period: period.clone(),
            totals,
            created: LeadsCreated {
                leads: all.leads,
                by_interval: by_interval(period, cells.iter().map(|cell| (cell.bucket, cell.leads))),
            },
            conversion_rate: Rate::new(all.conversions, all.leads),
            win_rate: Rate::new(all.conversions, all.conversions + all.lost),
            funnel: funnel(&all, &days),
            days_to_convert: Spread { mean: days.convert_mean, median: days.convert_median },
            average_score: mean(all.score, all.leads),
            by_source: LeadSource::ALL.iter().map(|source| of_source(*source, &cells)).collect(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn mean(sum: f64, count: i64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

fn of_source(source: LeadSource, cells: &[Cell]) -> SourceMetrics {
    let of = Cell::sum(cells.iter().filter(|cell| cell.source == source.as_str()));
    SourceMetrics { source, leads: of.leads, conversions: of.conversions, rate: Rate::new(of.conversions, of.leads) }
}

fn funnel(all: &Cell, days: &DaysTo) -> Vec<FunnelStep> {
    let mut before = all.leads;
    let stages = FunnelStage::ALL.iter().map(|stage| {
        let (leads, median_days) = match stage {
            FunnelStage::New => (all.leads, (all.leads > 0).then_some(0.0)),
            FunnelStage::Contacted => (all.contacted, days.contacted),
            FunnelStage::Qualified => (all.qualified, days.qualified),
            FunnelStage::Proposal => (all.proposal, days.proposal),
            FunnelStage::Negotiation => (all.negotiation, days.negotiation),
            FunnelStage::Converted => (all.converted, days.converted),
            FunnelStage::Won => (all.won, days.won),
        };
        let step_rate = Rate::new(leads, std::mem::replace(&mut before, leads));
        FunnelStep { stage: *stage, leads, rate: Rate::new(leads, all.leads), step_rate, median_days }
    });
    stages.collect()
}

async fn totals(connection: &mut PgConnection, workspace_id: Uuid) -> Result<LeadTotals> {
    let rows: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "WITH cells AS MATERIALIZED (
             SELECT status, source, assigned_to, count(*) AS leads FROM leads WHERE workspace_id = $1
             GROUP BY status, source, assigned_to
         ),
         owners AS MATERIALIZED (SELECT assigned_to, sum(leads)::bigint AS leads FROM cells GROUP BY assigned_to)
         SELECT 'status', status, sum(leads)::bigint FROM cells GROUP BY status
         UNION ALL SELECT 'source', source, sum(leads)::bigint FROM cells GROUP BY source
         UNION ALL SELECT 'owners', NULL, count(*) FROM owners
         UNION ALL (SELECT 'owner', assigned_to::text, leads FROM owners ORDER BY leads DESC, assigned_to LIMIT $2)",
    )
    .bind(workspace_id)
    .bind(MAX_OWNERS)
    .fetch_all(connection)
    .await?;
    let (mut counts, mut by_owner) = (HashMap::new(), Vec::new());
    for (of, name, leads) in rows {
        match of.as_str() {
            "owner" => {
                by_owner.push(OwnerCount { assigned_to: name.and_then(|id| Uuid::try_parse(&id).ok()), leads });
            }
            _ => _ = counts.insert((of, name.unwrap_or_default()), leads),
        }
    }
    let count = |of: &str, word: &str| counts.get(&(of.to_owned(), word.to_owned())).copied().unwrap_or(0);
    let by_status = Counts::of(LeadStatus::WORDS, |word| count("status", word));
    Ok(LeadTotals {
        leads: by_status.total(),
        by_status,
        by_source: Counts::of(LeadSource::WORDS, |word| count("source", word)),
        by_owner,
        owners: count("owners", ""),
    })
}

/// The leads that a source brought in an interval, and how far they have come.
#[derive(Debug, Clone, Default, FromRow)]
struct Cell {
    source: String,
    bucket: i32,
    leads: i64,
    score: f64,
    conversions: i64,
    lost: i64,
    contacted: i64,
    qualified: i64,
    proposal: i64,
    negotiation: i64,
    converted: i64,
    won: i64,
}

impl Cell {
    fn sum<'a>(cells: impl IntoIterator<Item = &'a Self>) -> Self {
        cells.into_iter().fold(Self::default(), |sum, cell| Self {
            source: String::new(),
            bucket: 0,
            leads: sum.leads + cell.leads,
            score: sum.score + cell.score,
            conversions: sum.conversions + cell.conversions,
            lost: sum.lost + cell.lost,
            contacted: sum.contacted + cell.contacted,
            qualified: sum.qualified + cell.qualified,
            proposal: sum.proposal + cell.proposal,
            negotiation: sum.negotiation + cell.negotiation,
            converted: sum.converted + cell.converted,
            won: sum.won + cell.won,
        })
    }
}

async fn cells(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<Vec<Cell>> {
    Ok(sqlx::query_as(
        "SELECT source, width_bucket(created_at, $4) AS bucket, count(*) AS leads, sum(score) AS score,
             count(*) FILTER (WHERE status IN ('converted', 'won')) AS conversions,
             count(*) FILTER (WHERE status = 'lost') AS lost,
             count(*) FILTER (WHERE stage >= 1) AS contacted, count(*) FILTER (WHERE stage >= 2) AS qualified,
             count(*) FILTER (WHERE stage >= 3) AS proposal, count(*) FILTER (WHERE stage >= 4) AS negotiation,
             count(*) FILTER (WHERE stage >= 5) AS converted, count(*) FILTER (WHERE stage >= 6) AS won
         FROM (
             SELECT source, created_at, score, status,
                 CASE WHEN won_at IS NOT NULL THEN 6 WHEN converted_at IS NOT NULL THEN 5
                     WHEN negotiation_at IS NOT NULL THEN 4 WHEN proposal_at IS NOT NULL THEN 3
                     WHEN qualified_at IS NOT NULL THEN 2 WHEN contacted_at IS NOT NULL THEN 1 ELSE 0 END AS stage
             FROM leads WHERE workspace_id = $1 AND created_at >= $2 AND created_at < $3
         ) AS made
         GROUP BY source, bucket",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .bind(period.buckets())
    .fetch_all(connection)
    .await?)
}

/// Medians of the days from creation to each stage.
#[derive(Debug, Clone, Default, FromRow)]
struct DaysTo {
    contacted: Option<f64>,
    qualified: Option<f64>,
    proposal: Option<f64>,
    negotiation: Option<f64>,
    converted: Option<f64>,
    won: Option<f64>,
    convert_mean: Option<f64>,
    convert_median: Option<f64>,
}

/// A lead that was brought in with its times may have reached a stage before it was created; that is 0
/// days.
async fn days(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<DaysTo> {
    let days = |time: &str| format!("greatest(extract(epoch FROM {time} - created_at)::float8 / 86400, 0)");
    let median = |days: &str, which: &str, name: &str| {
        format!("percentile_cont(0.5) WITHIN GROUP (ORDER BY {days}) FILTER (WHERE {which}) AS {name}")
    };
    let stages = ["contacted", "qualified", "proposal", "negotiation", "converted", "won"];
    let stages = stages.map(|name| median(&days(&format!("{name}_at")), &format!("{name}_at IS NOT NULL"), name));
    let (first, which) = ("least(converted_at, won_at)", "status IN ('converted', 'won')");
    let (to_convert, which) = (days(first), format!("{which} AND {first} IS NOT NULL"));
    let sql = format!(
        "SELECT {}, avg({to_convert}) FILTER (WHERE {which}) AS convert_mean, {}
         FROM leads WHERE workspace_id = $1 AND created_at >= $2 AND created_at < $3",
        stages.join(", "),
        median(&to_convert, &which, "convert_median"),
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(period.from)
        .bind(period.to)
        .fetch_one(connection)
        .await?)
}
