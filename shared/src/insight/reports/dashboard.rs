//! The dashboard: the headline of each report compared with the period before, and the current activity.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::activity::{self, Activity};
use super::counts::Counts;
use super::headlines::{self, HealthHeadline, SegmentHeadline, ThemeHeadline};
use crate::crm::customers::CustomerStatus;
use crate::crm::leads::LeadStatus;
use crate::crm::orders::OrderStatus;
use crate::error::Result;
use crate::insight::period::Period;
use crate::insight::ratio::{Comparison, Rate, RateComparison};
use crate::values::Time;

/// The dashboard of a workspace. A period is compared with the preceding period of the same length.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Dashboard {
    /// The time of the underlying data.
    pub as_of: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// The period before.
    pub period_before: Period,
    /// The headline of leads.
    pub leads: LeadHeadline,
    /// The headline of customers.
    pub customers: CustomerHeadline,
    /// The headline of orders.
    pub orders: OrderHeadline,
    /// The headline of segments.
    pub segments: SegmentHeadline,
    /// The headline of customer health.
    pub health: HealthHeadline,
    /// The headline of feedback.
    pub feedback: FeedbackHeadline,
    /// The three most significant themes of the period.
    pub themes: Vec<ThemeHeadline>,
    /// The next actions that are due.
    pub followups: Followups,
    /// The jobs of the workspace.
    pub jobs: JobHeadline,
    /// The latest activities, newest first.
    pub recent_activity: Vec<Activity>,
}

/// The headline of the lead report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct LeadHeadline {
    /// The number of all leads.
    pub total: i64,
    /// The leads created in the period.
    pub created: Comparison,
    /// The share of the created leads that are now `converted` or `won`.
    pub conversion_rate: RateComparison,
    /// The share of the created leads with an outcome (`converted`, `won` or `lost`) that are now `converted`
    /// or `won`.
    pub win_rate: RateComparison,
}

/// The headline of the customer report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct CustomerHeadline {
    /// The number of all customers.
    pub total: i64,
    /// The customers created in the period.
    pub new: Comparison,
    /// The share of the customers with orders in the period who have two or more.
    pub repeat_rate: RateComparison,
}

/// The headline of orders.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OrderHeadline {
    /// The orders of the period that were not cancelled, by their `order_date`.
    pub orders: Comparison,
    /// The sum of their quantities.
    pub quantity: Comparison,
    /// All orders by status.
    pub by_status: Counts,
}

/// The headline of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct FeedbackHeadline {
    /// The requests sent in the period.
    pub sent: Comparison,
    /// The share of these requests that have been answered so far.
    pub response_rate: RateComparison,
    /// The mean of the ratings given in the period.
    pub mean_rating: Comparison,
    /// The share of ratings of 5 minus the share of 1 to 3, from −1 to 1.
    pub nps: Comparison,
}

/// The next actions that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Followups {
    /// The number of next actions whose date has passed, and that no digest has reported yet.
    pub due: i64,
}

/// The jobs of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, FromRow)]
pub struct JobHeadline {
    /// The number of queued jobs.
    pub queued: i64,
    /// The number of running jobs.
    pub running: i64,
    /// The number of jobs created in the period that failed.
    pub failed: i64,
}

/// The report of [`Dashboard`].
#[derive(Debug)]
pub struct DashboardReport {
    /// The period.
    pub period: Period,
}

impl Report for DashboardReport {
    const NAME: &'static str = "analytics/dashboard";
    type Figures = Dashboard;

    fn key(&self) -> String {
        self.period.key().to_owned()
    }

    async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<Dashboard> {
        let (period, before) = (&self.period, self.period.before());
        let now = Headline::of(connection, workspace_id, period).await?;
        let then = Headline::of(connection, workspace_id, &before).await?;
        let leads = by_status(connection, workspace_id, LEADS, None).await?;
        let customers = by_status(connection, workspace_id, CUSTOMERS, None).await?;
        let by_status = by_status(connection, workspace_id, ORDERS, None).await?;
        let (segments, health) =
            headlines::scored(connection, workspace_id, (as_of, period), customers.total()).await?;
        Ok(Dashboard {
            as_of,
            period: period.clone(),
            leads: LeadHeadline {
                total: leads.total(),
                created: Comparison::of_counts(now.leads, then.leads),
                conversion_rate: RateComparison::new(now.conversion(), then.conversion()),
                win_rate: RateComparison::new(now.win(), then.win()),
            },
            customers: CustomerHeadline {
                total: customers.total(),
                new: Comparison::of_counts(now.customers, then.customers),
                repeat_rate: RateComparison::new(now.repeat(), then.repeat()),
            },
            orders: OrderHeadline {
                orders: Comparison::of_counts(now.orders, then.orders),
                quantity: Comparison::of_counts(now.quantity, then.quantity),
                by_status,
            },
            segments,
            health,
            feedback: FeedbackHeadline {
                sent: Comparison::of_counts(now.sent, then.sent),
                response_rate: RateComparison::new(now.response(), then.response()),
                mean_rating: Comparison::new(now.mean_rating, then.mean_rating),
                nps: Comparison::new(now.nps, then.nps),
            },
            themes: headlines::themes(connection, workspace_id, (as_of, period)).await?,
            followups: Followups { due: followups_due(connection, workspace_id, as_of).await? },
            jobs: jobs(connection, workspace_id, period).await?,
            recent_activity: activity::recent(connection, workspace_id).await?,
            period_before: before,
        })
    }
}

/// A table whose index starts with the status, and its statuses.
type Statuses = (&'static str, &'static [&'static str]);

const LEADS: Statuses = ("leads", LeadStatus::WORDS);
const CUSTOMERS: Statuses = ("customers", CustomerStatus::WORDS);
const ORDERS: Statuses = ("orders", OrderStatus::WORDS);

/// The number of records of each status, of all records or of those created in a period.
async fn by_status(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (table, words): Statuses,
    period: Option<&Period>,
) -> Result<Counts> {
    let within = if period.is_some() { "AND created_at >= $3 AND created_at < $4" } else { "" };
    let sql = format!(
        "SELECT status, count(*) FROM {table} WHERE workspace_id = $1 AND status = ANY ($2) {within} GROUP BY status"
    );
    let query = sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(words);
    let query = match period {
        Some(period) => query.bind(period.from).bind(period.to),
        None => query,
    };
    let counts: HashMap<String, i64> = query.fetch_all(connection).await?.into_iter().collect();
    Ok(Counts::of(words, |word| counts.get(word).copied().unwrap_or(0)))
}

/// The orders of a period that were not cancelled, their quantity, the customers with orders, and those with
/// two or more.
async fn orders(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<(i64, i64, i64, i64)> {
    Ok(sqlx::query_as(
        "SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(quantity), 0)::bigint, count(*),
             count(*) FILTER (WHERE orders >= 2)
         FROM (
             SELECT count(*) AS orders, sum(quantity::float8) AS quantity FROM orders
             WHERE workspace_id = $1 AND order_date >= $2 AND order_date < $3 AND status <> 'cancelled'
             GROUP BY customer_id
         ) AS each",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .fetch_one(connection)
    .await?)
}

/// The requests of a period, those answered so far, the mean of the ratings given in the period, and their
/// net promoter score.
async fn feedback(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    period: &Period,
) -> Result<(i64, i64, Option<f64>, Option<f64>)> {
    Ok(sqlx::query_as(
        "SELECT sent, answered, mean, nps
         FROM (
             SELECT count(*) AS sent, count(answered_at) AS answered FROM feedback
             WHERE workspace_id = $1 AND requested_at >= $2 AND requested_at < $3
         ) AS requests,
         (
             SELECT avg(rating)::float8 AS mean,
                 avg(CASE WHEN rating = 5 THEN 1 WHEN rating <= 3 THEN -1 ELSE 0 END)::float8 AS nps FROM feedback
             WHERE workspace_id = $1 AND status = 'answered' AND answered_at >= $2 AND answered_at < $3
         ) AS ratings",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .fetch_one(connection)
    .await?)
}

async fn followups_due(connection: &mut PgConnection, workspace_id: Uuid, now: Time) -> Result<i64> {
    Ok(sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM lead_interactions
                 WHERE workspace_id = $1 AND next_action_date <= $2 AND followed_up_at IS NULL)
             + (SELECT count(*) FROM customer_interactions
                WHERE workspace_id = $1 AND next_action_date <= $2 AND followed_up_at IS NULL)",
    )
    .bind(workspace_id)
    .bind(now)
    .fetch_one(connection)
    .await?)
}

async fn jobs(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<JobHeadline> {
    Ok(sqlx::query_as(
        "SELECT count(*) FILTER (WHERE status = 'queued' AND NOT yielded) AS queued,
             count(*) FILTER (WHERE status = 'running' OR status = 'queued' AND yielded) AS running,
             count(*) FILTER (WHERE status = 'failed' AND created_at >= $2 AND created_at < $3) AS failed
         FROM jobs WHERE workspace_id = $1 AND status IN ('queued', 'running', 'failed')",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .fetch_one(connection)
    .await?)
}

/// The figures that are compared between two periods.
#[derive(Debug, Clone, Default)]
struct Headline {
    leads: i64,
    conversions: i64,
    lost: i64,
    customers: i64,
    orders: i64,
    quantity: i64,
    ordering: i64,
    repeating: i64,
    sent: i64,
    answered: i64,
    mean_rating: Option<f64>,
    nps: Option<f64>,
}

impl Headline {
    /// Each of these statements reads a covering index.
    async fn of(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<Self> {
        let leads = by_status(connection, workspace_id, LEADS, Some(period)).await?;
        let customers = by_status(connection, workspace_id, CUSTOMERS, Some(period)).await?;
        let (orders, quantity, ordering, repeating) = orders(connection, workspace_id, period).await?;
        let (sent, answered, mean_rating, nps) = feedback(connection, workspace_id, period).await?;
        Ok(Self {
            leads: leads.total(),
            conversions: leads.get("converted") + leads.get("won"),
            lost: leads.get("lost"),
            customers: customers.total(),
            orders,
            quantity,
            ordering,
            repeating,
            sent,
            answered,
            mean_rating,
            nps,
        })
    }

    fn conversion(&self) -> Rate {
        Rate::new(self.conversions, self.leads)
    }

    fn win(&self) -> Rate {
        Rate::new(self.conversions, self.conversions + self.lost)
    }

    fn repeat(&self) -> Rate {
        Rate::new(self.repeating, self.ordering)
    }

    fn response(&self) -> Rate {
        Rate::new(self.answered, self.sent)
    }
}
