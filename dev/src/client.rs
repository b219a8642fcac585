//! A client for the few API requests of the local stack.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

/// An API and an API key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Client {
    /// Creates a client of the API at `url`.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        Self { http: reqwest::Client::new(), url: url.to_owned(), key: key.to_owned() }
    }

    /// A client of the same API with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// Waits until the API is ready.
    pub async fn wait_until_ready(&self) {
        let url = format!("{}/readyz", self.url);
        while !self.http.get(&url).send().await.is_ok_and(|response| response.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the key is valid.
    ///
    /// # Errors
    /// If the API does not respond.
    pub async fn opens(&self) -> Result<bool> {
        let response = self.http.get(self.path("leads?limit=1")).bearer_auth(&self.key).send().await?;
        Ok(response.status() != StatusCode::UNAUTHORIZED)
    }

    /// Whether the workspace has any leads.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn has_leads(&self) -> Result<bool> {
        let leads = self.json(self.http.get(self.path("leads?limit=1"))).await?;
        Ok(leads.as_array().is_some_and(|leads| !leads.is_empty()))
    }

    /// The job of the latest import of leads.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn latest_import(&self) -> Result<Option<Value>> {
        let jobs = self.json(self.http.get(self.path("jobs?kind=import_leads&limit=1"))).await?;
        Ok(jobs.get(0).cloned())
    }

    /// Reads a job.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn job(&self, id: &str) -> Result<Value> {
        self.json(self.http.get(self.path(&format!("jobs/{id}")))).await
    }

    /// Uploads a CSV file of `leads` or `customers`; returns the job that imports it.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn import(&self, records: &str, file: String) -> Result<Value> {
        let part = Part::text(file).file_name(format!("{records}.csv")).mime_str("text/csv")?;
        let form = Form::new().part("file", part);
        self.json(self.http.post(self.path(&format!("{records}/import"))).multipart(form)).await
    }

    /// Reads a path under `/dev/crm`.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.json(self.http.get(self.path(path))).await
    }

    /// Posts a body to a path under `/dev/crm`. Repeating the request with the same key has no further effect.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn post(&self, path: &str, idempotency_key: &str, body: &Value) -> Result<Value> {
        self.json(self.http.post(self.path(path)).header("Idempotency-Key", idempotency_key).json(body)).await
    }

    /// Updates the resource at a path under `/dev/crm`.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.http.put(self.path(path)).json(body)).await
    }

    /// Deletes the resource at a path under `/dev/crm`.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let response = self.http.delete(self.path(path)).bearer_auth(&self.key).send().await?;
        response.error_for_status().map(drop).with_context(|| format!("{path} cannot be deleted"))
    }

    fn path(&self, path: &str) -> String {
        format!("{}/dev/crm/{path}", self.url)
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value> {
        let response: Response = request.bearer_auth(&self.key).send().await.context("crm-api does not respond")?;
        let (status, path) = (response.status(), response.url().path().to_owned());
        let body = response.text().await.with_context(|| format!("the response of {path} ended unexpectedly"))?;
        if !status.is_success() {
            bail!("{path} returned {status}: {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("the response of {path} is not valid JSON"))
    }
}
