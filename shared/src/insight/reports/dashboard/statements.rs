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
use crate::values::Time;

/// A table whose index starts with the status, and its statuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statuses {
    table: &'static str,
    words: &'static [&'static str],
}

pub(super) const LEADS: Statuses = Statuses { table: "leads", words: LeadStatus::WORDS };
pub(super) const CUSTOMERS: Statuses = Statuses { table: "customers", words: CustomerStatus::WORDS };

/// The number of leads or customers of each status, of all or of those created in a period.
pub(super) async fn by_status(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    Statuses { table, words }: Statuses,
    period: Option<&Period>,
) -> Result<Counts> {
    let mut sql = Sql::new(format!("SELECT status, count(*) FROM {table} WHERE workspace_id = "));
    sql.push_bind(scope.workspace_id).push(" AND status = ANY (").push_bind(words).push(")");
    if let Some(period) = period {
        push_in_period(&mut sql, "created_at", period);
    }
    match table {
        "leads" => scope.filters.push_leads(&mut sql),
        _ => scope.filters.push_customers(&mut sql, scope.workspace_id),
    }
    counted(connection, sql, words).await
}

/// The number of all orders of each status.
pub(super) async fn orders_by_status(connection: &mut PgConnection, scope: Scope<'_>) -> Result<Counts> {
    let mut sql = Sql::new("SELECT status, count(*) FROM orders WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id).push(" AND status = ANY (").push_bind(OrderStatus::WORDS).push(")");
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "orders.customer_id");
    counted(connection, sql, OrderStatus::WORDS).await
}

async fn counted(connection: &mut PgConnection, mut sql: Sql, words: &'static [&'static str]) -> Result<Counts> {
    sql.push(" GROUP BY status");
    let rows: Vec<(String, i64)> = sql.build_query_as().fetch_all(connection).await?;
    let counts: HashMap<String, i64> = rows.into_iter().collect();
    Ok(Counts::of(words, |word| counts.get(word).copied().unwrap_or(0)))
}

fn push_in_period(sql: &mut Sql, column: &str, period: &Period) {
    sql.push(format!(" AND {column} >= ")).push_bind(period.from);
    sql.push(format!(" AND {column} < ")).push_bind(period.to);
}

/// The orders of a period that were not cancelled, their quantity, the customers with orders, and those with
/// two or more.
async fn orders(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<(i64, i64, i64, i64)> {
    let mut sql = Sql::new(
        "SELECT coalesce(sum(orders), 0)::bigint, coalesce(sum(quantity), 0)::bigint, count(*),
             count(*) FILTER (WHERE orders >= 2)
         FROM (SELECT count(*) AS orders, sum(quantity::float8) AS quantity FROM orders WHERE workspace_id = ",
    );
    sql.push_bind(scope.workspace_id).push(" AND status <> 'cancelled'");
    push_in_period(&mut sql, "order_date", period);
    scope.filters.push_customer_of(&mut sql, scope.workspace_id, "orders.customer_id");
    sql.push(" GROUP BY customer_id) AS each");
    Ok(sql.build_query_as().fetch_one(connection).await?)
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
    pub leads: i64,
    pub conversions: i64,
    pub lost: i64,
    pub customers: i64,
    pub orders: i64,
    pub quantity: i64,
    pub ordering: i64,
    pub repeating: i64,
    pub sent: i64,
    pub answered: i64,
    pub mean_rating: Option<f64>,
    pub nps: Option<f64>,
}

impl Headline {
    /// Without filters, each of these statements reads a covering index.
    pub async fn of(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<Self> {
        let leads = by_status(connection, scope, LEADS, Some(period)).await?;
        let customers = by_status(connection, scope, CUSTOMERS, Some(period)).await?;
        let (orders, quantity, ordering, repeating) = orders(connection, scope, period).await?;
        let (sent, answered) = requests(connection, scope, period).await?;
        let (mean_rating, nps) = ratings(connection, scope, period).await?;
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

    pub fn conversion(&self) -> Rate {
        Rate::new(self.conversions, self.leads)
    }

    pub fn win(&self) -> Rate {
        Rate::new(self.conversions, self.conversions + self.lost)
    }

    pub fn repeat(&self) -> Rate {
        Rate::new(self.repeating, self.ordering)
    }

    pub fn response(&self) -> Rate {
        Rate::new(self.answered, self.sent)
    }
}
