//! Clients that create, change, convert and delete leads, and repeat what was not answered.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rand::RngExt;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

/// A request without a response in this time fails the run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Concurrent writers.
pub struct Writers {
    client: Client,
    url: String,
    key: String,
    writes: usize,
    done: AtomicUsize,
    repeated: AtomicUsize,
}

impl Writers {
    pub fn new(api_url: &str, key: &str, writes: usize) -> Self {
        Self {
            client: Client::new(),
            url: format!("{api_url}/dev/crm/leads"),
            key: key.to_owned(),
            writes,
            done: AtomicUsize::new(0),
            repeated: AtomicUsize::new(0),
        }
    }

    /// How many writes were done.
    pub fn done(&self) -> usize {
        self.done.load(Relaxed)
    }

    /// How many requests were repeated.
    pub fn repeated(&self) -> usize {
        self.repeated.load(Relaxed)
    }

    /// Writes one after another, until all writers have done enough. A writer has its own leads.
    pub async fn write(&self, number: usize) -> Result<()> {
        let mut leads: Vec<String> = Vec::new();
        loop {
            let write = self.done.fetch_add(1, Relaxed);
            if write >= self.writes {
                return Ok(());
            }
            let choice = rand::rng().random_range(0..100);
            let lead = (!leads.is_empty()).then(|| rand::rng().random_range(0..leads.len()));
            match lead {
                Some(lead) if choice < 35 => {
                    let body = json!({ "score": rand::rng().random_range(0..100) });
                    self.insist(Method::PUT, &format!("/{}", leads[lead]), Some(body)).await?;
                }
                Some(lead) if choice < 50 => {
                    let body = json!({ "type": "call", "notes": format!("write {write}") });
                    self.insist(Method::POST, &format!("/{}/interactions", leads[lead]), Some(body)).await?;
                }
                Some(lead) if choice < 55 => {
                    self.insist(Method::POST, &format!("/{}/convert", leads[lead]), None).await?;
                }
                Some(lead) if choice < 65 => {
                    self.insist(Method::DELETE, &format!("/{}", leads.swap_remove(lead)), None).await?;
                }
                _ => {
                    let body = json!({ "name": "Writer", "email": format!("w{number}-{write}@example.com") });
                    let created = self.insist(Method::POST, "", Some(body)).await?;
                    leads.extend(created["id"].as_str().map(str::to_owned));
                }
            }
        }
    }

    /// Imports a file, half of whose leads may be those of the writers; returns the id of the job.
    pub async fn import(&self, rows: usize) -> Result<Uuid> {
        let (done, mut csv) = (self.done().min(self.writes), "name,email,company\n".to_owned());
        for row in 0..rows {
            let email = match row % 2 {
                0 => format!("w{}-{}", rand::rng().random_range(0..16), rand::rng().random_range(0..=done)),
                _ => format!("imported{done}-{row}"),
            };
            csv += &format!("Imported,{email}@example.com,Acme {done}\n");
        }
        loop {
            let request = self.client.post(format!("{}/import?on_conflict=update", self.url)).bearer_auth(&self.key);
            let form = Form::new().part("file", Part::text(csv.clone()).file_name("leads.csv"));
            if let Ok(response) = request.multipart(form).send().await {
                ensure!(!response.status().is_client_error(), "an upload returned {}", response.status());
                if let Ok(job) = response.json::<Value>().await
                    && let Some(id) = job["id"].as_str()
                {
                    return Ok(id.parse()?);
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Repeats a request until it is answered. A repeated one may find its own first effect.
    async fn insist(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let began = Instant::now();
        loop {
            let request = self.client.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.key);
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(response.json().await.unwrap_or_default()),
                Ok(response) if response.status().is_client_error() => {
                    let status = response.status();
                    let is_known = [StatusCode::CONFLICT, StatusCode::NOT_FOUND].contains(&status);
                    // A lead may be converted already, and a repeated request meets its own effect.
                    if !is_known {
                        bail!("{method} {path} returned {status}: {}", response.text().await.unwrap_or_default());
                    }
                    return Ok(Value::Null);
                }
                _ => {}
            }
            ensure!(began.elapsed() < PATIENCE, "{method} {path} was not answered");
            self.repeated.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(rand::rng().random_range(5..50))).await;
        }
    }
}
