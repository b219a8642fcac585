//! Payloads of a newer version, which a worker cannot read.

use std::time::{Duration, Instant};

use shared::queue::{self, JobStatus};
use testing::test_jobs::Chore;
use uuid::Uuid;

use crate::support::{Ledger, PATIENCE};

const OF_A_NEWER_VERSION: &str = r#"UPDATE jobs SET payload = '{"new":1}'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_a_day_for_a_worker_that_can_read_it() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    ledger.run(OF_A_NEWER_VERSION).await;
    let worker = ledger.worker(1);
    let fence = until_postponed(&ledger, id, 0).await;
    assert_eq!(ledger.get(id).await.finished_at, None);

    // A payload that was readable meanwhile has not been unreadable for a whole day.
    let elsewhere = "UPDATE jobs SET run_at = now(), unreadable_since = now() - interval '25 hours',
        unreadable_at = now() - interval '2 hours'";
    ledger.run(elsewhere).await;
    until_postponed(&ledger, id, fence).await;

    let a_day = "UPDATE jobs SET run_at = now(), unreadable_since = now() - interval '25 hours'";
    ledger.run(a_day).await;
    let job = ledger.until_finished(id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.error.unwrap().contains("payload cannot be read"));

    // A retry gives the job another day, in which a newer worker may run it.
    let fence = ledger.fence(id).await;
    queue::retry(&mut *ledger.connection().await, ledger.workspace, id).await.unwrap();
    until_postponed(&ledger, id, fence).await;
    ledger.run(r#"UPDATE jobs SET payload = '"nothing"', run_at = now()"#).await;
    assert_eq!(ledger.until_finished(id).await.status, JobStatus::Succeeded);
    worker.stop().await;
}

/// Waits until the job was claimed under a later attempt than this, and was postponed by more than
/// ten seconds. Returns the attempt.
async fn until_postponed(ledger: &Ledger, id: Uuid, attempt: i64) -> i64 {
    let postponed = "SELECT attempt::bigint FROM jobs
        WHERE id = $1 AND attempt > $2 AND status = 'queued' AND run_at > now() + interval '10 seconds'";
    let began = Instant::now();
    loop {
        let found = sqlx::query_scalar(postponed).bind(id).bind(attempt).fetch_optional(&ledger.pool).await.unwrap();
        if let Some(attempt) = found {
            return attempt;
        }
        assert!(began.elapsed() < PATIENCE, "the job is not postponed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
