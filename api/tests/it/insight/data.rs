//! Small data sets, made at random or told, and put into a workspace of their own.

use std::collections::BTreeSet;

use chrono::Duration;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use shared::fields::{Field, Time};
use shared::period::Period;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

pub const STATUSES: [&str; 8] =
    ["new", "contacted", "qualified", "proposal", "negotiation", "converted", "lost", "won"];
pub const SOURCES: [&str; 7] = ["campaign", "website", "referral", "direct", "social", "email", "other"];
pub const ORDER_STATUSES: [&str; 5] = ["pending", "processing", "shipped", "delivered", "cancelled"];
/// The columns of stages, in the order of the funnel, and that of losing.
pub const STAGES: [&str; 7] =
    ["contacted_at", "qualified_at", "proposal_at", "negotiation_at", "converted_at", "won_at", "lost_at"];

pub fn time(text: &str) -> Time {
    Time::from_text(text).unwrap()
}

/// The rows of each table, as JSON.
#[derive(Debug)]
pub struct Data {
    pub workspace_id: Uuid,
    pub leads: Vec<Value>,
    pub customers: Vec<Value>,
    pub orders: Vec<Value>,
    pub interactions: Vec<Value>,
    pub feedback: Vec<Value>,
}

fn pick<'a>(random: &mut StdRng, words: &[&'a str]) -> &'a str {
    words[random.random_range(0..words.len())]
}

/// A time around the period, now and then on one of its ends.
fn moment(random: &mut StdRng, now: Time, period: &Period) -> Time {
    match random.random_range(0..12) {
        0 => period.from,
        1 => period.to,
        2 => period.to - Duration::microseconds(1),
        3..8 => period.from + (period.to - period.from) * random.random_range(0..100) / 100,
        _ => now - Duration::minutes(random.random_range(-20_000..700_000)),
    }
}

impl Data {
    pub fn empty() -> Self {
        Self {
            workspace_id: Uuid::now_v7(),
            leads: Vec::new(),
            customers: Vec::new(),
            orders: Vec::new(),
            interactions: Vec::new(),
            feedback: Vec::new(),
        }
    }

    pub fn random(random: &mut StdRng, now: Time, period: &Period) -> Self {
        let mut data = Self::empty();
        let owners: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
        for _ in 0..random.random_range(0..40) {
            let created_at = moment(random, now, period);
            let status = pick(random, &STATUSES);
            let owner = owners.get(random.random_range(0..5)).copied();
            let score = f64::from(random.random_range(0..=200)) / 2.0;
            let mut lead = data.lead(created_at, status, pick(random, &SOURCES), score, owner);
            for stage in STAGES {
                if stage == format!("{status}_at") || random.random_ratio(1, 5) {
                    lead[stage] = json!(created_at + Duration::minutes(random.random_range(-1_000..60_000)));
                }
            }
            data.leads.push(lead);
        }
        for _ in 0..random.random_range(0..15) {
            let kind = pick(random, &["individual", "business"]);
            let status = pick(random, &["active", "inactive", "blocked"]);
            let customer = data.customer(moment(random, now, period), kind, status);
            for _ in 0..random.random_range(0..6) {
                let status = pick(random, &ORDER_STATUSES);
                let order = data.order(&customer, moment(random, now, period), random.random_range(1..30), status);
                data.orders.push(order);
            }
            for _ in 0..random.random_range(0..4) {
                let next = random.random_bool(0.5).then(|| moment(random, now, period));
                let told = random.random_bool(0.3).then_some(now);
                let interaction = data.interaction(&customer, moment(random, now, period), next, told);
                data.interactions.push(interaction);
            }
            for _ in 0..random.random_range(0..3) {
                let requested = moment(random, now, period);
                let answered = random.random_bool(0.6).then(|| moment(random, now, period).max(requested));
                let feedback = data.feedback(&customer, requested, answered, random.random_range(1..=5));
                data.feedback.push(feedback);
            }
            data.customers.push(customer);
        }
        data
    }

    pub fn lead(&self, created_at: Time, status: &str, source: &str, score: f64, owner: Option<Uuid>) -> Value {
        let id = Uuid::now_v7();
        json!({
            "workspace_id": self.workspace_id, "id": id, "name": "Ada", "email": format!("{id}@example.com"),
            "source": source, "status": status, "score": score, "assigned_to": owner, "custom_fields": {}, "words": "",
            "created_at": created_at, "updated_at": created_at,
        })
    }

    pub fn customer(&self, created_at: Time, kind: &str, status: &str) -> Value {
        let id = Uuid::now_v7();
        json!({
            "workspace_id": self.workspace_id, "id": id, "name": "Ada", "email": format!("{id}@example.com"),
            "type": kind, "status": status, "custom_fields": {}, "words": "", "created_at": created_at,
            "updated_at": created_at,
        })
    }

    pub fn order(&self, customer: &Value, date: Time, quantity: i64, status: &str) -> Value {
        json!({
            "workspace_id": self.workspace_id, "id": Uuid::now_v7(), "customer_id": customer["id"],
            "product_id": Uuid::nil(), "quantity": quantity, "status": status, "order_date": date, "created_at": date,
            "updated_at": date,
        })
    }

    pub fn interaction(&self, customer: &Value, date: Time, next: Option<Time>, told: Option<Time>) -> Value {
        json!({
            "workspace_id": self.workspace_id, "id": Uuid::now_v7(), "customer_id": customer["id"], "type": "call",
            "subject": "A call", "date": date, "next_action_date": next, "followed_up_at": told, "created_at": date,
            "updated_at": date,
        })
    }

    pub fn feedback(&self, customer: &Value, requested: Time, answered: Option<Time>, rating: i64) -> Value {
        let status = if answered.is_some() { "answered" } else { "expired" };
        json!({
            "workspace_id": self.workspace_id, "id": Uuid::now_v7(), "customer_id": customer["id"], "status": status,
            "rating": answered.map(|_| rating), "requested_at": requested, "answered_at": answered, "reminders": 0,
            "created_at": requested, "updated_at": requested,
        })
    }

    /// How many things there are of which the dashboard tells the last.
    pub fn activities(&self) -> usize {
        // Of each kind the last are read.
        let kinds = [&self.leads, &self.customers, &self.orders, &self.interactions];
        kinds.into_iter().map(|rows| rows.len()).sum()
    }

    pub async fn store(&self, connection: &mut PgConnection) {
        let tables = [
            ("leads", &self.leads),
            ("customers", &self.customers),
            ("orders", &self.orders),
            ("customer_interactions", &self.interactions),
            ("feedback", &self.feedback),
        ];
        for (table, rows) in tables.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            let columns: BTreeSet<&String> = rows.iter().flat_map(|row| row.as_object().unwrap().keys()).collect();
            let columns = columns.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1)"
            );
            sqlx::query(AssertSqlSafe(sql)).bind(Value::Array(rows.clone())).execute(&mut *connection).await.unwrap();
        }
    }
}
