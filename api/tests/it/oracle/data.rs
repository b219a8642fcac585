//! Random records of a workspace.

use std::ops::Range;

use chrono::{DateTime, Duration, NaiveDate, SubsecRound, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{RngExt, SeedableRng};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::report_helpers::{ZONES, insert_workspace};

#[derive(Debug, Clone)]
pub struct Order {
    pub workspace: Uuid,
    pub id: Uuid,
    pub customer: Uuid,
    pub at: DateTime<Utc>,
    pub quantity: i64,
    pub cancelled: bool,
}

#[derive(Debug, Clone)]
pub struct Interaction {
    pub workspace: Uuid,
    pub id: Uuid,
    pub customer: Uuid,
    pub at: DateTime<Utc>,
    pub support: bool,
    pub next_action_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone)]
pub struct Feedback {
    pub workspace: Uuid,
    pub id: Uuid,
    pub customer: Uuid,
    pub requested_at: DateTime<Utc>,
    pub answer: Option<(DateTime<Utc>, i16, Option<String>)>,
}

/// Categories, of which some differ only in case.
pub const CATEGORIES: [Option<&str>; 6] =
    [None, Some("support"), Some("Support"), Some("price"), Some("Größe"), Some("GRÖßE")];

#[derive(Debug)]
pub struct Data {
    pub seed: u64,
    pub workspace: Uuid,
    pub zone: Tz,
    pub customers: Vec<Uuid>,
    /// The type and the status of each.
    pub kinds: Vec<(&'static str, &'static str)>,
    /// The owner of each.
    pub owners: Vec<Option<Uuid>>,
    pub orders: Vec<Order>,
    pub interactions: Vec<Interaction>,
    pub feedback: Vec<Feedback>,
    random: StdRng,
}

impl Data {
    /// Customers without any records.
    pub fn of(workspace: Uuid, customers: Vec<Uuid>) -> Self {
        Self {
            seed: 0,
            workspace,
            zone: Tz::UTC,
            kinds: vec![("individual", "active"); customers.len()],
            owners: vec![None; customers.len()],
            customers,
            orders: vec![],
            interactions: vec![],
            feedback: vec![],
            random: StdRng::seed_from_u64(0),
        }
    }

    pub fn random(seed: u64, size: Range<usize>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let customers: Vec<Uuid> = (0..random.random_range(size)).map(|_| Uuid::now_v7()).collect();
        let kinds = customers.iter().map(|_| {
            let kind = ["individual", "business"].choose(&mut random).unwrap();
            (*kind, *["active", "inactive", "blocked"].choose(&mut random).unwrap())
        });
        let kinds = kinds.collect();
        let people = [Some(Uuid::now_v7()), Some(Uuid::now_v7()), None];
        let owners = customers.iter().map(|_| *people.choose(&mut random).unwrap()).collect();
        let zone = ZONES.choose(&mut random).unwrap().parse().unwrap();
        let mut data = Self { seed, zone, kinds, owners, random, ..Self::of(Uuid::now_v7(), customers.clone()) };
        for customer in customers {
            let (orders, interactions, feedback) =
                (data.random.random_range(0..6), data.random.random_range(0..5), data.random.random_range(0..5));
            // Some customers order far more often.
            let orders = if data.random.random_bool(0.2) { orders * 3 } else { orders };
            for _ in 0..orders {
                let order = data.order(customer);
                data.orders.push(order);
            }
            for _ in 0..interactions {
                let interaction = data.interaction(customer);
                data.interactions.push(interaction);
            }
            for number in 0..feedback {
                let feedback = data.answer(customer, number > 0);
                data.feedback.push(feedback);
            }
        }
        data
    }

    /// The local date of a time.
    pub fn date(&self, at: DateTime<Utc>) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }

    /// A time within the last days, or slightly in the future.
    fn moment(&mut self, days: i64) -> DateTime<Utc> {
        let span = if self.random.random_bool(0.5) { days } else { days / 8 };
        let seconds = self.random.random_range(-200_000..span * 86_400);
        (Utc::now() - Duration::seconds(seconds)).trunc_subsecs(0)
    }

    fn order(&mut self, customer: Uuid) -> Order {
        let at = self.moment(900);
        let quantity = self.random.random_range(1..20);
        Order {
            workspace: self.workspace,
            id: Uuid::now_v7(),
            customer,
            at,
            quantity,
            cancelled: self.random.random_bool(0.15),
        }
    }

    fn interaction(&mut self, customer: Uuid) -> Interaction {
        let at = self.moment(300);
        let next_action_at = self.random.random_bool(0.5).then(|| self.moment(120));
        Interaction {
            workspace: self.workspace,
            id: Uuid::now_v7(),
            customer,
            at,
            support: self.random.random_bool(0.3),
            next_action_at,
        }
    }

    fn answer(&mut self, customer: Uuid, must: bool) -> Feedback {
        let requested_at = self.moment(800);
        let category = CATEGORIES.choose(&mut self.random).unwrap();
        let answer = (must || self.random.random_bool(0.5)).then(|| {
            let hours = self.random.random_range(0..300);
            (requested_at + Duration::hours(hours), self.random.random_range(1..=5), category.map(str::to_owned))
        });
        Feedback { workspace: self.workspace, id: Uuid::now_v7(), customer, requested_at, answer }
    }

    /// Inserts the records of many workspaces, with one statement for each table.
    pub async fn insert_all(connection: &mut PgConnection, all: &[Self]) {
        for data in all {
            insert_workspace(connection, data.workspace, data.zone).await;
        }
        let customers = || all.iter().flat_map(|data| data.customers.iter().zip(&data.kinds));
        sqlx::query(
            "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, assigned_to, custom_fields, search_vector,
                 created_at, updated_at)
             SELECT workspace, id, 'A', id || '@example.com', id || '@example.com', type, status, owner, '{}', '', now(), now()
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[]) AS new (workspace, id, type, status, owner)",
        )
        .bind(all.iter().flat_map(|data| data.customers.iter().map(|_| data.workspace)).collect::<Vec<_>>())
        .bind(customers().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(customers().map(|(_, (kind, _))| *kind).collect::<Vec<_>>())
        .bind(customers().map(|(_, (_, status))| *status).collect::<Vec<_>>())
        .bind(all.iter().flat_map(|data| data.owners.clone()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .unwrap();
        let orders: Vec<Order> = all.iter().flat_map(|data| data.orders.clone()).collect();
        insert_orders(connection, &orders).await;
        let interactions: Vec<Interaction> = all.iter().flat_map(|data| data.interactions.clone()).collect();
        insert_interactions(connection, &interactions).await;
        let feedback: Vec<Feedback> = all.iter().flat_map(|data| data.feedback.clone()).collect();
        insert_feedback(connection, &feedback).await;
    }

    /// Creates, updates and deletes some records.
    pub async fn change(&mut self, connection: &mut PgConnection) {
        let customer = *self.customers.choose(&mut self.random).unwrap();
        let order = self.order(customer);
        insert_orders(connection, std::slice::from_ref(&order)).await;
        self.orders.push(order);
        let interaction = self.interaction(customer);
        insert_interactions(connection, std::slice::from_ref(&interaction)).await;
        self.interactions.push(interaction);

        let index = self.random.random_range(0..self.orders.len());
        let order = self.orders.swap_remove(index);
        let delete = "DELETE FROM orders WHERE workspace_id = $1 AND id = $2";
        sqlx::query(delete).bind(self.workspace).bind(order.id).execute(&mut *connection).await.unwrap();
        let index = self.random.random_range(0..self.interactions.len());
        let interaction = self.interactions.swap_remove(index);
        let delete = "DELETE FROM customer_interactions WHERE workspace_id = $1 AND id = $2";
        sqlx::query(delete).bind(self.workspace).bind(interaction.id).execute(&mut *connection).await.unwrap();

        let other = *self.customers.choose(&mut self.random).unwrap();
        if let Some(order) = self.orders.choose_mut(&mut self.random) {
            order.customer = other;
            order.cancelled = !order.cancelled;
            let update = "UPDATE orders SET customer_id = $3, status = CASE WHEN $4 THEN 'cancelled' ELSE 'shipped' END
                WHERE workspace_id = $1 AND id = $2";
            let update = sqlx::query(update).bind(self.workspace).bind(order.id).bind(other).bind(order.cancelled);
            update.execute(&mut *connection).await.unwrap();
        }
    }
}

async fn insert_orders(connection: &mut PgConnection, orders: &[Order]) {
    sqlx::query(
        "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
         SELECT workspace, id, customer, id, quantity, CASE WHEN cancelled THEN 'cancelled' ELSE 'pending' END, at, now(), now()
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bool[], $6::timestamptz[])
             AS new (workspace, id, customer, quantity, cancelled, at)",
    )
    .bind(orders.iter().map(|order| order.workspace).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.id).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.customer).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.quantity).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.cancelled).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.at).collect::<Vec<_>>())
    .execute(connection)
    .await
    .unwrap();
}

async fn insert_interactions(connection: &mut PgConnection, interactions: &[Interaction]) {
    sqlx::query(
        "INSERT INTO customer_interactions (workspace_id, id, customer_id, type, subject, date, next_action_date, created_at, updated_at)
         SELECT workspace, id, customer, CASE WHEN support THEN 'support' ELSE 'call' END, 's', at, next_action_at, now(), now()
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bool[], $5::timestamptz[], $6::timestamptz[])
             AS new (workspace, id, customer, support, at, next_action_at)",
    )
    .bind(interactions.iter().map(|interaction| interaction.workspace).collect::<Vec<_>>())
    .bind(interactions.iter().map(|interaction| interaction.id).collect::<Vec<_>>())
    .bind(interactions.iter().map(|interaction| interaction.customer).collect::<Vec<_>>())
    .bind(interactions.iter().map(|interaction| interaction.support).collect::<Vec<_>>())
    .bind(interactions.iter().map(|interaction| interaction.at).collect::<Vec<_>>())
    .bind(interactions.iter().map(|interaction| interaction.next_action_at).collect::<Vec<_>>())
    .execute(connection)
    .await
    .unwrap();
}

async fn insert_feedback(connection: &mut PgConnection, feedback: &[Feedback]) {
    let answers = || feedback.iter().map(|feedback| feedback.answer.clone());
    sqlx::query(
        "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, category, requested_at, answered_at, created_at, updated_at)
         SELECT workspace, id, customer, CASE WHEN answered_at IS NULL THEN 'requested' ELSE 'answered' END,
             rating, category, requested_at, answered_at, requested_at, requested_at
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::smallint[], $7::text[])
             AS new (workspace, id, customer, requested_at, answered_at, rating, category)",
    )
    .bind(feedback.iter().map(|feedback| feedback.workspace).collect::<Vec<_>>())
    .bind(feedback.iter().map(|feedback| feedback.id).collect::<Vec<_>>())
    .bind(feedback.iter().map(|feedback| feedback.customer).collect::<Vec<_>>())
    .bind(feedback.iter().map(|feedback| feedback.requested_at).collect::<Vec<_>>())
    .bind(answers().map(|answer| answer.map(|(at, ..)| at)).collect::<Vec<_>>())
    .bind(answers().map(|answer| answer.map(|(_, rating, _)| rating)).collect::<Vec<_>>())
    .bind(answers().map(|answer| answer.and_then(|(.., category)| category)).collect::<Vec<_>>())
    .execute(connection)
    .await
    .unwrap();
}
