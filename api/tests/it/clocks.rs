//! Workers on machines whose clock is wrong.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use testing::{Process, earlier};

use crate::support::{self, Api, id};
use crate::workflows::{put_settings, rows, run};

const LEADS: &str = "/dev/crm/leads";
const FOLLOWUPS: &str = "/dev/crm/followups/process";
const TIMEOUT: Duration = Duration::from_secs(90);

/// Sets the database's clock back for the workers of [`worker_ahead`].
pub(crate) async fn set_ahead(api: &Api, seconds: i64) {
    for function in ["now", "clock_timestamp"] {
        let set_back = format!("SELECT pg_catalog.{function}() - interval '{seconds} seconds'");
        rows(
            api,
            &format!(
                "CREATE OR REPLACE FUNCTION public.{function}() RETURNS timestamptz LANGUAGE sql STABLE AS $$ {set_back} $$"
            ),
        )
        .await;
    }
}

/// A worker whose clock is ahead of the database's: for this worker only, the functions that return
/// the time are those of [`set_ahead`].
pub(crate) fn worker_ahead(api: &Api) -> Process {
    let url = api.database.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}options=-c%20search_path%3Dpublic%2Cpg_catalog");
    Process::worker_with(&api.database, &["--queues", "workflows"], &[("DATABASE_URL", &url)])
}

/// Waits for a response of the worker that satisfies `holds`.
async fn answer(worker: &Process, path: &str, what: &str, holds: impl Fn(u16, &str) -> bool) -> String {
    let (url, started) = (format!("{}{path}", worker.admin_url().await), Instant::now());
    loop {
        if let Ok(response) = reqwest::get(&url).await {
            let status = response.status().as_u16();
            let body = response.text().await.unwrap();
            if holds(status, &body) {
                return body;
            }
        }
        assert!(started.elapsed() < TIMEOUT, "{path} is not {what}: {}", worker.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn due_in(api: &Api, lead: &str, from_now: TimeDelta) {
    let at = (Utc::now() + from_now).to_rfc3339_opts(SecondsFormat::Micros, true);
    let body = json!({ "type": "call", "next_action": "Call", "next_action_date": at });
    api.create(&format!("{LEADS}/{lead}/interactions"), body).await;
}

#[tokio::test]
async fn a_worker_whose_clock_is_days_ahead_claims_nothing_until_it_is_corrected() {
    let api = Api::start().await;
    set_ahead(&api, 4 * 86_400).await;
    let worker = worker_ahead(&api);
    let is_ahead = |status, body: &str| status == 503 && body.contains("s ahead of the database's");
    answer(&worker, "/readyz", "unavailable", is_ahead).await;
    let metrics = answer(&worker, "/metrics", "there", |status, _| status == 200).await;
    let skew = metrics.lines().find_map(|line| line.strip_prefix("crm_clock_skew_seconds ")).unwrap();
    assert!((skew.parse::<f64>().unwrap() - 345_600.0).abs() < 5.0, "{skew}");

    let job = support::json(api.post(FOLLOWUPS), 202).await;
    let job = format!("/dev/crm/jobs/{}", id(&job));
    // By the worker's clock, the job is due.
    rows(&api, &format!("UPDATE jobs SET {}", earlier("run_at", "5 days"))).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(api.read(&job).await["status"], "queued");

    set_ahead(&api, 10).await;
    answer(&worker, "/readyz", "ready", |status, body| status == 200 && body.contains("s ahead of")).await;
    let job = api.ended(&api.read(&job).await).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    set_ahead(&api, 0).await;
    answer(&worker, "/readyz", "ready", |status, body| status == 200 && !body.contains("ahead")).await;
}

#[tokio::test]
async fn the_clock_of_the_database_decides_what_is_due() {
    let api = Api::start().await;
    put_settings(&api, json!({ "notification_email": "sales@acme.example" })).await;
    let lead = api.create(LEADS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    // Due by the clock of the worker, and in some 50 seconds by that of its database.
    due_in(&api, id(&lead), TimeDelta::seconds(-1)).await;
    set_ahead(&api, 55).await;
    let worker = worker_ahead(&api);
    answer(&worker, "/readyz", "ready", |status, _| status == 200).await;
    let followed_up = async || -> Value {
        let job = support::json(api.post(FOLLOWUPS), 202).await;
        let due = format!("UPDATE jobs SET {} WHERE finished_at IS NULL", earlier("run_at", "2 minutes"));
        rows(&api, &due).await;
        let job = api.ended(&job).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        job["result"]["followed_up"].clone()
    };
    assert_eq!(followed_up().await, 0);
    set_ahead(&api, 0).await;
    assert_eq!(followed_up().await, 1);
    assert_eq!(run(&api, FOLLOWUPS).await["result"]["followed_up"], 0);
}
