//! Demo data of a new workspace in addition to leads, and the runs that show what the product does.
//!
//! All data is created through the API, with an `Idempotency-Key` for each request, so that an
//! interrupted start resumes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::Client;
use crate::sample;

const CUSTOMERS: usize = 300;
const ORDERS: usize = 900;
/// The number of interactions whose next action is due.
const DUE: usize = 24;
/// The number of customers who are asked for feedback, and of those who answer.
const ASKED: usize = 40;
const ANSWERED: usize = 30;

/// What a demo has created.
#[derive(Debug, Default)]
pub struct Demo {
    /// A line about each run.
    pub lines: Vec<String>,
    /// The URL of the page of an open feedback request.
    pub feedback_page: Option<String>,
}

/// Fills the workspace and starts its runs, unless that was done before. `progress` receives each stage.
///
/// # Errors
/// If a request fails.
pub async fn fill(client: &Client, progress: impl Fn(&'static str)) -> Result<Demo> {
    let mut demo = Demo::default();
    let done = client.get("jobs?kind=nurture_leads&status=succeeded&limit=1").await?;
    if done.as_array().is_some_and(Vec::is_empty) {
        let random = &mut StdRng::seed_from_u64(2);
        progress("creating users and settings");
        let (users, began) = people(client).await?;
        if began < Utc::now() - TimeDelta::hours(23) {
            demo.lines.push("the sample data is incomplete; run `cargo dev reset` to create it again".to_owned());
            return Ok(demo);
        }
        progress("importing sample customers");
        let customers = customers(client).await?;
        progress("creating orders and interactions");
        orders(client, random, began, &customers).await?;
        interactions(client, random, began, &customers, &users).await?;
        progress("asking for feedback");
        feedback(client, random, &customers).await?;
        progress("nurturing leads and following up");
        for (path, line) in RUNS {
            let job = ended(client, &client.post(path, &format!("sample-{path}"), &json!({})).await?).await?;
            demo.lines.push(line(&job["result"]));
        }
    }
    demo.feedback_page = feedback_page(client).await?;
    Ok(demo)
}

type Line = fn(&Value) -> String;
const RUNS: [(&str, Line); 2] = [
    ("leads/nurture/start", |result| {
        format!(
            "enrolled {} leads for nurture: {} emails queued, {} waiting",
            result["enrolled"], result["sent"], result["waiting"]
        )
    }),
    ("followups/process", |result| format!("followed up: {result}")),
];

/// Creates the users; returns their ids, and when the first one was created. Other times are relative to that
/// time, so that a repeated request is identical.
async fn people(client: &Client) -> Result<(Vec<String>, DateTime<Utc>)> {
    let settings = json!({
        "sender_name": "Sample Company", "reply_to": "hello@sample.example", "notification_email": "team@sample.example",
    });
    client.put("settings", &settings).await?;
    let mut users = Vec::new();
    let present = client.get("users?limit=1000").await?;
    for name in ["Dana Whitfield", "Emeka Obi", "Ingrid Sandberg"] {
        let email = format!("{}@sample.example", name.to_lowercase().replace(' ', "."));
        users.push(match present.as_array().into_iter().flatten().find(|user| user["email"] == email) {
            Some(user) => user.clone(),
            None => client.post("users", &format!("sample-{email}"), &json!({ "name": name, "email": email })).await?,
        });
    }
    let began = users[0]["created_at"].as_str().context("a user has no created_at")?.parse()?;
    Ok((users.iter().map(id_of).collect::<Result<_>>()?, began))
}

async fn customers(client: &Client) -> Result<Vec<String>> {
    let job = ended(client, &client.import("customers", sample::customers(CUSTOMERS, 3)).await?).await?;
    ensure!(job["status"] == "succeeded", "the import of sample customers ended {}: {}", job["status"], job["error"]);
    let customers = client.get("customers?limit=1000&sort=email").await?;
    customers.as_array().context("the response is not a list of customers")?.iter().map(id_of).collect()
}

/// Creates orders: most customers order now and then, a few often, some have stopped, and some never ordered.
async fn orders(client: &Client, random: &mut StdRng, began: DateTime<Utc>, customers: &[String]) -> Result<()> {
    let products: Vec<Uuid> = (0..12).map(|n| Uuid::from_u128(0x70_726f_6475_6374 << 64 | n)).collect();
    let mut items = Vec::with_capacity(ORDERS);
    for _ in 0..ORDERS {
        let customer = (random.random::<f64>().powi(2) * customers.len() as f64 * 0.9) as usize;
        let age = (random.random::<f64>().powi(2) * 700.0) + if customer.is_multiple_of(5) { 200.0 } else { 0.0 };
        let status = if age > 20.0 {
            *pick(random, &["delivered", "delivered", "delivered", "cancelled"])
        } else {
            *pick(random, &["pending", "processing", "shipped"])
        };
        items.push(json!({
            "customer_id": customers[customer], "product_id": pick(random, &products), "quantity": random.random_range(1..8),
            "status": status, "order_date": before(began, age),
        }));
    }
    client.post("orders/batch", "sample-orders", &json!({ "items": items })).await?;
    Ok(())
}

async fn interactions(
    client: &Client,
    random: &mut StdRng,
    began: DateTime<Utc>,
    customers: &[String],
    users: &[String],
) -> Result<()> {
    for number in 0..DUE {
        let customer = &customers[number * customers.len() / DUE];
        let owner = json!({ "assigned_to": users[number % users.len()] });
        client.put(&format!("customers/{customer}"), &owner).await?;
        let (subject, next_action) = *pick(random, SUBJECTS);
        let body = json!({
            "type": *pick(random, &["call", "email", "meeting", "support"]), "subject": subject,
            "date": before(began, random.random_range(2.0..20.0)), "outcome": *pick(random, &["positive", "neutral", "open"]),
            "next_action": next_action, "next_action_date": before(began, random.random_range(0.1..2.0)),
        });
        client
            .post(&format!("customers/{customer}/interactions"), &format!("sample-interaction-{number}"), &body)
            .await?;
    }
    Ok(())
}

async fn feedback(client: &Client, random: &mut StdRng, customers: &[String]) -> Result<()> {
    for (number, customer) in customers.iter().step_by(customers.len() / ASKED).take(ASKED).enumerate() {
        let job = client
            .post(&format!("customers/{customer}/feedback/request"), &format!("sample-feedback-{number}"), &json!({}))
            .await?;
        let id = job["subject"]["id"].as_str().context("the job has no feedback as its subject")?;
        if number < ANSWERED {
            let (rating, category, comment) = *pick(random, COMMENTS);
            let answer = json!({ "rating": rating, "category": category, "comment": comment });
            client.post(&format!("feedback/{id}"), &format!("sample-answer-{number}"), &answer).await?;
        }
    }
    Ok(())
}

/// The link in the email of an open feedback request.
async fn feedback_page(client: &Client) -> Result<Option<String>> {
    let open = client.get("feedback?status=requested&limit=1").await?;
    let Some(customer) = open[0]["customer_id"].as_str() else { return Ok(None) };
    for email in client.get("emails?event=feedback_request&limit=100").await?.as_array().into_iter().flatten() {
        if email["record"]["id"] == *customer {
            let email = client.get(&format!("emails/{}", id_of(email)?)).await?;
            let text = email["text_body"].as_str().unwrap_or_default();
            return Ok(text.split_whitespace().find(|word| word.contains("/feedback/")).map(str::to_owned));
        }
    }
    Ok(None)
}

/// Waits until a job has finished.
///
/// # Errors
/// If a request fails.
pub async fn ended(client: &Client, job: &Value) -> Result<Value> {
    let id = id_of(job)?;
    loop {
        let job = client.job(&id).await?;
        if !job["finished_at"].is_null() {
            return Ok(job);
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The id of a record.
///
/// # Errors
/// If it has none.
pub fn id_of(record: &Value) -> Result<String> {
    Ok(record["id"].as_str().context("a record has no id")?.to_owned())
}

fn before(time: DateTime<Utc>, days: f64) -> DateTime<Utc> {
    time - TimeDelta::milliseconds((days * 86_400_000.0) as i64)
}

fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    #[expect(clippy::expect_used, reason = "the lists of this file are not empty")]
    from.choose(random).expect("a list")
}

const SUBJECTS: &[(&str, &str)] = &[
    ("Renewal of the contract", "Send the offer for another year"),
    ("Question about an invoice", "Check with accounting and call back"),
    ("Training for new staff", "Suggest three dates"),
    ("Late delivery", "Report what has changed since"),
    ("Interest in the larger plan", "Show the larger plan"),
    ("Visit to their office", "Send the minutes"),
];

/// Comments with a rating and a category.
const COMMENTS: &[(u8, &str, &str)] = &[
    (5, "support", "The support team answered within minutes and stayed until it worked."),
    (5, "support", "Friendly support, and the answer was right the first time."),
    (2, "support", "I waited two days for an answer from support."),
    (5, "delivery", "Delivery was a day early and well packed."),
    (4, "delivery", "Fast delivery, though the box was too large."),
    (1, "delivery", "The delivery came a week late and nobody told us."),
    (2, "delivery", "Late delivery again. The tracking page did not help."),
    (5, "product", "Setup took ten minutes, and the manual is clear."),
    (3, "product", "Good product, but the setup was harder than it should be."),
    (4, "product", "Battery life is better than we hoped."),
    (2, "product", "Battery life is too short for a whole shift."),
    (3, "price", "Fair price, but shipping costs are high."),
    (4, "price", "The price is fine for what you get."),
    (5, "product", "Build quality is excellent."),
];
