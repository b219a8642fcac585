//! Reports: figures about many records, and how callers share them.
//!
//! A report implements [`Report`] and is answered through [`cached`]. One that is made quickly is made
//! anew for each caller, of the data as it is. One that takes longer is kept, and callers share it for
//! less than a minute: at the end of that time the next caller still gets the kept answer at once
//! and has a fresh one made behind their back.
//!
//! ```ignore
//! struct Segments { period: Period }
//!
//! impl Report for Segments {
//!     const NAME: &'static str = "customers/segments";
//!     type Figures = SegmentFigures; // has an `as_of`, as every answer does
//!
//!     fn key(&self) -> String {
//!         self.period.key().to_owned()
//!     }
//!
//!     async fn compute(&self, connection: &mut PgConnection, workspace_id: Uuid, as_of: Time) -> Result<SegmentFigures> {
//!         …
//!     }
//! }
//!
//! let json = reports::cached(&pool, workspace_id, Segments { period }).await?;
//! ```

mod activity;
mod counts;
mod customers;
mod dashboard;
mod headlines;
mod leads;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::error::Result;
use crate::platform::db::{Pool, Transaction};
use crate::values::Time;

pub use activity::{Activity, ActivityType};
pub use counts::{Counts, IntervalCount, Spread};
pub use customers::{
    Cohort, CustomerMetrics, CustomerReport, CustomerTotals, CustomersCreated, InteractionMetrics, OrderMetrics,
};
pub use dashboard::{
    CustomerHeadline, Dashboard, DashboardReport, FeedbackHeadline, Followups, JobHeadline, LeadHeadline, OrderHeadline,
};
pub use headlines::{BandChange, HealthHeadline, SegmentChange, SegmentHeadline, ThemeHeadline};
pub use leads::{
    FunnelStage, FunnelStep, LeadMetrics, LeadReport, LeadTotals, LeadsCreated, OwnerCount, SourceMetrics,
};

/// An answer that was made in less is not kept: the next one is of the data as it is then.
const LIVE: Duration = Duration::from_millis(200);
/// The age at which an answer is not given any more. That no answer is older than a minute when it
/// arrives, it is a little less.
const TOO_OLD: Duration = Duration::from_secs(57);
/// How long a caller waits at most before looking again whether another's answer is there.
const PATIENCE: Duration = Duration::from_millis(50);

/// A report for a caller's parameters.
pub trait Report: Send + Sync + 'static {
    /// Its name, one of its own.
    const NAME: &'static str;
    /// What it tells. Its `as_of` says of which moment.
    type Figures: Serialize + Send;

    /// The parameters in one form: callers with the same key share answers. Of a period, that is
    /// [`Period::key`](crate::insight::period::Period::key).
    fn key(&self) -> String;

    /// Computes the figures, in a transaction that sees the data of one moment, which is `as_of`, and
    /// that has more memory than others for sorting and grouping. It must write nothing.
    fn compute(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        as_of: Time,
    ) -> impl Future<Output = Result<Self::Figures>> + Send;
}

/// The figures of a report as JSON, none older than a minute.
///
/// Callers within the process take turns. Who waited is given the answer of the one before if that was
/// begun after they asked: nobody waits for more than two, and nobody holds a connection meanwhile.
///
/// # Errors
/// Those of [`Report::compute`]; [`Error::Unavailable`] when the database is away.
pub async fn cached<R: Report>(pool: &Pool, workspace_id: Uuid, report: R) -> Result<Box<RawValue>> {
    let asked = Arc::new(Asked { workspace_id, key: report.key(), report });
    let (asked_at, turns) = (Instant::now(), asked.turns());
    if let Some(kept) = asked.kept(&mut *pool.acquire().await?).await? {
        if kept.is_aging() {
            renew(pool.clone(), asked);
        }
        return Ok(kept.answer.0);
    }
    let turn = turns.lock_owned().await;
    if let Some(last) = turn.as_ref().filter(|last| last.begun_at >= asked_at) {
        return Ok(last.answer.clone());
    }
    // Callers who ask at the same moment have all asked before the answer is begun, and share it.
    tokio::task::yield_now().await;
    // When the caller leaves, its statement is cancelled and the next one has its turn.
    take_turn(pool, asked, turn).await
}

/// The last answer that was made in the process, for as long as anybody is there who asked before.
struct Made {
    begun_at: Instant,
    answer: Box<RawValue>,
}

/// Who holds it makes the answer; the others wait in the order in which they asked.
type Turns = Arc<tokio::sync::Mutex<Option<Made>>>;
type Turn = OwnedMutexGuard<Option<Made>>;

/// Names an answer within the process.
type Name = (Uuid, &'static str, String);

/// The answers that are being made or waited for in this process.
static TURNS: Mutex<BTreeMap<Name, Turns>> = Mutex::new(BTreeMap::new());

async fn take_turn<R: Report>(pool: &Pool, asked: Arc<Asked<R>>, mut turn: Turn) -> Result<Box<RawValue>> {
    let mut wait = Duration::from_millis(2);
    loop {
        let begun_at = Instant::now();
        if let Some(answer) = make(pool, &asked).await? {
            *turn = Some(Made { begun_at, answer: answer.clone() });
            return Ok(answer);
        }
        // Another process is making it.
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(PATIENCE);
    }
}

/// Makes an answer anew while the kept one is still given, unless somebody is at it.
fn renew<R: Report>(pool: Pool, asked: Arc<Asked<R>>) {
    let Ok(turn) = asked.turns().try_lock_owned() else { return };
    tokio::spawn(async move {
        let _turn = turn;
        if let Err(error) = make(&pool, &asked).await {
            tracing::warn!(%error, report = R::NAME, "a report cannot be made anew");
        }
    });
}

/// A report that was asked for.
struct Asked<R> {
    workspace_id: Uuid,
    key: String,
    report: R,
}

#[derive(FromRow)]
struct Kept {
    answer: Json<Box<RawValue>>,
    age_s: f64,
    took_ms: i32,
}

impl Kept {
    /// Whether it is time to make the next one, so that it is there before this one is too old.
    fn is_aging(&self) -> bool {
        let took = f64::from(self.took_ms) / 1000.0;
        let latest = TOO_OLD.as_secs_f64() - 10.0 - 3.0 * took;
        self.age_s > latest.max(10.0)
    }
}

impl<R: Report> Asked<R> {
    /// The turns of this answer. Those that nobody waits for any more are forgotten.
    fn turns(&self) -> Turns {
        let mut all = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turns| Arc::strong_count(turns) > 1);
        all.entry((self.workspace_id, R::NAME, self.key.clone())).or_default().clone()
    }

    /// The answer that is kept, if it is not too old.
    async fn kept(&self, connection: &mut PgConnection) -> Result<Option<Kept>> {
        Ok(sqlx::query_as(
            "SELECT answer, extract(epoch FROM clock_timestamp() - as_of)::float8 AS age_s, took_ms FROM reports
             WHERE workspace_id = $1 AND name = $2 AND parameters = $3
                 AND as_of > clock_timestamp() - make_interval(secs => $4)",
        )
        .bind(self.workspace_id)
        .bind(R::NAME)
        .bind(&self.key)
        .bind(TOO_OLD.as_secs_f64())
        .fetch_optional(connection)
        .await?)
    }

    /// Keeps an answer.
    async fn keep(&self, connection: &mut PgConnection, answer: &RawValue, as_of: Time, took: Duration) -> Result<()> {
        sqlx::query(
            "INSERT INTO reports (workspace_id, name, parameters, answer, as_of, took_ms)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT ON CONSTRAINT reports_pkey
             DO UPDATE SET answer = excluded.answer, as_of = excluded.as_of, took_ms = excluded.took_ms",
        )
        .bind(self.workspace_id)
        .bind(R::NAME)
        .bind(&self.key)
        .bind(Json(answer))
        .bind(as_of)
        .bind(i32::try_from(took.as_millis()).unwrap_or(i32::MAX))
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Has the making of the answer for itself, unless somebody has. The lock is the connection's and
    /// not a transaction's: the transaction that computes begins when it is held, and so sees what the
    /// one before has kept.
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
        format!("report {} {} {}", self.workspace_id, R::NAME, self.key)
    }

    /// Computes the answer and keeps it if that took long.
    ///
    /// Walking along an index is taken to cost little more than reading a table from its beginning, as it
    /// does in memory and on a solid state disk: then the orders of a million customers are summed up in the
    /// order of the index, at a quarter of the price of sorting or hashing them.
    async fn compute(&self, step: &mut Transaction) -> Result<Box<RawValue>> {
        sqlx::raw_sql(
            "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ;
             SET LOCAL work_mem = '32MB'; SET LOCAL random_page_cost = 1.1;
             SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan",
        )
        .execute(&mut **step)
        .await?;
        let as_of: Time = sqlx::query_scalar("SELECT now()").fetch_one(&mut **step).await?;
        let begun = Instant::now();
        let figures = self.report.compute(step, self.workspace_id, as_of).await?;
        let answer = serde_json::value::to_raw_value(&figures)?;
        let took = begun.elapsed();
        if took > LIVE {
            self.keep(step, &answer, as_of, took).await?;
        }
        sqlx::raw_sql("COMMIT; BEGIN").execute(&mut **step).await?;
        Ok(answer)
    }
}

/// Makes an answer, unless somebody has just made it. `None` if somebody is making it.
///
/// A step that fails gives up the lock when its connection is cleaned.
async fn make<R: Report>(pool: &Pool, asked: &Asked<R>) -> Result<Option<Box<RawValue>>> {
    let mut step = Transaction::begin(pool).await?;
    if !asked.claim(&mut step).await? {
        step.rollback().await?;
        return Ok(None);
    }
    let answer = match asked.kept(&mut step).await? {
        Some(kept) if !kept.is_aging() => kept.answer.0,
        _ => asked.compute(&mut step).await?,
    };
    asked.release(&mut step).await?;
    step.commit().await?;
    Ok(Some(answer))
}

/// Forgets answers that nobody has asked for lately. Returns how many there were.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn prune(connection: &mut PgConnection, workspace_id: Uuid) -> Result<u64> {
    let pruned = sqlx::query("DELETE FROM reports WHERE workspace_id = $1 AND as_of < now() - interval '10 minutes'")
        .bind(workspace_id)
        .execute(connection)
        .await?;
    Ok(pruned.rows_affected())
}
