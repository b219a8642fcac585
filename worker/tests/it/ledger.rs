//! The guarantees of the job queue, statement by statement.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;
use shared::Error;
use shared::platform::db;
use shared::queue::{
    self, Claimant, Claimed, Ended, JobStatus, Lease, MAX_CRASHES, Marks, Outcome, Progress, Reporting, RetryState,
};
use sqlx::Connection;
use testing::test_jobs::Chore;
use uuid::Uuid;

use crate::support::{Ledger, PATIENCE};

#[tokio::test]
async fn a_job_is_rolled_back_with_its_transaction() {
    let ledger = Ledger::create().await;
    let mut connection = ledger.connection().await;
    let mut transaction = connection.begin().await.unwrap();
    let job = queue::enqueue(&mut transaction, ledger.job(&Chore::Nothing)).await.unwrap();
    transaction.rollback().await.unwrap();

    assert!(matches!(queue::get(&mut connection, ledger.workspace, job.id).await, Err(Error::NotFound)));
    assert!(ledger.claim(10).await.is_empty());
}

#[tokio::test]
async fn enqueueing_the_same_work_twice_returns_the_existing_job() {
    let ledger = Ledger::create().await;
    let mut connection = ledger.connection().await;
    let ask = || ledger.job(&Chore::Nothing).dedupe_key("nightly");
    let first = queue::enqueue(&mut connection, ask()).await.unwrap();
    let second = queue::enqueue(&mut connection, ask()).await.unwrap();
    assert_eq!(first.id, second.id);

    // The same holds while the job is running. After its end, the key is free again.
    let lease = ledger.claim_one().await.lease();
    assert_eq!(queue::enqueue(&mut connection, ask()).await.unwrap().id, first.id);
    queue::finish(&mut connection, &[Ended::silently(lease, Outcome::Succeeded(None))]).await.unwrap();
    assert_ne!(queue::enqueue(&mut connection, ask()).await.unwrap().id, first.id);
}

#[tokio::test]
async fn concurrent_requests_for_the_same_work_return_one_job() {
    let ledger = Ledger::create().await;
    let asking = (0..5).map(|_| async {
        let mut connection = ledger.connection().await;
        let mut ids = Vec::new();
        for _ in 0..20 {
            let job = ledger.job(&Chore::Nothing).dedupe_key("nightly");
            ids.push(queue::enqueue(&mut connection, job).await.unwrap().id);
        }
        ids
    });
    let ids: Vec<Uuid> = futures_util::future::join_all(asking).await.concat();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(ledger.count(JobStatus::Queued).await, 1);
}

#[tokio::test]
async fn no_job_is_claimed_twice() {
    let ledger = Ledger::create().await;
    ledger.enqueue_many(500).await;
    let claiming = (0..5).map(|_| async {
        let mut mine = Vec::new();
        loop {
            let claimed = ledger.claim(7).await;
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed.into_iter().map(|job| job.id));
        }
    });
    let mut all = futures_util::future::join_all(claiming).await.concat();
    assert_eq!(all.len(), 500);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 500);
}

#[tokio::test]
async fn jobs_are_claimed_in_order() {
    let ledger = Ledger::create().await;
    let ids = ledger.enqueue_many(10).await;
    let first: Vec<Uuid> = ledger.claim(4).await.iter().map(|job| job.id).collect();
    assert_eq!(first, ids[..4]);
}

#[tokio::test]
async fn a_delayed_job_is_not_claimed_before_it_is_due() {
    let ledger = Ledger::create().await;
    let job = ledger.job(&Chore::Nothing).delay(Duration::from_secs(3600));
    queue::enqueue(&mut *ledger.connection().await, job).await.unwrap();
    assert!(ledger.claim(1).await.is_empty());
}

#[tokio::test]
async fn a_workspace_with_many_jobs_does_not_delay_another() {
    let ledger = Ledger::create().await;
    ledger.enqueue_many(2_000).await;
    let other = Ledger::at(ledger.url.clone());
    let late = other.enqueue(Chore::Nothing).await;

    let claimed = ledger.claim(10).await;
    assert!(claimed.iter().any(|job| job.id == late));
    // The next batch is full again, since only one workspace has due jobs.
    assert_eq!(ledger.claim(10).await.len(), 10);
}

#[tokio::test]
async fn more_workspaces_than_the_limit_of_a_claim_take_turns() {
    let ledger = Ledger::create().await;
    for _ in 0..20 {
        let workspace = Uuid::now_v7();
        queue::enqueue_all(&mut *ledger.connection().await, workspace, &vec![Chore::Nothing; 20]).await.unwrap();
    }
    let mut marks = Marks::default();
    let mut turns: HashMap<Uuid, usize> = HashMap::new();
    for _ in 0..60 {
        let ranges = marks.ranges();
        let claimed = queue::claim_in(&mut *ledger.connection().await, "chores", 4, &ranges, &[], &Claimant::default())
            .await
            .unwrap();
        for job in &claimed {
            *turns.entry(job.workspace_id).or_default() += 1;
        }
        let positions = claimed.iter().map(|job| (job.workspace_id, job.position()));
        marks.claimed(&ranges, claimed[0].claimed_at(), positions);
    }
    assert_eq!(turns.into_values().collect::<Vec<_>>(), [12; 20]);
}

#[tokio::test]
async fn writes_of_a_superseded_attempt_are_discarded() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let late = ledger.claim_one().await.lease();
    rescue_all(&ledger).await;
    let mut connection = ledger.connection().await;
    let present =
        queue::claim_quarantined(&mut connection, &["chores"], &Claimant::default()).await.unwrap().unwrap().lease();
    assert!(present.attempt > late.attempt);

    let progress = Progress { done: 1, total: None };
    let late_step = queue::progress(&mut connection, late, progress, &json!({}), None).await;
    assert!(matches!(late_step, Err(Error::Superseded)));
    queue::finish(&mut connection, &[Ended::silently(late, Outcome::Failed("late".into()))]).await.unwrap();
    let job = ledger.get(id).await;
    assert_eq!((job.status, job.error, job.progress.done), (JobStatus::Running, None, 0));

    queue::finish(&mut connection, &[Ended::silently(present, Outcome::Succeeded(Some(json!("present"))))])
        .await
        .unwrap();
    queue::finish(&mut connection, &[Ended::silently(late, Outcome::Failed("late".into()))]).await.unwrap();
    let job = ledger.get(id).await;
    assert_eq!((job.status, job.result), (JobStatus::Succeeded, Some(json!("present"))));
}

#[tokio::test]
async fn renewing_returns_only_the_leases_that_are_still_held() {
    let ledger = Ledger::create().await;
    ledger.enqueue_many(3).await;
    let leases: Vec<Lease> = ledger.claim(3).await.iter().map(Claimed::lease).collect();
    ledger.cancel(leases[1].id).await;
    let mut still = queue::renew(&mut *ledger.connection().await, &leases).await.unwrap();
    still.sort_unstable();
    assert_eq!(still, [leases[0], leases[2]]);
}

#[tokio::test]
async fn an_expired_lease_can_be_renewed_until_the_job_is_rescued() {
    let ledger = Ledger::create().await;
    ledger.enqueue(Chore::Nothing).await;
    let lease = ledger.claim_one().await.lease();
    ledger.expire_leases().await;
    assert_eq!(queue::renew(&mut *ledger.connection().await, &[lease]).await.unwrap(), [lease]);
    rescue_now(&ledger).await;
    assert_eq!(ledger.get(lease.id).await.status, JobStatus::Running);
}

#[tokio::test]
async fn renewing_a_job_that_has_just_ended_restores_no_lease() {
    let ledger = Ledger::create().await;
    ledger.enqueue_many(2).await;
    let leases: Vec<Lease> = ledger.claim(2).await.iter().map(Claimed::lease).collect();
    let mut connection = ledger.connection().await;
    let (done, back) = (Outcome::Succeeded(None), Outcome::Snooze(Duration::ZERO));
    let ended = [Ended::silently(leases[0], done), Ended::silently(leases[1], back)];
    queue::finish(&mut connection, &ended).await.unwrap();
    queue::renew(&mut connection, &leases).await.unwrap();

    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE lease_until IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(held, 0);
    assert_eq!(ledger.claim(2).await.len(), 1);
}

#[tokio::test]
async fn a_job_whose_process_dies_five_times_fails_and_can_be_retried() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let mut connection = ledger.connection().await;
    ledger.claim_one().await;
    for death in 1..=MAX_CRASHES {
        assert_eq!(ledger.get(id).await.status, JobStatus::Running, "death {death}");
        rescue_all(&ledger).await;
        // The job is in quarantine, so ordinary claims skip it.
        assert!(ledger.claim(10).await.is_empty());
        queue::claim_quarantined(&mut connection, &["chores"], &Claimant::default()).await.unwrap();
    }
    let job = ledger.get(id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.as_deref(), Some("the worker process died 5 times in a row while it ran this job"));

    let job = queue::retry(&mut connection, ledger.workspace, id).await.unwrap();
    assert_eq!(job.status, JobStatus::Queued);
    assert_eq!(ledger.claim_one().await.id, id);
}

#[tokio::test]
async fn a_committed_step_resets_crashes_and_failures() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let lease = ledger.claim_one().await.lease();
    let mut connection = ledger.connection().await;
    let state = RetryState { errors: 1, ..RetryState::default() };
    let retry = Outcome::Retry { error: "broken".into(), delay: Duration::ZERO, counts: true, state: state.clone() };
    queue::finish(&mut connection, &[Ended::silently(lease, retry)]).await.unwrap();
    ledger.claim_one().await;
    rescue_all(&ledger).await;
    assert_eq!(ledger.failures_and_crashes(id).await, (1, 1));
    assert_eq!(ledger.get(id).await.error.as_deref(), Some("broken"));

    let claimed = queue::claim_quarantined(&mut connection, &["chores"], &Claimant::default()).await.unwrap().unwrap();
    assert_eq!((claimed.failures, claimed.crashes), (1, 1));
    assert_eq!(claimed.retry_state.as_ref().unwrap().0, state);
    let progress = Progress { done: 1, total: Some(2) };
    queue::progress(&mut connection, claimed.lease(), progress, &json!({}), None).await.unwrap();
    assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
    assert_eq!(ledger.get(id).await.error, None);
}

#[tokio::test]
async fn a_repeated_step_resets_nothing() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let mut connection = ledger.connection().await;
    let progress = Progress { done: 1, total: None };
    let lease = ledger.claim_one().await.lease();
    queue::progress(&mut connection, lease, progress, &json!({ "at": 1 }), None).await.unwrap();
    let state = RetryState { errors: 1, ..RetryState::default() };
    let retry = Outcome::Retry { error: "broken".into(), delay: Duration::ZERO, counts: true, state: state.clone() };
    queue::finish(&mut connection, &[Ended::silently(lease, retry)]).await.unwrap();

    // The job repeats the same step and its process dies, five times in all.
    let mut lease = ledger.claim_one().await.lease();
    for death in 1..=MAX_CRASHES {
        let recorded = queue::progress(&mut connection, lease, progress, &json!({ "at": 1 }), None).await.unwrap();
        assert_eq!((recorded.crashes, recorded.retry_state.unwrap().0), (death - 1, state.clone()));
        assert_eq!(ledger.get(id).await.error.as_deref(), Some("broken"));
        rescue_all(&ledger).await;
        if let Some(claimed) =
            queue::claim_quarantined(&mut connection, &["chores"], &Claimant::default()).await.unwrap()
        {
            lease = claimed.lease();
        }
    }
    assert_eq!(ledger.get(id).await.status, JobStatus::Failed);
}

#[tokio::test]
async fn the_quarantined_job_with_the_fewest_crashes_is_claimed_first() {
    let ledger = Ledger::create().await;
    let ids = ledger.enqueue_many(2).await;
    ledger.claim(2).await;
    rescue_all(&ledger).await;
    let mut connection = ledger.connection().await;
    let first = queue::claim_quarantined(&mut connection, &["chores"], &Claimant::default()).await.unwrap().unwrap();
    rescue_all(&ledger).await;
    let second = queue::claim_quarantined(&mut connection, &["chores"], &Claimant::default()).await.unwrap().unwrap();
    assert_ne!(first.id, second.id);
    assert!(ids.contains(&second.id));
    assert_eq!(
        (
            second.crashes,
            queue::claim_quarantined(&mut connection, &["other"], &Claimant::default())
                .await
                .unwrap()
                .map(|job| job.id)
        ),
        (1, None)
    );
}

#[tokio::test]
async fn a_cancelled_job_can_be_retried() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    assert_eq!(ledger.cancel(id).await.status, JobStatus::Cancelled);
    assert_eq!(ledger.cancel(id).await.status, JobStatus::Cancelled);
    assert!(ledger.claim(1).await.is_empty());
    let mut connection = ledger.connection().await;
    queue::retry(&mut connection, ledger.workspace, id).await.unwrap();
    let lease = ledger.claim_one().await.lease();
    queue::finish(&mut connection, &[Ended::silently(lease, Outcome::Succeeded(None))]).await.unwrap();
    let again = queue::retry(&mut connection, ledger.workspace, id).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn a_job_is_invisible_to_other_workspaces() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    let (mut connection, stranger) = (ledger.connection().await, Uuid::now_v7());
    assert!(matches!(queue::get(&mut connection, stranger, id).await, Err(Error::NotFound)));
    assert!(matches!(queue::cancel(&mut connection, stranger, id).await, Err(Error::NotFound)));
    assert!(matches!(queue::retry(&mut connection, stranger, id).await, Err(Error::NotFound)));
    assert_eq!(ledger.get(id).await.status, JobStatus::Queued);
}

#[tokio::test]
async fn only_jobs_that_ended_long_ago_are_pruned_and_in_batches() {
    let ledger = Ledger::create().await;
    let keep = Duration::from_secs(24 * 3600);
    let mut connection = ledger.connection().await;
    // Ids contain their time, so old jobs have old ids.
    let old_id = |n: u64| Uuid::new_v7(uuid::Timestamp::from_unix_time(1_600_000_000 + n, 0, 0, 0));
    let mut ids = Vec::new();
    for n in 0..7_u64 {
        let job = ledger.job(&Chore::Nothing).id(old_id(n));
        ids.push(queue::enqueue(&mut connection, job).await.unwrap().id);
    }
    let young = ledger.enqueue(Chore::Nothing).await;
    for claimed in ledger.claim(10).await {
        queue::finish(&mut connection, &[Ended::silently(claimed.lease(), Outcome::Succeeded(None))]).await.unwrap();
    }
    ledger.run("UPDATE jobs SET finished_at = now() - interval '2 days'").await;
    let unfinished = queue::enqueue(&mut connection, ledger.job(&Chore::Nothing).id(old_id(99))).await.unwrap().id;
    sqlx::query("UPDATE jobs SET finished_at = now() WHERE id = ANY ($1)")
        .bind([ids[6], young])
        .execute(&mut *connection)
        .await
        .unwrap();

    let mut pruned = Vec::new();
    while pruned.last() != Some(&0) {
        pruned.push(queue::prune(&mut connection, ledger.workspace, keep, 4).await.unwrap());
    }
    assert_eq!(pruned, [4, 2, 0]);
    for kept in [ids[6], young, unfinished] {
        ledger.get(kept).await;
    }
}

/// Expires all leases and rescues the jobs. A server that started just now gives workers time to
/// renew.
async fn rescue_all(ledger: &Ledger) {
    let started = Instant::now();
    loop {
        ledger.expire_leases().await;
        if ledger.count(JobStatus::Running).await == 0 {
            return;
        }
        rescue_now(ledger).await;
        assert!(started.elapsed() < PATIENCE, "expired leases are not noticed");
        if ledger.count(JobStatus::Running).await > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn rescue_now(ledger: &Ledger) {
    queue::rescue(&mut *ledger.connection().await, &mut queue::Looked::default(), |_| Reporting::None).await.unwrap();
}

#[tokio::test]
async fn the_ends_of_many_jobs_are_recorded_fast_before_any_statistics_know_of_them() {
    let ledger = Ledger::create().await;
    let mut connection = ledger.hurried(db::batch_pool).await;
    let ended = |jobs: &[Claimed]| -> Vec<Ended> {
        jobs.iter().map(|job| Ended::silently(job.lease(), Outcome::Succeeded(None))).collect()
    };
    // A plan for a few jobs compares all of the workspace with all that have ended, which takes 10 s for the others.
    for _ in 0..10 {
        ledger.enqueue_many(1).await;
        queue::finish(&mut connection, &ended(&ledger.claim(1).await)).await.unwrap();
    }
    ledger.enqueue_many(30_000).await;
    queue::finish(&mut connection, &ended(&ledger.claim(2_000).await)).await.unwrap();
    assert_eq!(ledger.count(JobStatus::Succeeded).await, 2_010);
}
