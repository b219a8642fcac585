//! An old transaction does not slow the queue down: dead index entries are read once.

use std::time::{Duration, Instant};

use shared::mail;
use shared::queue::{self, Claimant, Claimed, Ended, JobStatus, Looked, Marks, Outcome, Paused, Ranges, Reporting};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testing::test_jobs::Chore;
use testing::{citus, earlier};

use crate::support::Ledger;

const JOBS: usize = 20_000;
/// Why tests of marks are skipped where the coordinator cannot count.
const NO_MARKS: &str = "there are no marks: a node counts the entries that it reads, and not the coordinator";

/// A connection with an open transaction, for which PostgreSQL keeps dead rows.
async fn old_transaction(ledger: &Ledger) -> PgConnection {
    let mut connection = PgConnection::connect(&ledger.url).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM jobs")
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

/// The number of index entries, live and dead, that an operation reads.
async fn entries_read(
    connection: &mut PgConnection,
    index: &'static str,
    operation: impl AsyncFnOnce(&mut PgConnection),
) -> i64 {
    let mut transaction = connection.begin().await.unwrap();
    let before = count(&mut transaction, index).await;
    operation(&mut transaction).await;
    let read = count(&mut transaction, index).await - before;
    transaction.rollback().await.unwrap();
    read
}

async fn count(connection: &mut PgConnection, index: &str) -> i64 {
    let count = sqlx::query_scalar("SELECT pg_stat_get_xact_tuples_returned($1::text::regclass)").bind(index);
    count.fetch_one(connection).await.unwrap()
}

async fn claim(connection: &mut PgConnection, ranges: &Ranges, limit: i64) -> Vec<Claimed> {
    queue::claim_in(connection, "chores", limit, ranges, &[], &Claimant::default()).await.unwrap()
}

async fn claim_and_finish(connection: &mut PgConnection, marks: &mut Marks, limit: i64) -> usize {
    let ranges = marks.ranges();
    let claimed = claim(connection, &ranges, limit).await;
    let positions = claimed.iter().map(|job| (job.workspace_id, job.position()));
    if let Some(first) = claimed.first() {
        marks.claimed(&ranges, first.claimed_at(), positions);
    }
    let ended: Vec<_> = claimed.iter().map(|job| Ended::silently(job.lease(), Outcome::Succeeded(None))).collect();
    queue::finish(connection, &ended).await.unwrap();
    claimed.len()
}

/// Enqueues jobs that were due a minute ago, and claims and finishes all but the last `left`.
async fn backlog(ledger: &Ledger, connection: &mut PgConnection, left: usize) -> Marks {
    ledger.enqueue_many(JOBS).await;
    ledger.run(&format!("UPDATE jobs SET {}", earlier("run_at", "1 minute"))).await;
    let mut marks = Marks::default();
    let mut done = 0;
    while done < JOBS - left {
        done += claim_and_finish(connection, &mut marks, 500).await;
    }
    marks
}

#[tokio::test]
async fn a_claim_starts_after_the_jobs_that_were_claimed_before() {
    if citus::is_tested() {
        return testing::skipped(NO_MARKS);
    }
    let ledger = Ledger::create().await;
    let old = old_transaction(&ledger).await;
    let mut connection = ledger.connection().await;
    let marks = backlog(&ledger, &mut connection, 1_000).await;
    let claim_100 = async |connection: &mut PgConnection, ranges: &Ranges| {
        assert_eq!(claim(connection, ranges, 100).await.len(), 100);
    };

    let everything = Ranges::default();
    let read = entries_read(&mut connection, "jobs_due_idx", async |c| claim_100(c, &everything).await).await;
    assert!(read > JOBS as i64 - 2_000, "without marks: {read}");
    let ranges = marks.ranges();
    let read = entries_read(&mut connection, "jobs_due_idx", async |c| claim_100(c, &ranges).await).await;
    assert!(read < 300, "with marks: {read}");

    // A new process learns from its first sweep which jobs others have claimed.
    let mut marks = Marks::default();
    let began = marks.clone();
    marks.swept(
        &began,
        &queue::sweep(&mut connection, "chores", &[ledger.workspace], &Paused::default()).await.unwrap(),
    );
    let ranges = marks.ranges();
    let read = entries_read(&mut connection, "jobs_due_idx", async |c| claim_100(c, &ranges).await).await;
    assert!(read < 300, "after a sweep: {read}");
    drop(old);
}

#[tokio::test]
async fn a_claim_skips_a_drained_workspace() {
    let ledger = Ledger::create().await;
    let old = old_transaction(&ledger).await;
    let mut connection = ledger.connection().await;
    let mut marks = backlog(&ledger, &mut connection, 0).await;
    // The statistics of a table without waiting jobs must not make the sweep use another index.
    ledger.run("ANALYZE jobs").await;
    let began = marks.clone();
    marks.swept(
        &began,
        &queue::sweep(&mut connection, "chores", &[ledger.workspace], &Paused::default()).await.unwrap(),
    );
    // Ids are ordered by time, so the other workspace comes after the first.
    let other = Ledger::at(ledger.url.clone());
    let id = other.enqueue(Chore::Nothing).await;
    let ranges = marks.ranges();
    let read = entries_read(&mut connection, "jobs_due_idx", async |c| {
        assert_eq!(claim(c, &ranges, 10).await[0].id, id);
    });
    let read = read.await;
    assert!(read < 50, "{read}");
    drop(old);
}

#[tokio::test]
async fn the_next_sweep_finds_jobs_before_a_mark() {
    let ledger = Ledger::create().await;
    let old = old_transaction(&ledger).await;
    let mut connection = ledger.connection().await;
    let mut marks = backlog(&ledger, &mut connection, 0).await;
    let late = ledger.enqueue(Chore::Nothing).await;
    sqlx::query(AssertSqlSafe(format!("UPDATE jobs SET {} WHERE id = $1", earlier("run_at", "1 hour"))))
        .bind(late)
        .execute(&mut *connection)
        .await
        .unwrap();
    assert!(claim(&mut connection, &marks.ranges(), 10).await.is_empty());

    let began = marks.clone();
    assert!(marks.swept(
        &began,
        &queue::sweep(&mut connection, "chores", &[ledger.workspace], &Paused::default()).await.unwrap()
    ));
    assert_eq!(claim(&mut connection, &marks.ranges(), 10).await[0].id, late);
    drop(old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_committed_a_minute_late_after_100_000_newer_ones_starts_within_ten_seconds() {
    let ledger = Ledger::create().await;
    let old = old_transaction(&ledger).await;
    let mut late = PgConnection::connect(&ledger.url).await.unwrap();
    let mut transaction = late.begin().await.unwrap();
    let job = queue::enqueue(&mut transaction, ledger.job(&Chore::Nothing)).await.unwrap().id;
    sqlx::query("UPDATE jobs SET run_at = now() - interval '1 minute' WHERE id = $1")
        .bind(job)
        .execute(&mut *transaction)
        .await
        .unwrap();

    for _ in 0..10 {
        ledger.enqueue_many(10_000).await;
    }
    let worker = ledger.worker(4);
    let began = Instant::now();
    while ledger.count(JobStatus::Succeeded).await < 100_000 {
        assert!(began.elapsed() < Duration::from_secs(400), "the queue is not drained");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    transaction.commit().await.unwrap();
    let committed = Instant::now();
    ledger.until(job, "started", |job| job.started_at.is_some()).await;
    assert!(committed.elapsed() < Duration::from_secs(10), "{:?}", committed.elapsed());
    worker.stop().await;
    drop(old);
}

#[tokio::test]
async fn a_search_for_expired_leases_starts_where_the_last_one_ended() {
    if citus::is_tested() {
        return testing::skipped(NO_MARKS);
    }
    let ledger = Ledger::create().await;
    let old = old_transaction(&ledger).await;
    let mut connection = ledger.connection().await;
    ledger.enqueue_many(JOBS).await;
    // All but 100 jobs get leases that expired long ago, and end. A claim would leave leases of the last
    // minute, which each search reads again.
    let dead = "UPDATE jobs SET lease_until = now() - interval '10 minutes', started_at = now(), status = 'running'
        WHERE id NOT IN (SELECT id FROM jobs ORDER BY id LIMIT 100)";
    ledger.run(dead).await;
    ledger
        .run("UPDATE jobs SET lease_until = NULL, status = 'succeeded', finished_at = now() WHERE status = 'running'")
        .await;
    let mut looked = Looked::default();
    let read =
        entries_read(&mut connection, "jobs_lease_idx", async |c| until_it_may_rescue(c, &mut looked).await).await;
    assert!(read >= JOBS as i64 - 500, "from the front: {read}");
    let held = claim(&mut connection, &Ranges::default(), 10).await;
    ledger.expire_leases().await;
    let mut rescued = Vec::new();
    let read = entries_read(&mut connection, "jobs_lease_idx", async |c| {
        rescued = queue::rescue(c, &mut looked, |_| Reporting::None).await.unwrap();
    });
    let read = read.await;
    assert_eq!(rescued.len(), held.len());
    assert!(read < 200, "from the last search: {read}");
    drop(old);
}

/// Waits until the server is old enough for a rescue: after its start, workers get time to renew.
async fn until_it_may_rescue(connection: &mut PgConnection, looked: &mut Looked) {
    let age = "SELECT greatest(16 - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()), 0)::float8";
    let left: f64 = sqlx::query_scalar(age).fetch_one(&mut *connection).await.unwrap();
    tokio::time::sleep(Duration::from_secs_f64(left)).await;
    queue::rescue(connection, looked, |_| Reporting::None).await.unwrap();
}

#[tokio::test]
async fn emails_are_leased_from_marks_as_jobs_are() {
    if citus::is_tested() {
        return testing::skipped(NO_MARKS);
    }
    let ledger = Ledger::create().await;
    let old = old_transaction(&ledger).await;
    let mut connection = ledger.connection().await;
    let fill = "INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_email_key, to_domain, subject,
            text_body, state, run_at)
        SELECT gen_random_uuid(), $1, 'nurture', n::text, 'a@b.example', n || '@example.com', n || '@example.com', 'example.com', 's', 't',
            'queued', now() - interval '1 minute' + n * interval '1 ms'
        FROM generate_series(1, 20000) AS n";
    sqlx::query(fill).bind(ledger.workspace).execute(&mut *connection).await.unwrap();
    let mut marks = Marks::default();
    for _ in 0..38 {
        let ranges = marks.ranges();
        let leased = mail::lease(&mut connection, 500, &ranges, &Claimant::default()).await.unwrap();
        let positions = leased.iter().map(|email| (email.workspace_id, email.position()));
        marks.claimed(&ranges, leased[0].leased_at(), positions);
    }
    for (ranges, expected) in [(Ranges::default(), 18_000..40_000), (marks.ranges(), 0..300)] {
        let read = entries_read(&mut connection, "emails_due_idx", async |c| {
            assert_eq!(mail::lease(c, 100, &ranges, &Claimant::default()).await.unwrap().len(), 100);
        });
        let read = read.await;
        assert!(expected.contains(&read), "{read}");
    }

    // Emails that are handed back wait at their old positions, which other processes find by a
    // sweep.
    let began = marks.clone();
    sqlx::query("UPDATE emails SET lease_until = NULL WHERE event_key = '7'").execute(&mut *connection).await.unwrap();
    assert!(marks.swept(&began, &mail::sweep(&mut connection, &[ledger.workspace]).await.unwrap()));
    let leased = mail::lease(&mut connection, 1, &marks.ranges(), &Claimant::default()).await.unwrap();
    assert_eq!(leased[0].content.to_email, "7@example.com");
    drop(old);
}
