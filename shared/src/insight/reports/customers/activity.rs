//! Orders and interactions per customer, in periods and ever.

use std::collections::BTreeMap;

use chrono::DateTime;
use sqlx::PgConnection;

use super::{InteractionMetrics, OrderMetrics, Scope};
use crate::crm::orders::OrderStatus;
use crate::error::Result;
use crate::insight::period::{Bucket, Period};
use crate::insight::ratio::Rate;
use crate::insight::reports::counts::{IntervalCount, Spread};
use crate::insight::scoring::{Activity, PlacedOrder, each_activity};

/// Amounts below this are counted in an array.
const SMALL: usize = 1_000;

/// The number of customers with each amount.
#[derive(Debug, Default)]
struct Histogram {
    /// The customers by amount.
    small: Vec<i64>,
    large: BTreeMap<i64, i64>,
}

impl Histogram {
    /// Adds a customer. One without any is not counted.
    fn add(&mut self, amount: i64) {
        match usize::try_from(amount) {
            Ok(0) | Err(_) => {}
            Ok(small) if small < SMALL => {
                self.small.resize(SMALL, 0);
                self.small[small] += 1;
            }
            Ok(_) => *self.large.entry(amount).or_default() += 1,
        }
    }

    /// Each amount and the number of its customers, in the order of the amounts.
    fn counts(&self) -> impl Iterator<Item = (i64, i64)> {
        let small = (0..).zip(self.small.iter().copied()).filter(|(_, customers)| *customers > 0);
        small.chain(self.large.iter().map(|(amount, customers)| (*amount, *customers)))
    }

    fn customers(&self) -> i64 {
        self.counts().map(|(_, customers)| customers).sum()
    }

    fn sum(&self) -> i64 {
        self.counts().map(|(amount, customers)| amount.saturating_mul(customers)).fold(0, i64::saturating_add)
    }

    /// The amount of the customer at this rank, counted from 0.
    fn at(&self, mut rank: i64) -> Option<i64> {
        let found = self.counts().find(|(_, customers)| {
            rank -= customers;
            rank < 0
        });
        found.map(|(amount, _)| amount)
    }

    #[expect(clippy::cast_precision_loss, reason = "no sum of a table is 2^53")]
    fn spread(&self) -> Spread {
        let customers = self.customers();
        // With an odd number of customers, both are the middle one.
        let middle = self.at((customers - 1) / 2).zip(self.at(customers / 2));
        Spread {
            mean: (customers > 0).then(|| self.sum() as f64 / customers as f64),
            median: middle.map(|(lower, upper)| f64::midpoint(lower as f64, upper as f64)),
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
    /// Adds the orders of a customer.
    fn add(&mut self, orders: impl Iterator<Item = PlacedOrder>) {
        let (count, quantity) =
            orders.fold((0, 0_i64), |(count, quantity), order| (count + 1, quantity.saturating_add(order.quantity)));
        self.orders.add(count);
        self.quantity.add(quantity);
    }

    pub fn metrics(&self) -> OrderMetrics {
        let repeating = self.orders.counts().filter(|(orders, _)| *orders >= 2);
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

/// The customers with the same month of their first order.
#[derive(Debug, Clone)]
pub(super) struct Members {
    pub customers: i64,
    /// Those of them who ordered in each of the months of all cohorts.
    pub ordered: Vec<i64>,
}

/// The activity of a period.
#[derive(Debug)]
pub(super) struct InPeriod {
    /// The bounds of the period and the starts of the months of its cohorts, in microseconds since 1970.
    from: i64,
    to: i64,
    months: Vec<i64>,
    /// The starts of its intervals, likewise, and the orders of each.
    intervals: Vec<i64>,
    orders_of: Vec<i64>,
    pub orders: Ordered,
    interactions: Histogram,
    /// The customers of each month.
    pub cohorts: Vec<Members>,
}

impl InPeriod {
    fn new(period: &Period, months: &[Bucket]) -> Self {
        let none = Members { customers: 0, ordered: vec![0; months.len()] };
        let intervals: Vec<i64> = period.bucket_starts().iter().map(DateTime::timestamp_micros).collect();
        Self {
            from: period.from.timestamp_micros(),
            to: period.to.timestamp_micros(),
            months: months.iter().map(|month| month.start.timestamp_micros()).collect(),
            orders_of: vec![0; intervals.len()],
            intervals,
            orders: Ordered::default(),
            interactions: Histogram::default(),
            cohorts: vec![none; months.len()],
        }
    }

    fn add(&mut self, activity: &Activity<'_>) {
        let (from, to) = (self.from, self.to);
        let is_in = |at: i64| from <= at && at < to;
        self.orders.add(valid(activity).filter(|order| is_in(order.at)));
        for order in valid(activity).filter(|order| is_in(order.at)) {
            if let Some(interval) = self.intervals.partition_point(|start| *start <= order.at).checked_sub(1) {
                self.orders_of[interval] += 1;
            }
        }
        let met = activity.interactions().filter(|at| is_in(*at)).count();
        self.interactions.add(i64::try_from(met).unwrap_or(i64::MAX));
        self.add_to_cohort(activity);
    }

    fn add_to_cohort(&mut self, activity: &Activity<'_>) {
        let Some(cohort) = valid(activity).map(|order| order.at).min().and_then(|first| self.month(first)) else {
            return;
        };
        // The months with orders are the bits of a number.
        let mut months =
            valid(activity).filter_map(|order| self.month(order.at)).fold(0_u64, |months, month| months | 1 << month);
        let members = &mut self.cohorts[cohort];
        members.customers += 1;
        while months > 0 {
            members.ordered[months.trailing_zeros() as usize] += 1;
            months &= months - 1;
        }
    }

    /// The month of a time before the end of the period.
    fn month(&self, at: i64) -> Option<usize> {
        (at < self.to).then(|| self.months.partition_point(|start| *start <= at).checked_sub(1)).flatten()
    }

    pub fn orders_by_interval(&self, period: &Period) -> Vec<IntervalCount> {
        let counts = period.buckets().into_iter().zip(&self.orders_of);
        counts.map(|(interval, count)| IntervalCount { interval, count: *count }).collect()
    }

    pub fn interactions(&self) -> InteractionMetrics {
        InteractionMetrics {
            interactions: self.interactions.sum(),
            customers: self.interactions.customers(),
            per_customer: self.interactions.spread(),
        }
    }
}

/// The orders that were not cancelled.
fn valid<'a>(activity: &Activity<'a>) -> impl Iterator<Item = PlacedOrder> + use<'a> {
    activity.orders().filter(|order| order.status != OrderStatus::Cancelled)
}

/// The activity of all customers.
#[derive(Debug)]
pub(super) struct OfCustomers {
    pub ever: Ordered,
    pub periods: Vec<InPeriod>,
}

/// Adds up the activity of each customer once, whatever the number of periods. Each period comes with the months of
/// its cohorts, at most 60.
pub(super) async fn activity(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    periods: impl Iterator<Item = (&Period, &Vec<Bucket>)>,
) -> Result<OfCustomers> {
    let mut all = OfCustomers {
        ever: Ordered::default(),
        periods: periods.map(|(period, months)| InPeriod::new(period, months)).collect(),
    };
    each_activity(connection, scope.workspace_id, scope.filters, |activity| {
        all.ever.add(valid(&activity));
        all.periods.iter_mut().for_each(|period| period.add(&activity));
    })
    .await?;
    Ok(all)
}
