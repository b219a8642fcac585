//! The statements of the dashboard.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{JobHeadline, Scope};
use crate::crm::customers::CustomerStatus;
use crate::crm::leads::LeadStatus;
use crate::crm::orders::OrderStatus;
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::Period;
use crate::insight::ratio::Rate;
use crate::insight::reports::counts::Counts;
use crate::insight::scoring::{Activity, PlacedOrder, each_activity};
use crate::values::Time;

/// A table whose index starts with the status, and its statuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statuses {
    table: &'static str,
    words: &'static [&'static str],
}

pub(super) const LEADS: Statuses = Statuses { table: "leads", words: LeadStatus::WORDS };
pub(super) const CUSTOMERS: Statuses = Statuses { table: "customers", words: CustomerStatus::WORDS };

/// The number of leads or customers of each status: of all, and of those created in each of one or more periods. Without
/// filters, the statement reads the index of the status.
pub(super) async fn by_status(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    Statuses { table, words }: Statuses,
    periods: &[&Period],
) -> Result<Vec<Counts>> {
    let mut sql = Sql::new("SELECT status, ARRAY[count(*),");
    for (number, period) in periods.iter().enumerate() {
        sql.push(if number == 0 { " " } else { ", " }).push("count(*) FILTER (WHERE created_at >= ");
        sql.push_bind(period.from).push(" AND created_at < ").push_bind(period.to).push(")");
    }
    sql.push(format!("] FROM {table} WHERE workspace_id = ")).push_bind(scope.workspace_id);
    match table {
        "leads" => scope.filters.push_leads(&mut sql),
        _ => scope.filters.push_customers(&mut sql, scope.workspace_id),
    }
    sql.push(" GROUP BY status");
    let rows: Vec<(String, Vec<i64>)> = sql.build_query_as().fetch_all(connection).await?;
    let counts: HashMap<String, Vec<i64>> = rows.into_iter().collect();
    let of = |at: usize| Counts::of(words, |word| counts.get(word).and_then(|of| of.get(at)).copied().unwrap_or(0));
    Ok((0..=periods.len()).map(of).collect())
}

/// The orders of a period that were not cancelled, and their customers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OrdersOf {
    orders: i64,
    quantity: i64,
    /// The customers with orders, and those with two or more.
    ordering: i64,
    repeating: i64,
}

impl OrdersOf {
    /// Adds the orders of a customer in a period.
    fn add(&mut self, activity: &Activity<'_>, period: &Period) {
        let (from, to) = (period.from.timestamp_micros(), period.to.timestamp_micros());
        let is_in = |order: &PlacedOrder| from <= order.at && order.at < to && order.status != OrderStatus::Cancelled;
        let mut orders = 0;
        for order in activity.orders().filter(is_in) {
            orders += 1;
            self.quantity = self.quantity.saturating_add(order.quantity);
        }
        self.orders += orders;
        self.ordering += i64::from(orders >= 1);
        self.repeating += i64::from(orders >= 2);
    }
}

/// The number of all orders of each status, and the orders of each of the periods.
pub(super) async fn orders(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    periods: &[&Period],
) -> Result<(Counts, Vec<OrdersOf>)> {
    let (mut by_status, mut of_periods) = (HashMap::new(), vec![OrdersOf::default(); periods.len()]);
    each_activity(connection, scope.workspace_id, scope.filters, |activity| {
        activity.orders().for_each(|order| *by_status.entry(order.status.as_str()).or_default() += 1);
        of_periods.iter_mut().zip(periods).for_each(|(orders, period)| orders.add(&activity, period));
    })
    .await?;
    Ok((Counts::of(OrderStatus::WORDS, |word| by_status.get(word).copied().unwrap_or(0)), of_periods))
}

fn push_in_period(sql: &mut Sql, column: &str, period: &Period) {
    sql.push(format!(" AND {column} >= ")).push_bind(period.from);
    sql.push(format!(" AND {column} < ")).push_bind(period.to);
}

/// The requests of a period, and those answered so far.
async fn requests(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<(i64, i64)> {
    let mut sql = Sql::new("SELECT count(*), count(answered_at) FROM feedback WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    push_in_period(&mut sql, "requested_at", period);
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "feedback.customer_id");
    Ok(sql.build_query_as().fetch_one(connection).await?)
}

/// The mean of the ratings given in a period, and their net promoter score.
async fn ratings(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    period: &Period,
) -> Result<(Option<f64>, Option<f64>)> {
    let mut sql = Sql::new(
        "SELECT avg(rating)::float8,
             avg(CASE WHEN rating = 5 THEN 1 WHEN rating <= 3 THEN -1 ELSE 0 END)::float8
         FROM feedback WHERE workspace_id = ",
    );
    sql.push_bind(scope.workspace_id);
    push_in_period(&mut sql, "answered_at", period);
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "feedback.customer_id");
    Ok(sql.build_query_as().fetch_one(connection).await?)
}

/// The number of next actions that are due.
pub(super) async fn followups_due(connection: &mut PgConnection, scope: Scope<'_>, now: Time) -> Result<i64> {
    let mut sql = Sql::new("SELECT (");
    let due = |sql: &mut Sql, table: &str| {
        sql.push(format!("SELECT count(*) FROM {table} WHERE workspace_id = ")).push_bind(scope.workspace_id);
        sql.push(" AND next_action_date <= ").push_bind(now).push(" AND followed_up_at IS NULL");
    };
    due(&mut sql, "lead_interactions");
    if !scope.filters.is_empty() {
        sql.push(" AND lead_id IN (SELECT id FROM leads WHERE workspace_id = ").push_bind(scope.workspace_id);
        scope.filters.push_leads(&mut sql);
        sql.push(")");
    }
    sql.push(") + (");
    due(&mut sql, "customer_interactions");
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "customer_interactions.customer_id");
    sql.push(")");
    Ok(sql.build_query_scalar().fetch_one(connection).await?)
}

/// The jobs of a workspace.
pub(super) async fn jobs(connection: &mut PgConnection, workspace_id: Uuid, period: &Period) -> Result<JobHeadline> {
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
pub(super) struct Headline {
    /// The leads and customers created in the period, by status.
    pub leads: Counts,
    pub customers: Counts,
    orders: OrdersOf,
    sent: i64,
    answered: i64,
    pub mean_rating: Option<f64>,
    pub nps: Option<f64>,
}

impl Headline {
    /// Adds the feedback of the period. Without filters, each of these statements reads a covering index.
    pub async fn of(
        connection: &mut PgConnection,
        scope: Scope<'_>,
        period: &Period,
        (leads, customers, orders): (Counts, Counts, OrdersOf),
    ) -> Result<Self> {
        let (sent, answered) = requests(connection, scope, period).await?;
        let (mean_rating, nps) = ratings(connection, scope, period).await?;
        Ok(Self { leads, customers, orders, sent, answered, mean_rating, nps })
    }

    pub fn conversion(&self) -> Rate {
        Rate::new(self.conversions(), self.leads.total())
    }

    pub fn win(&self) -> Rate {
        Rate::new(self.conversions(), self.conversions() + self.leads.get("lost"))
    }

    fn conversions(&self) -> i64 {
        self.leads.get("converted") + self.leads.get("won")
    }

    pub fn repeat(&self) -> Rate {
        Rate::new(self.orders.repeating, self.orders.ordering)
    }

    pub fn response(&self) -> Rate {
        Rate::new(self.answered, self.sent)
    }

    /// The number of orders and their quantity.
    pub fn ordered(&self) -> (i64, i64) {
        (self.orders.orders, self.orders.quantity)
    }

    pub fn sent(&self) -> i64 {
        self.sent
    }
}
