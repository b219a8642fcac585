//! The facts that the scores of a customer follow from.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::Day;
use super::activity::ActivityRecords;
use crate::crm::orders::OrderStatus;
use crate::error::Result;
use crate::values::Time;

/// The facts of a customer as of a day. Ages are in days before that day: 0 is the day itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The id of the customer.
    pub id: Uuid,
    /// The date of the last order that was not cancelled.
    pub last_order_at: Option<Time>,
    /// The age of the last order.
    pub last_order_age: Option<i32>,
    /// The ages of the orders of the last 24 months that were not cancelled.
    pub order_ages: Vec<i32>,
    /// The total quantity of these orders.
    pub quantity: i64,
    /// The ages of interactions.
    pub met_ages: Vec<i32>,
    /// The ages of support interactions.
    pub support_ages: Vec<i32>,
    /// The number of next actions, past and planned.
    pub actions: i64,
    /// The ages of the next actions whose day has passed.
    pub action_ages: Vec<i32>,
    /// The ages of the interactions that planned the actions in `action_ages`, in the same order; negative for
    /// interactions after the day.
    pub action_met_ages: Vec<i32>,
    /// The last three ratings of the last 24 months, newest first.
    pub ratings: Vec<i16>,
    /// All orders and interactions, packed for reports; `None` for too many.
    pub activity: Option<Vec<u8>>,
}

/// The records of a customer that the facts follow from.
#[derive(Debug, FromRow)]
struct Records {
    id: Uuid,
    #[sqlx(flatten)]
    activity: ActivityRecords,
    support_at: Vec<Time>,
    actions: i64,
    due_at: Vec<Time>,
    planned_at: Vec<Time>,
    ratings: Vec<i16>,
}

/// The statement of [`facts`]. Its parameters are the workspace, the customers, the start and the end of the
/// day, and the start of the 24 months. For each customer it reads one index of orders, one of interactions
/// and one of feedback, which takes milliseconds; `OFFSET` keeps it from reading the recent answers of all customers by
/// another index while no statistics know of them. Tests check its plan.
pub const FACTS: &str = "
    SELECT customers.id, placed.*, met.*, rated.ratings
    FROM unnest($2::uuid[]) AS wanted (id)
    CROSS JOIN LATERAL (SELECT id FROM customers WHERE workspace_id = $1 AND id = wanted.id LIMIT 1) AS customers
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(order_date), '{}') AS ordered_at, coalesce(array_agg(quantity), '{}') AS quantities,
            coalesce(array_agg(status), '{}') AS statuses
        FROM orders
        WHERE workspace_id = $1 AND customer_id = wanted.id
    ) AS placed
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(date), '{}') AS met_at,
            coalesce(array_agg(date) FILTER (WHERE date < $4 AND type = 'support'), '{}') AS support_at,
            count(next_action_date) AS actions,
            coalesce(array_agg(next_action_date) FILTER (WHERE next_action_date < $3), '{}') AS due_at,
            coalesce(array_agg(date) FILTER (WHERE next_action_date < $3), '{}') AS planned_at
        FROM customer_interactions
        WHERE workspace_id = $1 AND customer_id = wanted.id
    ) AS met
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(rating ORDER BY answered_at DESC, id DESC), '{}') AS ratings
        FROM (
            SELECT rating, answered_at, id
            FROM (
                SELECT rating, answered_at, id, status FROM feedback
                WHERE workspace_id = $1 AND customer_id = wanted.id OFFSET 0
            ) AS requested
            WHERE status = 'answered' AND answered_at >= $5 AND answered_at < $4
            ORDER BY answered_at DESC, id DESC LIMIT 3
        ) AS answers
    ) AS rated";

/// The facts of the given customers; those that do not exist are left out.
pub async fn facts(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid], day: Day) -> Result<Vec<Facts>> {
    let records: Vec<Records> = sqlx::query_as(FACTS)
        .bind(workspace_id)
        .bind(ids)
        .bind(day.start())
        .bind(day.end())
        .bind(day.since())
        .fetch_all(connection)
        .await?;
    Ok(records.into_iter().map(|records| Facts::new(records, day)).collect())
}

impl Facts {
    /// The ages are computed here and not by the database, which may not know the time zone.
    fn new(records: Records, day: Day) -> Self {
        let ages = |times: &[Time]| times.iter().map(|time| day.age_of(*time)).collect();
        let (since, end) = (day.since(), day.end());
        let placed = || {
            let orders = records.activity.orders();
            orders.filter(|(at, _, status)| *status != OrderStatus::Cancelled && *at < end)
        };
        let recent = || placed().filter(|(at, ..)| *at >= since);
        let last_order_at = placed().map(|(at, ..)| at).max();
        let met_at: Vec<Time> = records.activity.met_at.iter().copied().filter(|at| *at < end).collect();
        Self {
            id: records.id,
            last_order_at,
            last_order_age: last_order_at.map(|last| day.age_of(last)),
            order_ages: recent().map(|(at, ..)| day.age_of(at)).collect(),
            quantity: recent().map(|(_, quantity, _)| quantity).fold(0, i64::saturating_add),
            activity: records.activity.packed(),
            met_ages: ages(&met_at),
            support_ages: ages(&records.support_at),
            actions: records.actions,
            action_ages: ages(&records.due_at),
            action_met_ages: ages(&records.planned_at),
            ratings: records.ratings,
        }
    }

    /// The date of the last order, if it is in the last 24 months.
    pub(super) fn last_order_at(&self) -> Option<Time> {
        self.last_order_at.filter(|_| !self.order_ages.is_empty())
    }
}
