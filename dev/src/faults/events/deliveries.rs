//! A receiver of webhooks that must get every event, and none with another body.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::RngExt;
use serde_json::json;
use shared::events::EventType;
use sqlx::PgPool;
use testing::receiver::{Answer, Receiver};
use tokio::time::sleep;

use super::super::harness::Harness;

/// How long after the last event all must be delivered.
const PATIENCE: Duration = Duration::from_secs(180);

/// Subscribes a receiver to all events, which refuses one of a hundred the first time.
pub async fn subscribe(harness: &Harness, receiver: &Receiver) -> Result<()> {
    let known = Mutex::new(HashSet::new());
    receiver.script(move |request| {
        let is_new = known.lock().is_ok_and(|mut known| known.insert(request.header("webhook-id").to_owned()));
        Answer::status(if is_new && rand::rng().random_bool(0.01) { 503 } else { 200 })
    });
    let body = json!({ "url": receiver.url("/hooks"), "events": ["*"] });
    let url = format!("{}/dev/crm/webhooks", harness.api_url());
    let response = reqwest::Client::new().post(url).bearer_auth(harness.key()).json(&body).send().await?;
    ensure!(response.status() == 201, "a webhook was not created: {}", response.text().await?);
    Ok(())
}

/// Each event was delivered, and always with the same body.
pub async fn verify(pool: &PgPool, receiver: &Receiver) -> Result<Vec<String>> {
    until_delivered(pool).await?;
    let (mut bodies, mut repeated, mut broken) = (HashMap::new(), 0, Vec::new());
    for request in receiver.received() {
        let id = request.header("webhook-id").to_owned();
        match bodies.insert(id.clone(), request.body.clone()) {
            Some(before) if before != request.body => broken.push(format!("{id} was delivered with two bodies")),
            Some(_) => repeated += 1,
            None => {}
        }
    }
    let events: Vec<String> =
        sqlx::query_scalar("SELECT 'evt_' || replace(id::text, '-', '') FROM events WHERE type = ANY ($1)")
            .bind(EventType::PUBLIC_WORDS)
            .fetch_all(pool)
            .await?;
    let missing = events.iter().filter(|id| !bodies.contains_key(*id)).count();
    println!("{} events were delivered, {repeated} deliveries were repeated", bodies.len());
    if missing > 0 {
        broken.push(format!("{missing} of {} events were not delivered", events.len()));
    }
    Ok(broken)
}

async fn until_delivered(pool: &PgPool) -> Result<()> {
    let began = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM webhook_deliveries WHERE state <> 'delivered')
                 + (SELECT count(*) FROM webhook_queues JOIN event_cursors USING (workspace_id) WHERE last_event < number)",
        )
        .fetch_one(pool)
        .await?;
        if left == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{left} deliveries are left after {PATIENCE:?}");
        sleep(Duration::from_millis(200)).await;
    }
}
