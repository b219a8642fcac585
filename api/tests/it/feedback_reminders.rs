//! Customers who do not answer are reminded twice, then the request expires.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::feedback::{ask, changes, customer, path_of};
use crate::runs::kill_after_pages;
use crate::support::{self, Api, each, faults, id};
use crate::workflows::{days_pass, outbox, put_settings, rows, run, suppress, worker};

const CUSTOMERS: &str = "/dev/crm/customers";
const FEEDBACK: &str = "/dev/crm/feedback";
const REMIND: &str = "/dev/crm/feedback/process-reminders";

async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = worker(&api);
    (api, worker)
}

/// Requests feedback from a new customer, and waits until the email is queued.
async fn asked(api: &Api, email: &str) -> String {
    let customer = customer(api, email).await;
    path_of(&api.ended(&ask(api, &customer).await).await)
}

/// `open`, `reminded`, `expired` and `waiting`, and the skipped requests by reason, without zeros.
fn counts(job: &Value) -> ([i64; 4], Value) {
    assert_eq!(job["status"], "succeeded", "{job}");
    let all = ["open", "reminded", "expired", "waiting"].map(|count| job["result"][count].as_i64().unwrap());
    let mut skipped = job["result"]["skipped"].as_object().unwrap().clone();
    skipped.retain(|_, count| *count != 0);
    let sum: i64 = skipped.values().map(|count| count.as_i64().unwrap()).sum();
    assert_eq!(all[0], all[1] + all[2] + all[3] + sum, "every request is accounted for: {job}");
    assert_eq!(job["progress"], json!({ "done": all[0], "total": all[0] }), "{job}");
    (all, skipped.into())
}

async fn events(api: &Api) -> Vec<String> {
    outbox(api).await.into_iter().map(|email| email.event).collect()
}

#[tokio::test]
async fn a_customer_is_reminded_twice_before_the_request_expires() {
    let (api, _worker) = start().await;
    let path = asked(&api, "ada@example.com").await;
    let none = json!({});
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 0, 1], none.clone()));
    days_pass(&api, 3).await;
    for reminder in 1..=2 {
        let before = api.read(&path).await;
        assert_eq!(counts(&run(&api, REMIND).await), ([1, 1, 0, 0], none.clone()));
        let feedback = api.read(&path).await;
        assert_eq!((&feedback["reminders"], &feedback["status"]), (&json!(reminder), &json!("requested")));
        assert!(
            feedback["last_reminder_at"] == feedback["updated_at"] && feedback["updated_at"] != before["updated_at"]
        );
        // Nothing is due right after a run, nor a day before the next reminder.
        assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 0, 1], none.clone()));
        days_pass(&api, 2).await;
        assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 0, 1], none.clone()));
        days_pass(&api, 1).await;
    }
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 1, 0], none.clone()));
    let expired = api.read(&path).await;
    assert_eq!((&expired["status"], &expired["reminders"]), (&json!("expired"), &json!(2)));
    assert!(expired["expired_at"].is_string());
    assert_eq!(counts(&run(&api, REMIND).await), ([0, 0, 0, 0], none));
    let emails = outbox(&api).await;
    assert_eq!(events(&api).await, ["feedback_request", "feedback_reminder", "feedback_reminder"]);
    let link = |text: &str| text.split_whitespace().find(|word| word.contains("/feedback/")).unwrap().to_owned();
    assert!(emails.iter().all(|email| email.to_email == "ada@example.com" && email.unsubscribe.is_some()));
    assert!(emails.iter().all(|email| link(&email.text_body) == link(&emails[0].text_body)), "one link for all");
    let [expiry, second, first, _] = &changes(&api, &path, "job").await[..] else { panic!("four changes") };
    assert_eq!((first, second), (&vec!["last_reminder_at".to_owned(), "reminders".to_owned()], first));
    assert_eq!(expiry, &["expired_at", "status"]);
    // The customer can still answer, and be asked again.
    api.send(Method::POST, &path, json!({ "rating": 3 }), 200).await;
    ask(&api, expired["customer_id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn customers_who_answered_are_not_reminded() {
    let (api, _worker) = start().await;
    let path = asked(&api, "ada@example.com").await;
    asked(&api, "bob@example.com").await;
    days_pass(&api, 3).await;
    run(&api, REMIND).await;
    api.send(Method::POST, &path, json!({ "rating": 5 }), 200).await;
    days_pass(&api, 3).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 1, 0, 0], json!({})));
    let cancelled: Vec<String> =
        sqlx::query_scalar("SELECT to_email FROM emails WHERE state = 'cancelled' ORDER BY id")
            .fetch_all(&mut api.connection().await)
            .await
            .unwrap();
    assert_eq!(cancelled, ["ada@example.com", "ada@example.com"], "queued reminders are cancelled");
}

#[tokio::test]
async fn blocked_and_suppressed_customers_are_skipped_until_the_request_expires() {
    let (api, _worker) = start().await;
    let blocked = asked(&api, "blocked@example.com").await;
    asked(&api, "gone@example.com").await;
    asked(&api, "reached@example.com").await;
    let customer = api.read(&blocked).await["customer_id"].as_str().unwrap().to_owned();
    api.send(Method::PUT, &format!("{CUSTOMERS}/{customer}"), json!({ "status": "blocked" }), 200).await;
    suppress(&api, "GONE@example.com").await;
    let both = json!({ "blocked": 1, "suppressed": 1 });
    for reminded in [1, 1] {
        days_pass(&api, 3).await;
        assert_eq!(counts(&run(&api, REMIND).await), ([3, reminded, 0, 0], both.clone()));
    }
    days_pass(&api, 3).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([3, 0, 3, 0], json!({})));
    assert_eq!(each(&api.read(FEEDBACK).await, "status"), ["expired"; 3]);
    let reminded: Vec<String> = outbox(&api)
        .await
        .into_iter()
        .filter(|email| email.event == "feedback_reminder")
        .map(|email| email.to_email)
        .collect();
    assert_eq!(reminded, ["reached@example.com"; 2]);
}

#[tokio::test]
async fn a_dry_run_reports_what_would_happen_and_writes_nothing() {
    let (api, _worker) = start().await;
    let old = asked(&api, "old@example.com").await;
    rows(&api, "UPDATE feedback SET reminders = 2").await;
    let blocked = asked(&api, "blocked@example.com").await;
    let due = asked(&api, "due@example.com").await;
    days_pass(&api, 4).await;
    let new = asked(&api, "new@example.com").await;
    rows(&api, "UPDATE customers SET status = 'blocked' WHERE email = 'blocked@example.com'").await;
    let (before, emails) = (api.read(FEEDBACK).await, outbox(&api).await.len());
    let job = run(&api, &format!("{REMIND}?dry_run=true")).await;
    assert_eq!(counts(&job), ([4, 1, 1, 1], json!({ "blocked": 1 })));
    let preview = &job["result"]["preview"];
    let ids: Vec<String> = each(preview, "feedback_id").into_iter().map(|id| format!("{FEEDBACK}/{id}")).collect();
    assert_eq!(ids, [old, blocked, due, new], "the oldest come first");
    assert_eq!(each(preview, "would"), ["expire", "skip", "remind", "wait"]);
    assert_eq!(preview[1]["reason"], "blocked");
    assert_eq!((&preview[2]["email"], &preview[2]["reason"]), (&json!("due@example.com"), &Value::Null));
    assert_eq!((api.read(FEEDBACK).await, outbox(&api).await.len()), (before, emails));
    let real = run(&api, REMIND).await;
    assert_eq!(counts(&real), counts(&job), "the dry run predicted the result");
    assert_eq!((&real["result"]["dry_run"], real["result"].get("preview")), (&json!(false), None));
}

#[tokio::test]
async fn no_reminder_is_sent_before_the_request() {
    let (api, _worker) = start().await;
    let path = asked(&api, "ada@exmaple.com").await;
    let customer = api.read(&path).await["customer_id"].as_str().unwrap().to_owned();
    let correct = json!({ "email": "ada@example.com" });
    api.send(Method::PUT, &format!("{CUSTOMERS}/{customer}"), correct, 200).await;
    days_pass(&api, 4).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 0, 1], json!({})));

    // After a new request, the full waiting time applies.
    api.ended(&ask(&api, &customer).await).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 0, 1], json!({})));
    days_pass(&api, 3).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 1, 0, 0], json!({})));
    let emails: Vec<(String, String)> =
        outbox(&api).await.into_iter().map(|email| (email.event, email.to_email)).collect();
    let email = |event: &str, to: &str| (event.to_owned(), to.to_owned());
    assert_eq!(
        emails,
        [
            email("feedback_request", "ada@exmaple.com"),
            email("feedback_request", "ada@example.com"),
            email("feedback_reminder", "ada@example.com"),
        ]
    );
}

#[tokio::test]
async fn a_request_that_was_never_emailed_expires_eventually() {
    let (api, _worker) = start().await;
    let path = asked(&api, "ada@exmaple.com").await;
    let customer = api.read(&path).await["customer_id"].as_str().unwrap().to_owned();
    let correct = json!({ "email": "ada@example.com" });
    api.send(Method::PUT, &format!("{CUSTOMERS}/{customer}"), correct, 200).await;
    days_pass(&api, 8).await;
    let job = run(&api, &format!("{REMIND}?dry_run=true")).await;
    assert_eq!(job["result"]["preview"][0]["would"], "wait", "{job}");
    days_pass(&api, 1).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 1, 0], json!({})));
    assert_ne!(path_of(&ask(&api, &customer).await), path);
}

#[tokio::test]
async fn the_waiting_time_is_a_setting_of_the_workspace() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "feedback_reminder_after_days": 10 })).await;
    asked(&api, "ada@example.com").await;
    days_pass(&api, 9).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 0, 0, 1], json!({})));
    days_pass(&api, 1).await;
    assert_eq!(counts(&run(&api, REMIND).await), ([1, 1, 0, 0], json!({})));
}

#[tokio::test]
async fn only_one_run_is_active_at_a_time() {
    let api = Api::start().await;
    let first = support::json(api.post(REMIND), 202).await;
    assert_eq!(first["kind"], "remind_feedback");
    assert_eq!(id(&support::json(api.post(REMIND).json(&json!({})), 202).await), id(&first));
    let dry = support::json(api.post(&format!("{REMIND}?dry_run=true")), 202).await;
    assert_ne!(id(&dry), id(&first), "a dry run can run at the same time");
    for (path, field) in [("?dry_run=yes", "dry_run"), ("?dry=true", "dry")] {
        let rejected = support::json(api.post(&format!("{REMIND}{path}")), 400).await;
        assert_eq!(faults(&rejected)[0].0, field);
    }
    assert_eq!(faults(&api.send(Method::POST, REMIND, json!({ "all": true }), 400).await), [("all", "unknown")]);
    let _worker = worker(&api);
    api.ended(&first).await;
    assert_ne!(id(&support::json(api.post(REMIND), 202).await), id(&first), "after it has ended, another can begin");
}

/// Inserts many customers with unanswered requests that were sent days ago.
pub(crate) async fn many(api: &Api, count: i32) {
    sqlx::query(
        "WITH new AS (
             INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
             SELECT $1, gen_random_uuid(), 'Customer ' || n, 'customer' || n || '@example.com', 'customer' || n || '@example.com', 'individual', 'active', '{}', '',
                 now(), now()
             FROM generate_series(1, $2) AS n RETURNING id
         ), asked AS (
             INSERT INTO feedback (workspace_id, id, customer_id, status, requested_at, created_at, updated_at)
             SELECT $1, gen_random_uuid(), id, 'requested', at, at, at
             FROM new, (SELECT now() - interval '4 days') AS past (at) RETURNING id
         )
         INSERT INTO emails (workspace_id, id, event, event_key, from_email, to_email, to_email_key, to_domain, subject, text_body, state)
         SELECT $1, gen_random_uuid(), 'feedback_request', 'feedback:' || id || ':request', 'hello@acme.example',
             'c@example.com', 'c@example.com', 'example.com', 's', 'b', 'sent'
         FROM asked",
    )
    .bind(api.workspace_id)
    .bind(count)
    .execute(&mut api.connection().await)
    .await
    .unwrap();
}

/// The number of reminders, the number of customers reminded, and the maximum of any request.
async fn written(api: &Api) -> (i64, i64, i16) {
    sqlx::query_as(
        "SELECT sent, customers, most FROM (SELECT max(reminders) AS most FROM feedback) AS feedback, (
             SELECT count(*) AS sent, count(DISTINCT to_email) AS customers FROM emails WHERE event = 'feedback_reminder'
         ) AS emails",
    )
    .fetch_one(&mut api.connection().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn reminders_resume_after_a_kill_without_gaps_or_duplicates() {
    let api = Api::start().await;
    many(&api, 6_000).await;
    let job = support::json(api.post(REMIND), 202).await;
    let (killed_at, job) = kill_after_pages(&api, &job).await;
    assert!(killed_at.len() >= 2, "it was killed at {killed_at:?}");
    assert_eq!(counts(&job), ([6_000, 6_000, 0, 0], json!({})));
    assert_eq!(written(&api).await, (6_000, 6_000, 1));
}

#[tokio::test]
async fn concurrent_runs_remind_nobody_twice() {
    let api = Api::start().await;
    many(&api, 2_000).await;
    // A lost lease can lead to two concurrent runs; clients cannot start them.
    let first = support::json(api.post(REMIND), 202).await;
    rows(&api, "UPDATE jobs SET dedupe_key = NULL").await;
    let second = support::json(api.post(REMIND), 202).await;
    assert_ne!(id(&first), id(&second));
    let _workers = (worker(&api), worker(&api));
    let (first, second) = (api.ended(&first).await, api.ended(&second).await);
    for job in [&first, &second] {
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    let reminded = |job: &Value| job["result"]["reminded"].as_i64().unwrap();
    assert_eq!(reminded(&first) + reminded(&second), 2_000, "{first} {second}");
    assert_eq!(written(&api).await, (2_000, 2_000, 1));
}

#[tokio::test]
async fn requests_of_another_workspace_are_left_alone() {
    let (api, _worker) = start().await;
    asked(&api, "ada@example.com").await;
    days_pass(&api, 5).await;
    let api = api.on("another").await;
    assert_eq!(counts(&run(&api, REMIND).await), ([0, 0, 0, 0], json!({})));
}
