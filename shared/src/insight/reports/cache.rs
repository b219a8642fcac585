//! How callers share reports that take long to compute.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{Compared, Report};
use crate::error::{Error, Result};
use crate::insight::request::Request;
use crate::platform::db::{Pool, Transaction};
use crate::values::Time;

/// The most reports that a process caches at a time: more different requests than people make.
const MAX_CACHED: usize = 1_000;
/// A report that was computed in less time is not cached: the next caller gets the latest data.
const LIVE: Duration = Duration::from_millis(200);
/// The age at which a cached report is no longer returned. It is less than a minute, so that no report is
/// older than a minute when it arrives.
const TOO_OLD: Duration = Duration::from_secs(57);
/// The longest interval at which a caller checks for the report that another process computes.
const PATIENCE: Duration = Duration::from_millis(50);

/// Returns a report as JSON, at most a minute old.
///
/// Callers in the process take turns. A waiting caller shares the previous caller's report if its
/// computation started after the request, so no caller waits for more than two computations. Waiting
/// callers hold no connection.
///
/// # Errors
/// Those of [`Report::compute`].
pub async fn cached<R: Report>(pool: &Pool, workspace_id: Uuid, report: R, request: Request) -> Result<Box<RawValue>> {
    let asked = Arc::new(Asked { workspace_id, report, request });
    let (asked_at, turns) = (Instant::now(), asked.turns());
    if let Some(kept) = asked.kept(&mut *pool.acquire().await?).await? {
        if kept.is_aging() {
            refresh_in_background(pool.clone(), asked);
        }
        return Ok(kept.answer.0);
    }
    let turn = turns.lock_owned().await;
    if let Some(last) = turn.as_ref().filter(|last| last.started_at >= asked_at) {
        return Ok(last.answer.clone());
    }
    // Lets callers of the same moment ask before the computation starts, so that they share it.
    tokio::task::yield_now().await;
    // If the caller disconnects, its statement is cancelled and the next caller gets the turn.
    take_turn(pool, asked, turn).await
}

/// The last report that the process computed, as long as a caller waits who asked before.
struct Computed {
    started_at: Instant,
    answer: Box<RawValue>,
}

/// The holder of the lock computes the report; other callers wait in order.
type Turns = Arc<tokio::sync::Mutex<Option<Computed>>>;
type Turn = OwnedMutexGuard<Option<Computed>>;

/// Identifies a report within the process: the workspace, the report's name and its key.
type Name = (Uuid, &'static str, String);

/// The reports that are being computed or waited for in this process.
static TURNS: Mutex<BTreeMap<Name, Turns>> = Mutex::new(BTreeMap::new());

/// When this process last cached each report.
static CACHED: Mutex<BTreeMap<Name, Instant>> = Mutex::new(BTreeMap::new());

async fn take_turn<R: Report>(pool: &Pool, asked: Arc<Asked<R>>, mut turn: Turn) -> Result<Box<RawValue>> {
    let mut wait = Duration::from_millis(2);
    loop {
        let started_at = Instant::now();
        if let Some(answer) = refresh(pool, &asked).await? {
            *turn = Some(Computed { started_at, answer: answer.clone() });
            return Ok(answer);
        }
        // Another process is computing the report.
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(PATIENCE);
    }
}

/// Refreshes a cached report in the background, unless another caller is computing it.
fn refresh_in_background<R: Report>(pool: Pool, asked: Arc<Asked<R>>) {
    let Ok(turn) = asked.turns().try_lock_owned() else { return };
    tokio::spawn(async move {
        let _turn = turn;
        if let Err(error) = refresh(&pool, &asked).await {
            tracing::warn!(%error, report = R::NAME, "refreshing a report failed");
        }
    });
}

/// A requested report.
struct Asked<R> {
    workspace_id: Uuid,
    report: R,
    request: Request,
}

#[derive(FromRow)]
struct CachedReport {
    answer: Json<Box<RawValue>>,
    age_s: f64,
    took_ms: i32,
}

impl CachedReport {
    /// Whether a refresh must start now to finish before this report expires.
    fn is_aging(&self) -> bool {
        let took = f64::from(self.took_ms) / 1000.0;
        let latest = TOO_OLD.as_secs_f64() - 10.0 - 3.0 * took;
        self.age_s > latest.max(10.0)
    }
}

impl<R: Report> Asked<R> {
    /// The turns of this report. Drops those that no caller waits for any more.
    fn turns(&self) -> Turns {
        let mut all = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turns| Arc::strong_count(turns) > 1);
        all.entry(self.name()).or_default().clone()
    }

    /// The cached report, if it is not too old.
    async fn kept(&self, connection: &mut PgConnection) -> Result<Option<CachedReport>> {
        Ok(sqlx::query_as(
            "SELECT answer, extract(epoch FROM clock_timestamp() - as_of)::float8 AS age_s, took_ms FROM reports
             WHERE workspace_id = $1 AND name = $2 AND parameters = $3
                 AND as_of > clock_timestamp() - make_interval(secs => $4)",
        )
        .bind(self.workspace_id)
        .bind(R::NAME)
        .bind(&self.request.key)
        .bind(TOO_OLD.as_secs_f64())
        .fetch_optional(connection)
        .await?)
    }

    /// Whether the process may cache this report, too.
    fn may_keep(&self) -> bool {
        let mut cached = CACHED.lock().unwrap_or_else(PoisonError::into_inner);
        cached.retain(|_, kept_at| kept_at.elapsed() < TOO_OLD);
        let name = self.name();
        if cached.len() >= MAX_CACHED && !cached.contains_key(&name) {
            return false;
        }
        cached.insert(name, Instant::now());
        true
    }

    fn name(&self) -> Name {
        (self.workspace_id, R::NAME, self.request.key.clone())
    }

    async fn keep(&self, connection: &mut PgConnection, answer: &RawValue, as_of: Time, took: Duration) -> Result<()> {
        sqlx::query(
            "INSERT INTO reports (workspace_id, name, parameters, answer, as_of, took_ms)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT ON CONSTRAINT reports_pkey
             DO UPDATE SET answer = excluded.answer, as_of = excluded.as_of, took_ms = excluded.took_ms",
        )
        .bind(self.workspace_id)
        .bind(R::NAME)
        .bind(&self.request.key)
        .bind(Json(answer))
        .bind(as_of)
        .bind(i32::try_from(took.as_millis()).unwrap_or(i32::MAX))
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Tries to lock the report for computing it. The lock belongs to the session and not to a transaction:
    /// the computing transaction starts after the lock was acquired, and so sees the report that the previous
    /// holder cached.
    async fn claim(&self, connection: &mut PgConnection) -> Result<bool> {
        let lock = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
        Ok(sqlx::query_scalar(lock).bind(self.lock()).fetch_one(connection).await?)
    }

    async fn release(&self, connection: &mut PgConnection) -> Result<()> {
        let lock = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";
        sqlx::query(lock).bind(self.lock()).execute(connection).await?;
        Ok(())
    }

    fn lock(&self) -> String {
        format!("report {} {} {}", self.workspace_id, R::NAME, self.request.key)
    }

    /// Computes the report, and caches it if that took long.
    ///
    /// `random_page_cost` says that an index scan costs little more than a sequential scan, which is true in
    /// memory and on solid state disks. `parallel_tuple_cost` says the same of passing rows between processes, so
    /// that several scan and join the tables of which a report reads all rows.
    async fn compute(&self, transaction: &mut Transaction) -> Result<Box<RawValue>> {
        sqlx::raw_sql(
            "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ;
             SET LOCAL work_mem = '32MB'; SET LOCAL random_page_cost = 1.1;
             SET LOCAL parallel_tuple_cost = 0.01; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan",
        )
        .execute(&mut **transaction)
        .await?;
        let as_of: Time = sqlx::query_scalar("SELECT now()").fetch_one(&mut **transaction).await?;
        let started_at = Instant::now();
        let figures = self.report.compute(transaction, self.workspace_id, as_of, &self.request).await?;
        let report = Compared::new(figures).ok_or_else(|| Error::internal("a report has no figures"))?;
        let answer = serde_json::value::to_raw_value(&report)?;
        let took = started_at.elapsed();
        if took > LIVE && self.may_keep() {
            self.keep(transaction, &answer, as_of, took).await?;
        }
        sqlx::raw_sql("COMMIT; BEGIN").execute(&mut **transaction).await?;
        Ok(answer)
    }
}

/// Computes the report, unless a fresh one was just cached. Returns `None` if another process is computing it.
///
/// If the transaction fails, cleaning its connection releases the lock.
async fn refresh<R: Report>(pool: &Pool, asked: &Asked<R>) -> Result<Option<Box<RawValue>>> {
    let mut transaction = Transaction::begin(pool).await?;
    if !asked.claim(&mut transaction).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    let answer = match asked.kept(&mut transaction).await? {
        Some(kept) if !kept.is_aging() => kept.answer.0,
        _ => asked.compute(&mut transaction).await?,
    };
    asked.release(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Some(answer))
}

/// Deletes cached reports that were not refreshed for ten minutes. Returns their number.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid) -> Result<u64> {
    let pruned = sqlx::query("DELETE FROM reports WHERE workspace_id = $1 AND as_of < now() - interval '10 minutes'")
        .bind(workspace_id)
        .execute(connection)
        .await?;
    Ok(pruned.rows_affected())
}
