//! Orders per customer, in a period and ever.

use sqlx::{FromRow, PgConnection};

use super::{OrderMetrics, Scope};
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::{Bucket, Period};
use crate::insight::ratio::Rate;
use crate::insight::reports::counts::Spread;
use crate::values::Time;

/// A period, and the months of its cohorts.
#[derive(Debug)]
pub(super) struct OfPeriod<'a> {
    period: &'a Period,
    months: Vec<Time>,
}

impl<'a> OfPeriod<'a> {
    pub fn new((period, months): (&'a Period, &Vec<Bucket>)) -> Self {
        Self { period, months: months.iter().map(|month| month.start).collect() }
    }
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
pub(super) struct Ordered {
    orders: Histogram,
    quantity: Histogram,
}

impl Ordered {
    pub fn metrics(&self) -> OrderMetrics {
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
pub(super) struct Members {
    pub month: usize,
    pub months: i64,
    pub customers: i64,
}

/// What one scan of the orders finds.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub ever: Ordered,
    /// Those of each period.
    pub periods: Vec<InPeriod>,
}

/// The orders of a period.
#[derive(Debug, Default)]
pub(super) struct InPeriod {
    pub orders: Ordered,
    pub members: Vec<Members>,
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

/// The columns by which customers are counted: their orders and quantity ever, and those of each period.
fn columns(periods: usize) -> Vec<String> {
    let of_period = |number| ["orders", "quantity", "month"].map(|name| format!("{name}_{number}"));
    let ever = ["ever", "ever_quantity"].map(str::to_owned);
    ever.into_iter().chain((0..periods).flat_map(of_period)).collect()
}

/// Scans the index of customers' orders once, whatever the number of periods; it covers all columns needed.
pub(super) async fn orders(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    periods: &[OfPeriod<'_>],
) -> Result<Orders> {
    let columns = columns(periods.len());
    let counts: Vec<ValueCount> = statement(scope, periods, &columns).build_query_as().fetch_all(connection).await?;
    let mut orders = Orders { periods: periods.iter().map(|_| InPeriod::default()).collect(), ..Orders::default() };
    for ValueCount { of, value, months, customers } in counts {
        // Skips customers without orders in the period.
        let Some(value) = value.filter(|value| *value > 0.0) else { continue };
        // The last column has the lowest bit.
        let column = columns.len() - 1 - (of.trailing_ones() as usize).min(columns.len() - 1);
        match (column, column.wrapping_sub(2) / 3, column.wrapping_sub(2) % 3) {
            (0, ..) => orders.ever.orders.0.push((value, customers)),
            (1, ..) => orders.ever.quantity.0.push((value, customers)),
            (_, period, 0) => orders.periods[period].orders.orders.0.push((value, customers)),
            (_, period, 1) => orders.periods[period].orders.quantity.0.push((value, customers)),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a month is from 1 to 60")]
            (_, period, _) => {
                let members = Members { month: value as usize, months: months.unwrap_or(0), customers };
                orders.periods[period].members.push(members);
            }
        }
    }
    Ok(orders)
}

fn statement(scope: Scope<'_>, periods: &[OfPeriod<'_>], columns: &[String]) -> Sql {
    let values: Vec<String> = columns.iter().map(|column| format!("{column}::float8")).collect();
    let months: Vec<String> = (0..periods.len()).map(|number| format!("months_{number}")).collect();
    let mut sql = Sql::new(format!(
        "SELECT GROUPING({}) AS of, coalesce({}) AS value, coalesce({}) AS months, count(*) AS customers
         FROM (SELECT ever, ever_quantity",
        columns.join(", "),
        values.join(", "),
        months.join(", "),
    ));
    for (number, OfPeriod { period, months }) in periods.iter().enumerate() {
        sql.push(format!(", orders_{number}, quantity_{number}, months_{number}, CASE WHEN first >= "));
        sql.push_bind(months.first().copied()).push(" AND first < ").push_bind(period.to);
        sql.push(" THEN width_bucket(first, ").push_bind(months.clone()).push(format!(") END AS month_{number}"));
    }
    sql.push(" FROM (SELECT count(*) AS ever, sum(quantity::float8) AS ever_quantity, min(order_date) AS first");
    for (number, of) in periods.iter().enumerate() {
        of.push_sums(&mut sql, number);
    }
    sql.push(" FROM orders WHERE workspace_id = ").push_bind(scope.workspace_id).push(" AND status <> 'cancelled'");
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "orders.customer_id");
    // Customers are first counted one by one, and not in each of the sets.
    sql.push(" GROUP BY customer_id OFFSET 0) AS each) AS placed GROUP BY GROUPING SETS (");
    for (at, column) in columns.iter().enumerate() {
        sql.push(if at > 0 { ", (" } else { "(" }).push(column);
        if let Some(number) = column.strip_prefix("month_") {
            sql.push(format!(", months_{number}"));
        }
        sql.push(")");
    }
    sql.push(") ORDER BY value");
    sql
}

impl OfPeriod<'_> {
    /// The columns of a period: orders, quantity, and the months with orders as bits.
    fn push_sums(&self, sql: &mut Sql, number: usize) {
        let Self { period, months } = self;
        for (sum, name) in [("count(*)", "orders"), ("sum(quantity::float8)", "quantity")] {
            sql.push(format!(", {sum} FILTER (WHERE order_date >= ")).push_bind(period.from);
            sql.push(" AND order_date < ").push_bind(period.to).push(format!(") AS {name}_{number}"));
        }
        sql.push(", bit_or(1::bigint << width_bucket(order_date, ").push_bind(months.clone());
        sql.push(")) FILTER (WHERE order_date >= ").push_bind(months.first().copied());
        sql.push(" AND order_date < ").push_bind(period.to).push(format!(") AS months_{number}"));
    }
}
