//! A client that keeps a copy of all records by following the feed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

/// A page without a response in this time fails the run.
const PATIENCE: Duration = Duration::from_secs(60);
/// The lists of the kinds of records.
const KINDS: [(&str, &str); 3] =
    [("lead", "leads"), ("customer", "customers"), ("lead_interaction", "leads/interactions/export?format=jsonl")];
/// How many records are read at once.
const READ_AT_ONCE: usize = 100;

/// The copy, and where the client is in the feed.
pub struct Follower {
    client: Client,
    url: String,
    key: String,
    cursor: String,
    last: i64,
    seen: HashSet<String>,
    copy: HashMap<(String, String), Value>,
    broken: Vec<String>,
}

impl Follower {
    /// Begins at the end of the feed, with an empty copy.
    pub async fn begin(api_url: &str, key: &str) -> Result<Self> {
        let mut follower = Self {
            client: Client::new(),
            url: format!("{api_url}/dev/crm"),
            key: key.to_owned(),
            cursor: String::new(),
            last: 0,
            seen: HashSet::new(),
            copy: HashMap::new(),
            broken: Vec::new(),
        };
        let response = follower.insist("events?after=latest").await?;
        follower.cursor = next_cursor(&response)?;
        Ok(follower)
    }

    /// How many events it has seen.
    pub fn events(&self) -> usize {
        self.seen.len()
    }

    /// What it found wrong with the feed.
    pub fn broken(&self) -> Vec<String> {
        self.broken.clone()
    }

    /// Follows the feed until the writers have ended.
    pub async fn follow_until(&mut self, has_ended: &AtomicBool) -> Result<()> {
        while !has_ended.load(Relaxed) {
            if !self.page().await? {
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Reads what is left of the feed.
    pub async fn catch_up(&mut self) -> Result<()> {
        while self.page().await? {}
        Ok(())
    }

    /// Reads a page. Returns whether there was anything.
    async fn page(&mut self) -> Result<bool> {
        let response = self.insist(&format!("events?limit=1000&after={}", self.cursor)).await?;
        let (next, has_more) = (next_cursor(&response)?, response.headers().contains_key("link"));
        let Ok(events) = response.json::<Vec<Value>>().await else { return Ok(true) };
        for event in &events {
            self.take(event).await?;
        }
        self.cursor = next;
        Ok(has_more || !events.is_empty())
    }

    async fn take(&mut self, event: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let cursor = event["cursor"].as_i64().unwrap_or_default();
        if cursor <= self.last || !self.seen.insert(text(&event["id"])) {
            self.broken.push(format!("the event {} came out of order or again", event["id"]));
        }
        self.last = cursor;
        let (event_type, subject) = (text(&event["type"]), &event["subject"]);
        let record = (text(&subject["type"]), text(&subject["id"]));
        match event_type.rsplit_once('.').unwrap_or_default() {
            ("job", "changed") => self.read_job(&record.1).await,
            (kind, action) if KINDS.iter().any(|(known, _)| *known == kind) => {
                match action {
                    "deleted" => self.copy.remove(&record),
                    _ => self.copy.insert(record, event["data"].clone()),
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads the records that a job wrote.
    async fn read_job(&mut self, job_id: &str) -> Result<()> {
        let mut path = format!("jobs/{job_id}/records?limit=1000");
        loop {
            let response = self.insist(&path).await?;
            let next = next_cursor(&response).ok();
            let written: Vec<Value> = response.json().await?;
            let leads: Vec<&str> = written
                .iter()
                .filter(|record| record["type"] == "lead")
                .filter_map(|record| record["id"].as_str())
                .collect();
            for ids in leads.chunks(READ_AT_ONCE) {
                self.read_leads(ids).await?;
            }
            match next {
                Some(next) => path = format!("jobs/{job_id}/records?limit=1000&cursor={next}"),
                None => return Ok(()),
            }
        }
    }

    async fn read_leads(&mut self, ids: &[&str]) -> Result<()> {
        let found = self.insist(&format!("leads?limit={READ_AT_ONCE}&id={}", ids.join(","))).await?;
        let found: Vec<Value> = found.json().await?;
        for id in ids {
            self.copy.remove(&("lead".to_owned(), (*id).to_owned()));
        }
        for lead in found {
            self.copy.insert(("lead".to_owned(), lead["id"].as_str().unwrap_or_default().to_owned()), lead);
        }
        Ok(())
    }

    /// Compares the copy with what the API lists.
    pub async fn compare(&self) -> Result<Vec<String>> {
        let mut broken = Vec::new();
        for (kind, path) in KINDS {
            let text = self.insist(path).await?.text().await?;
            let listed: Vec<Value> = match text.starts_with('[') {
                true => serde_json::from_str(&text)?,
                false => text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?,
            };
            let listed: HashMap<&str, &Value> =
                listed.iter().filter_map(|record| Some((record["id"].as_str()?, record))).collect();
            let copied: HashMap<&str, &Value> = self
                .copy
                .iter()
                .filter(|((known, _), _)| known == kind)
                .map(|((_, id), data)| (id.as_str(), data))
                .collect();
            let missing = listed.keys().filter(|id| !copied.contains_key(*id)).count();
            let extra = copied.keys().filter(|id| !listed.contains_key(*id)).count();
            // A file leaves out what cannot be imported.
            let differs = |id: &str, record: &Value| {
                copied.get(id).is_some_and(|copied| copied["updated_at"] != record["updated_at"])
            };
            let different = listed.iter().filter(|(id, record)| differs(id, record)).count();
            println!("{kind}: {} records, {missing} missing, {extra} extra, {different} different", listed.len());
            if missing + extra + different > 0 {
                broken.push(format!("{kind}: {missing} missing, {extra} extra and {different} different in the copy"));
            }
        }
        Ok(broken)
    }

    /// Repeats a request until it succeeds.
    async fn insist(&self, path: &str) -> Result<Response> {
        let began = Instant::now();
        loop {
            let sent = self.client.get(format!("{}/{path}", self.url)).bearer_auth(&self.key).send().await;
            match sent {
                Ok(response) if response.status() == StatusCode::OK => return Ok(response),
                Ok(response) if response.status().is_client_error() => {
                    let status = response.status();
                    anyhow::bail!("{path} returned {status}: {}", response.text().await.unwrap_or_default());
                }
                _ => {}
            }
            ensure!(began.elapsed() < PATIENCE, "{path} was not answered");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn next_cursor(response: &Response) -> Result<String> {
    let cursor = response.headers().get("x-next-cursor").context("the response has no cursor")?;
    Ok(cursor.to_str()?.to_owned())
}
