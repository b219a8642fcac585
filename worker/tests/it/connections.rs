//! Connections whose users leave in the middle of a statement.

use std::time::{Duration, Instant};

use dev::test_jobs::Chore;
use shared::platform::db::copy::CopyRows;
use shared::platform::db::{self, Pool, Transaction};
use shared::queue::JobStatus;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::support::{Ledger, PATIENCE};

const LOCK: i64 = 4711;

/// A pool of one connection.
fn pool(ledger: &Ledger, pooler: bool) -> Pool {
    let mut settings = ledger.settings(&[]).database;
    settings.max_connections = 1;
    settings.pooler = pooler;
    db::pool(&settings, "crm-one").unwrap()
}

async fn backend(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.unwrap()
}

/// Sessions that wait for a lock.
async fn waiting(ledger: &Ledger, name: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'",
    )
    .bind(name)
    .fetch_one(&ledger.pool)
    .await
    .unwrap()
}

async fn until_waiting(ledger: &Ledger, name: &str, count: i64) {
    let began = Instant::now();
    while waiting(ledger, name).await != count {
        assert!(began.elapsed() < PATIENCE, "{count} sessions never waited");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Begins to do something, and leaves as soon as it waits for a lock.
async fn leave(ledger: &Ledger, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => panic!("nothing was locked"),
        () = until_waiting(ledger, "crm-one", 1) => {}
    }
}

async fn wait_for_lock(connection: &mut PgConnection) {
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(connection).await.unwrap();
}

/// Holds the lock until the connection is closed.
async fn hold_lock(ledger: &Ledger) -> PgConnection {
    let mut holder = PgConnection::connect(&ledger.url).await.unwrap();
    wait_for_lock(&mut holder).await;
    holder
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_cancelled_and_its_connection_used_again() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, false);
    let before = backend(&mut pool.acquire().await.unwrap()).await;
    let _held = hold_lock(&ledger).await;
    leave(&ledger, async { wait_for_lock(&mut pool.acquire().await.unwrap()).await }).await;
    assert_eq!(backend(&mut pool.acquire().await.unwrap()).await, before);

    let in_step = async {
        let mut step = Transaction::begin(&pool).await.unwrap();
        sqlx::query("CREATE TABLE left_behind ()").execute(&mut *step).await.unwrap();
        wait_for_lock(&mut step).await;
    };
    leave(&ledger, in_step).await;
    let mut next = pool.acquire().await.unwrap();
    assert_eq!(backend(&mut next).await, before);
    let kept: bool =
        sqlx::query_scalar("SELECT to_regclass('left_behind') IS NOT NULL").fetch_one(&mut *next).await.unwrap();
    assert!(!kept);
}

#[tokio::test]
async fn locks_of_a_session_end_with_the_step_that_took_them() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, false);
    let mut step = Transaction::begin(&pool).await.unwrap();
    wait_for_lock(&mut step).await;
    drop(step);
    let mut next = pool.acquire().await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let locks: i64 = sqlx::query_scalar(locks).fetch_one(&mut *next).await.unwrap();
    assert_eq!(locks, 0);
}

#[tokio::test]
async fn a_copy_that_nobody_ends_leaves_no_answer_to_others() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, false);
    let copy = "COPY reports (workspace_id, name) FROM STDIN";
    // It waits for the table: sqlx does not know that an answer is under way.
    let mut holder = PgConnection::connect(&ledger.url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE reports").execute(&mut holder).await.unwrap();
    let begin = async {
        let mut step = Transaction::begin(&pool).await.unwrap();
        drop(CopyRows::begin(&mut step, copy).await);
    };
    leave(&ledger, begin).await;
    holder.close().await.unwrap();
    for _ in 0..3 {
        let mut next = pool.acquire().await.unwrap();
        let answer: i32 = sqlx::query_scalar("SELECT 42").fetch_one(&mut *next).await.unwrap();
        assert_eq!(answer, 42);
    }
    // It has begun, and takes rows.
    let mut step = Transaction::begin(&pool).await.unwrap();
    drop(CopyRows::begin(&mut step, copy).await.unwrap());
    drop(step);
    let mut next = pool.acquire().await.unwrap();
    let answer: i32 = sqlx::query_scalar("SELECT 43").fetch_one(&mut *next).await.unwrap();
    assert_eq!(answer, 43);
}

#[tokio::test]
async fn behind_a_pooler_a_connection_waits_for_its_answer() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, true);
    let before = backend(&mut pool.acquire().await.unwrap()).await;
    let held = hold_lock(&ledger).await;
    leave(&ledger, async { wait_for_lock(&mut pool.acquire().await.unwrap()).await }).await;
    assert!(timeout(Duration::from_secs(1), pool.acquire()).await.is_err());
    assert_eq!(waiting(&ledger, "crm-one").await, 1);
    held.close().await.unwrap();
    assert_eq!(backend(&mut pool.acquire().await.unwrap()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_of_a_cancelled_job_is_cancelled() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let _held = hold_lock(&ledger).await;
    let id = ledger.enqueue(Chore::WaitForLock { key: LOCK }).await;
    until_waiting(&ledger, "crm-worker", 1).await;
    ledger.cancel(id).await;
    until_waiting(&ledger, "crm-worker", 0).await;
    let next = ledger.enqueue(Chore::Nothing).await;
    assert_eq!(ledger.until_finished(next).await.status, JobStatus::Succeeded);
    worker.stop().await;
}
