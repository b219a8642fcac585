//! Scheduled runs with several workers, and `crm-worker run`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;
use shared::events::{Actor, ActorKind};
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, Transaction};
use shared::schedule;
use shared::values::json_body::Object;
use testing::{Database, Process};
use uuid::Uuid;

use crate::support::PATIENCE;

/// Creates a workspace with its nightly run at a local time, as if it had existed for longer.
async fn workspace(database: &Database, name: &str, nightly_at: &str, time_zone: &str, created: &str) -> Uuid {
    let mut connection = database.pool().acquire().await.unwrap();
    let workspace = workspaces::create(&mut connection, name).await.unwrap().id;
    let (hour, minute) = nightly_at.split_once(':').unwrap();
    let cron = format!("{minute} {hour} * * *");
    sqlx::query(
        "UPDATE schedules SET cron = $2, time_zone = $3, passed_until = $4, due_at = $4 WHERE workspace_id = $1",
    )
    .bind(workspace)
    .bind(cron)
    .bind(time_zone)
    .bind(created.parse::<DateTime<Utc>>().unwrap())
    .execute(&mut *connection)
    .await
    .unwrap();
    workspace
}

/// Deals with the schedules that are due at a time, as a worker does, and returns how many were. A worker that dies does
/// so before the commit.
async fn look(pool: &Pool, now: DateTime<Utc>, dies: bool) -> usize {
    let schedules: Vec<(Uuid, Uuid)> =
        sqlx::query_as("SELECT workspace_id, id FROM schedules WHERE due_at <= $1 ORDER BY id")
            .bind(now)
            .fetch_all(&mut *pool.acquire().await.unwrap())
            .await
            .unwrap();
    let due = schedules.len();
    for (workspace_id, id) in schedules {
        let mut transaction = Transaction::begin(pool).await.unwrap();
        schedule::start(&mut transaction, workspace_id, id, now).await.unwrap();
        if dies {
            drop(transaction);
        } else {
            transaction.commit().await.unwrap();
        }
    }
    due
}

/// Simulates four workers that look at different minutes. Some sleep, and some die while they look.
async fn play(database: &Database, from: &str, days: i64) {
    let settings = Settings::from_layers(None, [("DATABASE_URL".to_owned(), database.url().to_owned())]).unwrap();
    let pool = db::pool(&settings.database, "clock test").unwrap();
    let start: DateTime<Utc> = from.parse().unwrap();
    for minute in (0..days * 24 * 60).step_by(5) {
        let looks = (0..4_i64).map(|worker| {
            let pool = pool.clone();
            async move {
                // The third worker sleeps every other day, and the fourth sometimes dies.
                let awake = worker != 2 || (minute / 1440) % 2 == 0;
                let now = start + TimeDelta::minutes(minute + worker);
                if awake {
                    look(&pool, now, worker == 3 && minute % 35 == 0).await;
                }
            }
        });
        futures_util::future::join_all(looks).await;
    }
}

async fn runs(database: &Database, workspace: Uuid) -> BTreeMap<NaiveDate, i64> {
    let runs: Vec<(NaiveDate, i64)> = sqlx::query_as(
        "SELECT (payload->>'date')::date, count(*) FROM jobs WHERE workspace_id = $1 AND kind = 'nightly' GROUP BY 1",
    )
    .bind(workspace)
    .fetch_all(database.pool())
    .await
    .unwrap();
    runs.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_start_each_of_thirty_nightly_runs_once_across_two_clock_changes() {
    let database = Database::create().await;
    // In Hebron the clocks went back at midnight on August 1, 2011, and forward at midnight on
    // August 30.
    let hebron = workspace(&database, "hebron", "00:30", "Asia/Hebron", "2011-07-31T12:00:00Z").await;
    let utc = workspace(&database, "utc", "00:30", "UTC", "2011-07-31T12:00:00Z").await;
    play(&database, "2011-07-31T12:00:00Z", 30).await;
    let august: BTreeMap<NaiveDate, i64> =
        "2011-08-01".parse::<NaiveDate>().unwrap().iter_days().take(30).map(|date| (date, 1)).collect();
    assert_eq!(runs(&database, hebron).await, august);
    assert_eq!(runs(&database, utc).await, august);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_starting_worker_makes_up_a_missed_nightly_run_with_all_its_parts() {
    let database = Database::create().await;
    let workspace = workspace(&database, "acme", "00:00", "UTC", "2020-01-01T00:00:00Z").await;
    let _workers = [Process::worker(&database, &[]), Process::worker(&database, &[])];
    let night = ended(&database, workspace).await;
    assert_eq!(night["status"], "succeeded", "{night}");
    let kinds: Vec<&str> =
        night["result"]["runs"].as_array().unwrap().iter().map(|run| run["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["nurture_leads", "process_followups", "remind_feedback", "snapshot_health", "find_themes", "clean_up"]
    );
    assert_eq!(runs(&database, workspace).await.values().sum::<i64>(), 1);
}

/// The slots of a schedule's runs, each with the number of its jobs.
async fn slots(database: &Database, schedule: Uuid) -> Vec<(DateTime<Utc>, i64)> {
    sqlx::query_as(
        "SELECT slot, count(jobs.id) FROM scheduled_runs AS runs
         LEFT JOIN jobs ON jobs.workspace_id = runs.workspace_id AND jobs.id = runs.job_id
         WHERE schedule_id = $1 GROUP BY slot ORDER BY slot",
    )
    .bind(schedule)
    .fetch_all(database.pool())
    .await
    .unwrap()
}

/// Creates a schedule of a kind of which any number of jobs may wait.
async fn schedule(database: &Database, workspace: Uuid, timing: Value, since: &str) -> Uuid {
    let mut connection = database.pool().begin().await.unwrap();
    let actor = Actor { workspace_id: workspace, kind: ActorKind::Key, id: Uuid::nil(), request_id: None };
    let mut body = json!({ "kind": "process_followups", "overlap": "queue" });
    body.as_object_mut().unwrap().extend(timing.as_object().unwrap().clone());
    let body = Object::new(body.as_object().unwrap().clone());
    let made = schedule::create(&mut connection, (&actor, Scopes::ALL), body).await.unwrap();
    sqlx::query("UPDATE schedules SET created_at = $2, passed_until = $2, due_at = $2 WHERE id = $1")
        .bind(made.id)
        .bind(since.parse::<DateTime<Utc>>().unwrap())
        .execute(&mut *connection)
        .await
        .unwrap();
    connection.commit().await.unwrap();
    made.id
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_expression_starts_one_job_for_each_slot_on_the_days_of_clock_changes() {
    let database = Database::create().await;
    let acme = workspace(&database, "acme", "02:30", "Europe/Berlin", "2026-10-24T00:00:00Z").await;
    let made = async |timing: Value| schedule(&database, acme, timing, "2026-10-24T00:00:00Z").await;
    let fixed = made(json!({ "cron": "30 2 * * *", "time_zone": "Europe/Berlin" })).await;
    let elapsed = made(json!({ "cron": "0 * * * *", "time_zone": "Europe/Berlin", "catch_up": "all" })).await;
    let interval = made(json!({ "every": "P1D" })).await;
    play(&database, "2026-10-24T00:00:00Z", 3).await;
    for (schedule, expected) in [(fixed, 3), (elapsed, 3 * 24 - 1), (interval, 2)] {
        let slots = slots(&database, schedule).await;
        assert!(slots.iter().all(|(_, jobs)| *jobs == 1), "{slots:?}");
        assert_eq!(slots.len(), expected, "{slots:?}");
    }
    let two_thirty = |text: &str| (text.parse::<DateTime<Utc>>().unwrap(), 1);
    let expected = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"].map(two_thirty);
    assert_eq!(slots(&database, fixed).await, expected);
    assert_eq!(runs(&database, acme).await.into_values().collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_workers_of_which_some_die_start_each_slot_once() {
    const WORKERS: usize = 20;
    let database = Database::create().await;
    let acme = workspace(&database, "acme", "00:00", "UTC", "2026-10-24T00:00:00Z").await;
    let each_minute = schedule(&database, acme, json!({ "every": "PT1M" }), "2026-10-24T00:00:00Z").await;
    let variables = [
        ("DATABASE_URL".to_owned(), database.url().to_owned()),
        ("CRM_DATABASE__MAX_CONNECTIONS".to_owned(), WORKERS.to_string()),
    ];
    let settings = Settings::from_layers(None, variables).unwrap();
    let pool = db::pool(&settings.database, "clock test").unwrap();
    let start: DateTime<Utc> = "2026-10-24T00:00:00Z".parse().unwrap();
    for minute in 1..=60 {
        let now = start + TimeDelta::minutes(minute);
        let looks = (0..WORKERS).map(|worker| look(&pool, now, (worker + minute as usize).is_multiple_of(3)));
        futures_util::future::join_all(looks).await;
        // All that live may have looked while a dying one held the row, which its connection still rolls back.
        while look(&pool, now, false).await > 0 {}
    }
    let slots = slots(&database, each_minute).await;
    let expected: Vec<_> = (1..=60).map(|minute| (start + TimeDelta::minutes(minute), 1)).collect();
    assert_eq!(slots, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_at_that_second_start_each_job_once_and_in_time() {
    let database = Database::create().await;
    let acme = workspace(&database, "acme", "00:00", "UTC", "2999-01-01T00:00:00Z").await;
    let mut workers: Vec<_> = (0..3).map(|_| Process::worker(&database, &[])).collect();
    // Late enough that a busy machine has created all schedules by then.
    let at = Utc::now() + TimeDelta::seconds(20);
    let since = Utc::now().to_rfc3339();
    let mut schedules = Vec::new();
    for _ in 0..30 {
        schedules.push(schedule(&database, acme, json!({ "at": at.to_rfc3339() }), &since).await);
    }
    tokio::time::sleep((at - Utc::now()).to_std().unwrap_or_default().saturating_sub(Duration::from_millis(100))).await;
    for _ in 0..4 {
        workers.remove(0).kill9().await;
        workers.push(Process::worker(&database, &[]));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let started = std::time::Instant::now();
    for schedule in schedules {
        while slots(&database, schedule).await.is_empty() {
            assert!(started.elapsed() < PATIENCE, "the schedule does not run");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(slots(&database, schedule).await.len(), 1);
    }
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE kind = 'process_followups'")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(jobs, 30);
    let latest: f64 =
        sqlx::query_scalar("SELECT max(extract(epoch FROM created_at - slot))::double precision FROM scheduled_runs")
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert!(latest < 5.0, "the last job was started after {latest} s");
}

/// Waits for the end of a workspace's nightly job, and returns it.
async fn ended(database: &Database, workspace: Uuid) -> Value {
    let started = std::time::Instant::now();
    loop {
        let job: Option<Value> = sqlx::query_scalar(
            "SELECT to_jsonb(jobs) FROM jobs WHERE workspace_id = $1 AND kind = 'nightly' AND finished_at IS NOT NULL",
        )
        .bind(workspace)
        .fetch_optional(database.pool())
        .await
        .unwrap();
        if let Some(job) = job {
            return job;
        }
        assert!(started.elapsed() < PATIENCE, "the nightly run does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn command(database: &Database, arguments: &[&str]) -> tokio::process::Command {
    let program = testing::workspace::program("crm-worker", None).unwrap();
    let mut command = tokio::process::Command::new(program);
    command.arg("run").args(arguments).env("DATABASE_URL", database.url());
    command
}

/// Runs `crm-worker run …`, and returns its exit code and the job that it printed.
async fn run(database: &Database, arguments: &[&str]) -> (i32, Value) {
    let output = command(database, arguments).output().await.unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_scheduler_runs_a_night_once_and_learns_the_outcome() {
    let database = Database::create().await;
    workspace(&database, "acme", "23:59", "UTC", "2020-01-01T00:00:00Z").await;
    let nightly = ["nightly", "--workspace", "acme"];
    let (code, begun) = run(&database, &nightly).await;
    assert_eq!((code, &begun["status"]), (0, &json!("queued")));
    // No worker is running yet.
    let (code, waiting) = run(&database, &["nightly", "--workspace", "acme", "--wait", "--timeout-s", "1"]).await;
    assert_eq!((code, &waiting["id"]), (3, &begun["id"]));

    let _worker = Process::worker(&database, &[]);
    let (code, done) = run(&database, &["nightly", "--workspace", "acme", "--wait"]).await;
    assert_eq!((code, &done["id"], &done["status"]), (0, &begun["id"], &json!("succeeded")));

    sqlx::query("UPDATE jobs SET status = 'failed' WHERE kind = 'nightly'").execute(database.pool()).await.unwrap();
    let (code, again) = run(&database, &["nightly", "--workspace", "acme", "--wait"]).await;
    assert_eq!(
        (code, &again["id"], &again["status"]),
        (0, &begun["id"], &json!("succeeded")),
        "a failed run is retried"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_start_has_its_own_exit_code() {
    let database = Database::create().await;
    database.key("acme").await;
    let nobody = command(&database, &["nightly", "--workspace", "nobody"]).env("RUST_BACKTRACE", "1").output().await;
    let nobody = nobody.unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&nobody.stderr), "crm-worker: there is no workspace \"nobody\"\n");
    let unavailable = command(&database, &["nightly", "--workspace", "acme"])
        .env("DATABASE_URL", "postgres://crm@127.0.0.1:1/crm")
        .env("RUST_BACKTRACE", "1")
        .output()
        .await
        .unwrap();
    assert_eq!((unavailable.status.code(), unavailable.stdout.len()), (Some(1), 0));
    let error = String::from_utf8(unavailable.stderr).unwrap();
    assert!(error.starts_with("crm-worker: the database cannot be reached: ") && error.lines().count() == 1, "{error}");
    assert_eq!(run(&database, &["weekly", "--workspace", "acme"]).await.0, 2);
    assert_eq!(run(&database, &["nightly", "--workspace", "acme", "--timeout-s", "1"]).await.0, 2);
    for kind in ["nurture_leads", "process_followups", "remind_feedback"] {
        let (code, job) = run(&database, &[kind, "--workspace", "acme"]).await;
        assert_eq!((code, &job["kind"]), (0, &json!(kind)));
        let (_, same) = run(&database, &[kind, "--workspace", "acme"]).await;
        assert_eq!(job["id"], same["id"], "only one run is in progress at a time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_starts_even_if_nobody_reads_the_output() {
    let database = Database::create().await;
    database.key("acme").await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&database, &["nightly", "--workspace", "acme"]).stdout(writer).output().await.unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
    let begun: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(database.pool()).await.unwrap();
    assert_eq!(begun, 1);
}
