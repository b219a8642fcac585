//! The dashboard: the headline of each report compared with the period before, and the current activity.

mod statements;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::activity::{self, Activity};
use super::counts::Counts;
use super::headlines::{self, HealthHeadline, SegmentHeadline, ThemeHeadline};
use crate::error::{Error, Result};
use crate::insight::filters::{FilterBy, Filters};
use crate::insight::period::Period;
use crate::insight::ratio::{Comparison, RateComparison};
use crate::insight::request::{Offers, Request};
use crate::insight::table::{Rows, Table};
use crate::values::Time;

use statements::{CUSTOMERS, Headline, LEADS, by_status, followups_due, jobs, orders};

/// The dashboard of a workspace. A period is compared with the one before it.
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
    /// The jobs of the workspace; `null` with a filter, since jobs have no owner.
    pub jobs: Option<JobHeadline>,
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

/// The tables of the dashboard.
const TABLES: &[Table] = &[
    Table { name: "orders_by_status", at: "/orders/by_status", rows: Rows::Counts("status", "orders") },
    Table {
        name: "segments",
        at: "/segments/groups",
        rows: Rows::Items(&[
            "segment",
            "count",
            "share.rate",
            "change.before",
            "change.change",
            "change.relative_change",
        ]),
    },
    Table {
        name: "health",
        at: "/health/by_health",
        rows: Rows::Items(&["band", "count", "share.rate", "change.before", "change.change", "change.relative_change"]),
    },
    Table {
        name: "themes",
        at: "/themes",
        rows: Rows::Items(&["id", "label", "count", "change.before", "change.change", "change.relative_change"]),
    },
    Table {
        name: "recent_activity",
        at: "/recent_activity",
        rows: Rows::Items(&["at", "type", "id", "lead_id", "customer_id", "summary"]),
    },
];

/// The report of [`Dashboard`].
#[derive(Debug, Clone, Copy)]
pub struct DashboardReport;

impl Report for DashboardReport {
    const NAME: &'static str = "analytics/dashboard";
    const OFFERS: Offers = Offers { period: true, interval: false, filters: &[FilterBy::AssignedTo] };
    const TABLES: &'static [Table] = TABLES;
    const SHOWS_SCORES: bool = true;
    type Figures = Dashboard;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<Dashboard>> {
        let scope = Scope { workspace_id, filters: &request.filters };
        let present = Present::read(connection, scope, as_of).await?;
        let periods: Vec<&Period> = request.with_those_before().flat_map(|(period, before)| [period, before]).collect();
        let (totals, headlines) = headlines_of(connection, scope, &periods).await?;
        let mut all = Vec::new();
        for (periods, headlines) in request.with_those_before().zip(headlines.chunks_exact(2)) {
            all.push(of_period(connection, scope, (as_of, request), (periods, headlines), (&totals, &present)).await?);
        }
        Ok(all)
    }
}

/// The records that the dashboard is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub workspace_id: Uuid,
    pub filters: &'a Filters,
}

/// What does not depend on the period.
struct Present {
    followups_due: i64,
    activity: Vec<Activity>,
}

impl Present {
    async fn read(connection: &mut PgConnection, scope: Scope<'_>, as_of: Time) -> Result<Self> {
        Ok(Self {
            followups_due: followups_due(connection, scope, as_of).await?,
            activity: activity::recent(connection, scope).await?,
        })
    }
}

/// The number of all leads and customers, and all orders by status.
struct Totals {
    leads: i64,
    customers: i64,
    orders: Counts,
}

/// The totals, and the headline of each of the periods: each table is read once, whatever their number.
async fn headlines_of(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    periods: &[&Period],
) -> Result<(Totals, Vec<Headline>)> {
    let mut leads = by_status(connection, scope, LEADS, periods).await?.into_iter();
    let mut customers = by_status(connection, scope, CUSTOMERS, periods).await?.into_iter();
    let (by_status, orders) = orders(connection, scope, periods).await?;
    let total = |counts: Option<Counts>| counts.map_or(0, |counts| counts.total());
    let totals = Totals { leads: total(leads.next()), customers: total(customers.next()), orders: by_status };
    let mut headlines = Vec::new();
    for (((period, leads), customers), orders) in periods.iter().zip(leads).zip(customers).zip(orders) {
        headlines.push(Headline::of(connection, scope, period, (leads, customers, orders)).await?);
    }
    Ok((totals, headlines))
}

async fn of_period(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    (as_of, request): (Time, &Request),
    ((period, before), headlines): ((&Period, &Period), &[Headline]),
    (totals, present): (&Totals, &Present),
) -> Result<Dashboard> {
    let [now, then] = headlines else { return Err(Error::internal("a period has no headline")) };
    let (segments, health) =
        headlines::scored(connection, scope, (as_of, request.zone, period), totals.customers).await?;
    let ((orders, quantity), (orders_before, quantity_before)) = (now.ordered(), then.ordered());
    Ok(Dashboard {
        as_of,
        period: period.clone(),
        period_before: before.clone(),
        leads: LeadHeadline {
            total: totals.leads,
            created: Comparison::of_counts(now.leads.total(), then.leads.total()),
            conversion_rate: RateComparison::new(now.conversion(), then.conversion()),
            win_rate: RateComparison::new(now.win(), then.win()),
        },
        customers: CustomerHeadline {
            total: totals.customers,
            new: Comparison::of_counts(now.customers.total(), then.customers.total()),
            repeat_rate: RateComparison::new(now.repeat(), then.repeat()),
        },
        orders: OrderHeadline {
            orders: Comparison::of_counts(orders, orders_before),
            quantity: Comparison::of_counts(quantity, quantity_before),
            by_status: totals.orders.clone(),
        },
        segments,
        health,
        feedback: FeedbackHeadline {
            sent: Comparison::of_counts(now.sent(), then.sent()),
            response_rate: RateComparison::new(now.response(), then.response()),
            mean_rating: Comparison::new(now.mean_rating, then.mean_rating),
            nps: Comparison::new(now.nps, then.nps),
        },
        themes: headlines::themes(connection, scope, as_of, (period, before)).await?,
        followups: Followups { due: present.followups_due },
        jobs: if scope.filters.is_empty() { Some(jobs(connection, scope.workspace_id, period).await?) } else { None },
        recent_activity: present.activity.clone(),
    })
}
