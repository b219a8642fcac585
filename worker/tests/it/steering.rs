//! Draining workers and suspended workspaces: running jobs return to their queue and lose nothing.

use shared::accounts::workspaces;
use shared::operations::workers::{self, Worker, WorkerState};
use shared::queue::JobStatus;
use testing::test_jobs::Chore;
use uuid::Uuid;

use crate::support::{Ledger, PATIENCE, attempts};

/// A job of a few seconds, in steps of 20 ms.
const LONG: Chore = Chore::Walk { steps: 200, ms: 20 };

async fn workers_of(ledger: &Ledger) -> Vec<Worker> {
    workers::list(&mut *ledger.connection().await).await.unwrap()
}

/// Waits until the workers look like this.
async fn until(ledger: &Ledger, what: &str, holds: impl Fn(&[Worker]) -> bool) -> Vec<Worker> {
    let started = std::time::Instant::now();
    loop {
        let workers = workers_of(ledger).await;
        if holds(&workers) {
            return workers;
        }
        assert!(started.elapsed() < PATIENCE, "not in time: {what}: {workers:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The worker that holds, or last held, the lease of a job.
async fn holder(ledger: &Ledger, id: Uuid) -> Uuid {
    let holder = "SELECT worker_id FROM jobs WHERE workspace_id = $1 AND id = $2";
    sqlx::query_scalar(holder).bind(ledger.workspace).bind(id).fetch_one(&ledger.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_leaves_its_job_to_another_and_comes_back() {
    let ledger = Ledger::create().await;
    let (one, other) = (ledger.worker(2), ledger.worker(2));
    until(&ledger, "both have registered", |workers| workers.len() == 2).await;
    let id = ledger.enqueue(LONG).await;
    ledger.until(id, "under way", |job| job.progress.done > 5).await;

    let first = holder(&ledger, id).await;
    let draining = workers::drain(&mut *ledger.connection().await, first).await.unwrap();
    assert!(matches!(draining.state, WorkerState::Draining | WorkerState::Drained), "{draining:?}");
    until(&ledger, "it is drained", |workers| {
        workers.iter().any(|worker| worker.id == first && worker.state == WorkerState::Drained && worker.jobs == 0)
    })
    .await;
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.progress.done, attempts(&job).len()), (JobStatus::Succeeded, 200, 200));
    let second = holder(&ledger, id).await;
    assert_ne!(second, first, "the drained worker claims nothing");

    // The other one drains, too, so the first must do the work once it is back.
    workers::drain(&mut *ledger.connection().await, second).await.unwrap();
    until(&ledger, "both are drained", |workers| workers.iter().all(|worker| worker.state == WorkerState::Drained))
        .await;
    let waits = ledger.enqueue(Chore::Nothing).await;
    workers::undrain(&mut *ledger.connection().await, first).await.unwrap();
    ledger.until_finished(waits).await;
    assert_eq!(holder(&ledger, waits).await, first);

    one.stop().await;
    other.stop().await;
    let stopped = workers_of(&ledger).await;
    assert!(stopped.iter().all(|worker| worker.state == WorkerState::Stopped), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_lost_and_what_it_held_is_rescued() {
    let ledger = Ledger::create().await;
    let killed = ledger.worker_process(&[]);
    let id = ledger.enqueue(LONG).await;
    ledger.until(id, "under way", |job| job.progress.done > 5).await;
    let first = holder(&ledger, id).await;
    let seen = workers_of(&ledger).await;
    assert_eq!((seen.len(), seen[0].id, seen[0].state, seen[0].jobs), (1, first, WorkerState::Running, 1));
    assert!(seen[0].pid > 0 && !seen[0].host.is_empty() && seen[0].queues.contains(&"chores".to_owned()), "{seen:?}");

    // PostgreSQL names it, too.
    let named = format!("crm-worker {}", &first.simple().to_string()[..8]);
    let connections =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1";
    let connections: i64 = sqlx::query_scalar(connections).bind(named).fetch_one(&ledger.pool).await.unwrap();
    assert!(connections > 0);

    killed.kill9().await;
    let worker = ledger.worker(1);
    until(&ledger, "the first is lost", |workers| {
        workers.iter().any(|worker| worker.id == first && worker.state == WorkerState::Lost && worker.jobs == 0)
    })
    .await;
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.progress.done), (JobStatus::Succeeded, 200));
    assert_ne!(holder(&ledger, id).await, first);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_jobs_of_a_suspended_workspace_wait_and_resume() {
    let mut ledger = Ledger::create().await;
    ledger.workspace = workspaces::create(&mut *ledger.connection().await, "acme").await.unwrap().id;
    let worker = ledger.worker(2);
    let id = ledger.enqueue(LONG).await;
    ledger.until(id, "under way", |job| job.progress.done > 5).await;

    workspaces::suspend(&mut *ledger.connection().await, ledger.workspace).await.unwrap();
    ledger.until(id, "handed back", |job| job.status == JobStatus::Queued).await;
    let waits = ledger.enqueue(Chore::Nothing).await;
    // The worker does others' work meanwhile.
    let other = Ledger::at(ledger.url.clone());
    let of_other = other.enqueue(Chore::Nothing).await;
    other.until_finished(of_other).await;
    assert_eq!(ledger.get(waits).await.status, JobStatus::Queued);
    assert_eq!(ledger.get(id).await.status, JobStatus::Queued);

    workspaces::unsuspend(&mut *ledger.connection().await, ledger.workspace).await.unwrap();
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.progress.done, attempts(&job).len()), (JobStatus::Succeeded, 200, 200));
    ledger.until_finished(waits).await;
    worker.stop().await;
}
