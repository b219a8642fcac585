//! The queues of all workspaces: how much waits, and how fast it is worked on.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::pauses;
use crate::accounts::workspaces;
use crate::error::Result;
use crate::jobs::KINDS;
use crate::platform::db;
use crate::queue::QUEUES;
use crate::{mail, webhooks};

/// How much waits in a queue, or of a kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Load {
    /// The queue, or the kind of job.
    pub name: String,
    /// The queue of a kind; `null` for a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// What is due and waits for a worker: jobs, emails or webhooks.
    pub due: i64,
    /// What waits for its due time, such as a retry; `null` for webhooks.
    pub future: Option<i64>,
    /// What workers are working on; `null` for webhooks.
    pub running: Option<i64>,
    /// For how many seconds the oldest has been due; `null` if nothing is due.
    pub oldest_due_s: Option<f64>,
    /// How many jobs ended in the last minute; `null` for emails and webhooks.
    pub per_minute: Option<i64>,
    /// In how many seconds everything due is done at that rate; `null` if that is unknown.
    pub eta_s: Option<f64>,
    /// Since when it is paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// Why it is paused.
    pub pause_reason: Option<String>,
}

/// Unfinished jobs of a queue and a kind.
#[derive(Debug, FromRow)]
struct Depth {
    queue: String,
    kind: String,
    due: i64,
    future: i64,
    running: i64,
    oldest_due_s: Option<f64>,
}

/// The statement of [`depths`].
const DEPTHS: &str = "
    SELECT queue, kind, count(*) FILTER (WHERE status = 'queued' AND run_at <= now()) AS due,
        count(*) FILTER (WHERE status = 'queued' AND run_at > now()) AS future,
        count(*) FILTER (WHERE status = 'running') AS running,
        extract(epoch FROM now() - min(run_at) FILTER (WHERE status = 'queued' AND run_at <= now()))::float8 AS oldest_due_s
    FROM (SELECT queue, kind, status, run_at FROM jobs WHERE status = 'queued' AND crashes = 0
          UNION ALL
          SELECT queue, kind, status, run_at FROM jobs WHERE status = 'queued' AND crashes > 0
          UNION ALL
          SELECT queue, kind, status, run_at FROM jobs WHERE lease_until IS NOT NULL) AS unfinished
    GROUP BY queue, kind";

async fn depths(connection: &mut PgConnection) -> Result<Vec<Depth>> {
    Ok(sqlx::query_as(DEPTHS).fetch_all(connection).await?)
}

/// The jobs of all workspaces that ended in the last minute, by queue and kind: those of their events, whose ids rise
/// with time.
async fn ended(connection: &mut PgConnection) -> Result<BTreeMap<(String, String), i64>> {
    let now = db::now();
    let at = |time: DateTime<Utc>| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix_time(seconds, 0, 0, 0))
    };
    let (first, last) = (at(now - TimeDelta::minutes(1)), at(now + TimeDelta::minutes(1)));
    let mut ended = BTreeMap::new();
    for workspace_id in workspaces::ids(connection).await? {
        let counted: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT jobs.queue, jobs.kind, count(*) FROM audit_log
             JOIN jobs ON jobs.workspace_id = $1 AND jobs.id = audit_log.subject_id
             WHERE audit_log.workspace_id = $1 AND audit_log.id BETWEEN $2 AND $3
                 AND audit_log.type IN ('job.succeeded', 'job.failed', 'job.cancelled')
             GROUP BY jobs.queue, jobs.kind",
        )
        .bind(workspace_id)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *connection)
        .await?;
        for (queue, kind, count) in counted {
            *ended.entry((queue, kind)).or_default() += count;
        }
    }
    Ok(ended)
}

impl Load {
    fn of_jobs(name: &str, depths: &[&Depth], per_minute: i64) -> Self {
        let due = depths.iter().map(|depth| depth.due).sum();
        Self {
            name: name.to_owned(),
            due,
            future: Some(depths.iter().map(|depth| depth.future).sum()),
            running: Some(depths.iter().map(|depth| depth.running).sum()),
            oldest_due_s: depths.iter().filter_map(|depth| depth.oldest_due_s).reduce(f64::max),
            per_minute: Some(per_minute),
            eta_s: (due == 0 || per_minute > 0).then(|| due as f64 * 60.0 / per_minute.max(1) as f64),
            ..Self::default()
        }
    }

    fn paused(mut self, target: &str, pauses: &[pauses::Pause]) -> Self {
        if let Some(pause) = pauses.iter().find(|pause| pause.target == target && pause.name == self.name) {
            self.paused_since = Some(pause.created_at);
            self.pause_reason.clone_from(&pause.reason);
        }
        self
    }
}

/// All queues.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Load>> {
    let (depths, ended) = (depths(connection).await?, ended(connection).await?);
    let pauses = pauses::list(connection).await?;
    let known = QUEUES.iter().copied().chain(depths.iter().map(|depth| depth.queue.as_str()));
    let mut seen = HashSet::new();
    let mut loads = Vec::new();
    for name in known.filter(|name| seen.insert(*name)) {
        let load = match name {
            mail::QUEUE => emails(connection).await?,
            webhooks::QUEUE => {
                let depth = webhooks::depth(connection).await?;
                let oldest_due_s = (depth.due > 0).then_some(depth.oldest_due_s);
                Load { name: name.to_owned(), due: depth.due, oldest_due_s, ..Load::default() }
            }
            name => {
                let own: Vec<&Depth> = depths.iter().filter(|depth| depth.queue == name).collect();
                let per_minute = ended.iter().filter(|((queue, _), _)| queue == name).map(|(_, count)| count).sum();
                Load::of_jobs(name, &own, per_minute)
            }
        };
        loads.push(load.paused("queue", &pauses));
    }
    Ok(loads)
}

async fn emails(connection: &mut PgConnection) -> Result<Load> {
    let (due, future, running, oldest_due_s) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE lease_until IS NULL AND run_at <= now()), count(*) FILTER (WHERE lease_until IS NULL AND run_at > now()),
             count(*) FILTER (WHERE lease_until IS NOT NULL),
             extract(epoch FROM now() - min(run_at) FILTER (WHERE lease_until IS NULL AND run_at <= now()))::float8
         FROM (SELECT run_at, lease_until FROM emails WHERE state IN ('queued', 'deferred') AND lease_until IS NULL
               UNION ALL
               SELECT run_at, lease_until FROM emails WHERE lease_until IS NOT NULL) AS waiting",
    )
    .fetch_one(connection)
    .await?;
    Ok(Load {
        name: mail::QUEUE.to_owned(),
        due,
        future: Some(future),
        running: Some(running),
        oldest_due_s,
        ..Load::default()
    })
}

/// All kinds of jobs.
pub async fn kinds(connection: &mut PgConnection) -> Result<Vec<Load>> {
    let (depths, ended) = (depths(connection).await?, ended(connection).await?);
    let pauses = pauses::list(connection).await?;
    let known = KINDS.iter().map(|kind| (kind.name, kind.queue));
    let unknown = depths.iter().map(|depth| (depth.kind.as_str(), depth.queue.as_str()));
    let mut seen = HashSet::new();
    let mut loads = Vec::new();
    for (name, queue) in known.chain(unknown).filter(|(name, _)| seen.insert(*name)) {
        let own: Vec<&Depth> = depths.iter().filter(|depth| depth.kind == name).collect();
        let per_minute = ended.iter().filter(|((_, kind), _)| kind == name).map(|(_, count)| count).sum();
        let load = Load { queue: Some(queue.to_owned()), ..Load::of_jobs(name, &own, per_minute) };
        loads.push(load.paused("kind", &pauses));
    }
    Ok(loads)
}
