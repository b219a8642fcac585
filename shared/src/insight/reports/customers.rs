//! The customer report: totals, orders, interactions and cohorts.

mod activity;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::counts::{Counts, IntervalCount, Spread, by_interval};
use crate::crm::customers::{CustomerStatus, CustomerType};
use crate::error::Result;
use crate::insight::filters::{FilterBy, Filters, Sql};
use crate::insight::period::{Bucket, Interval, Period};
use crate::insight::ratio::Rate;
use crate::insight::request::{Offers, Request};
use crate::insight::table::{Rows, Table};
use crate::values::Time;

use activity::{Members, activity};

/// The most cohorts reported: the months of a customer's orders are the bits of a `u64`.
const MAX_COHORTS: usize = 60;

/// The customer report.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CustomerMetrics {
    /// The time of the underlying data.
    pub as_of: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// All customers.
    pub totals: CustomerTotals,
    /// The customers created in the period.
    pub new: CustomersCreated,
    /// The orders of the period, by their `order_date`.
    pub orders: OrderMetrics,
    /// The orders of each interval, by their `order_date`.
    pub orders_by_interval: Vec<IntervalCount>,
    /// All orders, whatever their date.
    pub orders_ever: OrderMetrics,
    /// The interactions with customers in the period, by their `date`.
    pub interactions: InteractionMetrics,
    /// The customers by the month of their first order, for the last 60 months that overlap the period.
    pub cohorts: Vec<Cohort>,
}

/// The number of all customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerTotals {
    /// The number of customers.
    pub customers: i64,
    /// The customers by type.
    pub by_type: Counts,
    /// The customers by status.
    pub by_status: Counts,
}

/// The customers created in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomersCreated {
    /// The number of customers.
    pub customers: i64,
    /// The customers created in each interval.
    pub by_interval: Vec<IntervalCount>,
}

/// Orders that were not cancelled, and their customers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct OrderMetrics {
    /// The number of orders.
    pub orders: i64,
    /// The sum of the quantities.
    pub quantity: i64,
    /// The number of customers with orders.
    pub customers: i64,
    /// The orders per customer with orders.
    pub orders_per_customer: Spread,
    /// The quantity per customer with orders.
    pub quantity_per_customer: Spread,
    /// The share of customers with orders who have two or more.
    pub repeat_rate: Rate,
}

/// Interactions and their customers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct InteractionMetrics {
    /// The number of interactions.
    pub interactions: i64,
    /// The number of customers with interactions.
    pub customers: i64,
    /// The interactions per customer with interactions.
    pub per_customer: Spread,
}

/// The customers whose first order that was not cancelled was in the same month.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Cohort {
    /// The month.
    #[serde(flatten)]
    pub month: Bucket,
    /// The number of customers.
    pub customers: i64,
    /// The share of these customers who ordered in each following month, up to the end of the period.
    pub again: Vec<Rate>,
}

/// The tables of the report.
const TABLES: &[Table] = &[
    Table {
        name: "by_interval",
        at: "/new/by_interval",
        rows: Rows::Items(&["label", "start", "end", "partial", "count"]),
    },
    Table {
        name: "orders_by_interval",
        at: "/orders_by_interval",
        rows: Rows::Items(&["label", "start", "end", "partial", "count"]),
    },
    Table {
        name: "cohorts",
        at: "/cohorts",
        rows: Rows::Spread(&["label", "start", "end", "partial", "customers"], ("again", "rate", "month_")),
    },
    Table { name: "totals_by_type", at: "/totals/by_type", rows: Rows::Counts("type", "customers") },
    Table { name: "totals_by_status", at: "/totals/by_status", rows: Rows::Counts("status", "customers") },
];

/// The report of [`CustomerMetrics`].
#[derive(Debug, Clone, Copy)]
pub struct CustomerReport;

impl Report for CustomerReport {
    const NAME: &'static str = "reports/customers";
    const OFFERS: Offers = Offers {
        period: true,
        interval: true,
        filters: &[FilterBy::CustomerType, FilterBy::CustomerStatus, FilterBy::AssignedTo, FilterBy::Segment],
    };
    const TABLES: &'static [Table] = TABLES;
    type Figures = CustomerMetrics;

    async fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
        request: &Request,
    ) -> Result<Vec<CustomerMetrics>> {
        let scope = Scope { workspace_id, filters: &request.filters };
        let totals = totals(connection, scope).await?;
        let months: Vec<Vec<Bucket>> = request.periods.iter().map(months).collect();
        let activity = activity(connection, scope, request.periods.iter().zip(&months)).await?;
        let mut all = Vec::new();
        for ((period, months), active) in request.periods.iter().zip(months).zip(&activity.periods) {
            all.push(CustomerMetrics {
                as_of,
                period: period.clone(),
                totals: totals.clone(),
                new: new(connection, scope, period).await?,
                orders: active.orders.metrics(),
                orders_by_interval: active.orders_by_interval(period),
                orders_ever: activity.ever.metrics(),
                interactions: active.interactions(),
                cohorts: cohorts(months, &active.cohorts),
            });
        }
        Ok(all)
    }
}

/// The customers that a report is about.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    workspace_id: Uuid,
    filters: &'a Filters,
}

/// The months of the cohorts. A cohort has all customers of its month, even if the period begins within it.
fn months(period: &Period) -> Vec<Bucket> {
    let mut months = period.in_whole(Interval::Month).buckets();
    months.split_off(months.len().saturating_sub(MAX_COHORTS))
}

async fn totals(connection: &mut PgConnection, scope: Scope<'_>) -> Result<CustomerTotals> {
    let mut sql = Sql::new("SELECT type, status, count(*) FROM customers WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    scope.filters.push_customers(&mut sql, scope.workspace_id);
    sql.push(" GROUP BY type, status");
    let cells: Vec<(String, String, i64)> = sql.build_query_as().fetch_all(connection).await?;
    let sum = |is: &dyn Fn(&str, &str) -> bool| {
        cells.iter().filter(|(kind, status, _)| is(kind, status)).map(|(.., customers)| customers).sum()
    };
    Ok(CustomerTotals {
        customers: sum(&|_, _| true),
        by_type: Counts::of(CustomerType::WORDS, |word| sum(&|kind, _| kind == word)),
        by_status: Counts::of(CustomerStatus::WORDS, |word| sum(&|_, status| status == word)),
    })
}

async fn new(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<CustomersCreated> {
    // All statuses are listed, since the index starts with the status.
    let mut sql = Sql::new("SELECT bucket, count(*) FROM (SELECT width_bucket(created_at, ");
    sql.push_bind(period.bucket_starts());
    sql.push(") AS bucket FROM customers WHERE workspace_id = ").push_bind(scope.workspace_id);
    sql.push(" AND status = ANY (").push_bind(CustomerStatus::WORDS);
    sql.push(") AND created_at >= ").push_bind(period.from).push(" AND created_at < ").push_bind(period.to);
    scope.filters.push_customers(&mut sql, scope.workspace_id);
    sql.push(") AS created GROUP BY bucket");
    let counts: Vec<(i32, i64)> = sql.build_query_as().fetch_all(connection).await?;
    let customers = counts.iter().map(|(_, customers)| customers).sum();
    Ok(CustomersCreated { customers, by_interval: by_interval(period, counts) })
}

fn cohorts(months: Vec<Bucket>, members: &[Members]) -> Vec<Cohort> {
    let cohort = |(at, (month, members)): (usize, (Bucket, &Members))| {
        let again = members.ordered.iter().skip(at + 1).map(|ordered| Rate::new(*ordered, members.customers));
        Cohort { month, customers: members.customers, again: again.collect() }
    };
    months.into_iter().zip(members).enumerate().map(cohort).collect()
}
