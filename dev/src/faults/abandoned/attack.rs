//! The tenant whose callers disconnect.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use uuid::Uuid;

use crate::faults::harness::Harness;

/// The number of leads, so that lists and searches take a while.
const LEADS: i32 = 3000;
/// The longest time after which a caller disconnects.
const STAYS: Duration = Duration::from_millis(3);

/// What callers do after sending their request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// They read the whole response.
    ReadToTheEnd,
    /// They disconnect soon.
    Leave,
}

/// The requests of the attacking tenant.
pub struct Attack {
    address: String,
    key: String,
    pub workspace_id: Uuid,
    /// The lead that is updated repeatedly.
    pub updated: String,
    /// The number of requested creations and updates of leads.
    pub creates: AtomicUsize,
    pub updates: AtomicUsize,
}

impl Attack {
    /// Creates the workspace and the records that the requests are about.
    pub async fn prepare(harness: &Harness) -> Result<Self> {
        let (workspace_id, key) = harness.new_workspace("attacker").await?;
        sqlx::query(
            "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, notes, custom_fields, search_vector,
                 created_at, updated_at)
             SELECT $1, gen_random_uuid(), 'Lead ' || n, 'lead' || n || '@example.com', 'lead' || n || '@example.com', 'direct', 'new', n % 100,
                 repeat('notes ', 50), '{}', '', now() - make_interval(secs => n), now()
             FROM generate_series(1, $2) AS n",
        )
        .bind(workspace_id)
        .bind(LEADS)
        .execute(&harness.pool)
        .await?;
        let create = async |path: &str, email: &str| {
            let body = json!({ "name": "Taken", "email": email });
            let url = format!("{}/dev/crm/{path}", harness.api_url());
            let request = reqwest::Client::new().post(url).bearer_auth(&key).json(&body);
            let record: Value = request.send().await?.error_for_status()?.json().await?;
            anyhow::Ok(record["id"].as_str().context("a record has no id")?.to_owned())
        };
        let updated = create("leads", "updated@example.com").await?;
        create("customers", "taken@example.com").await?;
        Ok(Self {
            address: harness.api_url().trim_start_matches("http://").to_owned(),
            key,
            workspace_id,
            updated,
            creates: AtomicUsize::new(0),
            updates: AtomicUsize::new(0),
        })
    }

    /// Sends a request (invalid, slow, a write or a stream), and then reads the response or disconnects.
    pub async fn send(&self, number: usize, manner: Manner) -> Result<()> {
        let request = self.request(number);
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        match manner {
            Manner::ReadToTheEnd => {
                let mut piece = vec![0; 65_536];
                while stream.read(&mut piece).await? > 0 {}
            }
            Manner::Leave => {
                let stays = rand::rng().random_range(Duration::ZERO..=STAYS);
                sleep(stays).await;
            }
        }
        Ok(())
    }

    fn request(&self, number: usize) -> String {
        let nobody = Uuid::nil();
        let new = || {
            let number = self.creates.fetch_add(1, Relaxed);
            json!({ "name": "New", "email": format!("new{number}@example.com") })
        };
        match number % 10 {
            // A missing reference, and a taken unique key.
            0 => self.with_body(
                "POST",
                "orders",
                "",
                &json!({ "customer_id": nobody, "product_id": nobody, "quantity": 1 }),
            ),
            1 => self.with_body("POST", "customers", "", &json!({ "name": "Taken", "email": "taken@example.com" })),
            2 => self.get(&format!("customers/{nobody}")),
            // A single statement, and a transaction that stores its response.
            3 => self.with_body("POST", "leads", "", &new()),
            4 => {
                let body = new();
                let key = format!("Idempotency-Key: {}\r\n", body["email"].as_str().unwrap_or_default());
                self.with_body("POST", "leads", &key, &body)
            }
            5 => {
                let update = self.updates.fetch_add(1, Relaxed);
                self.with_body("PUT", &format!("leads/{}", self.updated), "", &json!({ "notes": update.to_string() }))
            }
            // Reads that take a while.
            6 => self.get("leads?count=true&limit=500&q=lead"),
            7 => self.get("reports/leads"),
            8 => self.get("leads"),
            _ => self.get("leads/export"),
        }
    }

    fn get(&self, path: &str) -> String {
        self.head("GET", path, "")
    }

    fn with_body(&self, method: &str, path: &str, headers: &str, body: &Value) -> String {
        let body = body.to_string();
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{headers}", body.len());
        self.head(method, path, &headers) + &body
    }

    fn head(&self, method: &str, path: &str, headers: &str) -> String {
        format!(
            "{method} /dev/crm/{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{headers}\r\n",
            self.address, self.key
        )
    }
}
