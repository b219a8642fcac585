//! Requests that wait for the job that they start or read.

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use shared::accounts::api_keys;
use shared::queue::Outcome;

use testing::Process;

use crate::jobs::{claim, finish};
use crate::support::{self, Api, faults, id};

const FOLLOWUPS: &str = "/dev/crm/followups/process";

fn path(job: &Value) -> String {
    format!("/dev/crm/jobs/{}", id(job))
}

/// Sends a request, and returns the response with how long it took.
async fn timed(request: RequestBuilder) -> (Response, Duration) {
    let started = Instant::now();
    let answer = request.send().await.unwrap();
    (answer, started.elapsed())
}

fn applied(answer: &Response) -> Option<&str> {
    answer.headers().get("preference-applied").map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_returns_when_its_job_has_ended() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for request in [api.post(FOLLOWUPS), api.post("/dev/crm/leads/nurture/start?dry_run=true")] {
        let (answer, took) = timed(request.header("prefer", "respond-async, wait=20")).await;
        assert_eq!((answer.status().as_u16(), applied(&answer)), (200, Some("wait=20")));
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let job: Value = answer.json().await.unwrap();
        assert_eq!(job["status"], "succeeded");
        assert_eq!(location, path(&job));
        assert!(took < Duration::from_secs(15), "{took:?}");
        let (read, _) = timed(api.get(&format!("{}?wait=20", path(&job)))).await;
        assert_eq!((read.status().as_u16(), applied(&read)), (200, Some("wait=20")));
        assert_eq!(read.json::<Value>().await.unwrap(), job);
    }
    let file = reqwest::multipart::Part::text("name,email\nAda,ada@example.com\n").file_name("leads.csv");
    let form = reqwest::multipart::Form::new().part("file", file);
    let import = api.post("/dev/crm/leads/import").header("prefer", "wait=20").multipart(form);
    assert_eq!(support::json(import, 200).await["result"]["created"], 1);
}

#[tokio::test]
async fn a_request_returns_the_state_of_its_job_when_time_is_up() {
    // The time limit of a request ends before its wait does.
    let api = Api::start_with(|settings| settings.api.request_timeout_s = 1).await;
    api.leaves_jobs("process_followups");
    let (answer, took) = timed(api.post(FOLLOWUPS).header("prefer", "wait=2")).await;
    assert_eq!((answer.status().as_u16(), applied(&answer)), (202, Some("wait=2")));
    assert!((2.0..10.0).contains(&took.as_secs_f64()), "{took:?}");
    let job: Value = answer.json().await.unwrap();
    assert_eq!(job["status"], "queued");
    let (read, took) = timed(api.get(&format!("{}?wait=2", path(&job)))).await;
    assert_eq!((read.status().as_u16(), applied(&read)), (200, Some("wait=2")));
    assert!(took >= Duration::from_secs(2), "{took:?}");
    // Without a wait, nothing changes.
    let (answer, _) = timed(api.post(FOLLOWUPS)).await;
    assert_eq!((answer.status().as_u16(), applied(&answer)), (202, None));
}

#[tokio::test]
async fn an_unreadable_wait_is_refused_before_anything_is_done() {
    let api = Api::start().await;
    for wait in ["wait=26", "wait=x", "wait", "wait=1, wait=2"] {
        let refused = support::json(api.post(FOLLOWUPS).header("prefer", wait), 400).await;
        assert_eq!(faults(&refused)[0].0, "Prefer", "{wait}");
    }
    assert_eq!(api.read("/dev/crm/jobs").await, json!([]));
    let job = api.import("name,email\nAda,ada@example.com\n").await;
    api.leaves_jobs("import_leads");
    for wait in ["26", "-1", "", "1.5"] {
        let refused = support::json(api.get(&format!("{}?wait={wait}", path(&job))), 400).await;
        assert_eq!(faults(&refused), [("wait", "out_of_range")], "{wait}");
    }
    // Requests that start no job ignore it.
    let me = api.get("/dev/crm/me").header("prefer", "wait=20").send().await.unwrap();
    assert_eq!((me.status().as_u16(), applied(&me)), (200, None));
}

#[tokio::test]
async fn a_repeated_request_waits_for_the_job_of_the_first() {
    let api = Api::start().await;
    let request = || {
        let file = reqwest::multipart::Part::text("name,email\nAda,ada@example.com\n").file_name("leads.csv");
        let form = reqwest::multipart::Form::new().part("file", file);
        api.post("/dev/crm/leads/import").header("idempotency-key", "one").multipart(form)
    };
    let first = support::json(request(), 202).await;
    finish(&api, claim(&api).await, Outcome::Succeeded(Some(json!({ "rows": 1 })))).await;
    // The stored response is that of the first request.
    let stored = request().send().await.unwrap();
    assert_eq!((stored.status().as_u16(), &stored.headers()["idempotent-replayed"]), (202, &"true".parse().unwrap()));
    assert_eq!(stored.json::<Value>().await.unwrap(), first);
    let (waited, _) = timed(request().header("prefer", "wait=20")).await;
    assert_eq!((waited.status().as_u16(), applied(&waited)), (200, Some("wait=20")));
    assert_eq!(waited.headers()["idempotent-replayed"], "true");
    let waited: Value = waited.json().await.unwrap();
    assert_eq!((&waited["id"], &waited["status"]), (&first["id"], &json!("succeeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_of_a_workspace_wait_without_a_connection_and_the_next_returns_at_once() {
    let api = Api::start_with(|settings| settings.database.max_connections = 2).await;
    api.leaves_jobs("process_followups");
    let job = support::json(api.post(FOLLOWUPS), 202).await;
    let wait = || tokio::spawn(api.get(&format!("{}?wait=25", path(&job))).send());
    let mut waiting: Vec<_> = (0..101).map(|_| wait()).collect();
    let started = Instant::now();
    let first = loop {
        if let Some(ended) = waiting.iter().position(tokio::task::JoinHandle::is_finished) {
            break waiting.swap_remove(ended).await.unwrap().unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(15), "all requests wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((first.status().as_u16(), applied(&first)), (200, None));
    // Others are answered meanwhile.
    assert!(timed(api.get("/dev/crm/leads?limit=1")).await.1 < Duration::from_secs(2));
    api.post(&format!("{}/cancel", path(&job))).send().await.unwrap();
    for waited in waiting {
        let answer = waited.await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), applied(&answer)), (200, Some("wait=25")));
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "cancelled");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_its_key_and_with_the_process() {
    let mut api = Api::start().await;
    api.leaves_jobs("process_followups");
    let job = support::json(api.post(FOLLOWUPS), 202).await;
    let (key, stored) = api.new_key(None).await;
    let request = |key: &str| {
        let url = api.url(&format!("{}?wait=25", path(&job)));
        reqwest::Client::new().get(url).bearer_auth(key).send()
    };
    let revoked = tokio::spawn(request(&key));
    let kept = tokio::spawn(request(&api.key));
    let started = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    api_keys::revoke_any(&mut api.connection().await, api.workspace_id, stored.id).await.unwrap();
    assert_eq!(revoked.await.unwrap().unwrap().status(), 401);
    api.stop();
    let answer = kept.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), applied(&answer)), (200, Some("wait=25")));
    assert_eq!(answer.json::<Value>().await.unwrap(), job);
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_leaves_no_wait_behind() {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    let request = || api.post(FOLLOWUPS).header("prefer", "wait=25").timeout(Duration::from_secs(2)).send();
    let left = futures_util::future::join_all((0..110).map(|_| request())).await;
    assert!(left.iter().filter(|answer| answer.is_err()).count() >= 100);
    let started = Instant::now();
    loop {
        let (answer, _) = timed(api.post(FOLLOWUPS).header("prefer", "wait=1")).await;
        if applied(&answer).is_some() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the waits of disconnected clients continue");
    }
}
