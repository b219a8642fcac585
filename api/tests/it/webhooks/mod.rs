//! Webhooks over HTTP: real programs, and receivers on this machine that the operator allows.

mod callbacks;
mod delivery;
mod each;
mod endpoints;
mod examples;
mod failures;
mod hostile;
mod limits;
mod replay;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use shared::platform::config::{self, Settings};
use standardwebhooks::Webhook as Verifier;
use testing::receiver::{Received, Receiver};
use testing::{Database, Process};

use crate::support::{Api, id};

pub(crate) const WEBHOOKS: &str = "/dev/crm/webhooks";
const LEADS: &str = "/dev/crm/leads";
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// Generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API whose operator allows some receivers, and a receiver.
pub(crate) struct Setup {
    pub api: Api,
    pub receiver: Receiver,
    receivers: String,
}

impl Setup {
    pub async fn start() -> Self {
        let receiver = Receiver::start().await;
        let receivers = receiver.address.to_string();
        Self::with(receiver, receivers).await
    }

    /// With another receiver that the operator allows.
    pub async fn start_with_another(address: SocketAddr) -> Self {
        let receiver = Receiver::start().await;
        let receivers = format!("{},{address}", receiver.address);
        Self::with(receiver, receivers).await
    }

    /// With the receivers that the operator allows.
    pub async fn with(receiver: Receiver, receivers: String) -> Self {
        let webhooks = settings(&receivers);
        let api = Api::start_with(|settings| settings.webhooks = webhooks).await;
        api.leaves_jobs("replay_webhook");
        Self { api, receiver, receivers }
    }

    pub fn worker(&self) -> Process {
        worker(&self.api.database, &self.receivers)
    }

    /// Creates a webhook to the receiver, and returns it with its secret.
    pub async fn webhook(&self, fields: Value) -> Value {
        self.webhook_to(&self.receiver, fields).await
    }

    pub async fn webhook_to(&self, receiver: &Receiver, fields: Value) -> Value {
        let mut body = json!({ "url": receiver.url("/hooks"), "events": ["*"] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.api.create(WEBHOOKS, body).await
    }

    pub async fn lead(&self, name: &str) -> Value {
        let body = json!({ "name": name, "email": format!("{name}@example.com") });
        self.api.create(LEADS, body).await
    }

    /// The deliveries of a webhook, newest first.
    pub async fn deliveries(&self, webhook: &Value) -> Vec<Value> {
        let path = format!("{WEBHOOKS}/{}/deliveries", id(webhook));
        self.api.read(&path).await.as_array().unwrap().clone()
    }

    /// Waits until the deliveries of a webhook are as wanted, and returns them.
    pub async fn until(&self, webhook: &Value, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let deliveries = self.deliveries(webhook).await;
            if holds(&deliveries) {
                return deliveries;
            }
            assert!(began.elapsed() < PATIENCE, "the deliveries are not {what}: {deliveries:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all deliveries of a webhook are in a state.
    pub async fn until_all(&self, webhook: &Value, count: usize, state: &str) -> Vec<Value> {
        self.until(webhook, state, |all| all.len() == count && all.iter().all(|it| it["state"] == state)).await
    }

    /// Makes the retries of failed deliveries due.
    pub async fn hurry(&self) {
        for statement in [
            "UPDATE webhook_deliveries SET run_at = now() WHERE state = 'pending' AND run_at > now()",
            "UPDATE webhook_queues SET due_at = now()",
        ] {
            sqlx::query(statement).execute(self.api.database.pool()).await.unwrap();
        }
    }

    pub async fn run(&self, statement: &'static str) -> u64 {
        sqlx::query(statement).execute(self.api.database.pool()).await.unwrap().rows_affected()
    }
}

/// The settings of webhooks with these receivers.
pub(crate) fn settings(receivers: &str) -> config::Webhooks {
    let environment = variables(receivers).into_iter().chain([("DATABASE_URL", "postgres://localhost/crm")]);
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Settings::from_layers(None, environment).unwrap().webhooks
}

pub(crate) fn variables(receivers: &str) -> [(&str, &str); 3] {
    [
        ("CRM_WEBHOOKS__ALLOW_HTTP", "true"),
        ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", receivers),
        ("CRM_WEBHOOKS__ENCRYPTION_KEY", KEY),
    ]
}

pub(crate) fn worker(database: &Database, receivers: &str) -> Process {
    Process::worker_with(database, &[], &variables(receivers))
}

/// Verifies a request with a secret, as a receiver does.
fn verifies(received: &Received, secret: &Value) -> bool {
    let headers = headers(received);
    Verifier::new(secret.as_str().unwrap()).unwrap().verify(received.body.as_bytes(), &headers).is_ok()
}

/// The headers with which a request is verified.
fn headers(received: &Received) -> HeaderMap {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    names.into_iter().map(|name| (name.parse().unwrap(), received.header(name).parse().unwrap())).collect()
}

/// The types of the events in requests.
fn types(received: &[Received]) -> Vec<String> {
    received.iter().map(|it| it.json()["type"].as_str().unwrap().to_owned()).collect()
}
