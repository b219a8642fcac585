//! Fairness between workspaces: long jobs of one workspace do not block another.

use std::time::{Duration, Instant};

use shared::queue::{self, Ended, JobStatus, Outcome, Progress};
use testing::test_jobs::Chore;
use uuid::Uuid;

use crate::support::{Ledger, PATIENCE, attempts};

/// A job that takes about so many seconds, in steps of 50 ms.
fn long(seconds: i64) -> Chore {
    Chore::Walk { steps: seconds * 20, ms: 50 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_holds_no_slot_gets_one_after_the_next_step() {
    let busy = Ledger::create().await;
    let worker = busy.worker(2);
    let files = [busy.enqueue(long(20)).await, busy.enqueue(long(20)).await];
    for id in files {
        busy.until(id, "well under way", |job| job.progress.done > 20).await;
    }
    let other = Ledger::at(busy.url.clone());
    let row = other.enqueue(Chore::Nothing).await;
    let began = Instant::now();
    while !other.get(row).await.status.is_finished() {
        for id in files {
            // To callers, a job that yielded is still running, in its first attempt.
            let job = busy.get(id).await;
            assert_eq!((job.status, job.attempt), (JobStatus::Running, 1));
        }
        assert!(began.elapsed() < Duration::from_secs(15), "the other workspace waits for too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // One job was claimed a second time, and no step was lost or repeated.
    let mut claims = 0;
    for id in files {
        let job = busy.until_finished(id).await;
        assert_eq!((job.status, job.attempt, job.progress.done), (JobStatus::Succeeded, 1, 400));
        assert_eq!(attempts(&job).len(), 400);
        assert!(attempts(&job).is_sorted());
        claims += busy.fence(id).await;
    }
    assert!((3..=4).contains(&claims), "{claims} claims");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_workspace_keeps_all_slots_even_if_its_other_jobs_wait() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(2);
    let mut files = Vec::new();
    for _ in 0..4 {
        files.push(ledger.enqueue(long(3)).await);
    }
    for id in files {
        let job = ledger.until_finished(id).await;
        assert_eq!((job.status, ledger.fence(id).await), (JobStatus::Succeeded, 1));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_workspaces_than_slots_take_turns_of_a_second() {
    let first = Ledger::create().await;
    let ledgers = [Ledger::at(first.url.clone()), Ledger::at(first.url.clone()), first];
    let mut files = Vec::new();
    for ledger in &ledgers {
        files.push(ledger.enqueue(long(4)).await);
    }
    let began = Instant::now();
    let worker = ledgers[0].worker(1);
    loop {
        let mut jobs = Vec::new();
        for (ledger, id) in ledgers.iter().zip(&files) {
            jobs.push(ledger.get(*id).await);
        }
        let under_way = jobs.iter().filter(|job| job.progress.done > 0).count();
        assert!(
            under_way == 3 || jobs.iter().all(|job| !job.status.is_finished()),
            "one workspace waits until another's job has ended"
        );
        if under_way == 3 {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut claims = 0;
    for (ledger, id) in ledgers.iter().zip(&files) {
        let job = ledger.until_finished(*id).await;
        assert_eq!((job.status, attempts(&job).len()), (JobStatus::Succeeded, 80));
        claims += ledger.fence(*id).await;
    }
    // A job keeps its slot for at least a second.
    let most = began.elapsed().as_secs() as i64 + 4;
    assert!(claims <= most, "{claims} claims in {:?}", began.elapsed());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yielded_job_resumes_after_its_worker_died() {
    let busy = Ledger::create().await;
    let doomed = busy.worker_process(&[("CRM_WORKER__CONCURRENCY", "1")]);
    let file = busy.enqueue(long(10)).await;
    busy.until(file, "well under way", |job| job.progress.done > 20).await;
    let other = Ledger::at(busy.url.clone());
    let blocking = other.enqueue(Chore::Sleep { ms: 3_600_000 }).await;
    other.until_running(blocking).await;
    doomed.kill9().await;

    // The job was waiting for a slot, so it needs no rescue, and its process did not die while it
    // ran.
    let job = busy.get(file).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Running, 1));
    let worker = busy.worker(1);
    let job = busy.until_finished(file).await;
    assert_eq!((job.status, job.attempt, attempts(&job).len()), (JobStatus::Succeeded, 1, 200));
    other.cancel(blocking).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_yields_keeps_its_position_and_its_count_of_attempts() {
    let ledger = Ledger::create().await;
    let ids = ledger.enqueue_many(3).await;
    let claimed = ledger.claim_one().await;
    let mut connection = ledger.connection().await;
    let progress = Progress { done: 1, total: Some(2) };
    queue::progress(&mut connection, claimed.lease(), progress, &serde_json::json!([]), None).await.unwrap();
    let running = ledger.get(ids[0]).await;
    queue::finish(&mut connection, &[Ended::silently(claimed.lease(), Outcome::Yielded)]).await.unwrap();
    assert_eq!(ledger.get(ids[0]).await, running);
    assert_eq!(ledger.count(JobStatus::Queued).await, 3);

    // The claim raises the fence, so the earlier attempt cannot write any more.
    let again = ledger.claim_one().await;
    assert_eq!((again.id, again.attempt), (ids[0], claimed.attempt + 1));
    queue::finish(&mut connection, &[Ended::silently(claimed.lease(), Outcome::Failed("late".into()))]).await.unwrap();
    assert_eq!(ledger.get(ids[0]).await, running);

    queue::finish(&mut connection, &[Ended::silently(again.lease(), Outcome::Yielded)]).await.unwrap();
    assert_eq!(ledger.cancel(ids[0]).await.status, JobStatus::Cancelled);
    let retried = queue::retry(&mut connection, ledger.workspace, ids[0]).await.unwrap();
    assert_eq!((retried.status, retried.attempt), (JobStatus::Queued, 1));
}

#[tokio::test]
async fn attempts_count_only_failures_and_crashes() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let mut connection = ledger.connection().await;
    assert_eq!(ledger.get(id).await.attempt, 0);
    let retry = || Outcome::Retry {
        error: "broken".into(),
        delay: Duration::ZERO,
        counts: true,
        state: queue::RetryState::default(),
    };
    for (outcome, expected) in [
        (Outcome::Snooze(Duration::ZERO), 1),
        (Outcome::Yielded, 1),
        (retry(), 2),
        (Outcome::Snooze(Duration::ZERO), 2),
        (retry(), 3),
        (Outcome::Failed("for good".into()), 3),
    ] {
        let claimed = ledger.claim_one().await;
        queue::finish(&mut connection, &[Ended::silently(claimed.lease(), outcome)]).await.unwrap();
        assert_eq!(ledger.get(id).await.attempt, expected);
    }
    assert_eq!(queue::retry(&mut connection, ledger.workspace, id).await.unwrap().attempt, 4);
}

#[tokio::test]
async fn a_free_slot_goes_first_to_a_workspace_that_holds_none() {
    let ledger = Ledger::create().await;
    ledger.enqueue_many(50).await;
    let other = Ledger::at(ledger.url.clone());
    let ids: Vec<Uuid> = other.enqueue_many(20).await;
    let mut connection = ledger.connection().await;
    for _ in 0..20 {
        let holders = [ledger.workspace];
        let claimed = queue::claim_in(
            &mut connection,
            "chores",
            1,
            &queue::Ranges::default(),
            &holders,
            &queue::Claimant::default(),
        )
        .await
        .unwrap();
        assert!(ids.contains(&claimed[0].id));
    }
    // If no other workspace waits, the holder gets another slot.
    let claimed = queue::claim_in(
        &mut connection,
        "chores",
        1,
        &queue::Ranges::default(),
        &[ledger.workspace],
        &queue::Claimant::default(),
    )
    .await;
    assert_eq!(claimed.unwrap()[0].workspace_id, ledger.workspace);
}

#[tokio::test]
async fn workspaces_whose_jobs_are_not_due_take_no_turns() {
    let ledger = Ledger::create().await;
    for _ in 0..50 {
        let other = Ledger::at(ledger.url.clone());
        let later = other.job(&Chore::Nothing).delay(Duration::from_secs(3600));
        queue::enqueue(&mut *other.connection().await, later).await.unwrap();
    }
    ledger.enqueue_many(4).await;
    assert_eq!(ledger.claim(4).await.len(), 4);
}
