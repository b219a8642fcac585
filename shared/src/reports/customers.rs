//! The report on customers: who they are, what they order, and whether they come back.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Report;
use super::counts::{Counts, IntervalCount, Spread, by_interval};
use crate::customers::{CustomerStatus, CustomerType};
use crate::error::Result;
use crate::fields::Time;
use crate::period::Period;
use crate::rates::Rate;

/// The most cohorts that are told: a customer's months are the bits of a number.
const MAX_COHORTS: usize = 60;

/// Metrics of customers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CustomerMetrics {
    /// The moment of whose data this tells.
    pub as_of: DateTime<Utc>,
    /// The period.
    pub period: Period,
    /// All customers that there are.
    pub totals: CustomerTotals,
    /// Those that were created in the period.
    pub new: CustomersCreated,
    /// The orders of the period, by their `order_date`.
    pub orders: OrderMetrics,
    /// All orders that there are, whatever their date.
    pub orders_ever: OrderMetrics,
    /// The interactions with customers in the period, by their `date`.
    pub interactions: InteractionMetrics,
    /// Customers by the month of their first order: the months that have a part in the period, the last
    /// 60 of them.
    pub cohorts: Vec<Cohort>,
}

/// How many customers there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerTotals {
    /// All of them.
    pub customers: i64,
    /// By type.
    pub by_type: Counts,
    /// By status.
    pub by_status: Counts,
}

/// The customers that a period brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomersCreated {
    /// How many.
    pub customers: i64,
    /// When.
    pub by_interval: Vec<IntervalCount>,
}

/// Orders that were not cancelled, and the customers who have any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct OrderMetrics {
    /// How many orders.
    pub orders: i64,
    /// The sum of their quantities.
    pub quantity: i64,
    /// How many customers have any.
    pub customers: i64,
    /// Orders of each of them.
    pub orders_per_customer: Spread,
    /// The quantity that each of them ordered.
    pub quantity_per_customer: Spread,
    /// Those of them who have two or more.
    pub repeat_rate: Rate,
}

/// Interactions, and the customers who have had any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct InteractionMetrics {
    /// How many interactions.
    pub interactions: i64,
    /// How many customers have had any.
    pub customers: i64,
    /// Interactions with each of them.
    pub per_customer: Spread,
}

/// The customers whose first order that was not cancelled fell into a month.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Cohort {
    /// Where the month begins.
    pub start: DateTime<Utc>,
    /// How many there are.
    pub customers: i64,
    /// The share of them who ordered again in each month after it, up to the end of the period.
    pub again: Vec<Rate>,
}

/// The report, as it is asked for.
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
    // By the statuses, since the index begins with them.
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

/// Things that customers have, summed up over those who have any.
#[derive(Debug, Clone, Default, FromRow, Deserialize)]
struct Sums {
    customers: i64,
    things: i64,
    things_median: Option<f64>,
    quantity: f64,
    quantity_median: Option<f64>,
    repeating: i64,
}

#[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
fn spread(sum: f64, median: Option<f64>, customers: i64) -> Spread {
    Spread { mean: (customers > 0).then(|| sum / customers as f64), median }
}

impl Sums {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "no sum of quantities is 2^53")]
    fn metrics(&self) -> OrderMetrics {
        OrderMetrics {
            orders: self.things,
            quantity: self.quantity as i64,
            customers: self.customers,
            orders_per_customer: spread(self.things as f64, self.things_median, self.customers),
            quantity_per_customer: spread(self.quantity, self.quantity_median, self.customers),
            repeat_rate: Rate::new(self.repeating, self.customers),
        }
    }
}

/// What one walk over the orders finds.
struct Orders {
    period: Sums,
    ever: Sums,
    members: Vec<Members>,
}

/// Customers whose first order fell into the same month (counted from 1), and who ordered in the same
/// months (the bits of that number).
#[derive(Debug, Deserialize)]
struct Members(usize, u64, i64);

#[derive(FromRow)]
struct Walked {
    #[sqlx(flatten)]
    period: Sums,
    ever: Json<Sums>,
    members: Json<Vec<Members>>,
}

/// One walk along the index of customers' orders, which has all that is needed.
async fn orders(connection: &mut PgConnection, workspace_id: Uuid, period: &Period, months: &[Time]) -> Result<Orders> {
    let Walked { period, ever: Json(ever), members: Json(members) } = sqlx::query_as(
        "WITH each AS MATERIALIZED (
             SELECT customer_id, count(*) AS ever, sum(quantity::float8) AS ever_quantity, min(order_date) AS first,
                 count(*) FILTER (WHERE order_date >= $2 AND order_date < $3) AS things,
                 sum(quantity::float8) FILTER (WHERE order_date >= $2 AND order_date < $3) AS quantity,
                 bit_or(1::bigint << width_bucket(order_date, $4)) FILTER (WHERE order_date < $3) AS months
             FROM orders WHERE workspace_id = $1 AND status <> 'cancelled' GROUP BY customer_id
         ),
         alike AS (
             SELECT width_bucket(first, $4) AS month, months, count(*) AS customers FROM each
             WHERE first >= $4[1] AND first < $3 GROUP BY 1, 2
         )
         SELECT count(*) AS customers, coalesce(sum(things), 0)::bigint AS things,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY things) AS things_median,
             coalesce(sum(quantity), 0) AS quantity,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY quantity) AS quantity_median,
             count(*) FILTER (WHERE things >= 2) AS repeating,
             (SELECT json_build_object('customers', count(*), 'things', coalesce(sum(ever), 0)::bigint,
                  'things_median', percentile_cont(0.5) WITHIN GROUP (ORDER BY ever),
                  'quantity', coalesce(sum(ever_quantity), 0),
                  'quantity_median', percentile_cont(0.5) WITHIN GROUP (ORDER BY ever_quantity),
                  'repeating', count(*) FILTER (WHERE ever >= 2))
              FROM each) AS ever,
             (SELECT coalesce(json_agg(json_build_array(month, months, customers)), '[]') FROM alike) AS members
         FROM each WHERE things > 0",
    )
    .bind(workspace_id)
    .bind(period.from)
    .bind(period.to)
    .bind(months)
    .fetch_one(connection)
    .await?;
    Ok(Orders { period, ever, members })
}

fn cohorts(months: &[Time], members: &[Members]) -> Vec<Cohort> {
    let cohort = |(at, start): (usize, &Time)| {
        let mine = || members.iter().filter(move |Members(month, ..)| *month == at);
        let customers = mine().map(|Members(.., customers)| customers).sum();
        let ordered = |month: usize| {
            mine()
                .filter(|Members(_, months, _)| (months >> month) & 1 == 1)
                .map(|Members(.., customers)| customers)
                .sum()
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
        InteractionMetrics {
            interactions: self.interactions,
            customers: self.customers,
            per_customer: spread(self.interactions as f64, self.median, self.customers),
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
