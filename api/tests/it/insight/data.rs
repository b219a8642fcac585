//! Small data sets, made at random or told, and put into a workspace of their own.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, Duration, NaiveDate, SubsecRound};
use chrono_tz::Tz;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use shared::insight::period::Period;
use shared::values::{Time, email_key};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::oracle::segments::SEGMENTS;
use crate::report_helpers::{ZONES, filters, insert_workspace, passes, some};

pub const STATUSES: [&str; 8] =
    ["new", "contacted", "qualified", "proposal", "negotiation", "converted", "lost", "won"];
pub const SOURCES: [&str; 7] = ["campaign", "website", "referral", "direct", "social", "email", "other"];
pub const ORDER_STATUSES: [&str; 5] = ["pending", "processing", "shipped", "delivered", "cancelled"];
/// The columns of stages, in the order of the funnel, and that of losing.
pub const STAGES: [&str; 7] =
    ["contacted_at", "qualified_at", "proposal_at", "negotiation_at", "converted_at", "won_at", "lost_at"];

/// In the order in which reports have them.
pub const BANDS: [&str; 4] = ["healthy", "watch", "at_risk", "none"];
/// Categories, of which some differ only in case.
const CATEGORIES: [Option<&str>; 5] = [None, Some("Support"), Some("support"), Some("Größe"), Some("GRÖßE")];

/// The rows of each table, as JSON.
#[derive(Debug, Clone)]
pub struct Data {
    pub workspace_id: Uuid,
    pub zone: Tz,
    /// Who leads and customers are assigned to, and those of them who are users.
    pub owners: Vec<Uuid>,
    pub users: Vec<Value>,
    pub leads: Vec<Value>,
    pub customers: Vec<Value>,
    pub orders: Vec<Value>,
    pub interactions: Vec<Value>,
    pub lead_interactions: Vec<Value>,
    pub feedback: Vec<Value>,
    pub jobs: Vec<Value>,
    /// The snapshots of some days, and the last one, of which the scores say that it is complete.
    pub segment_snapshots: Vec<Value>,
    pub band_snapshots: Vec<Value>,
    pub snapshot_date: Option<NaiveDate>,
    /// The segments of some customers in the last snapshot.
    pub previous_segments: BTreeMap<Uuid, &'static str>,
    /// What was read in the answers: their themes, and the sums of each day.
    pub themes: Vec<Value>,
    pub readings: Vec<Value>,
    pub theme_days: Vec<Value>,
}

/// A table, and where its rows are.
type Table = (&'static str, fn(&Data) -> &Vec<Value>);

fn pick<'a>(random: &mut StdRng, words: &[&'a str]) -> &'a str {
    words[random.random_range(0..words.len())]
}

/// A time around the period, now and then on one of its ends.
fn moment(random: &mut StdRng, now: Time, period: &Period) -> Time {
    let moment = match random.random_range(0..12) {
        0 => period.from,
        1 => period.to,
        2 => period.to - Duration::microseconds(1),
        3..8 => period.from + (period.to - period.from) * random.random_range(0..100) / 100,
        _ => now - Duration::minutes(random.random_range(-20_000..700_000)),
    };
    // As fine as the database keeps it.
    moment.trunc_subsecs(6)
}

impl Data {
    pub fn empty() -> Self {
        Self {
            workspace_id: Uuid::now_v7(),
            zone: Tz::UTC,
            owners: Vec::new(),
            users: Vec::new(),
            leads: Vec::new(),
            customers: Vec::new(),
            orders: Vec::new(),
            interactions: Vec::new(),
            lead_interactions: Vec::new(),
            feedback: Vec::new(),
            jobs: Vec::new(),
            segment_snapshots: Vec::new(),
            band_snapshots: Vec::new(),
            snapshot_date: None,
            previous_segments: BTreeMap::new(),
            themes: Vec::new(),
            readings: Vec::new(),
            theme_days: Vec::new(),
        }
    }

    pub fn random(random: &mut StdRng, now: Time, period: &Period) -> Self {
        let owners: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
        let zone = ZONES.choose(random).unwrap().parse().unwrap();
        let mut data = Self { zone, owners: owners.clone(), ..Self::empty() };
        for (owner, name) in owners.iter().zip(["Grace", "Alan"]) {
            data.users.push(json!({
                "workspace_id": data.workspace_id, "id": owner, "name": name, "email": format!("{name}@example.com"),
                "created_at": now, "updated_at": now,
            }));
        }
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
            for _ in 0..random.random_range(0..3) {
                let next = random.random_bool(0.5).then(|| moment(random, now, period));
                let told = random.random_bool(0.3).then_some(now);
                let interaction = data.lead_interaction(&lead, moment(random, now, period), next, told);
                data.lead_interactions.push(interaction);
            }
            data.leads.push(lead);
        }
        for _ in 0..random.random_range(0..15) {
            let kind = pick(random, &["individual", "business"]);
            let status = pick(random, &["active", "inactive", "blocked"]);
            let mut customer = data.customer(moment(random, now, period), kind, status);
            customer["assigned_to"] = json!(owners.get(random.random_range(0..5)));
            for _ in 0..random.random_range(0..6) {
                let status = pick(random, &ORDER_STATUSES);
                let order = data.order(&customer, moment(random, now, period), random.random_range(1..30), status);
                data.orders.push(order);
            }
            for _ in 0..random.random_range(0..4) {
                let next = random.random_bool(0.5).then(|| moment(random, now, period));
                let told = random.random_bool(0.3).then_some(now);
                let mut interaction = data.interaction(&customer, moment(random, now, period), next, told);
                interaction["type"] = json!(pick(random, &["call", "support", "meeting"]));
                data.interactions.push(interaction);
            }
            for _ in 0..random.random_range(0..3) {
                let requested = moment(random, now, period);
                let answered = random.random_bool(0.6).then(|| moment(random, now, period).max(requested));
                let mut feedback = data.feedback(&customer, requested, answered, random.random_range(1..=5));
                if answered.is_some() {
                    feedback["category"] = json!(CATEGORIES.choose(random).unwrap());
                }
                data.feedback.push(feedback);
            }
            data.customers.push(customer);
        }
        data.add_jobs(random, now, period);
        data.add_snapshots(random, now);
        data.add_themes(random);
        data
    }

    pub fn lead(&self, created_at: Time, status: &str, source: &str, score: f64, owner: Option<Uuid>) -> Value {
        let id = Uuid::now_v7();
        json!({
            "workspace_id": self.workspace_id, "id": id, "name": "Ada", "email": format!("{id}@example.com"),
            "source": source, "status": status, "score": score, "assigned_to": owner, "custom_fields": {}, "search_vector": "",
            "created_at": created_at, "updated_at": created_at,
        })
    }

    pub fn customer(&self, created_at: Time, kind: &str, status: &str) -> Value {
        let id = Uuid::now_v7();
        json!({
            "workspace_id": self.workspace_id, "id": id, "name": "Ada", "email": format!("{id}@example.com"),
            "type": kind, "status": status, "custom_fields": {}, "search_vector": "", "created_at": created_at,
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

    fn lead_interaction(&self, lead: &Value, created_at: Time, next: Option<Time>, told: Option<Time>) -> Value {
        json!({
            "workspace_id": self.workspace_id, "id": Uuid::now_v7(), "lead_id": lead["id"], "type": "note",
            "next_action_date": next, "followed_up_at": told, "created_at": created_at, "updated_at": created_at,
        })
    }

    fn add_jobs(&mut self, random: &mut StdRng, now: Time, period: &Period) {
        for _ in 0..random.random_range(0..5) {
            let status = pick(random, &["queued", "running", "succeeded", "failed", "cancelled"]);
            let (is_held, is_over) = (status == "running", !["queued", "running"].contains(&status));
            self.jobs.push(json!({
                "workspace_id": self.workspace_id, "id": Uuid::now_v7(), "queue": "imports", "kind": "import_leads",
                "status": status, "attempt": 1, "failures": 0, "crashes": 0, "run_at": now, "payload": {},
                "lease_until": is_held.then_some(now), "finished_at": is_over.then_some(now), "progress_done": 0,
                "created_at": moment(random, now, period),
            }));
        }
    }

    /// Snapshots of a few days, of which the last is that of the scores.
    fn add_snapshots(&mut self, random: &mut StdRng, now: Time) {
        let days = random.random_range(0..5).min(random.random_range(0..5));
        let mut dates: Vec<NaiveDate> =
            (0..days).map(|_| now.date_naive() - Days::new(random.random_range(0..130))).collect();
        dates.sort_unstable();
        dates.dedup();
        self.snapshot_date = dates.last().copied();
        for customer in &self.customers {
            if random.random_bool(0.3) {
                continue;
            }
            let id = customer["id"].as_str().unwrap().parse().unwrap();
            self.previous_segments.insert(id, SEGMENTS.choose(random).unwrap());
        }
        for date in dates {
            for segment in some(random, &SEGMENTS, 0.7) {
                self.segment_snapshots.push(json!({
                    "workspace_id": self.workspace_id, "date": date, "segment": segment,
                    "customers": random.random_range(1..20),
                }));
            }
            for band in some(random, &BANDS, 0.7) {
                let (customers, most) = (random.random_range(1..20), if band == "none" { 0 } else { 100 });
                self.band_snapshots.push(json!({
                    "workspace_id": self.workspace_id, "date": date, "band": band, "customers": customers,
                    "health": customers * random.random_range(0..=most),
                }));
            }
        }
    }

    /// What comments of the answers speak of, and the sums of it.
    fn add_themes(&mut self, random: &mut StdRng) {
        let names = ["batteri", "sound qualiti", "price", "set up", "screen"];
        for key in some(random, &names, 0.8) {
            self.themes.push(json!({
                "workspace_id": self.workspace_id, "id": Uuid::now_v7(), "key": key, "keys": [key], "label": key,
                "found": true, "listed": random.random_bool(0.9), "created_at": "2026-01-01T00:00:00Z",
                "updated_at": "2026-01-01T00:00:00Z",
            }));
        }
        for answer in self.feedback.iter().filter(|feedback| !feedback["answered_at"].is_null()) {
            let themes: Vec<&Value> = self.themes.iter().filter(|_| random.random_bool(0.3)).collect();
            self.readings.push(json!({
                "workspace_id": self.workspace_id, "feedback_id": answer["id"], "answered_at": answer["answered_at"],
                "rating": answer["rating"], "commented": !themes.is_empty() || random.random_bool(0.5), "quotable": false,
                "language": "en", "reader": 1, "phrases": [],
                "themes": themes.iter().map(|theme| theme["id"].clone()).collect::<Vec<_>>(),
                "moods": themes.iter().map(|_| random.random_range(-100..=100)).collect::<Vec<_>>(),
            }));
        }
        self.theme_days = theme_days(&self.readings);
    }

    /// The records that pass the filters of a request, given the segments of all customers: every figure is that
    /// of a workspace with only these.
    pub fn filtered(&self, pairs: &[(String, String)], segments: &BTreeMap<Uuid, &str>) -> Self {
        let mut filters = filters(pairs);
        let categories: Option<Vec<String>> =
            filters.remove("category").map(|values| values.into_iter().map(str::to_lowercase).collect());
        let has = |row: &Value, name: &str| passes(&filters, name, row[name].as_str());
        let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
        let mut data = self.clone();
        data.leads.retain(|lead| ["source", "status", "assigned_to"].iter().all(|name| has(lead, name)));
        let leads = ids(&data.leads);
        data.lead_interactions.retain(|interaction| leads.contains(&interaction["lead_id"]));
        data.customers.retain(|customer| {
            let segment = segments[&customer["id"].as_str().unwrap().parse().unwrap()];
            ["type", "status", "assigned_to"].iter().all(|name| has(customer, name))
                && passes(&filters, "segment", Some(segment))
        });
        let customers = ids(&data.customers);
        for rows in [&mut data.orders, &mut data.interactions, &mut data.feedback] {
            rows.retain(|row| customers.contains(&row["customer_id"]));
        }
        let category = |row: &Value| row["category"].as_str().map_or("null".to_owned(), str::to_lowercase);
        data.feedback.retain(|row| categories.as_ref().is_none_or(|wanted| wanted.contains(&category(row))));
        let feedback = ids(&data.feedback);
        data.readings.retain(|reading| feedback.contains(&reading["feedback_id"]));
        data.previous_segments.retain(|id, _| customers.contains(&json!(id)));
        data
    }

    /// Puts the rows of many workspaces in, with one statement for each table.
    pub async fn store_all(connection: &mut PgConnection, all: &[Self]) {
        for data in all {
            insert_workspace(connection, data.workspace_id, data.zone).await;
        }
        let tables: [Table; 13] = [
            ("users", |data| &data.users),
            ("leads", |data| &data.leads),
            ("customers", |data| &data.customers),
            ("orders", |data| &data.orders),
            ("customer_interactions", |data| &data.interactions),
            ("lead_interactions", |data| &data.lead_interactions),
            ("feedback", |data| &data.feedback),
            ("jobs", |data| &data.jobs),
            ("segment_snapshots", |data| &data.segment_snapshots),
            ("band_snapshots", |data| &data.band_snapshots),
            ("themes", |data| &data.themes),
            ("feedback_readings", |data| &data.readings),
            ("theme_days", |data| &data.theme_days),
        ];
        for (table, rows) in tables {
            let rows: Vec<Value> = all.iter().flat_map(|data| rows(data).iter().cloned().map(with_key)).collect();
            let columns: BTreeSet<&String> = rows.iter().flat_map(|row| row.as_object().unwrap().keys()).collect();
            let columns = columns.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            if rows.is_empty() {
                continue;
            }
            let sql = format!(
                "INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1)"
            );
            sqlx::query(AssertSqlSafe(sql)).bind(Value::Array(rows)).execute(&mut *connection).await.unwrap();
        }
    }

    pub async fn store(&self, connection: &mut PgConnection) {
        Self::store_all(connection, std::slice::from_ref(self)).await;
    }
}

/// A row with the normal form of its email.
fn with_key(mut row: Value) -> Value {
    if let Some(email) = row.get("email").and_then(Value::as_str) {
        row["email_key"] = email_key(email).into();
    }
    row
}

/// The sums of each day of UTC, by theme, and of all answers under the nil id.
fn theme_days(readings: &[Value]) -> Vec<Value> {
    let mut days: BTreeMap<(String, String), Value> = BTreeMap::new();
    for reading in readings {
        let day = reading["answered_at"].as_str().unwrap()[..10].to_owned();
        let themes = reading["themes"].as_array().unwrap().iter().zip(reading["moods"].as_array().unwrap());
        let themes = themes.map(|(theme, mood)| (theme.clone(), 1, mood.as_i64().unwrap()));
        let all = (json!(Uuid::nil()), i64::from(reading["commented"] == true), 0);
        let rating = reading["rating"].as_i64().unwrap();
        for (theme, comments, mood) in themes.chain([all]) {
            let key = (day.clone(), theme.as_str().unwrap().to_owned());
            let sums = days.entry(key).or_insert_with(
                || json!({ "workspace_id": reading["workspace_id"], "day": day, "theme_id": theme, "quotes": [] }),
            );
            for (sum, by) in [
                ("answers", 1),
                ("comments", comments),
                ("ratings", rating),
                ("squares", rating * rating),
                ("moods", mood),
            ] {
                sums[sum] = json!(sums[sum].as_i64().unwrap_or(0) + by);
            }
        }
    }
    days.into_values().collect()
}
