//! The daily snapshot: all customers are scored anew, and their scores are kept.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Band, Health};
use crate::error::{Error, Result};
use crate::insight::scoring::{self, Day, State};
use crate::platform::db;
use crate::queue::{self, Job, NewJob, Payload, Progress};

/// The customers that are scored, and those that are kept, in one transaction: about a second each.
const SCORED_PAGE: i64 = 5_000;
const KEPT_PAGE: i64 = 20_000;
/// For how many days snapshots are kept: a year can be compared with the one before.
const KEPT_DAYS: i32 = 400;
/// How long a step waits for others who write scores; they take less.
const PATIENCE_MS: u32 = 10_000;

/// Scores all customers and keeps the scores of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHealth {
    /// Scores and counts, and keeps nothing.
    pub dry_run: bool,
}

impl Payload for SnapshotHealth {
    const KIND: &'static str = "snapshot_health";
    const QUEUE: &'static str = "workflows";

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

/// Enqueues a snapshot, or returns the one that is under way. The caller owns the transaction, and rings
/// for the queue after its commit.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn start(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request_id: Option<&str>,
    dry_run: bool,
) -> Result<Job> {
    let mut job = NewJob::new(workspace_id, &SnapshotHealth { dry_run })?;
    job = job.dedupe_key(if dry_run { "snapshot_health:dry" } else { "snapshot_health" });
    if let Some(request_id) = request_id {
        job = job.request_id(request_id);
    }
    queue::enqueue(connection, job).await
}

/// How far a snapshot is: what its job records with each step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Walk {
    date: NaiveDate,
    /// Customers so far, and how many are in each band.
    customers: i64,
    healthy: i64,
    watch: i64,
    at_risk: i64,
    unknown: i64,
    dry_run: bool,
    /// How many scores are kept so far, of how many customers.
    kept: i64,
    total: i64,
    phase: Phase,
    /// The customer behind whom the phase goes on.
    after: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// Customers are scored.
    Score,
    /// Segments follow the new cuts, and the scores are kept.
    Keep,
    Done,
}

/// The walk as its job last recorded it, or a new one of today: a day that is over is not scored any more.
pub fn standing_walk(job: &Job, payload: SnapshotHealth) -> Walk {
    let date = Day::today().0;
    let recorded = job.result.clone().and_then(|result| serde_json::from_value(result).ok());
    recorded.filter(|walk: &Walk| walk.date == date).unwrap_or(Walk {
        date,
        customers: 0,
        healthy: 0,
        watch: 0,
        at_risk: 0,
        unknown: 0,
        dry_run: payload.dry_run,
        kept: 0,
        total: 0,
        phase: Phase::Score,
        after: Uuid::nil(),
    })
}

impl Walk {
    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// How far it is, in customers: each is scored, and then kept.
    pub fn progress(&self) -> Progress {
        let passes = if self.dry_run { 1 } else { 2 };
        Progress { done: (self.customers + self.kept) / passes, total: Some(self.total.max(self.customers)) }
    }

    /// What it did, for callers.
    pub fn result(&self) -> Value {
        json!({
            "date": self.date, "customers": self.customers, "healthy": self.healthy, "watch": self.watch,
            "at_risk": self.at_risk, "unknown": self.unknown, "kept": self.kept, "dry_run": self.dry_run,
        })
    }

    fn count(&mut self, health: &Health) {
        self.customers += 1;
        match health.band {
            Some(Band::Healthy) => self.healthy += 1,
            Some(Band::Watch) => self.watch += 1,
            Some(Band::AtRisk) => self.at_risk += 1,
            None => self.unknown += 1,
        }
    }
}

/// Does the next step of a snapshot in the transaction of a step of its job.
///
/// # Errors
/// [`Error::Repeat`] if others write scores for longer than they should; [`Error::Unavailable`] when the
/// database is away.
pub async fn snapshot_step(connection: &mut PgConnection, workspace_id: Uuid, walk: &mut Walk) -> Result<()> {
    if !walk.dry_run && !scoring::lock(connection, workspace_id, PATIENCE_MS).await? {
        return Err(Error::Repeat("the scores are being written".into()));
    }
    match walk.phase {
        Phase::Score => score(connection, workspace_id, walk).await,
        Phase::Keep => keep(connection, workspace_id, walk).await,
        Phase::Done => Ok(()),
    }
}

async fn score(connection: &mut PgConnection, workspace_id: Uuid, walk: &mut Walk) -> Result<()> {
    if walk.customers == 0 {
        walk.total = sqlx::query_scalar("SELECT count(*) FROM customers WHERE workspace_id = $1")
            .bind(workspace_id)
            .fetch_one(&mut *connection)
            .await?;
    }
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM customers WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(workspace_id)
            .bind(walk.after)
            .bind(SCORED_PAGE)
            .fetch_all(&mut *connection)
            .await?;
    let day = Day(walk.date);
    if walk.dry_run {
        let facts = scoring::facts(connection, workspace_id, &ids, day).await?;
        facts.iter().for_each(|facts| walk.count(&Health::of(facts)));
    } else {
        let scored = scoring::score_page(connection, workspace_id, &ids, day).await?;
        scored.iter().for_each(|(_, health)| walk.count(health));
    }
    match ids.last() {
        Some(last) => walk.after = *last,
        None if walk.dry_run => walk.phase = Phase::Done,
        None => {
            scoring::start_thresholds(connection, workspace_id, day).await?;
            (walk.phase, walk.after) = (Phase::Keep, Uuid::nil());
        }
    }
    Ok(())
}

async fn keep(connection: &mut PgConnection, workspace_id: Uuid, walk: &mut Walk) -> Result<()> {
    let state = State::read(connection, workspace_id).await?.ok_or(Error::NotFound)?;
    let last = scoring::last_of_page(connection, workspace_id, walk.after, KEPT_PAGE).await?;
    let page = (walk.after, last.unwrap_or(Uuid::max()));
    scoring::reclassify(connection, workspace_id, &state.cuts, page).await?;
    let kept = scoring::snapshot_page(connection, workspace_id, page, Day(walk.date)).await?;
    walk.kept += i64::try_from(kept).unwrap_or(i64::MAX);
    walk.after = page.1;
    if last.is_none() {
        finish(connection, workspace_id, walk.date).await?;
        walk.phase = Phase::Done;
    }
    Ok(())
}

/// Keeps how many customers are in each segment and in each band, and says that all are of the day.
async fn finish(connection: &mut PgConnection, workspace_id: Uuid, date: NaiveDate) -> Result<()> {
    for statement in [
        "DELETE FROM segment_snapshots WHERE workspace_id = $1 AND date = $2",
        "INSERT INTO segment_snapshots (workspace_id, date, segment, customers)
         SELECT $1, $2, segment, sum(customers) FROM score_counts WHERE workspace_id = $1
         GROUP BY segment HAVING sum(customers) > 0",
        "DELETE FROM band_snapshots WHERE workspace_id = $1 AND date = $2",
        "INSERT INTO band_snapshots (workspace_id, date, band, customers, health)
         SELECT $1, $2, coalesce(band, 'unknown'), sum(customers), sum(health) FROM score_counts WHERE workspace_id = $1
         GROUP BY band HAVING sum(customers) > 0",
    ] {
        sqlx::query(statement).bind(workspace_id).bind(date).execute(&mut *connection).await?;
    }
    sqlx::query(
        "UPDATE score_states SET date = $2, cut_after = NULL, snapshot_at = now(), snapshot_date = $2,
             refreshed_at = coalesce(refreshed_at, $3)
         WHERE workspace_id = $1",
    )
    .bind(workspace_id)
    .bind(date)
    .bind(db::now())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes up to `limit` snapshots of a workspace that are older than they are kept; returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid, limit: i64) -> Result<u64> {
    let pruned = sqlx::query(
        "DELETE FROM health_snapshots WHERE workspace_id = $1 AND ctid = ANY (ARRAY(
             SELECT ctid FROM health_snapshots WHERE workspace_id = $1 AND date < current_date - $2::integer LIMIT $3
         ))",
    )
    .bind(workspace_id)
    .bind(KEPT_DAYS)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(pruned.rows_affected())
}
