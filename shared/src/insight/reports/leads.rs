//! The lead report: totals, conversions, the funnel and sources.

mod owners;
mod tally;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::counts::{Counts, IntervalCount, Spread, by_interval};
use crate::crm::leads::{LeadSource, LeadStatus};
use crate::error::Result;
use crate::insight::filters::{FilterBy, Filters};
use crate::insight::period::{Bucket, Period};
use crate::insight::ratio::Rate;
use crate::insight::request::{Offers, Request};
use crate::insight::table::{Rows, Table};
use crate::string_enum;
use crate::values::Time;

use tally::{Converted, InPeriod, Tally, tally};

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

/// The lead report. Everything except `totals` and `outcomes` is about the leads created in the period.
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
    /// The created leads by owner, for the 1,000 owners with the most, most first.
    pub by_owner: Vec<OwnerMetrics>,
    /// What happened in the period, whenever the leads were created.
    pub outcomes: Outcomes,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OwnerCount {
    /// The owner; `null` for unassigned leads.
    pub assigned_to: Option<Uuid>,
    /// The name of the owner; `null` unless the owner is a user of the workspace.
    pub name: Option<String>,
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

/// The created leads of an owner.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OwnerMetrics {
    /// The owner; `null` for unassigned leads.
    pub assigned_to: Option<Uuid>,
    /// The name of the owner; `null` unless the owner is a user of the workspace.
    pub name: Option<String>,
    /// The number of leads created in the period.
    pub leads: i64,
    /// The number of these leads that are now `converted` or `won`.
    pub conversions: i64,
    /// The share of these leads that are now `converted` or `won`.
    pub rate: Rate,
}

/// The leads that were converted, won or lost for the first time in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Outcomes {
    /// The number of leads converted in the period.
    pub converted: i64,
    /// The number of leads won in the period.
    pub won: i64,
    /// The number of leads lost in the period.
    pub lost: i64,
    /// The outcomes of each interval.
    pub by_interval: Vec<OutcomeCount>,
}

/// The outcomes of an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutcomeCount {
    /// The interval.
    #[serde(flatten)]
    pub interval: Bucket,
    /// The number of leads converted in the part of the interval that is in the period.
    pub converted: i64,
    /// The number of leads won in it.
    pub won: i64,
    /// The number of leads lost in it.
    pub lost: i64,
}

/// The tables of the report.
const TABLES: &[Table] = &[
    Table {
        name: "by_interval",
        at: "/created/by_interval",
        rows: Rows::Items(&["label", "start", "end", "partial", "count"]),
    },
    Table {
        name: "outcomes",
        at: "/outcomes/by_interval",
        rows: Rows::Items(&["label", "start", "end", "partial", "converted", "won", "lost"]),
    },
    Table {
        name: "funnel",
        at: "/funnel",
        rows: Rows::Items(&["stage", "leads", "rate.rate", "step_rate.rate", "median_days"]),
    },
    Table { name: "by_source", at: "/by_source", rows: Rows::Items(&["source", "leads", "conversions", "rate.rate"]) },
    Table {
        name: "by_owner",
        at: "/by_owner",
        rows: Rows::Items(&["assigned_to", "name", "leads", "conversions", "rate.rate"]),
    },
    Table { name: "totals_by_status", at: "/totals/by_status", rows: Rows::Counts("status", "leads") },
    Table { name: "totals_by_source", at: "/totals/by_source", rows: Rows::Counts("source", "leads") },
    Table { name: "totals_by_owner", at: "/totals/by_owner", rows: Rows::Items(&["assigned_to", "name", "leads"]) },
];

/// The report of [`LeadMetrics`].
#[derive(Debug, Clone, Copy)]
pub struct LeadReport;

impl Report for LeadReport {
    const NAME: &'static str = "reports/leads";
    const OFFERS: Offers = Offers {
        period: true,
        interval: true,
        filters: &[FilterBy::Source, FilterBy::LeadStatus, FilterBy::AssignedTo],
    };
    const TABLES: &'static [Table] = TABLES;
    type Figures = LeadMetrics;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<LeadMetrics>> {
        let scope = Scope { workspace_id, filters: &request.filters };
        let mut tally = tally(connection, scope, &request.periods).await?;
        let totals = totals(connection, scope, &tally).await?;
        let mut all = Vec::new();
        for (period, figures) in request.periods.iter().zip(&mut tally.periods) {
            all.push(of_period(connection, scope, (as_of, period), totals.clone(), figures).await?);
        }
        Ok(all)
    }
}

/// The leads that a report is about.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    workspace_id: Uuid,
    filters: &'a Filters,
}

async fn totals(connection: &mut PgConnection, scope: Scope<'_>, tally: &Tally) -> Result<LeadTotals> {
    let counts =
        |words: &[&'static str], counts: &[i64]| Counts(words.iter().copied().zip(counts.iter().copied()).collect());
    Ok(LeadTotals {
        leads: tally.by_status.iter().sum(),
        by_status: counts(LeadStatus::WORDS, &tally.by_status),
        by_source: counts(LeadSource::WORDS, &tally.by_source),
        by_owner: owners::counts(connection, scope.workspace_id, &tally.owners).await?,
        owners: i64::try_from(tally.owners.len()).unwrap_or(i64::MAX),
    })
}

async fn of_period(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    (as_of, period): (Time, &Period),
    totals: LeadTotals,
    figures: &mut InPeriod,
) -> Result<LeadMetrics> {
    let Converted { leads, conversions } = figures.all;
    Ok(LeadMetrics {
        as_of,
        period: period.clone(),
        totals,
        created: LeadsCreated { leads, by_interval: by_interval(period, (1..).zip(figures.created.iter().copied())) },
        conversion_rate: Rate::new(conversions, leads),
        win_rate: Rate::new(conversions, conversions + figures.lost),
        funnel: funnel(figures),
        days_to_convert: figures.days_to_convert(),
        average_score: mean(figures.score, leads),
        by_source: LeadSource::ALL.iter().zip(&figures.by_source).map(of_source).collect(),
        by_owner: owners::metrics(connection, scope.workspace_id, &figures.owners).await?,
        outcomes: outcomes(period, &figures.outcomes),
    })
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn mean(sum: f64, count: i64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

fn of_source((source, of): (&LeadSource, &Converted)) -> SourceMetrics {
    let Converted { leads, conversions } = *of;
    SourceMetrics { source: *source, leads, conversions, rate: Rate::new(conversions, leads) }
}

fn funnel(figures: &mut InPeriod) -> Vec<FunnelStep> {
    let all = figures.all.leads;
    let first = (all, (all > 0).then_some(0.0));
    let others = figures.reached.into_iter().zip(figures.median_days());
    let mut before = all;
    let step = |(stage, (leads, median_days)): (&FunnelStage, (i64, Option<f64>))| {
        let step_rate = Rate::new(leads, std::mem::replace(&mut before, leads));
        FunnelStep { stage: *stage, leads, rate: Rate::new(leads, all), step_rate, median_days }
    };
    FunnelStage::ALL.iter().zip(std::iter::once(first).chain(others)).map(step).collect()
}

fn outcomes(period: &Period, counts: &[[i64; 3]]) -> Outcomes {
    let total = |outcome: usize| counts.iter().map(|counts| counts[outcome]).sum();
    let of_interval =
        |(interval, &[converted, won, lost]): (Bucket, &[i64; 3])| OutcomeCount { interval, converted, won, lost };
    Outcomes {
        converted: total(0),
        won: total(1),
        lost: total(2),
        by_interval: period.buckets().into_iter().zip(counts).map(of_interval).collect(),
    }
}
