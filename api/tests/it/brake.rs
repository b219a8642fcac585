//! A run that nobody asked for and that would write unusually many emails writes nothing.

use serde_json::{Value, json};
use testing::Process;

use crate::feedback::{ask, customer};
use crate::followups::{lead, many_due};
use crate::nurture::many_enrolled_leads;
use crate::runs::kill_after_pages;
use crate::support::{self, Api, faults, id};
use crate::workflows::{add_user, days_pass, outbox, put_settings, rows, run, worker};

const NURTURE: &str = "/dev/crm/leads/nurture/start";
const FOLLOWUPS: &str = "/dev/crm/followups/process";
const REMIND: &str = "/dev/crm/feedback/process-reminders";

/// Starts a run as an external scheduler does, and returns its job.
async fn begin(api: &Api, kind: &str) -> Value {
    let program = testing::workspace::program("crm-worker", None).unwrap();
    let mut command = tokio::process::Command::new(program);
    command.args(["run", kind, "--workspace", "acme"]).env("DATABASE_URL", api.database.url());
    serde_json::from_slice(&command.output().await.unwrap().stdout).unwrap()
}

/// Starts a run as an external scheduler does, and returns its job when it has ended.
async fn scheduled(api: &Api, kind: &str) -> Value {
    let job = begin(api, kind).await;
    api.ended(&job).await
}

async fn retried(api: &Api, job: &Value, query: &str) -> Value {
    let queued = support::json(api.post(&format!("/dev/crm/jobs/{}/retry{query}", id(job))), 202).await;
    api.ended(&queued).await
}

/// Expects that the brake has stopped a run of this size, and that it has written nothing.
async fn stopped(api: &Api, job: &Value, emails: i64) {
    assert_eq!((&job["status"], &job["progress"]["done"]), (&json!("failed"), &json!(0)), "{job}");
    let error = job["error"].as_str().unwrap();
    assert!(error.starts_with(&format!("too_many_emails: the run would write {emails} emails")), "{error}");
    assert!(outbox(api).await.iter().all(|email| email.event == "feedback_request"), "{job}");
}

#[tokio::test]
async fn a_run_beyond_the_limit_fails_until_a_caller_confirms_a_number() {
    let api = Api::start().await;
    let _worker = worker(&api);
    put_settings(&api, json!({ "max_emails_per_run": 10 })).await;
    many_enrolled_leads(&api, 30).await;
    let job = scheduled(&api, "nurture_leads").await;
    stopped(&api, &job, 30).await;
    assert!(job["error"].as_str().unwrap().contains("max_emails_per_run is 10"), "{job}");
    assert_eq!(job["result"]["sent"], 0, "{job}");
    stopped(&api, &retried(&api, &job, "").await, 30).await;

    let sent = retried(&api, &job, "?confirm=12").await;
    assert_eq!((&sent["status"], &sent["result"]["sent"]), (&json!("succeeded"), &json!(12)), "{sent}");
    assert_eq!((&sent["result"]["leads"], &sent["result"]["skipped"]["limit"]), (&json!(30), &json!(18)), "{sent}");
    assert_eq!(outbox(&api).await.len(), 12);

    // The others stay due. A run that a caller asks for is its own confirmation, and can be limited.
    let asked = run(&api, &format!("{NURTURE}?confirm=5")).await;
    assert_eq!((&asked["result"]["sent"], &asked["result"]["skipped"]["limit"]), (&json!(5), &json!(13)), "{asked}");
    let asked = run(&api, NURTURE).await;
    assert_eq!((&asked["result"]["sent"], &asked["result"]["waiting"]), (&json!(13), &json!(17)), "{asked}");
    assert_eq!(outbox(&api).await.len(), 30);
}

#[tokio::test]
async fn a_run_within_the_limit_writes_what_it_counted() {
    let api = Api::start().await;
    let _worker = worker(&api);
    put_settings(&api, json!({ "max_emails_per_run": 10 })).await;
    many_enrolled_leads(&api, 10).await;
    let job = scheduled(&api, "nurture_leads").await;
    assert_eq!(
        (&job["status"], &job["result"]["sent"], &job["error"]),
        (&json!("succeeded"), &json!(10), &json!(null))
    );
    assert_eq!(job["progress"], json!({ "done": 10, "total": 10 }));
    put_settings(&api, json!({ "max_emails_per_run": 0 })).await;
    rows(&api, "DELETE FROM nurture_steps; DELETE FROM emails").await;
    assert_eq!(scheduled(&api, "nurture_leads").await["result"]["sent"], 10);
}

#[tokio::test]
async fn a_night_of_ten_times_the_usual_size_is_stopped_and_names_its_part() {
    let api = Api::start().await;
    let _worker = worker(&api);
    many_enrolled_leads(&api, 50).await;
    assert_eq!(run(&api, NURTURE).await["result"]["sent"], 50);
    rows(&api, "DELETE FROM lead_interactions; DELETE FROM leads; DELETE FROM nurture_steps; DELETE FROM emails").await;
    many_enrolled_leads(&api, 1_001).await;
    let night = scheduled(&api, "nightly").await;
    assert_eq!((&night["status"], &night["error"]), (&json!("failed"), &json!("nurture_leads did not succeed")));
    let part = &night["result"]["runs"][0];
    let error = part["error"].as_str().unwrap();
    assert!(error.starts_with("too_many_emails: the run would write 1001 emails"), "{error}");
    assert!(error.contains("the largest run of the last 30 days wrote 50"), "{error}");
    let others = night["result"]["runs"].as_array().unwrap()[1..].iter();
    assert!(others.clone().count() == 5 && others.clone().all(|run| run["status"] == "succeeded"), "{night}");
    assert_eq!(outbox(&api).await.len(), 0);

    // What was written more than 30 days ago is no measure.
    rows(&api, "UPDATE run_sizes SET date = date - 30").await;
    let job = scheduled(&api, "nurture_leads").await;
    assert_eq!((&job["status"], &job["result"]["sent"]), (&json!("succeeded"), &json!(1_001)), "{job}");
    let sizes: Vec<i64> = sqlx::query_scalar("SELECT emails FROM run_sizes WHERE kind = 'nurture_leads'")
        .fetch_all(&mut api.connection().await)
        .await
        .unwrap();
    assert_eq!(sizes, [1_001], "older sizes are deleted");
}

#[tokio::test]
async fn a_run_that_an_earlier_version_queued_was_asked_for_by_nobody() {
    let api = Api::start().await;
    put_settings(&api, json!({ "max_emails_per_run": 1 })).await;
    many_enrolled_leads(&api, 2).await;
    let job = support::json(api.post(NURTURE), 202).await;
    rows(&api, "UPDATE jobs SET payload = '{\"dry_run\": false}'").await;
    let _worker = worker(&api);
    stopped(&api, &api.ended(&job).await, 2).await;
}

#[tokio::test]
async fn digests_beyond_the_confirmed_number_stay_due() {
    let api = Api::start().await;
    let _worker = worker(&api);
    put_settings(&api, json!({ "max_emails_per_run": 1 })).await;
    for name in ["Uma", "Vic", "Wes"] {
        let owner = add_user(&api, name, &format!("{name}@acme.example")).await;
        many_due(&api, &lead(&api, &format!("Of{name}"), Some(owner)).await, 2).await;
    }
    let job = scheduled(&api, "process_followups").await;
    stopped(&api, &job, 3).await;
    let sent = retried(&api, &job, "?confirm=2").await;
    let counts = |job: &Value| {
        let result = &job["result"];
        [&result["interactions"], &result["followed_up"], &result["sent"], &result["skipped"]["limit"]]
            .map(|count| count.as_i64().unwrap())
    };
    assert_eq!(counts(&sent), [6, 4, 2, 2], "{sent}");
    assert_eq!(counts(&run(&api, FOLLOWUPS).await), [2, 2, 1, 0]);
    let gathered: i64 =
        sqlx::query_scalar("SELECT count(*) FROM followups").fetch_one(&mut api.connection().await).await.unwrap();
    assert_eq!((outbox(&api).await.len(), gathered), (3, 0));
}

#[tokio::test]
async fn reminders_beyond_the_confirmed_number_stay_due() {
    let api = Api::start().await;
    let _worker = worker(&api);
    put_settings(&api, json!({ "max_emails_per_run": 1 })).await;
    for name in ["ada", "bob", "cid"] {
        let customer = customer(&api, &format!("{name}@example.com")).await;
        api.ended(&ask(&api, &customer).await).await;
    }
    days_pass(&api, 3).await;
    let job = scheduled(&api, "remind_feedback").await;
    stopped(&api, &job, 3).await;
    let sent = retried(&api, &job, "?confirm=1").await;
    assert_eq!((&sent["result"]["reminded"], &sent["result"]["skipped"]["limit"]), (&json!(1), &json!(2)), "{sent}");
    let asked = run(&api, REMIND).await;
    assert_eq!((&asked["result"]["reminded"], &asked["result"]["waiting"]), (&json!(2), &json!(1)), "{asked}");
}

#[tokio::test]
async fn only_runs_that_write_emails_are_confirmed() {
    let api = Api::start().await;
    let _worker = worker(&api);
    let night = scheduled(&api, "nightly").await;
    let path = format!("/dev/crm/jobs/{}/retry", id(&night));
    let refused = support::json(api.post(&format!("{path}?confirm=5")), 400).await;
    assert_eq!(faults(&refused), [("confirm", "not_allowed")]);
    for wrong in ["", "-1", "1.5", "all", "05"] {
        for path in [path.as_str(), NURTURE, FOLLOWUPS, REMIND] {
            let refused = support::json(api.post(&format!("{path}?confirm={wrong}")), 400).await;
            assert_eq!(faults(&refused), [("confirm", "out_of_range")], "{path} {wrong}");
        }
    }
    let nobody = format!("/dev/crm/jobs/{}/retry?confirm=5", uuid::Uuid::now_v7());
    support::json(api.post(&nobody), 404).await;
}

#[tokio::test]
async fn a_counted_run_whose_worker_is_killed_after_each_page_writes_each_email_once() {
    let api = Api::start().await;
    many_enrolled_leads(&api, 5_000).await;
    let job = begin(&api, "nurture_leads").await;
    let (killed_at, job) = kill_after_pages(&api, &job).await;
    let is_in = |phase: &str| killed_at.iter().any(|cursor| cursor["page"].get(phase).is_some());
    assert!(is_in("counting") && is_in("writing"), "{killed_at:?}");
    assert_eq!((&job["status"], &job["result"]["sent"]), (&json!("succeeded"), &json!(5_000)), "{job}");
    let emails: i64 =
        sqlx::query_scalar("SELECT count(*) FROM emails").fetch_one(&mut api.connection().await).await.unwrap();
    assert_eq!(emails, 5_000);
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_counts_can_be_confirmed() {
    let api = Api::start().await;
    let owner = add_user(&api, "Uma", "uma@acme.example").await;
    many_due(&api, &lead(&api, "Ada", Some(owner)).await, 3).await;
    let job = begin(&api, "process_followups").await;
    // It has gathered what is due, and has counted no digest.
    rows(
        &api,
        "INSERT INTO followups (workspace_id, job_id, recipient, next_action_date, interaction_id, interaction_type)
         SELECT jobs.workspace_id, jobs.id, 'uma@acme.example', next_action_date, lead_interactions.id, 'lead_interaction'
         FROM jobs JOIN lead_interactions USING (workspace_id)",
    )
    .await;
    support::json(api.post(&format!("/dev/crm/jobs/{}/cancel", id(&job))), 200).await;
    let _worker: Process = worker(&api);
    let sent = retried(&api, &job, "?confirm=1").await;
    assert_eq!((&sent["status"], &sent["result"]["sent"]), (&json!("succeeded"), &json!(1)), "{sent}");
    assert_eq!(sent["result"]["followed_up"], 3, "{sent}");
}
