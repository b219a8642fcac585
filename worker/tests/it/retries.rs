//! Retries of jobs after errors: which errors count, how long jobs wait, and whether others are
//! delayed.

use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use shared::insight::themes::FindThemes;
use shared::queue::{self, Job, JobStatus, MAX_DEFECTS, MAX_ERRORS, NewJob};
use shared::schedule::nightly::Nightly;
use testing::test_jobs::Chore;
use testing::{create_trigger, drop_trigger};
use uuid::Uuid;

use crate::support::{Ledger, PATIENCE};

/// Creates a table whose trigger raises an error until it is dropped.
async fn shelf(ledger: &Ledger, code: &str) {
    ledger.run("CREATE TABLE IF NOT EXISTS shelf (n integer)").await;
    break_table(ledger, "shelf", "INSERT", code).await;
}

async fn break_table(ledger: &Ledger, table: &str, when: &str, code: &str) {
    let function = format!(
        "CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '{code}'; END $$"
    );
    let trigger = format!(
        "CREATE OR REPLACE TRIGGER broken BEFORE {when} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION broken()"
    );
    create_trigger(&mut *ledger.connection().await, &function, &trigger).await;
}

fn put() -> Chore {
    Chore::Execute { statements: vec!["SELECT 1".into(), "INSERT INTO shelf VALUES (1)".into()] }
}

/// Waits until the job waits for a retry after so many claims.
async fn waiting(ledger: &Ledger, id: Uuid, claims: i32) -> Job {
    until_claimed(ledger, id, claims, |job| job.status == JobStatus::Queued && job.retry_at.is_some()).await
}

/// Waits until the job was claimed so often and the condition holds, or until it has finished.
async fn until_claimed(ledger: &Ledger, id: Uuid, claims: i32, holds: impl Fn(&Job) -> bool) -> Job {
    let began = Instant::now();
    loop {
        // The `attempt` that callers see does not count conditions of the database.
        let fence = ledger.fence(id).await;
        let job = ledger.get(id).await;
        if job.status.is_finished() || (fence >= i64::from(claims) && holds(&job)) {
            return job;
        }
        assert!(began.elapsed() < PATIENCE, "claimed {fence} times: {job:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes a waiting job due now.
async fn hurry(ledger: &Ledger, id: Uuid) {
    let hurry = "WITH due AS (UPDATE jobs SET run_at = now() WHERE id = $1 RETURNING queue)
                 SELECT pg_notify('crm_jobs', queue) FROM due";
    sqlx::query(hurry).bind(id).execute(&ledger.pool).await.unwrap();
}

/// Whether a job waits for a retry in the future.
fn waits(job: &Job) -> bool {
    job.retry_at.is_some_and(|at| at > Utc::now())
}

/// Retries a job until it has failed or was claimed so often. A short wait may also expire by
/// itself.
async fn retry_until(ledger: &Ledger, id: Uuid, claims: i32) -> Job {
    loop {
        let job = until_claimed(ledger, id, 1, waits).await;
        if job.status.is_finished() {
            return job;
        }
        if ledger.fence(id).await >= i64::from(claims) {
            return until_claimed(ledger, id, claims, waits).await;
        }
        hurry(ledger, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_the_database_never_count_against_a_job() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    for (code, error) in [
        ("53100", "the database's disk is full (SQLSTATE 53100)"),
        ("58030", "the database server reports a system error (SQLSTATE 58030)"),
        ("42P01", "a table is missing (SQLSTATE 42P01)"),
        ("55P03", "a table or row is locked (SQLSTATE 55P03)"),
    ] {
        shelf(&ledger, code).await;
        let id = ledger.enqueue(put()).await;
        let job = retry_until(&ledger, id, 12).await;
        assert_eq!((job.status, job.error.as_deref()), (JobStatus::Queued, Some(error)));
        assert_eq!(ledger.failures_and_crashes(id).await, (0, 0));
        let wait = job.retry_at.unwrap() - Utc::now();
        assert!(wait.num_seconds() >= 25 && wait.num_seconds() <= 60, "{code}: it waits for {wait}");

        // The waiting job does not occupy the only slot.
        let other = ledger.enqueue(Chore::Nothing).await;
        assert_eq!(ledger.until_finished(other).await.status, JobStatus::Succeeded);

        drop_trigger(&mut *ledger.connection().await, "broken", "shelf").await;
        hurry(&ledger, id).await;
        let job = ledger.until_finished(id).await;
        assert_eq!((job.status, job.error, job.retry_at), (JobStatus::Succeeded, None, None), "{code}");
    }
    let put: i64 = sqlx::query_scalar("SELECT count(*) FROM shelf").fetch_one(&ledger.pool).await.unwrap();
    assert_eq!(put, 4, "each job must insert its row once");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_can_be_cancelled_or_retried_at_once() {
    let ledger = Ledger::create().await;
    shelf(&ledger, "53100").await;
    let worker = ledger.worker(1);
    let [first, second] = [ledger.enqueue(put()).await, ledger.enqueue(put()).await];
    retry_until(&ledger, first, 8).await;
    retry_until(&ledger, second, 8).await;
    assert_eq!(ledger.cancel(first).await.status, JobStatus::Cancelled);

    drop_trigger(&mut *ledger.connection().await, "broken", "shelf").await;
    let job = queue::retry(&mut *ledger.connection().await, ledger.workspace, second).await.unwrap();
    assert_eq!((job.status, job.error, job.retry_at), (JobStatus::Queued, None, None));
    assert_eq!(ledger.until_finished(second).await.status, JobStatus::Succeeded);
    let job = ledger.get(first).await;
    assert_eq!((job.status, job.retry_at), (JobStatus::Cancelled, None));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_for_a_day_fails_the_job() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(put()).await;
    waiting(&ledger, id, 1).await;
    ledger
        .run("UPDATE jobs SET run_at = now(), retry_state = jsonb_set(retry_state, '{relation_since}', to_jsonb(now() - interval '24 hours'))")
        .await;
    let job = ledger.until_finished(id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.as_deref(), Some("gave up after 24 hours: a table is missing (SQLSTATE 42P01)"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_gives_up_after_ten_minutes() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    ledger.run("ALTER TABLE feedback_readings RENAME TO restored_later").await;
    let job = NewJob::new(ledger.workspace, &FindThemes { dry_run: true }).unwrap();
    let id = queue::enqueue(&mut *ledger.connection().await, job).await.unwrap().id;
    waiting(&ledger, id, 1).await;
    ledger
        .run("UPDATE jobs SET run_at = now(), retry_state = jsonb_set(retry_state, '{since}', to_jsonb(now() - interval '10 minutes'))")
        .await;
    let job = ledger.until_finished(id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.as_deref(), Some("gave up after 10 minutes: a table is missing (SQLSTATE 42P01)"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_errors_are_retried_for_a_day_and_then_fail_the_job() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    for (chore, error) in [
        (Chore::RetryUntil { attempt: 1_000 }, "not yet"),
        (
            Chore::Execute { statements: vec!["SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)".into()] },
            "a statement took too long (SQLSTATE 57014)",
        ),
    ] {
        let id = ledger.enqueue(chore).await;
        let job = retry_until(&ledger, id, i32::from(MAX_ERRORS) - 1).await;
        assert_eq!((job.status, job.error.as_deref()), (JobStatus::Queued, Some(error)));
        let wait = job.retry_at.unwrap() - Utc::now();
        assert!(wait.num_minutes() >= 59 && wait.num_minutes() <= 90, "it waits for {wait}");
        let job = retry_until(&ledger, id, i32::from(MAX_ERRORS)).await;
        hurry(&ledger, id).await;
        let job = if job.status.is_finished() { job } else { ledger.until_finished(id).await };
        assert_eq!((job.status, job.error.as_deref()), (JobStatus::Failed, Some(error)));
        assert_eq!(job.attempt, i32::from(MAX_ERRORS));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eighth_defect_fails_a_job_even_if_it_repeats_its_first_step_each_time() {
    let ledger = Ledger::create().await;
    let worker = ledger.worker(1);
    let divide = Chore::Execute { statements: vec!["SELECT 1".into(), "SELECT 1 / 0".into()] };
    for (chore, error) in
        [(Chore::Panic, "internal error; see the worker's log"), (divide, "internal error; see the worker's log")]
    {
        let id = ledger.enqueue(chore).await;
        let job = retry_until(&ledger, id, i32::from(MAX_DEFECTS)).await;
        assert_eq!((job.status, job.attempt), (JobStatus::Failed, i32::from(MAX_DEFECTS)));
        assert_eq!(job.error.as_deref(), Some(error));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_committed_step_resets_the_count() {
    let ledger = Ledger::create().await;
    shelf(&ledger, "P0001").await;
    let worker = ledger.worker(1);
    let id = ledger.enqueue(put()).await;
    retry_until(&ledger, id, 5).await;
    assert_eq!(ledger.failures_and_crashes(id).await, (5, 0));
    // Simulates that an earlier step recorded something else.
    ledger.run(r#"UPDATE jobs SET result = '"elsewhere"', run_at = now()"#).await;
    let job = waiting(&ledger, id, 6).await;
    assert_eq!(ledger.failures_and_crashes(id).await, (1, 0));
    assert!((job.retry_at.unwrap() - Utc::now()).num_seconds() < 3, "{job:?}");
    worker.stop().await;
}

async fn begin_night(ledger: &Ledger) -> Uuid {
    let job = NewJob::new(ledger.workspace, &Nightly { date: "2026-11-29".parse().unwrap() }).unwrap();
    queue::enqueue(&mut *ledger.connection().await, job).await.unwrap().id
}

fn runs(job: &Job) -> Vec<(String, String)> {
    let runs = job.result.as_ref().and_then(|result| result["runs"].as_array().cloned()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    runs.iter().map(|run| (text(&run["kind"]), text(&run["status"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_part_of_the_nightly_run_is_retried_with_backoff_and_delays_no_other() {
    let ledger = Ledger::create().await;
    break_table(&ledger, "scheduled_runs", "DELETE", "P0001").await;
    let worker = ledger.worker(4);
    let id = begin_night(&ledger).await;
    let others_are_done = |job: &Job| {
        let runs = runs(job);
        runs.len() == 6 && runs.iter().all(|(kind, status)| (kind == "clean_up") != (status == "succeeded"))
    };
    let night = ledger.until(id, "finished except for its clean-up", others_are_done).await;
    assert!(!night.status.is_finished());
    let part = Uuid::parse_str(night.result.as_ref().unwrap()["runs"][5]["job_id"].as_str().unwrap()).unwrap();
    let job = retry_until(&ledger, part, 10).await;
    assert_eq!(job.error.as_deref(), Some("internal error; see the worker's log"));
    assert!((job.retry_at.unwrap() - Utc::now()).num_minutes() >= 8, "{job:?}");
    // The nightly job reports the waiting part.
    let reports = |job: &Job| job.result.as_ref().is_some_and(|night| night["runs"][5]["retry_at"].is_string());
    let night = ledger.until(id, "reporting the waiting part", reports).await;
    assert_eq!(night.result.unwrap()["runs"][5]["error"], json!("internal error; see the worker's log"));

    drop_trigger(&mut *ledger.connection().await, "broken", "scheduled_runs").await;
    hurry(&ledger, part).await;
    let night = ledger.until_finished(id).await;
    assert_eq!(night.status, JobStatus::Succeeded, "{night:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nightly_run_names_its_failed_part_and_a_retry_starts_only_that_part() {
    let ledger = Ledger::create().await;
    break_table(&ledger, "scheduled_runs", "DELETE", "22012").await;
    let worker = ledger.worker(4);
    let id = begin_night(&ledger).await;
    let has_part = |job: &Job| runs(job).len() == 6;
    let night = ledger.until(id, "started", has_part).await.result.unwrap();
    let part = Uuid::parse_str(night["runs"][5]["job_id"].as_str().unwrap()).unwrap();
    assert_eq!(retry_until(&ledger, part, i32::from(MAX_DEFECTS)).await.status, JobStatus::Failed);
    let failed = ledger.until_finished(id).await;
    assert_eq!((failed.status, failed.error.as_deref()), (JobStatus::Failed, Some("clean_up did not succeed")));

    drop_trigger(&mut *ledger.connection().await, "broken", "scheduled_runs").await;
    queue::retry(&mut *ledger.connection().await, ledger.workspace, id).await.unwrap();
    let again = ledger.until_finished(id).await;
    assert_eq!(again.status, JobStatus::Succeeded, "{again:?}");
    let jobs = |night: &Value| -> Vec<Value> {
        night["runs"].as_array().unwrap().iter().map(|run| run["job_id"].clone()).collect()
    };
    let (before, after) = (jobs(&failed.result.unwrap()), jobs(&again.result.unwrap()));
    assert_eq!(before[..5], after[..5]);
    assert_ne!(before[5], after[5]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_nightly_run_that_cannot_start_delays_no_other() {
    let ledger = Ledger::create().await;
    break_table(&ledger, "theme_states", "INSERT", "P0001").await;
    let worker = ledger.worker(4);
    let id = begin_night(&ledger).await;
    let night = waiting(&ledger, id, 1).await;
    assert_eq!(night.error.as_deref(), Some("find_themes cannot begin: internal error; see the worker's log"));
    assert_eq!(runs(&night).len(), 5);
    let parts_are_done = async || {
        let done = "SELECT count(*) FROM jobs WHERE kind <> 'nightly' AND status = 'succeeded'";
        sqlx::query_scalar::<_, i64>(done).fetch_one(&ledger.pool).await.unwrap() == 5
    };
    while !parts_are_done().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let night = retry_until(&ledger, id, 9).await;
    assert!((night.retry_at.unwrap() - Utc::now()).num_minutes() >= 3, "{night:?}");

    drop_trigger(&mut *ledger.connection().await, "broken", "theme_states").await;
    hurry(&ledger, id).await;
    let night = ledger.until_finished(id).await;
    assert_eq!((night.status, runs(&night).len()), (JobStatus::Succeeded, 6));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_to_store_themes_are_counted_even_if_new_feedback_arrives() {
    let ledger = Ledger::create().await;
    break_table(&ledger, "theme_states", "UPDATE", "P0001").await;
    let worker = ledger.worker(1);
    // Discovery is already requested, so that only storing the themes updates the state.
    sqlx::query("INSERT INTO theme_states (workspace_id, wanted) VALUES ($1, true)")
        .bind(ledger.workspace)
        .execute(&ledger.pool)
        .await
        .unwrap();
    let job = NewJob::new(ledger.workspace, &FindThemes { dry_run: false }).unwrap();
    let id = queue::enqueue(&mut *ledger.connection().await, job).await.unwrap().id;
    for attempt in 1..=6 {
        waiting(&ledger, id, attempt).await;
        assert_eq!(ledger.failures_and_crashes(id).await, (i16::try_from(attempt).unwrap(), 0));
        if attempt < 6 {
            sqlx::query("INSERT INTO feedback_unread (workspace_id, feedback_id) VALUES ($1, $2)")
                .bind(ledger.workspace)
                .bind(Uuid::now_v7())
                .execute(&ledger.pool)
                .await
                .unwrap();
            hurry(&ledger, id).await;
        }
    }
    drop_trigger(&mut *ledger.connection().await, "broken", "theme_states").await;
    hurry(&ledger, id).await;
    let job = ledger.until_finished(id).await;
    assert_eq!((job.status, &job.result.unwrap()["found"]), (JobStatus::Succeeded, &json!(true)));
    worker.stop().await;
}
