//! Payloads that a worker of an older version cannot read.

use dev::chores::Chore;
use shared::jobs::{self, JobStatus};

use crate::support::Ledger;

const OF_A_NEWER_VERSION: &str = r#"UPDATE jobs SET payload = '{"new":1}'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_a_day_for_a_worker_that_can_read_it() {
    let ledger = Ledger::create().await;
    let id = ledger.enqueue(Chore::Nothing).await;
    ledger.run(OF_A_NEWER_VERSION).await;
    let worker = ledger.worker(1);
    let is_put_off = |attempt| move |job: &jobs::Job| job.attempt == attempt && job.status == JobStatus::Queued;
    let job = ledger.until(id, "put off", is_put_off(1)).await;
    assert!(job.finished_at.is_none());
    let later: bool = sqlx::query_scalar("SELECT run_at > now() + interval '10 seconds' FROM jobs")
        .fetch_one(&ledger.pool)
        .await
        .unwrap();
    assert!(later, "it is not asked for again and again");

    // Unreadable a day ago and readable since, it has not been unreadable for a day.
    let elsewhere = "UPDATE jobs SET run_at = now(), unreadable_since = now() - interval '25 hours',
        unreadable_at = now() - interval '2 hours'";
    ledger.run(elsewhere).await;
    ledger.until(id, "put off again", is_put_off(2)).await;

    let a_day = "UPDATE jobs SET run_at = now(), unreadable_since = now() - interval '25 hours'";
    ledger.run(a_day).await;
    let job = ledger.until_finished(id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.error.unwrap().contains("payload cannot be read"));

    // Retried, it has another day, in which a newer worker takes it.
    jobs::retry(&mut *ledger.connection().await, ledger.workspace, id).await.unwrap();
    ledger.until(id, "put off after a retry", is_put_off(4)).await;
    ledger.run(r#"UPDATE jobs SET payload = '"nothing"', run_at = now()"#).await;
    assert_eq!(ledger.until_finished(id).await.status, JobStatus::Succeeded);
    worker.stop().await;
}
