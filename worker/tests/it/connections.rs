//! Connections whose users are dropped in the middle of a statement.

use std::time::{Duration, Instant};

use shared::platform::db::copy::CopyRows;
use shared::platform::db::{self, Pool, Transaction};
use shared::queue::JobStatus;
use sqlx::{Connection, PgConnection};
use testing::test_jobs::Chore;
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

/// Counts the sessions that wait for a lock.
async fn waiting(ledger: &Ledger, name: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND starts_with(application_name, $1) AND wait_event_type = 'Lock'",
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

/// Starts some work, and drops it as soon as it waits for a lock.
async fn abandon(ledger: &Ledger, work: impl Future<Output = ()>) {
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
async fn an_abandoned_statement_is_cancelled_and_its_connection_reused() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, false);
    let before = backend(&mut pool.acquire().await.unwrap()).await;
    let _held = hold_lock(&ledger).await;
    abandon(&ledger, async { wait_for_lock(&mut pool.acquire().await.unwrap()).await }).await;
    assert_eq!(backend(&mut pool.acquire().await.unwrap()).await, before);

    let in_transaction = async {
        let mut transaction = Transaction::begin(&pool).await.unwrap();
        sqlx::query("CREATE TABLE abandoned ()").execute(&mut *transaction).await.unwrap();
        wait_for_lock(&mut transaction).await;
    };
    abandon(&ledger, in_transaction).await;
    let mut next = pool.acquire().await.unwrap();
    assert_eq!(backend(&mut next).await, before);
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('abandoned') IS NOT NULL").fetch_one(&mut *next).await.unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn session_locks_are_released_with_the_transaction_that_took_them() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, false);
    let mut transaction = Transaction::begin(&pool).await.unwrap();
    wait_for_lock(&mut transaction).await;
    drop(transaction);
    let mut next = pool.acquire().await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let locks: i64 = sqlx::query_scalar(locks).fetch_one(&mut *next).await.unwrap();
    assert_eq!(locks, 0);
}

#[tokio::test]
async fn an_abandoned_copy_leaves_no_answer_to_later_statements() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, false);
    let copy = "COPY reports (workspace_id, name) FROM STDIN";
    // The COPY waits for the table, and sqlx does not know that an answer is pending.
    let mut holder = PgConnection::connect(&ledger.url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE reports").execute(&mut holder).await.unwrap();
    let begin = async {
        let mut transaction = Transaction::begin(&pool).await.unwrap();
        drop(CopyRows::begin(&mut transaction, copy).await);
    };
    abandon(&ledger, begin).await;
    holder.close().await.unwrap();
    for _ in 0..3 {
        let mut next = pool.acquire().await.unwrap();
        let answer: i32 = sqlx::query_scalar("SELECT 42").fetch_one(&mut *next).await.unwrap();
        assert_eq!(answer, 42);
    }
    // The COPY has started and accepts rows.
    let mut transaction = Transaction::begin(&pool).await.unwrap();
    drop(CopyRows::begin(&mut transaction, copy).await.unwrap());
    drop(transaction);
    let mut next = pool.acquire().await.unwrap();
    let answer: i32 = sqlx::query_scalar("SELECT 43").fetch_one(&mut *next).await.unwrap();
    assert_eq!(answer, 43);
}

#[tokio::test]
async fn with_a_pooler_a_connection_waits_for_its_answer() {
    let ledger = Ledger::create().await;
    let pool = pool(&ledger, true);
    let before = backend(&mut pool.acquire().await.unwrap()).await;
    let held = hold_lock(&ledger).await;
    abandon(&ledger, async { wait_for_lock(&mut pool.acquire().await.unwrap()).await }).await;
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
