//! Successful responses.

use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::accounts::idempotency::Kept;
use shared::error::Error;
use shared::jobs;
use shared::queue::Job;
use shared::values::etag::{self, Tagged};

/// A successful response. It may be stored for an idempotency key, so it consists of plain parts.
#[derive(Debug, Clone)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    /// The body that is stored for an idempotency key, if it is not this one: secrets are not stored.
    kept_body: Option<Vec<u8>>,
    /// The job that the request created, or that does the same already.
    pub(super) accepted: Option<Box<Job>>,
    /// The queue whose workers are notified after the commit.
    pub notify: Option<&'static str>,
}

impl Reply {
    /// `200` with JSON.
    ///
    /// # Errors
    /// [`Error::Internal`] when serialization fails.
    pub fn json(body: &impl Serialize) -> shared::Result<Self> {
        Ok(Self::of_json(serde_json::to_vec(body)?))
    }

    /// `200` with serialized JSON.
    pub fn of_json(body: Vec<u8>) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self { status: StatusCode::OK, headers, body, kept_body: None, accepted: None, notify: None }
    }

    /// `200` with a record and its `ETag`.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn record<T: Tagged>(record: &T) -> shared::Result<Self> {
        let reply = Self::json(record)?;
        let tag = etag::of::<T>(&reply.body)?;
        reply.header(ETAG, tag)
    }

    /// `201` with a record, its `ETag` and its `Location`.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn created(location: String, record: &impl Tagged) -> shared::Result<Self> {
        Ok(Self::record(record)?.located(location)?.status(StatusCode::CREATED))
    }

    /// `202` with a job and its `Location`. Its workers are notified after the commit.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub fn accepted(job: &Job) -> shared::Result<Self> {
        let location = format!("/dev/crm/jobs/{}", job.id);
        let reply = Self::json(job)?.located(location)?.status(StatusCode::ACCEPTED);
        Ok(Self { accepted: Some(job.clone().into()), notify: jobs::queue_of(&job.kind), ..reply })
    }

    /// `204`.
    pub fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            headers: Vec::new(),
            body: Vec::new(),
            kept_body: None,
            accepted: None,
            notify: None,
        }
    }

    /// Replaces the status.
    pub fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Adds a `Location`.
    ///
    /// # Errors
    /// [`Error::Internal`] for a location that is not a valid header value.
    pub fn located(self, location: String) -> shared::Result<Self> {
        self.header(LOCATION, location)
    }

    /// Sets the queue whose workers are notified after the commit.
    pub fn notifying(self, queue: &'static str) -> Self {
        Self { notify: Some(queue), ..self }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// [`Error::Internal`] for a value that no header can have.
    pub fn header(mut self, name: HeaderName, value: String) -> shared::Result<Self> {
        let value = HeaderValue::try_from(value).map_err(|error| Error::Internal(error.into()))?;
        self.headers.push((name, value));
        Ok(self)
    }

    /// Stores the response with `null` in place of the secret in this field: who repeats the request does not get
    /// it again.
    ///
    /// # Errors
    /// [`Error::Internal`] for a body that is not a JSON object.
    pub fn keeping_secret(mut self, field: &str) -> shared::Result<Self> {
        let mut body: Map<String, Value> = serde_json::from_slice(&self.body)?;
        body.insert(field.to_owned(), Value::Null);
        self.kept_body = Some(serde_json::to_vec(&body)?);
        Ok(self)
    }

    /// Converts the response for storage.
    pub fn to_kept(&self) -> Kept {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = self.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Kept { status: self.status.as_u16(), headers, body: self.kept_body.as_ref().unwrap_or(&self.body).clone() }
    }

    /// Restores a stored response.
    pub fn from_kept(kept: Kept) -> Self {
        let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
        let header = |(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?));
        Self {
            status,
            headers: kept.headers.into_iter().filter_map(header).collect(),
            body: kept.body,
            kept_body: None,
            accepted: None,
            notify: None,
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        // Axum sets a content type for bytes.
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().extend(self.headers);
        response
    }
}
