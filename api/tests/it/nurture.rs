//! Leads receive each email of their workspace's sequence once, as long as they are in it.

use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::queue;
use shared::workflows::nurture::NurtureLeads;
use sqlx::Connection;
use testing::Process;
use uuid::Uuid;

use crate::runs::kill_after_pages;
use crate::support::{self, Api, each, faults, id};
use crate::workflows::{days_pass, outbox, put_settings, rows, run, suppress, worker};

const LEADS: &str = "/dev/crm/leads";
const NURTURE: &str = "/dev/crm/leads/nurture/start";
/// The tables that a run writes to.
const WRITTEN: [&str; 5] = ["leads", "lead_interactions", "emails", "nurture_steps", "history"];

pub(crate) async fn start() -> (Api, Process) {
    let api = Api::start().await;
    let worker = worker(&api);
    (api, worker)
}

pub(crate) async fn lead(api: &Api, name: &str) -> String {
    let email = format!("{}@example.com", name.to_lowercase());
    let lead = api.create(LEADS, json!({ "name": name, "email": email })).await;
    format!("{LEADS}/{}", id(&lead))
}

/// Inserts many leads, as an import would.
pub(crate) async fn many_leads(api: &Api, count: i32) {
    sqlx::query(
        "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, custom_fields, search_vector, created_at, updated_at)
         SELECT $1, gen_random_uuid(), 'Lead ' || n, 'lead' || n || '@example.com', 'lead' || n || '@example.com', 'other', 'new', 0, '{}', '', now(), now()
         FROM generate_series(1, $2) AS n",
    )
    .bind(api.workspace_id)
    .bind(count)
    .execute(&mut api.connection().await)
    .await
    .unwrap();
}

/// Inserts many leads that are enrolled now.
pub(crate) async fn many_enrolled_leads(api: &Api, count: i32) {
    many_leads(api, count).await;
    rows(api, "UPDATE leads SET nurture_enrolled_at = now() WHERE nurture_enrolled_at IS NULL").await;
}

/// `leads`, `sent` and `waiting`, and the skipped leads by reason, without zeros.
pub(crate) fn counts(job: &Value) -> (i64, i64, i64, Value) {
    assert_eq!(job["status"], "succeeded", "{job}");
    let [leads, sent, waiting] = ["leads", "sent", "waiting"].map(|count| job["result"][count].as_i64().unwrap());
    let mut skipped = job["result"]["skipped"].as_object().unwrap().clone();
    skipped.retain(|_, count| *count != 0);
    let sum: i64 = skipped.values().map(|count| count.as_i64().unwrap()).sum();
    assert_eq!(leads, sent + waiting + sum, "every lead is accounted for: {job}");
    (leads, sent, waiting, skipped.into())
}

pub(crate) fn step(n: u8, delay_days: u16) -> Value {
    json!({ "id": Uuid::from_u128(n.into()), "delay_days": delay_days, "subject": format!("Step {n}"), "body": "Hello {{ lead.name }}" })
}

#[tokio::test]
async fn a_lead_gets_each_step_once_when_it_is_due() {
    let (api, _worker) = start().await;
    let path = lead(&api, "Ada").await;
    let job = run(&api, NURTURE).await;
    assert_eq!(counts(&job), (1, 1, 0, json!({})));
    assert_eq!((&job["kind"], &job["progress"]), (&json!("nurture_leads"), &json!({ "done": 1, "total": 1 })));
    assert!(job["result"].get("preview").is_none(), "{job}");

    let lead = api.read(&path).await;
    assert_eq!(lead["status"], "contacted");
    assert_eq!(lead["last_contact"], lead["updated_at"]);
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(history[0]["changes"]["status"], json!({ "from": "new", "to": "contacted" }));
    assert_eq!(history[0]["actor"], json!({ "type": "job", "id": job["id"] }));
    let [email]: [_; 1] = outbox(&api).await.try_into().unwrap();
    assert_eq!((email.event.as_str(), email.to_email.as_str()), ("nurture", "ada@example.com"));
    assert!(email.text_body.contains("Hello Ada") && email.unsubscribe.unwrap().contains("/unsubscribe/"));
    let interactions = api.read(&format!("{path}/interactions")).await;
    assert_eq!(each(&interactions, "type"), ["email"]);
    assert_eq!((&interactions[0]["email_id"], &interactions[0]["notes"]), (&json!(email.id), &json!(email.subject)));

    assert_eq!(counts(&run(&api, NURTURE).await), (1, 0, 1, json!({})));
    for (days, sent) in [(2, 0), (1, 1), (6, 0), (1, 1)] {
        days_pass(&api, days).await;
        assert_eq!(counts(&run(&api, NURTURE).await), (1, sent, 1 - sent, json!({})), "after {days} days more");
    }
    days_pass(&api, 365).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 0, 0, json!({ "finished": 1 })));
    let subjects: Vec<String> = outbox(&api).await.into_iter().map(|email| email.subject).collect();
    let [first, second, third]: [String; 3] = subjects.try_into().unwrap();
    assert!(first != second && second != third && first != third);
}

#[tokio::test]
async fn interactions_suppressions_and_closed_stages_end_the_sequence() {
    let (api, _worker) = start().await;
    let mut paths = Vec::new();
    let names = ["Called", "Noted", "Unsubscribed", "Bounced", "Converted", "Won", "Lost", "Deleted", "Offered"];
    for name in names {
        paths.push(lead(&api, name).await);
    }
    assert_eq!(counts(&run(&api, NURTURE).await), (9, 9, 0, json!({})));

    api.create(&format!("{}/interactions", paths[0]), json!({ "type": "call" })).await;
    api.create(&format!("{}/interactions", paths[1]), json!({ "type": "note" })).await;
    let email = outbox(&api).await.into_iter().find(|email| email.to_email == "unsubscribed@example.com").unwrap();
    let token = email.unsubscribe.as_deref().and_then(|link| link.rsplit('/').next()).unwrap();
    let click = Client::new().post(api.url(&format!("/unsubscribe/{token}"))).body("List-Unsubscribe=One-Click");
    let click = click.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    assert_eq!(click.status(), 200);
    rows(&api, "UPDATE emails SET state = 'bounced' WHERE to_email = 'bounced@example.com'").await;
    api.create(&format!("{}/convert", paths[4]), json!({})).await;
    for (path, status) in [(&paths[5], "won"), (&paths[6], "lost"), (&paths[8], "proposal")] {
        api.send(Method::PUT, path, json!({ "status": status }), 200).await;
    }
    api.delete(&paths[7], 204).await;
    days_pass(&api, 3).await;
    let left = json!({ "suppressed": 1, "bounced": 1, "interaction": 1 });
    assert_eq!(counts(&run(&api, NURTURE).await), (4, 1, 0, left));
    let exits = ["interaction", "suppressed", "bounced", "converted", "won", "lost"];
    for (path, exit) in [0, 2, 3, 4, 5, 6].into_iter().map(|at| &paths[at]).zip(exits) {
        let lead = api.read(path).await;
        assert_eq!(lead["nurture_left"], exit, "{lead}");
        assert!(lead["nurture_left_at"].is_string() && lead["nurture_enrolled_at"].is_string(), "{lead}");
    }
    // Leads that left stay out, and a restored lead has left, too.
    days_pass(&api, 30).await;
    support::json(api.post(&format!("{}/restore", paths[7])), 200).await;
    rows(&api, "DELETE FROM suppressions; DELETE FROM lead_interactions WHERE type = 'call'").await;
    let left = json!({ "suppressed": 1, "bounced": 1, "interaction": 1, "deleted": 1 });
    assert_eq!(counts(&run(&api, NURTURE).await), (5, 1, 0, left));
    let mut emails: Vec<String> = outbox(&api).await.into_iter().map(|email| email.to_email).collect();
    emails.retain(|to| ["noted@example.com", "deleted@example.com"].contains(&to.as_str()));
    emails.sort_unstable();
    assert_eq!(emails, ["deleted@example.com", "noted@example.com", "noted@example.com", "noted@example.com"]);
}

/// The state of the only email to a lead.
async fn state(api: &Api, name: &str) -> String {
    let emails = api.read(&format!("/dev/crm/emails?to_email={name}@example.com")).await;
    let [state] = &each(&emails, "state")[..] else { panic!("one email: {emails}") };
    (*state).to_owned()
}

#[tokio::test]
async fn queued_steps_are_cancelled_when_a_lead_leaves_the_sequence() {
    let api = Api::start().await;
    let mut worker = Process::worker(&api.database, &["--queues", "workflows,imports"]);
    let mut paths = Vec::new();
    let names = ["Put", "Won", "Converted", "Batch", "Imported", "Offered", "Renamed", "Again"];
    for name in names {
        paths.push(lead(&api, name).await);
    }
    let job = run(&api, NURTURE).await;
    assert_eq!(counts(&job), (8, 8, 0, json!({})));

    api.send(Method::PUT, &paths[0], json!({ "status": "lost" }), 200).await;
    api.send(Method::PUT, &paths[1], json!({ "status": "won", "notes": "Signed" }), 200).await;
    api.create(&format!("{}/convert", paths[2]), json!({})).await;
    let lead_id = paths[3].rsplit('/').next();
    let items = json!({ "items": [{ "id": lead_id, "status": "lost" }] });
    support::json(api.post(&format!("{LEADS}/batch")).json(&items), 200).await;
    let file = "email,name,status\nimported@example.com,Imported,won\n";
    api.imported(&format!("{LEADS}/import?on_conflict=update"), file).await;
    api.send(Method::PUT, &paths[5], json!({ "status": "proposal" }), 200).await;
    api.send(Method::PUT, &paths[6], json!({ "name": "Renamed twice" }), 200).await;
    for name in ["put", "won", "converted", "batch", "imported"] {
        assert_eq!(state(&api, name).await, "cancelled", "{name}");
    }
    for name in ["offered", "renamed", "again"] {
        assert_eq!(state(&api, name).await, "queued", "{name}");
    }

    // The emails that a worker of the queue `mail` sends.
    worker.kill9().await;
    let directory = std::env::temp_dir().join(format!("crm-emails-{}", Uuid::now_v7()));
    let settings = [("CRM_MAIL__HOST", ""), ("CRM_MAIL__DIRECTORY", directory.to_str().unwrap())];
    let _mailer = Process::worker_with(&api.database, &["--queues", "mail"], &settings);
    while api.read("/dev/crm/emails?state=sent").await.as_array().unwrap().len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 3);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_call_before_the_first_step_does_not_stop_it() {
    let (api, _worker) = start().await;
    let path = lead(&api, "Ada").await;
    api.create(&format!("{path}/interactions"), json!({ "type": "call" })).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 1, 0, json!({})));
}

#[tokio::test]
async fn a_dry_run_reports_what_would_happen_and_writes_nothing() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "Ada").await;
    counts(&run(&api, NURTURE).await);
    lead(&api, "Bob").await;
    lead(&api, "Cyd").await;
    suppress(&api, "cyd@example.com").await;
    let before = contents(&api).await;

    let job = run(&api, &format!("{NURTURE}?dry_run=true")).await;
    assert_eq!(counts(&job), (3, 1, 1, json!({ "suppressed": 1 })));
    assert_eq!(job["result"]["dry_run"], true);
    let preview = job["result"]["preview"].as_array().unwrap();
    let reported: Vec<_> = preview.iter().map(|lead| [&lead["email"], &lead["would"], &lead["reason"]]).collect();
    assert_eq!(
        json!(reported),
        json!([
            ["ada@example.com", "wait", null],
            ["bob@example.com", "send", null],
            ["cyd@example.com", "skip", "suppressed"]
        ])
    );
    assert_eq!(format!("{LEADS}/{}", preview[0]["lead_id"].as_str().unwrap()), ada);
    assert!(preview[0]["at"].as_str() > preview[1]["at"].as_str() && preview[2]["at"].is_null());
    assert_ne!(preview[0]["step"], preview[1]["step"]);
    assert_eq!(contents(&api).await, before);
}

/// The contents of all tables that a run writes to.
async fn contents(api: &Api) -> Vec<Value> {
    let mut connection = api.connection().await;
    let mut contents = Vec::new();
    for table in WRITTEN {
        let all = format!("SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text), '[]') FROM {table} AS t");
        contents.push(sqlx::query_scalar(sqlx::AssertSqlSafe(all)).fetch_one(&mut connection).await.unwrap());
    }
    contents
}

#[tokio::test]
async fn a_workspace_has_its_own_sequence() {
    let (api, _worker) = start().await;
    let ada = lead(&api, "Ada").await;
    put_settings(&api, json!({ "nurture_sequence": [] })).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 0, 0, json!({ "no_steps": 1 })));

    put_settings(&api, json!({ "nurture_sequence": [step(1, 2), step(2, 1)] })).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 0, 1, json!({})), "the first step waits, too");
    days_pass(&api, 2).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 1, 0, json!({})));
    // Steps inserted before the lead's last step are skipped.
    put_settings(&api, json!({ "nurture_sequence": [step(3, 0), step(1, 2), step(2, 1), step(4, 0)] })).await;
    days_pass(&api, 1).await;
    for sent in [1, 1, 0] {
        let (_, now, ..) = counts(&run(&api, NURTURE).await);
        assert_eq!(now, sent);
    }
    let subjects: Vec<String> = outbox(&api).await.into_iter().map(|email| email.subject).collect();
    assert_eq!(subjects, ["Step 1", "Step 2", "Step 4"]);
    assert_eq!(api.read(&ada).await["status"], "contacted");
}

#[tokio::test]
async fn template_syntax_in_a_name_stays_text() {
    let (api, _worker) = start().await;
    let name = "{{ 7 * 7 }} {% if %} <b>Ada</b>";
    api.create(LEADS, json!({ "name": name, "email": "ada@example.com" })).await;
    put_settings(&api, json!({ "nurture_sequence": [step(1, 0)] })).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 1, 0, json!({})));
    let email = outbox(&api).await.remove(0);
    assert!(email.text_body.contains(name), "{}", email.text_body);
    let html = email.html_body.unwrap();
    // The name is inserted as text and not evaluated.
    assert!(html.contains("Hello {{ 7 * 7 }} {% if %} &lt;b&gt;Ada"), "{html}");
}

#[tokio::test]
async fn only_one_run_is_active_at_a_time() {
    let api = Api::start().await;
    let answer = api.post(NURTURE).header("idempotency-key", "k").send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let first = support::body(answer, 202).await;
    assert_eq!((&first["status"], location), (&json!("queued"), format!("/dev/crm/jobs/{}", id(&first))));
    assert_eq!(support::json(api.post(NURTURE), 202).await["id"], first["id"]);
    let dry = support::json(api.post(&format!("{NURTURE}?dry_run=true")), 202).await;
    assert_ne!(dry["id"], first["id"]);

    let worker = worker(&api);
    api.ended(&dry).await;
    api.ended(&first).await;
    let replayed = api.post(NURTURE).header("idempotency-key", "k").send().await.unwrap();
    assert_eq!(replayed.headers()["idempotent-replayed"], "true");
    assert_eq!(support::body(replayed, 202).await, first);
    assert_ne!(support::json(api.post(NURTURE), 202).await["id"], first["id"]);
    drop(worker);

    for (query, fault) in [("dry_run=maybe", ("dry_run", "invalid")), ("dryrun=true", ("dryrun", "unknown"))] {
        let rejected = support::json(api.post(&format!("{NURTURE}?{query}")), 400).await;
        assert_eq!(faults(&rejected), [fault]);
    }
    support::json(api.post(NURTURE).json(&json!({ "dry_run": true })), 400).await;
}

#[tokio::test]
async fn the_leads_of_another_workspace_are_left_alone() {
    let (api, _worker) = start().await;
    lead(&api, "Ada").await;
    let api = api.on("globex").await;
    assert_eq!(counts(&run(&api, NURTURE).await), (0, 0, 0, json!({})));
    assert!(outbox(&api).await.is_empty());
}

#[tokio::test]
async fn changes_during_a_run_are_respected() {
    let (api, _worker) = start().await;
    let paths = [lead(&api, "Ada").await, lead(&api, "Bob").await, lead(&api, "Cyd").await];
    let mut caller = api.connection().await;
    let mut change = caller.begin().await.unwrap();
    for statement in [
        "UPDATE leads SET status = 'lost' WHERE name = 'Ada'",
        "INSERT INTO suppressions (workspace_id, id, email, email_key, reason, created_at)
         SELECT workspace_id, id, email, email, 'unsubscribed', now() FROM leads WHERE name = 'Bob'",
    ] {
        sqlx::query(statement).execute(&mut *change).await.unwrap();
    }
    let job = support::json(api.post(NURTURE), 202).await;
    // The run has found all three leads, and waits for the one that is being changed.
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
    let mut watcher = api.connection().await;
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut watcher).await.unwrap() {}
    change.commit().await.unwrap();
    assert_eq!(counts(&api.ended(&job).await), (2, 1, 0, json!({ "suppressed": 1 })));
    assert_eq!(outbox(&api).await[0].to_email, "cyd@example.com");
    assert_eq!(api.read(&paths[0]).await["last_contact"], Value::Null);
}

#[tokio::test]
async fn nurture_resumes_after_a_kill_without_gaps_or_duplicates() {
    const LEADS: i64 = 7_000;
    let api = Api::start().await;
    many_leads(&api, LEADS as i32).await;
    let job = support::json(api.post(NURTURE), 202).await;
    let (killed_at, job) = kill_after_pages(&api, &job).await;
    assert!(killed_at.len() >= 2, "it was killed at {killed_at:?}");
    assert_eq!(counts(&job), (LEADS, LEADS, 0, json!({})));
    assert_eq!(written(&api).await, [LEADS; 5]);
}

#[tokio::test]
async fn runs_with_other_parameters_take_turns() {
    const LEADS: i64 = 6_000;
    let api = Api::start().await;
    many_leads(&api, LEADS as i32).await;
    let mut jobs = Vec::new();
    for query in ["", "?status=new", "?status=contacted&source=other"] {
        jobs.push(support::json(api.post(&format!("{NURTURE}{query}")), 202).await);
    }
    // The same parameters, in another order, are the same run.
    let again = support::json(api.post(&format!("{NURTURE}?source=other&status=contacted")), 202).await;
    assert_eq!(again["id"], jobs[2]["id"]);
    let nightly =
        queue::start_run(&mut api.connection().await, api.workspace_id, None, &NurtureLeads::enrolled()).await;
    jobs.push(json!({ "id": nightly.unwrap().id }));

    let _workers = [worker(&api), worker(&api)];
    let mut ended = Vec::new();
    for job in &jobs {
        ended.push(api.ended(job).await);
    }
    for pair in ended.windows(2) {
        assert!(pair[0]["finished_at"].as_str() <= pair[1]["started_at"].as_str(), "{pair:?}");
    }
    let all: Vec<_> = ended.iter().map(counts).map(|(leads, sent, waiting, _)| (leads, sent, waiting)).collect();
    assert_eq!(all, [(LEADS, LEADS, 0), (0, 0, 0), (LEADS, 0, LEADS), (LEADS, 0, LEADS)]);
    assert_eq!(written(&api).await, [LEADS; 5]);
}

/// The numbers of contacted leads, interactions, emails, steps and history entries.
async fn written(api: &Api) -> [i64; 5] {
    let (contacted, interactions, emails, steps, history) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM leads WHERE status = 'contacted' AND last_contact IS NOT NULL),
             (SELECT count(DISTINCT lead_id) FROM lead_interactions AS made
                 JOIN emails ON emails.workspace_id = made.workspace_id AND emails.id = email_id WHERE subject_id = lead_id),
             (SELECT count(*) FROM emails), (SELECT count(*) FROM nurture_steps),
             (SELECT count(DISTINCT record_id) FROM history)",
    )
    .fetch_one(&mut api.connection().await)
    .await
    .unwrap();
    [contacted, interactions, emails, steps, history]
}
