//! The customer report: totals, orders, interactions and cohorts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::counts::{Counts, IntervalCount, Spread, by_interval};
use crate::crm::customers::{CustomerStatus, CustomerType};
use crate::error::Result;
use crate::insight::period::Period;
use crate::insight::ratio::Rate;
use crate::values::Time;

/// The most cohorts reported: the months of a customer's orders are the bits of an `i64`.
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
    /// The start of the month.
    pub start: DateTime<Utc>,
    /// The number of customers.
    pub customers: i64,
    /// The share of these customers who ordered in each following month, up to the end of the period.
    pub again: Vec<Rate>,
}

/// The report of [`CustomerMetrics`].
#[derive(Debug)]
pub struct CustomerReport {
    /// The period.
    pub period: Period,
}

impl Report for CustomerReport {
    const NAME: &'static str = "reports/customers";
    type Figures = CustomerMetrics;

    fn key(&self) -> String {
        self.period.key().to_owned()
    }

    async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<CustomerMetrics> {
        let period = &self.period;
        let mut months = period.in_months().buckets();
        let months = months.split_off(months.len().saturating_sub(MAX_COHORTS));
        let new = new(connection, workspace_id, period).await?;
        let orders = orders(connection, workspace_id, period, &months).await?;
        Ok(CustomerMetrics {
            as_of,
            period: period.clone(),
            totals: totals(connection, workspace_id).await?,
            new,
            orders: orders.period.metrics(),
            orders_ever: orders.ever.metrics(),
            interactions: interactions(connection, workspace_id, period).await?.metrics(),
            cohorts: cohorts(&months, &orders.members),
        })
    }
}

async fn totals(connection: &mut PgConnection, workspace_id: Uuid) -> Result<CustomerTotals> {
    let cells: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT type, status, count(*) FROM customers WHERE workspace_id = $1 GROUP BY type, status")
            .bind(workspace_id)
            .fetch_all(connection)
            .await?;
    let sum = |is: &dyn Fn(&str, &str) -> bool| {
        cells.iter().filter(|(kind, status, _)| is(kind, status)).map(|(.., customers)| customers).sum()
    };
    Ok(CustomerTotals {
        customers: sum(&|_, _| true),
        by_type: Counts::of(CustomerType::WORDS, |word| sum(&|kind, _| kind == word)),
        by_status: Counts::of(CustomerStatus::WORDS, |word| sum(&|_, status| status == word)),
    })
}

async fn new(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<CustomersCreated> {
    // All statuses are listed, since the index starts with the status.
    let counts: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT width_bucket(created_at, $5), count(*) FROM customers
         WHERE workspace_id = $1 AND status = ANY ($2) AND created_at >= $3 AND created_at < $4 GROUP BY 1",
    )
    .bind(workspace_id)
    .bind(CustomerStatus::WORDS)
    .bind(period.from)
    .bind(period.to)
    .bind(period.buckets())
    .fetch_all(connection)
    .await?;
    let customers = counts.iter().map(|(_, customers)| customers).sum();
    Ok(CustomersCreated { customers, by_interval: by_interval(period, counts) })
}

/// The number of customers with each amount, in the order of the amounts.
#[derive(Debug, Default)]
struct Histogram(Vec<(f64, i64)>);

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "no sum of a table is 2^53")]
impl Histogram {
    fn customers(&self) -> i64 {
        self.0.iter().map(|(_, customers)| customers).sum()
    }

    fn sum(&self) -> i64 {
        self.0.iter().map(|(amount, customers)| amount * *customers as f64).sum::<f64>() as i64
    }

    /// The amount of the customer at this rank, counted from 0.
    fn at(&self, mut rank: i64) -> Option<f64> {
        let found = self.0.iter().find(|(_, customers)| {
            rank -= customers;
            rank < 0
        });
        found.map(|(amount, _)| *amount)
    }

    fn spread(&self) -> Spread {
        let customers = self.customers();
        // With an odd number of customers, both are the middle one.
        let middle = self.at((customers - 1) / 2).zip(self.at(customers / 2));
        Spread {
            mean: (customers > 0).then(|| self.sum() as f64 / customers as f64),
            median: middle.map(|(lower, upper)| f64::midpoint(lower, upper)),
        }
    }
}

/// The customers with orders, by their number of orders and by their quantity.
#[derive(Debug, Default)]
struct Ordered {
    orders: Histogram,
    quantity: Histogram,
}

impl Ordered {
    fn metrics(&self) -> OrderMetrics {
        let repeating = self.orders.0.iter().filter(|(orders, _)| *orders >= 2.0);
        let customers = self.orders.customers();
        OrderMetrics {
            orders: self.orders.sum(),
            quantity: self.quantity.sum(),
            customers,
            orders_per_customer: self.orders.spread(),
            quantity_per_customer: self.quantity.spread(),
            repeat_rate: Rate::new(repeating.map(|(_, customers)| customers).sum(), customers),
        }
    }
}

/// The number of customers with the same month of their first order (counted from 1), and the same months
/// with orders (the bits of `months`).
#[derive(Debug)]
struct Members {
    month: usize,
    months: i64,
    customers: i64,
}

/// What one scan of the orders finds.
#[derive(Debug, Default)]
struct Orders {
    ever: Ordered,
    period: Ordered,
    members: Vec<Members>,
}

/// The number of customers with the same value. `of` is the result of `GROUPING`: the bit of the column that
/// the value belongs to is 0.
#[derive(Debug, FromRow)]
struct ValueCount {
    of: i32,
    value: Option<f64>,
    months: Option<i64>,
    customers: i64,
}

/// Scans the index of customers' orders once; it covers all columns needed.
async fn orders(connection: &mut PgConnection, workspace_id: Uuid, period: &Period, months: &[Time]) -> Result<Orders> {
    let counts: Vec<ValueCount> = sqlx::query_as(
        "WITH each AS MATERIALIZED (
             SELECT count(*) AS ever, sum(quantity::float8) AS ever_quantity, min(order_date) AS first,
                 count(*) FILTER (WHERE order_date >= $2 AND order_date < $3) AS orders,
                 sum(quantity::float8) FILTER (WHERE order_date >= $2 AND order_date < $3) AS quantity,
                 bit_or(1::bigint << width_bucket(order_date, $4))
                     FILTER (WHERE order_date >= $4[1] AND order_date < $3) AS months
             FROM orders WHERE workspace_id = $1 AND status <> 'cancelled' GROUP BY customer_id
         ),
         placed AS (
             SELECT ever, ever_quantity, orders, quantity, months,
                 CASE WHEN first >= $4[1] AND first < $3 THEN width_bucket(first, $4) END AS month FROM each
         )
         SELECT GROUPING(ever, ever_quantity, orders, quantity) AS of,
             coalesce(ever::float8, ever_quantity, orders::float8, quantity, month::float8) AS value, months,
             count(*) AS customers
         FROM placed
         GROUP BY GROUPING SETS ((ever), (ever_quantity), (orders), (quantity), (month, months))
         ORDER BY value",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .bind(months)
    .fetch_all(connection)
    .await?;
    let mut orders = Orders::default();
    for ValueCount { of, value, months, customers } in counts {
        // Skips customers without orders in the period.
        let Some(value) = value.filter(|value| *value > 0.0) else { continue };
        match of {
            0b0111 => orders.ever.orders.0.push((value, customers)),
            0b1011 => orders.ever.quantity.0.push((value, customers)),
            0b1101 => orders.period.orders.0.push((value, customers)),
            0b1110 => orders.period.quantity.0.push((value, customers)),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a month is from 1 to 60")]
            _ => orders.members.push(Members { month: value as usize, months: months.unwrap_or(0), customers }),
        }
    }
    Ok(orders)
}

fn cohorts(months: &[Time], members: &[Members]) -> Vec<Cohort> {
    let cohort = |(at, start): (usize, &Time)| {
        let mine = || members.iter().filter(move |members| members.month == at);
        let customers = mine().map(|members| members.customers).sum();
        let ordered = |month: usize| {
            mine().filter(|members| (members.months >> month) & 1 == 1).map(|members| members.customers).sum()
        };
        let again = (at + 1..=months.len()).map(|month| Rate::new(ordered(month), customers)).collect();
        Cohort { start: *start, customers, again }
    };
    (1..).zip(months).map(cohort).collect()
}

#[derive(FromRow)]
struct Interactions {
    customers: i64,
    interactions: i64,
    median: Option<f64>,
}

impl Interactions {
    #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
    fn metrics(&self) -> InteractionMetrics {
        let mean = (self.customers > 0).then(|| self.interactions as f64 / self.customers as f64);
        InteractionMetrics {
            interactions: self.interactions,
            customers: self.customers,
            per_customer: Spread { mean, median: self.median },
        }
    }
}

async fn interactions(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<Interactions> {
    Ok(sqlx::query_as(
        "SELECT count(*) AS customers, coalesce(sum(interactions), 0)::bigint AS interactions,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY interactions) AS median
         FROM (
             SELECT count(*) AS interactions FROM customer_interactions
             WHERE workspace_id = $1 AND date >= $2 AND date < $3 GROUP BY customer_id
         ) AS each",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .fetch_one(connection)
    .await?)
}
