//! Storing jobs, in the transaction of what they refer to.

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::job::{Job, Payload, Subject, columns};
use crate::error::Result;
use crate::platform::trace;

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    id: Uuid,
    workspace_id: Uuid,
    kind: &'static str,
    queue: &'static str,
    payload: Value,
    dedupe_key: Option<String>,
    subject: Option<Subject>,
    total: Option<i64>,
    delay: Duration,
    request_id: Option<String>,
}

impl NewJob {
    /// A job of the payload's kind, due at once.
    pub fn new<P: Payload>(workspace_id: Uuid, payload: &P) -> Result<Self> {
        Ok(Self {
            id: Uuid::now_v7(),
            workspace_id,
            kind: P::KIND,
            queue: P::QUEUE,
            payload: serde_json::to_value(payload)?,
            dedupe_key: None,
            subject: None,
            total: None,
            delay: Duration::ZERO,
            request_id: None,
        })
    }

    /// A job for the whole workspace. One such job with the same parameters is active at a time, plus one dry run.
    pub fn run<P: Payload>(workspace_id: Uuid, payload: &P) -> Result<Self> {
        let job = Self::new(workspace_id, payload)?;
        let mut key = P::KIND.to_owned();
        if payload.is_dry_run() {
            key.push_str(":dry");
        }
        let mut parameters = job.payload.as_object().cloned().unwrap_or_default();
        parameters.remove("dry_run");
        if !parameters.is_empty() {
            let hash = Sha256::digest(serde_json::to_vec(&parameters)?);
            key.extend(std::iter::once(":".to_owned()).chain(hash.iter().map(|byte| format!("{byte:02x}"))));
        }
        Ok(job.dedupe_key(key))
    }

    /// A job of its own, even if one with the same parameters is active. It takes its turn like the others.
    pub fn apart(mut self) -> Self {
        if let Some(key) = &mut self.dedupe_key {
            key.push_str(&format!(":{}", self.id));
        }
        self
    }

    /// Sets the id, for callers that already stored it in the records the job refers to.
    pub fn id(self, id: Uuid) -> Self {
        Self { id, ..self }
    }

    /// At most one unfinished job of the workspace has this key.
    pub fn dedupe_key(self, key: impl Into<String>) -> Self {
        Self { dedupe_key: Some(key.into()), ..self }
    }

    /// The record that the job is about.
    pub fn subject(self, kind: impl Into<String>, id: Uuid) -> Self {
        Self { subject: Some(Subject { kind: kind.into(), id }), ..self }
    }

    /// How many units of work it has.
    pub fn total(self, total: i64) -> Self {
        Self { total: Some(total), ..self }
    }

    /// Makes the job due after a delay.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The request that caused the job, if any, for the worker's logs.
    pub fn request_id(self, request_id: Option<&str>) -> Self {
        Self { request_id: request_id.map(str::to_owned), ..self }
    }
}

/// Stores a job in the caller's transaction, and returns it. It continues the present trace. If an unfinished job of the workspace
/// has the same dedupe key, that job is returned instead. After the commit, the caller notifies the
/// queue through the [`Notifier`](crate::queue::notify::Notifier).
pub async fn enqueue(connection: &mut PgConnection, job: NewJob) -> Result<Job> {
    loop {
        let inserted = sqlx::query_as(concat!(
            "INSERT INTO jobs (id, workspace_id, queue, kind, payload, dedupe_key, subject_type, subject_id,
                 progress_total, run_at, request_id, trace_context)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10), $11, $12)
             ON CONFLICT (workspace_id, dedupe_key) WHERE dedupe_key IS NOT NULL AND finished_at IS NULL DO NOTHING
             RETURNING ",
            columns!()
        ))
        .bind(job.id)
        .bind(job.workspace_id)
        .bind(job.queue)
        .bind(job.kind)
        .bind(&job.payload)
        .bind(&job.dedupe_key)
        .bind(job.subject.as_ref().map(|subject| &subject.kind))
        .bind(job.subject.as_ref().map(|subject| subject.id))
        .bind(job.total)
        .bind(job.delay.as_secs_f64())
        .bind(&job.request_id)
        .bind(trace::stored())
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(inserted) = inserted {
            return Ok(inserted);
        }
        let existing = sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM jobs WHERE workspace_id = $1 AND dedupe_key = $2 AND finished_at IS NULL"
        ))
        .bind(job.workspace_id)
        .bind(&job.dedupe_key)
        .fetch_optional(&mut *connection)
        .await?;
        // No row: the existing job ended between the two statements, and the key is free now.
        if let Some(existing) = existing {
            return Ok(existing);
        }
    }
}

/// Stores the job of a run over a whole workspace, or returns the active one with the same parameters.
pub async fn start_run<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request_id: Option<&str>,
    payload: &P,
) -> Result<Job> {
    enqueue(connection, NewJob::run(workspace_id, payload)?.request_id(request_id)).await
}

/// Stores many jobs of one kind without dedupe keys in one statement, and returns their ids in the
/// order of the payloads.
pub async fn enqueue_all<P: Payload>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    payloads: &[P],
) -> Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = payloads.iter().map(|_| Uuid::now_v7()).collect();
    let payloads: Vec<Json<&P>> = payloads.iter().map(Json).collect();
    sqlx::query(
        "INSERT INTO jobs (workspace_id, id, queue, kind, payload, trace_context)
         SELECT $1, id, $2, $3, payload, $6 FROM unnest($4::uuid[], $5::jsonb[]) AS new (id, payload)",
    )
    .bind(workspace_id)
    .bind(P::QUEUE)
    .bind(P::KIND)
    .bind(&ids)
    .bind(payloads)
    .bind(trace::stored())
    .execute(connection)
    .await?;
    Ok(ids)
}
