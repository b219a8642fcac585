//! Users are notified of the due next actions with their leads and customers, in one email.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;
use uuid::Uuid;

use crate::runs::kill_after_pages;
use crate::support::{self, Api, faults, id};
use crate::workflows::{add_user, days_pass, outbox, put_settings, rows, run, suppress, worker};

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const PROCESS: &str = "/dev/crm/followups/process";

async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = worker(&api);
    (api, worker)
}

pub(crate) async fn lead(api: &Api, name: &str, owner: Option<Uuid>) -> String {
    let email = format!("{}@example.com", name.to_lowercase());
    let lead = api.create(LEADS, json!({ "name": name, "email": email, "assigned_to": owner })).await;
    format!("{LEADS}/{}/interactions", id(&lead))
}

async fn customer(api: &Api, name: &str, owner: Option<Uuid>) -> String {
    let email = format!("{}@example.com", name.to_lowercase());
    let customer = api.create(CUSTOMERS, json!({ "name": name, "email": email, "assigned_to": owner })).await;
    format!("{CUSTOMERS}/{}/interactions", id(&customer))
}

/// An interaction whose next action is due on a date, and its path.
async fn interaction(api: &Api, list: &str, next_action: &str, date: &str) -> String {
    let mut body = json!({ "type": "call", "next_action": next_action, "next_action_date": date });
    if list.starts_with(CUSTOMERS) {
        body["subject"] = "Offer".into();
        body["date"] = "2024-01-01".into();
    }
    format!("{list}/{}", id(&api.create(list, body).await))
}

/// Inserts interactions with the lead whose next actions are due.
pub(crate) async fn many_due(api: &Api, list: &str, count: i32) {
    let lead: Uuid = list.split('/').nth(4).unwrap().parse().unwrap();
    sqlx::query(
        "INSERT INTO lead_interactions (workspace_id, id, lead_id, type, next_action, next_action_date, created_at, updated_at)
         SELECT $1, gen_random_uuid(), $2, 'call', 'Call ' || n, now() - n * interval '1 second', now(), now()
         FROM generate_series(1, $3) AS n",
    )
    .bind(api.workspace_id)
    .bind(lead)
    .bind(count)
    .execute(&mut api.connection().await)
    .await
    .unwrap();
}

/// `interactions`, `followed_up` and `sent`, and the skipped interactions by reason, without zeros.
fn counts(job: &Value) -> (i64, i64, i64, Value) {
    assert_eq!(job["status"], "succeeded", "{job}");
    let [due, followed_up, sent] =
        ["interactions", "followed_up", "sent"].map(|count| job["result"][count].as_i64().unwrap());
    let mut skipped = job["result"]["skipped"].as_object().unwrap().clone();
    skipped.retain(|_, count| *count != 0);
    let sum: i64 = skipped.values().map(|count| count.as_i64().unwrap()).sum();
    assert_eq!(due, followed_up + sum, "every interaction is accounted for: {job}");
    (due, followed_up, sent, skipped.into())
}

async fn left_over(api: &Api) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM followups").fetch_one(&mut api.connection().await).await.unwrap()
}

#[tokio::test]
async fn each_user_gets_one_digest_of_due_actions() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "notification_email": "sales@acme.example", "time_zone": "Asia/Tokyo" })).await;
    let ann = add_user(&api, "Ann", "ann@acme.example").await;
    let bob = add_user(&api, "Bob", "Sales@acme.example").await;
    let (ada, cyd) = (lead(&api, "Ada", Some(ann)).await, customer(&api, "Cyd", Some(ann)).await);
    // Assigned to an unknown user, to nobody, and to the user with the notification address.
    let (dan, eve) = (lead(&api, "Dan", Some(Uuid::now_v7())).await, customer(&api, "Eve", None).await);
    let fay = lead(&api, "Fay", Some(bob)).await;
    let proposal = interaction(&api, &ada, "Send proposal", "2024-01-15T23:00:00Z").await;
    let others = [
        interaction(&api, &cyd, "Ask again", "2024-01-10").await,
        interaction(&api, &dan, "Call Dan", "2024-01-11").await,
        interaction(&api, &eve, "Call Eve", "2024-01-12").await,
        interaction(&api, &fay, "Call Fay", "2024-01-13").await,
    ];
    let later = interaction(&api, &ada, "Not yet", "2999-01-01").await;
    api.create(&ada, json!({ "type": "call", "next_action": "Some day" })).await;

    let job = run(&api, PROCESS).await;
    assert_eq!(counts(&job), (5, 5, 2, json!({})));
    assert_eq!((&job["kind"], &job["progress"]), (&json!("process_followups"), &json!({ "done": 5, "total": 5 })));
    let [to_ann, to_sales]: [_; 2] = outbox(&api).await.try_into().unwrap();
    assert_eq!((to_ann.event.as_str(), to_ann.to_email.as_str()), ("followups", "ann@acme.example"));
    assert_eq!((to_ann.to_name.as_deref(), to_ann.subject_type.as_deref()), (Some("Ann"), Some("user")));
    assert_eq!(to_ann.unsubscribe, None);
    let text = &to_ann.text_body;
    assert!(text.contains("Ann") && text.contains("Send proposal") && text.contains("ada@example.com"), "{text}");
    assert!(text.contains("2024-01-16") && text.contains("(Offer)") && !text.contains("Not yet"), "{text}");
    assert!(text.find("Ask again") < text.find("Send proposal"), "the earliest due date comes first: {text}");
    // One address is one recipient, ignoring case.
    assert_eq!(to_sales.to_email, "Sales@acme.example");
    assert!(["Call Dan", "Call Eve", "Call Fay"].iter().all(|item| to_sales.text_body.contains(item)));

    let notified = api.read(&proposal).await;
    assert_eq!(notified["followed_up_at"], notified["updated_at"]);
    for path in &others {
        assert!(!api.read(path).await["followed_up_at"].is_null());
    }
    assert!(api.read(&later).await["followed_up_at"].is_null());
    assert_eq!(counts(&run(&api, PROCESS).await), (0, 0, 0, json!({})));
    assert_eq!((outbox(&api).await.len(), left_over(&api).await), (2, 0));
}

#[tokio::test]
async fn a_changed_next_action_is_due_again() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "notification_email": "sales@acme.example" })).await;
    for list in [lead(&api, "Ada", None).await, customer(&api, "Cyd", None).await] {
        let path = interaction(&api, &list, "Call", "2024-01-01").await;
        assert_eq!(counts(&run(&api, PROCESS).await), (1, 1, 1, json!({})));
        let notified = api.read(&path).await;
        // A read-only field can be sent back only unchanged.
        let changed =
            api.send(Method::PUT, &path, json!({ "type": "email", "followed_up_at": notified["followed_up_at"] }), 200);
        assert_eq!(changed.await["followed_up_at"], notified["followed_up_at"]);
        let rejected = api.send(Method::PUT, &path, json!({ "followed_up_at": null }), 400).await;
        assert_eq!(faults(&rejected), [("followed_up_at", "read_only")]);
        assert_eq!(counts(&run(&api, PROCESS).await), (0, 0, 0, json!({})));

        for change in [json!({ "next_action": "Write" }), json!({ "next_action_date": "2024-02-01" })] {
            assert!(api.send(Method::PUT, &path, change, 200).await["followed_up_at"].is_null());
            assert_eq!(counts(&run(&api, PROCESS).await), (1, 1, 1, json!({})));
        }
        api.send(Method::PUT, &path, json!({ "next_action_date": "2999-01-01" }), 200).await;
        assert_eq!(counts(&run(&api, PROCESS).await), (0, 0, 0, json!({})));
        api.send(Method::PUT, &path, json!({ "next_action_date": null }), 200).await;
    }
}

#[tokio::test]
async fn a_restored_lead_keeps_its_followed_up_interactions() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "notification_email": "sales@acme.example" })).await;
    let list = lead(&api, "Ada", None).await;
    let path = interaction(&api, &list, "Call", "2024-01-01").await;
    run(&api, PROCESS).await;
    let notified = api.read(&path).await;
    let lead = list.trim_end_matches("/interactions");
    api.delete(lead, 204).await;
    support::json(api.post(&format!("{lead}/restore")), 200).await;
    assert_eq!(api.read(&path).await, notified);
    assert_eq!(counts(&run(&api, PROCESS).await), (0, 0, 0, json!({})));
}

#[tokio::test]
async fn actions_without_a_recipient_stay_due() {
    let (api, _worker) = start().await;
    let ann = add_user(&api, "Ann", "ann@acme.example").await;
    let (ada, bob) = (lead(&api, "Ada", None).await, lead(&api, "Bob", Some(ann)).await);
    let (nobodys, anns) =
        (interaction(&api, &ada, "Call", "2024-01-01").await, interaction(&api, &bob, "Call", "2024-01-01").await);
    suppress(&api, "ANN@acme.example").await;
    for query in ["?dry_run=true", ""] {
        let job = run(&api, &format!("{PROCESS}{query}")).await;
        assert_eq!(counts(&job), (2, 0, 0, json!({ "no_recipient": 1, "suppressed": 1 })));
    }
    for path in [&nobodys, &anns] {
        assert!(api.read(path).await["followed_up_at"].is_null());
    }
    put_settings(&api, json!({ "notification_email": "sales@acme.example" })).await;
    rows(&api, "DELETE FROM suppressions").await;
    assert_eq!(counts(&run(&api, PROCESS).await), (2, 2, 2, json!({})));
}

#[tokio::test]
async fn a_dry_run_reports_who_would_be_notified_and_writes_nothing() {
    let (api, _worker) = start().await;
    let ann = add_user(&api, "Ann", "ann@acme.example").await;
    let ada = lead(&api, "Ada", Some(ann)).await;
    many_due(&api, &ada, 4_100).await;
    let nobodys = lead(&api, "Bob", None).await;
    let path = interaction(&api, &nobodys, "Call", "2024-01-01").await;
    let before = api.read(&path).await;
    let job = run(&api, &format!("{PROCESS}?dry_run=true")).await;
    assert_eq!(counts(&job), (4_101, 4_100, 1, json!({ "no_recipient": 1 })));
    let preview = json!([
        { "email": null, "interactions": 1, "would": "skip", "reason": "no_recipient" },
        { "email": "ann@acme.example", "interactions": 4_100, "would": "send", "reason": null },
    ]);
    assert_eq!(job["result"]["preview"], preview);
    assert_eq!((api.read(&path).await, outbox(&api).await.len(), left_over(&api).await), (before, 0, 0));
    let still_due = "SELECT count(*) FROM lead_interactions WHERE followed_up_at IS NULL";
    let still_due: i64 = sqlx::query_scalar(still_due).fetch_one(&mut api.connection().await).await.unwrap();
    assert_eq!(still_due, 4_101);
}

#[tokio::test]
async fn a_digest_of_thousands_lists_the_first_and_counts_the_rest() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "notification_email": "sales@acme.example" })).await;
    let ada = lead(&api, "Ada", None).await;
    many_due(&api, &ada, 4_500).await;
    assert_eq!(counts(&run(&api, PROCESS).await), (4_500, 4_500, 1, json!({})));
    let email = outbox(&api).await.remove(0);
    assert!(email.subject.contains("4500"), "{}", email.subject);
    assert_eq!(email.text_body.matches("ada@example.com").count(), 100);
    assert_eq!(counts(&run(&api, PROCESS).await), (0, 0, 0, json!({})));
    days_pass(&api, 1).await;
    assert_eq!(outbox(&api).await.len(), 1);
}

#[tokio::test]
async fn followups_resume_after_a_kill_with_one_digest_for_each_user() {
    let api = Api::start().await;
    let mut lists = Vec::new();
    for name in ["Ann", "Bob", "Cyd"] {
        let user = add_user(&api, name, &format!("{name}@acme.example")).await;
        lists.push(lead(&api, &format!("Lead-of-{name}"), Some(user)).await);
    }
    for list in &lists {
        many_due(&api, list, 2_500).await;
    }
    let job = support::json(api.post(PROCESS), 202).await;
    let (killed_at, job) = kill_after_pages(&api, &job).await;
    let is_in = |stage: &str| killed_at.iter().any(|cursor| cursor["page"]["writing"]["at"]["at"].get(stage).is_some());
    assert!(is_in("leads") && is_in("digests"), "killed at {killed_at:?}");
    assert_eq!(counts(&job), (7_500, 7_500, 3, json!({})));
    let emails = outbox(&api).await;
    assert_eq!(emails.len(), 3);
    assert!(emails.iter().all(|email| email.subject.contains("2500")));
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM lead_interactions WHERE followed_up_at IS NULL")
        .fetch_one(&mut api.connection().await)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn only_one_run_is_active_at_a_time() {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    let first = support::json(api.post(PROCESS), 202).await;
    assert_eq!(support::json(api.post(PROCESS), 202).await["id"], first["id"]);
    assert_ne!(support::json(api.post(&format!("{PROCESS}?dry_run=true")), 202).await["id"], first["id"]);
    let rejected = support::json(api.post(&format!("{PROCESS}?dry_run=1&since=x")), 400).await;
    assert_eq!(faults(&rejected), [("dry_run", "invalid"), ("since", "unknown")]);
    let api = api.on("globex").await;
    assert_ne!(support::json(api.post(PROCESS), 202).await["id"], first["id"]);
}
