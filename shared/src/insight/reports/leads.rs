//! The lead report: totals, conversions, the funnel and sources.

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

/// The most owners that are reported.
const MAX_OWNERS: i64 = 1_000;

string_enum! {
    /// The stages of the funnel, in order.
    FunnelStage {
        /// The lead was created; every lead has reached this stage.
        New = "new",
        /// The lead was contacted.
        Contacted = "contacted",
        /// The lead was qualified.
        Qualified = "qualified",
        /// The lead received a proposal.
        Proposal = "proposal",
        /// The proposal was negotiated.
        Negotiation = "negotiation",
        /// The lead was converted to a customer.
        Converted = "converted",
        /// The lead was won.
        Won = "won",
    }
}

/// The lead report. Everything except `totals` is about the leads created in the period.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LeadMetrics {
    /// The time of the underlying data.
    pub as_of: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// All leads.
    pub totals: LeadTotals,
    /// The leads created in the period.
    pub created: LeadsCreated,
    /// The share of the created leads that are now `converted` or `won`.
    pub conversion_rate: Rate,
    /// The share of the created leads with an outcome (`converted`, `won` or `lost`) that are now `converted`
    /// or `won`.
    pub win_rate: Rate,
    /// The number of created leads that have reached each stage, whatever their status is now.
    pub funnel: Vec<FunnelStep>,
    /// The days from creation to the first `converted` or `won`, for leads that are now in one of these.
    pub days_to_convert: Spread,
    /// The mean score of the created leads; `null` without any.
    pub average_score: Option<f64>,
    /// The created leads by source.
    pub by_source: Vec<SourceMetrics>,
}

/// The number of all leads.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LeadTotals {
    /// The number of leads.
    pub leads: i64,
    /// The leads by status.
    pub by_status: Counts,
    /// The leads by source.
    pub by_source: Counts,
    /// The leads by owner, for the 1,000 owners with the most leads, most first.
    pub by_owner: Vec<OwnerCount>,
    /// The number of all owners; unassigned leads count as one more owner.
    pub owners: i64,
}

/// The leads of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct OwnerCount {
    /// The owner; `null` for unassigned leads.
    pub assigned_to: Option<Uuid>,
    /// The number of leads.
    pub leads: i64,
}

/// The leads created in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeadsCreated {
    /// The number of leads.
    pub leads: i64,
    /// The leads created in each interval.
    pub by_interval: Vec<IntervalCount>,
}

/// A stage of the funnel. A lead has reached a stage if it was ever in that stage or in a later one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct FunnelStep {
    /// The stage.
    pub stage: FunnelStage,
    /// The number of leads that have reached the stage.
    pub leads: i64,
    /// The share of all created leads.
    pub rate: Rate,
    /// The share of the leads that have reached the previous stage.
    pub step_rate: Rate,
    /// The median number of days from creation to the first time in this stage, of leads that were in it;
    /// `null` without any.
    pub median_days: Option<f64>,
}

/// The leads of a source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct SourceMetrics {
    /// The source.
    pub source: LeadSource,
    /// The number of leads created in the period.
    pub leads: i64,
    /// The number of these leads that are now `converted` or `won`.
    pub conversions: i64,
    /// The share of these leads that are now `converted` or `won`.
    pub rate: Rate,
}

/// The report of [`LeadMetrics`].
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

/// The leads of a source created in an interval, and the stages that they have reached.
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

/// The median numbers of days from creation to each stage.
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

/// The days from creation to each stage. An imported lead may have reached a stage before its creation, which
/// counts as 0 days.
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
