//! Workers that die, or are suspended and continue.

use std::time::{Duration, Instant};

use shared::queue::JobStatus;
use testing::test_jobs::Chore;

use crate::support::{Ledger, PATIENCE, attempts};

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_resumes_a_killed_workers_job_within_20_seconds() {
    let ledger = Ledger::create().await;
    let doomed = ledger.worker_process(&[]);
    let id = ledger.enqueue(Chore::Walk { steps: 60, ms: 100 }).await;
    ledger.until(id, "under way", |job| job.progress.done >= 3).await;
    let worker = ledger.worker(2);
    doomed.kill9().await;
    let killed = Instant::now();
    let before = ledger.get(id).await;
    ledger.until(id, "running again", |job| job.attempt > before.attempt && job.status == JobStatus::Running).await;
    // If the server started less than one lease duration ago, workers are not treated as dead yet.
    assert!(killed.elapsed() < Duration::from_secs(35), "{:?}", killed.elapsed());

    let job = ledger.until_finished(id).await;
    let steps = attempts(&job);
    assert_eq!((job.status, steps.len()), (JobStatus::Succeeded, 60));
    let first: usize = steps.iter().filter(|attempt| **attempt == 1).count();
    assert!(first >= 3 && steps[..first].iter().all(|attempt| *attempt == 1), "{steps:?}");
    assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_fails_and_its_neighbours_succeed() {
    let ledger = Ledger::create().await;
    let poison = ledger.enqueue(Chore::Abort).await;
    let mut neighbours = Vec::new();
    for _ in 0..4 {
        neighbours.push(ledger.enqueue(Chore::Walk { steps: 30, ms: 100 }).await);
    }
    let started = Instant::now();
    while !ledger.get(poison).await.status.is_finished() {
        let mut worker = ledger.worker_process(&[]);
        tokio::select! {
            _ = worker.ended() => {}
            _ = ledger.until_finished(poison) => {}
        }
        assert!(started.elapsed() < PATIENCE, "the job that kills its workers does not fail");
        // Instead of waiting for five leases to expire.
        ledger.expire_leases().await;
    }
    let job = ledger.get(poison).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.as_deref(), Some("the worker process died 5 times in a row while it ran this job"));

    let worker = ledger.worker(4);
    for id in neighbours {
        let job = ledger.until_finished(id).await;
        assert_eq!((job.status, attempts(&job).len()), (JobStatus::Succeeded, 30));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_continues_after_its_lease_expired_changes_nothing() {
    let ledger = Ledger::create().await;
    let mut sleeper = ledger.worker_process(&[("RUST_LOG", "debug,sqlx=info")]);
    let id = ledger.enqueue(Chore::Walk { steps: 100, ms: 100 }).await;
    ledger.until(id, "under way", |job| job.progress.done >= 3).await;
    sleeper.signal("STOP");
    let worker = ledger.worker(1);
    let taken_over = ledger.until(id, "taken over", |job| job.attempt > 1 && job.progress.done > 5).await;
    sleeper.signal("CONT");

    let job = ledger.until_finished(id).await;
    let steps = attempts(&job);
    assert_eq!((job.status, job.attempt, steps.len()), (JobStatus::Succeeded, taken_over.attempt, 100));
    let first: usize = steps.iter().filter(|attempt| **attempt == 1).count();
    let fence = ledger.fence(id).await;
    assert!(steps[first..].iter().all(|attempt| *attempt == fence), "{steps:?}");
    // The suspended worker has noticed, and runs other jobs.
    worker.stop().await;
    let next = ledger.enqueue(Chore::Nothing).await;
    assert_eq!(ledger.until_finished(next).await.status, JobStatus::Succeeded);
}
