//! The lifecycle of jobs in a worker.

use std::time::{Duration, Instant};

use serde_json::json;
use shared::queue::notify::Notifier;
use shared::queue::{self, JobStatus, NewJob};
use testing::test_jobs::Chore;
use testing::{Database, Process};
use uuid::Uuid;

use crate::support::{Ledger, attempts};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_and_its_result_is_stored() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(2);
    let id = ledger.enqueue(Chore::Nothing).await;
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.result, job.error), (JobStatus::Succeeded, Some(json!({ "attempt": 1 })), None));
    assert!(job.started_at.unwrap() <= job.finished_at.unwrap());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_short_jobs_run_once_each() {
    let ledger = Ledger::create().await;
    let ids = ledger.enqueue_many(5_000).await;
    let workers = [ledger.worker(4), ledger.worker(4)];
    for id in ids {
        assert_eq!(ledger.until_finished(id).await.attempt, 1);
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_steps_shows_its_progress_and_returns_what_its_steps_recorded() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::Walk { steps: 5, ms: 50 }).await;
    let under_way = ledger.until(id, "under way", |job| job.progress.done > 0).await;
    assert_eq!(under_way.progress.total, Some(5));
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.progress.done, attempts(&job)), (JobStatus::Succeeded, 5, vec![1; 5]));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_asks_for_a_retry_is_retried_after_a_delay() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::RetryUntil { attempt: 2 }).await;
    let waiting = ledger.until(id, "waiting", |job| job.error.is_some()).await;
    assert_eq!((waiting.status, waiting.error.as_deref()), (JobStatus::Queued, Some("not yet")));
    let wait = waiting.retry_at.unwrap() - waiting.started_at.unwrap();
    assert!((1_000..4_000).contains(&wait.num_milliseconds()), "it waits for {wait}");

    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.attempt, job.error, job.retry_at), (JobStatus::Succeeded, 2, None, None));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_reports_a_permanent_failure_is_not_retried() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::Fail { reason: "the file is not CSV".into() }).await;
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.attempt, job.error.as_deref()), (JobStatus::Failed, 1, Some("the file is not CSV")));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_snoozes_does_not_count_a_failure() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::SnoozeOnce { ms: 300 }).await;
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Succeeded, 1));
    assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
    let waited = job.finished_at.unwrap() - job.started_at.unwrap();
    assert!(waited.num_milliseconds() >= 300, "{waited}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_only_its_own_job() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(2);
    let id = ledger.enqueue(Chore::Panic).await;
    let job = ledger.until(id, "postponed", |job| job.error.is_some()).await;
    assert_eq!(job.error.as_deref(), Some("internal error; the job will be retried"));
    assert_eq!(ledger.failures_and_crashes(id).await, (1, 0));
    let neighbour = ledger.enqueue(Chore::Nothing).await;
    assert_eq!(ledger.until_finished(neighbour).await.status, JobStatus::Succeeded);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_see_the_text_of_internal_errors() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::Stumble).await;
    let job = ledger.until(id, "postponed", |job| job.error.is_some()).await;
    assert_eq!(job.error.as_deref(), Some("internal error; see the worker's log"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_cannot_be_stored_fails_only_its_own_job() {
    let ledger = Ledger::create().await;
    let bad = ledger.enqueue(Chore::FailUnspeakably).await;
    let good = ledger.enqueue_many(50).await;
    let worker = ledger.worker(4);
    for id in good {
        assert_eq!(ledger.until_finished(id).await.status, JobStatus::Succeeded);
    }
    let job = ledger.until_finished(bad).await;
    assert_eq!(job.error.as_deref(), Some("the job's result cannot be stored"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_unknown_kind_waits_for_a_newer_version() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    ledger.run("UPDATE jobs SET kind = 'from_the_future'").await;
    let worker = ledger.worker(1);
    let job = ledger.until(id, "postponed", |job| job.attempt == 1 && job.status == JobStatus::Queued).await;
    assert_eq!(job.error, None);
    worker.stop().await;
    assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_at_its_next_step_and_keeps_its_committed_steps() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::Walk { steps: 1_000, ms: 100 }).await;
    ledger.until(id, "under way", |job| job.progress.done >= 2).await;
    let cancelled = ledger.cancel(id).await;
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    // The worker's only slot is free again: another job runs, and the cancelled one has not moved.
    let next = ledger.enqueue(Chore::Nothing).await;
    assert_eq!(ledger.until_finished(next).await.status, JobStatus::Succeeded);
    let job = ledger.get(id).await;
    assert_eq!((job.status, job.progress), (JobStatus::Cancelled, cancelled.progress));

    // A retry resumes the job after its last committed step.
    queue::retry(&mut *ledger.connection().await, ledger.workspace, id).await.unwrap();
    let job = ledger.until(id, "resumed", |job| job.progress.done > cancelled.progress.done + 1).await;
    let done = usize::try_from(cancelled.progress.done).unwrap();
    assert_eq!(attempts(&job)[..=done], [vec![1; done], vec![ledger.fence(id).await]].concat());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_without_steps_is_dropped() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(Chore::Sleep { ms: 3_600_000 }).await;
    ledger.until_running(id).await;
    ledger.cancel(id).await;
    let next = ledger.enqueue(Chore::Nothing).await;
    assert_eq!(ledger.until_finished(next).await.status, JobStatus::Succeeded);
    assert_eq!(ledger.get(id).await.status, JobStatus::Cancelled);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_holds_no_more_long_jobs_than_it_has_slots() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(2);
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(ledger.enqueue(Chore::Sleep { ms: 3_600_000 }).await);
    }
    ledger.until_running(ids[0]).await;
    // A worker that claims too many jobs would do so within a second, when it polls.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let running = ledger.count(JobStatus::Running).await;
        assert!(running <= 2, "{running} jobs are held by a worker with two slots");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ledger.count(JobStatus::Running).await, 2);
    for id in ids {
        ledger.cancel(id).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_worker_hands_its_jobs_back_after_their_current_step() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(2);
    let long = ledger.enqueue(Chore::Walk { steps: 40, ms: 100 }).await;
    let short = ledger.enqueue(Chore::Sleep { ms: 1_000 }).await;
    ledger.until(long, "under way", |job| job.progress.done >= 2).await;
    ledger.until(short, "begun", |job| job.started_at.is_some()).await;
    let took = worker.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");

    assert_eq!(ledger.get(short).await.status, JobStatus::Succeeded);
    let handed_back = ledger.get(long).await;
    assert_eq!((handed_back.status, handed_back.error), (JobStatus::Queued, None));
    assert_eq!(ledger.failures_and_crashes(long).await, (0, 0));

    // Another worker resumes the job after its last committed step.
    let worker = ledger.worker(2);
    let job = ledger.until_finished(long).await;
    let done = usize::try_from(handed_back.progress.done).unwrap();
    assert_eq!(attempts(&job), [vec![1; done], vec![2; 40 - done]].concat());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_exceeds_the_shutdown_timeout_is_handed_back() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Sleep { ms: 3_600_000 }).await;
    let mut process = ledger.worker_process(&[("CRM_WORKER__SHUTDOWN_S", "4")]);
    ledger.until_running(id).await;
    process.signal("TERM");
    assert!(process.ended().await.is_success());
    let job = ledger.get(id).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Queued, 1));
    assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_worker_at_once() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Sleep { ms: 3_600_000 }).await;
    let mut process = ledger.worker_process(&[]);
    ledger.until_running(id).await;
    process.signal("TERM");
    process.signal("INT");
    assert!(!process.ended().await.is_success());
    assert_eq!(ledger.get(id).await.status, JobStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_wakes_an_idle_worker() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let notifier = Notifier::new(shared::platform::db::pool(&ledger.settings(&[]).database, "test").unwrap());
    let first = ledger.enqueue(Chore::Nothing).await;
    ledger.until_finished(first).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        let id = queue::enqueue(&mut *ledger.connection().await, ledger.job(&Chore::Nothing)).await.unwrap().id;
        notifier.notify("chores");
        let job = ledger.until_finished(id).await;
        waits.push((job.started_at.unwrap() - job.created_at).num_milliseconds());
    }
    waits.sort_unstable();
    // Without notifications, polling would take half a second on average.
    assert!(waits[10] < 250, "jobs wait for {waits:?} ms");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_only_claims_jobs_of_its_queues() {
    let ledger = Ledger::create().await;
    let unknown = ledger.settings(&[("CRM_WORKER__QUEUES", "imports")]);
    let stop = tokio_util::sync::CancellationToken::new();
    let worker = tokio::spawn(worker::run(unknown, testing::test_jobs::tasks(), stop.clone()));
    let chore = ledger.enqueue(Chore::Nothing).await;
    // A job of its own queue, whose import does not exist, shows that it works.
    let import = shared::imports::ImportLeads { import_id: Uuid::now_v7(), dry_run: false };
    let job = NewJob::new(ledger.workspace, &import).unwrap();
    let import = queue::enqueue(&mut *ledger.connection().await, job).await.unwrap().id;
    ledger.until(import, "attempted", |job| job.attempt > 0).await;
    assert_eq!(ledger.get(chore).await.attempt, 0);
    stop.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_queue_is_reported_at_startup() {
    let ledger = Ledger::create().await;
    let mut settings = ledger.settings(&[]);
    settings.worker.queues = vec!["reports".into()];
    let error = worker::run(settings, testing::test_jobs::tasks(), Default::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "worker.queues: unknown queue \"reports\"; available: chores, imports, mail, webhooks, workflows"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_queue_in_the_environment_ends_the_program() {
    let database = Database::create().await;
    let mut worker = Process::worker_with(&database, &[], &[("CRM_WORKER__QUEUES", "imports,mails")]);
    assert!(!worker.ended().await.is_success());
    let sentence = r#"worker.queues: unknown queue "mails"; available: imports, mail, webhooks, workflows"#;
    assert!(worker.output().contains(sentence), "{}", worker.output());
}
