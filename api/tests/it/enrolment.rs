//! Nurture sends emails to enrolled leads only: who is enrolled, who leaves, and who comes back.

use reqwest::Method;
use serde_json::{Value, json};
use shared::queue;
use shared::workflows::nurture::NurtureLeads;
use sqlx::Connection;
use testing::Process;

use crate::nurture::{counts, lead, start, step};
use crate::support::{self, Api, each, faults, id};
use crate::workflows::{days_pass, outbox, put_settings, rows, run, suppress};

const LEADS: &str = "/dev/crm/leads";
const NURTURE: &str = "/dev/crm/leads/nurture/start";
const FILE: &str =
    "name,email,status\nIda,ida@example.com,new\nIvo,ivo@example.com,qualified\nIna,ina@example.com,won\n";

/// A worker that imports, too.
async fn start_with_imports() -> (Api, Process) {
    let api = Api::start().await;
    let worker = Process::worker(&api.database, &["--queues", "workflows,imports"]);
    (api, worker)
}

/// The run of a night, or of the command line.
async fn nightly(api: &Api) -> Value {
    let payload = NurtureLeads::enrolled();
    let job = queue::start_run(&mut api.connection().await, api.workspace_id, None, &payload).await.unwrap();
    api.ended(&json!({ "id": job.id })).await
}

/// The addresses in the outbox without their domain, in the order of the emails.
async fn recipients(api: &Api) -> Vec<String> {
    let emails = outbox(api).await.into_iter();
    emails.map(|email| email.to_email.split('@').next().unwrap().to_owned()).collect()
}

/// When the lead was enrolled, and why it left.
fn enrolment(lead: &Value) -> (bool, Value) {
    assert_eq!(lead["nurture_left"].is_null(), lead["nurture_left_at"].is_null(), "{lead}");
    (!lead["nurture_enrolled_at"].is_null(), lead["nurture_left"].clone())
}

async fn enrolment_of(api: &Api, name: &str) -> (bool, Value) {
    let leads = api.read(&format!("{LEADS}?email={name}@example.com")).await;
    enrolment(&leads[0])
}

async fn change(api: &Api, path: &str, body: Value) -> Value {
    api.send(Method::PUT, path, body, 200).await
}

async fn post(api: &Api, path: &str) -> Value {
    support::json(api.post(path), 200).await
}

#[tokio::test]
async fn a_file_emails_nobody_at_night() {
    let (api, _worker) = start_with_imports().await;
    let import = api.imported(&format!("{LEADS}/import"), FILE).await;
    assert_eq!(import["result"]["created"], 3, "{import}");
    assert_eq!(counts(&nightly(&api).await), (0, 0, 0, json!({})));
    assert!(outbox(&api).await.is_empty());

    // A start previews whom it would enrol, and enrols them.
    let preview = run(&api, &format!("{NURTURE}?dry_run=true")).await;
    assert_eq!(counts(&preview), (2, 2, 0, json!({})));
    assert_eq!(preview["result"]["enrolled"], 2, "{preview}");
    assert!(preview["result"]["preview"].as_array().unwrap().iter().all(|lead| lead["enroll"] == true), "{preview}");
    assert_eq!(enrolment_of(&api, "ida").await, (false, Value::Null));
    let job = run(&api, NURTURE).await;
    assert_eq!((counts(&job), &job["result"]["enrolled"]), ((2, 2, 0, json!({})), &json!(2)));
    let history = api.read(&format!("{LEADS}?email=ida@example.com")).await;
    let history = api.read(&format!("{LEADS}/{}/history", id(&history[0]))).await;
    assert_eq!(history[0]["actor"], json!({ "type": "job", "id": job["id"] }));
    assert!(history[0]["changes"]["nurture_enrolled_at"]["to"].is_string(), "{history}");
    days_pass(&api, 3).await;
    assert_eq!(counts(&nightly(&api).await), (2, 2, 0, json!({})));
}

#[tokio::test]
async fn a_file_enrolls_its_leads_if_asked_to() {
    let (api, _worker) = start_with_imports().await;
    lead(&api, "Ada").await;
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    lead(&api, "Ivo").await;
    let file = format!("{FILE}Ada,ada@example.com,qualified\n");
    let import = api.imported(&format!("{LEADS}/import?enroll=true&on_conflict=update"), file).await;
    assert_eq!((&import["result"]["created"], &import["result"]["updated"]), (&json!(2), &json!(2)));
    // Leads that the file updates stay as they were, and a won one is not enrolled.
    for (name, is_enrolled) in [("ida", true), ("ivo", false), ("ina", false), ("ada", true)] {
        assert_eq!(enrolment_of(&api, name).await, (is_enrolled, Value::Null), "{name}");
    }
    assert_eq!(counts(&nightly(&api).await), (2, 2, 0, json!({})));
    // The time is that of the import, whenever the lead was created elsewhere.
    let old = "name,email,created_at\nOld,old@example.com,2020-01-01\n";
    api.imported(&format!("{LEADS}/import?enroll=true"), old).await;
    let lead = &api.read(&format!("{LEADS}?email=old@example.com")).await[0];
    assert!(lead["nurture_enrolled_at"].as_str() > Some("2026"), "{lead}");

    let rejected = support::json(api.post("/dev/crm/customers/import?enroll=true"), 400).await;
    assert_eq!(faults(&rejected), [("enroll", "unknown")]);
    let rejected = support::json(api.post(&format!("{LEADS}/import?enroll=1")), 400).await;
    assert_eq!(faults(&rejected), [("enroll", "invalid")]);
}

#[tokio::test]
async fn an_export_has_the_enrolment_only_if_it_is_asked_for() {
    let (api, _worker) = start_with_imports().await;
    lead(&api, "Ada").await;
    let export =
        async |query: &str| api.get(&format!("{LEADS}/export{query}")).send().await.unwrap().text().await.unwrap();
    let before = export("").await;
    assert!(!before.contains("nurture"), "{before}");
    assert!(export("?fields=email,nurture_enrolled_at").await.starts_with("email,nurture_enrolled_at\r\nada@"));
    rows(&api, "DELETE FROM leads").await;
    api.imported(&format!("{LEADS}/import"), before.clone()).await;
    assert_eq!(export("").await, before);
}

#[tokio::test]
async fn created_leads_are_enrolled_unless_the_workspace_says_otherwise() {
    let api = Api::start().await;
    let batch = json!({ "items": [{ "name": "Bea", "email": "bea@example.com" },
        { "name": "Ben", "email": "ben@example.com", "status": "lost" },
        { "name": "Bob", "email": "bob@example.com", "status": "proposal" }] });
    let written = support::json(api.post(&format!("{LEADS}/batch")).json(&batch), 200).await;
    let results: Vec<_> =
        written["results"].as_array().unwrap().iter().map(|item| enrolment(&item["record"])).collect();
    assert_eq!(results, [(true, Value::Null), (false, Value::Null), (true, Value::Null)]);
    let upsert = format!("{LEADS}?on_conflict=update");
    let created =
        support::json(api.post(&upsert).json(&json!({ "name": "Una", "email": "una@example.com" })), 201).await;
    assert_eq!((enrolment(&created), &created["nurture_enrolled_at"]), ((true, Value::Null), &created["created_at"]));

    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    let created = api.create(LEADS, json!({ "name": "Eda", "email": "eda@example.com" })).await;
    assert_eq!(enrolment(&created), (false, Value::Null));
    let items = json!({ "items": [{ "name": "Nia", "email": "nia@example.com" }] });
    let written = support::json(api.post(&format!("{LEADS}/batch")).json(&items), 200).await;
    assert_eq!(enrolment(&written["results"][0]["record"]), (false, Value::Null));
    // An update enrols nobody.
    put_settings(&api, json!({ "nurture_enroll_created": null })).await;
    let eda = json!({ "name": "Eda", "email": "eda@example.com", "score": 5 });
    let updated = support::json(api.post(&upsert).json(&eda), 200).await;
    assert_eq!(enrolment(&updated), (false, Value::Null));
    for body in [json!({ "nurture_enrolled_at": "2026-01-01" }), json!({ "nurture_left": "won" })] {
        let rejected = api.send(Method::PUT, &format!("{LEADS}/{}", id(&updated)), body, 400).await;
        assert_eq!(faults(&rejected)[0].1, "read_only", "{rejected}");
    }
}

#[tokio::test]
async fn a_start_with_filters_leaves_the_other_leads_alone() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    for (name, source, score) in [("Ada", "campaign", 10), ("Bob", "campaign", 90), ("Cyd", "website", 90)] {
        let email = format!("{}@example.com", name.to_lowercase());
        api.create(LEADS, json!({ "name": name, "email": email, "source": source, "score": score })).await;
    }
    put_settings(&api, json!({ "nurture_enroll_created": true })).await;
    lead(&api, "Dan").await;

    let job = run(&api, &format!("{NURTURE}?source=campaign&score[gte]=50")).await;
    assert_eq!((counts(&job), &job["result"]["enrolled"]), ((1, 1, 0, json!({})), &json!(1)));
    assert_eq!(job["progress"], json!({ "done": 1, "total": 1 }));
    assert_eq!(recipients(&api).await, ["bob"]);
    let job = run(&api, &format!("{NURTURE}?q=cy&custom.plan=null")).await;
    assert_eq!(counts(&job), (1, 1, 0, json!({})));
    assert_eq!(counts(&run(&api, &format!("{NURTURE}?status=lost,contacted")).await), (2, 0, 2, json!({})));
    assert_eq!(enrolment_of(&api, "ada").await, (false, Value::Null));
    assert_eq!(counts(&nightly(&api).await), (3, 1, 2, json!({})), "Dan was enrolled when he was created");

    for (query, fault) in [
        ("limit=5", ("limit", "unknown")),
        ("sort=email", ("sort", "unknown")),
        ("deleted=true", ("deleted", "unknown")),
        ("statuss=new", ("statuss", "unknown")),
        ("status=old", ("status", "invalid")),
    ] {
        let rejected = support::json(api.post(&format!("{NURTURE}?{query}")), 400).await;
        assert_eq!(faults(&rejected), [fault]);
    }
    let rejected = support::json(api.post(&format!("{NURTURE}?dry_run=x&fields=id&score=y")), 400).await;
    let mut named: Vec<_> = faults(&rejected).into_iter().map(|(field, _)| field).collect();
    named.sort_unstable();
    assert_eq!(named, ["dry_run", "fields", "score"]);
}

#[tokio::test]
async fn a_start_enrolls_nobody_who_cannot_get_email_or_has_left() {
    let (api, _worker) = start().await;
    let unenrolled = lead(&api, "Una").await;
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    let never = lead(&api, "Nia").await;
    for name in ["Sue", "Ben", "Pam"] {
        lead(&api, name).await;
    }
    change(&api, &format!("{LEADS}/{}", last_of(&api, "pam").await), json!({ "status": "proposal" })).await;
    suppress(&api, "sue@example.com").await;
    crate::emails::queued(&api, "ben@example.com", None).await;
    rows(&api, "UPDATE emails SET state = 'bounced'").await;
    // Also a lead that was never enrolled is left alone, once it was unenrolled.
    for path in [&unenrolled, &never] {
        assert_eq!(post(&api, &format!("{path}/nurture/unenroll")).await["nurture_left"], "unenrolled");
    }
    let job = run(&api, NURTURE).await;
    let skipped = json!({ "suppressed": 1, "bounced": 1, "unenrolled": 2 });
    assert_eq!((counts(&job), &job["result"]["enrolled"]), ((4, 0, 0, skipped), &json!(0)));
    for name in ["sue", "ben", "pam"] {
        assert_eq!(enrolment_of(&api, name).await, (false, Value::Null), "{name}");
    }
}

async fn last_of(api: &Api, name: &str) -> String {
    id(&api.read(&format!("{LEADS}?email={name}@example.com")).await[0]).to_owned()
}

#[tokio::test]
async fn a_closed_stage_ends_nurture_and_reopening_does_not_begin_it() {
    let (api, _worker) = start().await;
    let (ada, bob) = (lead(&api, "Ada").await, lead(&api, "Bob").await);
    let lost = change(&api, &ada, json!({ "status": "lost" })).await;
    assert_eq!((enrolment(&lost), &lost["nurture_left_at"]), ((true, json!("lost")), &lost["updated_at"]));
    let history = api.read(&format!("{ada}/history")).await;
    assert_eq!(history[0]["changes"]["nurture_left"], json!({ "from": null, "to": "lost" }));
    assert_eq!(enrolment(&change(&api, &ada, json!({ "status": "new" })).await), (true, json!("lost")));
    api.delete(&bob, 204).await;
    let bob_now = post(&api, &format!("{bob}/restore")).await;
    assert_eq!(enrolment(&bob_now), (true, json!("deleted")));
    assert_eq!(counts(&run(&api, NURTURE).await), (2, 0, 0, json!({ "lost": 1, "deleted": 1 })));
    assert_eq!(counts(&nightly(&api).await), (0, 0, 0, json!({})));

    for path in [&ada, &bob] {
        assert_eq!(enrolment(&post(&api, &format!("{path}/nurture/enroll")).await), (true, Value::Null));
    }
    assert_eq!(counts(&nightly(&api).await), (2, 2, 0, json!({})));
}

#[tokio::test]
async fn a_lead_that_finished_stays_out_until_it_is_enrolled() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "nurture_sequence": [step(1, 0)] })).await;
    let ada = lead(&api, "Ada").await;
    assert_eq!(counts(&nightly(&api).await), (1, 1, 0, json!({})));
    let job = nightly(&api).await;
    assert_eq!(counts(&job), (1, 0, 0, json!({ "finished": 1 })));
    let history = api.read(&format!("{ada}/history")).await;
    assert_eq!(history[0]["changes"]["nurture_left"], json!({ "from": null, "to": "finished" }));
    assert_eq!(history[0]["actor"], json!({ "type": "job", "id": job["id"] }));

    put_settings(&api, json!({ "nurture_sequence": [step(1, 0), step(2, 0)] })).await;
    assert_eq!(counts(&nightly(&api).await), (0, 0, 0, json!({})));
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 0, 0, json!({ "finished": 1 })));
    post(&api, &format!("{ada}/nurture/enroll")).await;
    assert_eq!(counts(&nightly(&api).await), (1, 1, 0, json!({})));
    // A lead gets each step once, however often it is enrolled.
    for _ in 0..2 {
        assert_eq!(counts(&nightly(&api).await).1, 0);
        post(&api, &format!("{ada}/nurture/enroll")).await;
    }
    let subjects: Vec<String> = outbox(&api).await.into_iter().map(|email| email.subject).collect();
    assert_eq!(subjects, ["Step 1", "Step 2"]);
}

#[tokio::test]
async fn an_enrolled_lead_continues_after_its_last_step() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "nurture_sequence": [step(1, 0), step(2, 1), step(3, 1)] })).await;
    let (called, bounced) = (lead(&api, "Cal").await, lead(&api, "Ben").await);
    assert_eq!(counts(&nightly(&api).await), (2, 2, 0, json!({})));
    api.create(&format!("{called}/interactions"), json!({ "type": "call" })).await;
    rows(&api, "UPDATE emails SET state = 'bounced' WHERE to_email = 'ben@example.com'").await;
    days_pass(&api, 1).await;
    assert_eq!(counts(&nightly(&api).await), (2, 0, 0, json!({ "interaction": 1, "bounced": 1 })));

    // What happened before no longer counts.
    for path in [&called, &bounced] {
        post(&api, &format!("{path}/nurture/enroll")).await;
    }
    assert_eq!(counts(&nightly(&api).await), (2, 2, 0, json!({})));
    api.create(&format!("{called}/interactions"), json!({ "type": "meeting" })).await;
    days_pass(&api, 1).await;
    assert_eq!(counts(&nightly(&api).await), (2, 1, 0, json!({ "interaction": 1 })));
    let subjects: Vec<String> = outbox(&api).await.into_iter().map(|email| email.subject).collect();
    assert_eq!(subjects, ["Step 1", "Step 1", "Step 2", "Step 2", "Step 3"]);
}

#[tokio::test]
async fn the_first_delay_counts_from_the_enrolment() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "nurture_sequence": [step(1, 2)], "nurture_enroll_created": false })).await;
    let ada = lead(&api, "Ada").await;
    days_pass(&api, 10).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (1, 0, 1, json!({})));
    days_pass(&api, 1).await;
    // Enrolling an enrolled lead changes nothing.
    let before = api.read(&ada).await;
    assert_eq!(post(&api, &format!("{ada}/nurture/enroll")).await, before);
    assert_eq!(counts(&nightly(&api).await), (1, 0, 1, json!({})));
    days_pass(&api, 1).await;
    assert_eq!(counts(&nightly(&api).await), (1, 1, 0, json!({})));
}

#[tokio::test]
async fn unenrolling_cancels_what_waits() {
    let (api, _worker) = start().await;
    let (ada, bob) = (lead(&api, "Ada").await, lead(&api, "Bob").await);
    assert_eq!(counts(&nightly(&api).await), (2, 2, 0, json!({})));
    let left = post(&api, &format!("{ada}/nurture/unenroll")).await;
    assert_eq!(enrolment(&left), (true, json!("unenrolled")));
    assert_eq!(post(&api, &format!("{ada}/nurture/unenroll")).await, left);
    let cancelled = api.read("/dev/crm/emails?state=cancelled").await;
    assert_eq!(each(&cancelled, "to_email"), ["ada@example.com"]);
    days_pass(&api, 30).await;
    assert_eq!(counts(&run(&api, NURTURE).await), (2, 1, 0, json!({ "unenrolled": 1 })));
    assert_eq!(recipients(&api).await, ["ada", "bob", "bob"]);

    // The cancelled step is not repeated.
    post(&api, &format!("{ada}/nurture/enroll")).await;
    assert_eq!(counts(&nightly(&api).await), (2, 1, 1, json!({})));
    let subjects: Vec<_> = outbox(&api).await.into_iter().map(|email| (email.to_email, email.subject)).collect();
    assert_ne!(subjects[0].1, subjects[3].1, "{subjects:?}");
    api.read(&bob).await;
}

/// The field and the code of a conflict.
fn reason(answer: &Value) -> (&str, &str) {
    let reason = &answer["errors"][0];
    (reason["field"].as_str().unwrap(), reason["code"].as_str().unwrap())
}

#[tokio::test]
async fn requests_name_what_is_in_the_way() {
    let api = Api::start().await;
    let ada = lead(&api, "Ada").await;
    let enroll = format!("{ada}/nurture/enroll");
    let tag = api.get(&ada).send().await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    let unenroll = format!("{ada}/nurture/unenroll");
    support::json(api.post(&unenroll).header("if-match", &tag), 200).await;
    support::json(api.post(&enroll).header("if-match", &tag), 412).await;
    support::json(api.post(&enroll).json(&json!({ "again": true })), 400).await;
    support::json(api.post(&format!("{enroll}?again=true")), 400).await;
    let keyed = || api.post(&enroll).header("idempotency-key", "k");
    let first = support::json(keyed(), 200).await;
    support::json(api.post(&unenroll), 200).await;
    let replayed = keyed().send().await.unwrap();
    assert_eq!(replayed.headers()["idempotent-replayed"], "true");
    assert_eq!(support::body(replayed, 200).await, first);
    assert_eq!(enrolment(&api.read(&ada).await), (true, json!("unenrolled")));

    change(&api, &ada, json!({ "status": "negotiation" })).await;
    let refused = support::json(api.post(&enroll), 409).await;
    assert_eq!(reason(&refused), ("status", "not_nurtured"));
    change(&api, &ada, json!({ "status": "qualified" })).await;
    let suppression = api.create("/dev/crm/suppressions", json!({ "email": "ADA@example.com" })).await;
    let refused = support::json(api.post(&enroll), 409).await;
    assert_eq!((reason(&refused), &refused["errors"][0]["id"]), (("email", "suppressed"), &suppression["id"]));
    let globex = api.on("globex").await;
    support::json(globex.post(&enroll), 404).await;
    support::json(globex.post(&unenroll), 404).await;
}

#[tokio::test]
async fn a_lead_that_is_closed_during_a_run_is_not_enrolled() {
    let (api, _worker) = start().await;
    put_settings(&api, json!({ "nurture_enroll_created": false })).await;
    lead(&api, "Ada").await;
    let mut caller = api.connection().await;
    let mut change = caller.begin().await.unwrap();
    sqlx::query("UPDATE leads SET status = 'lost'").execute(&mut *change).await.unwrap();
    let job = support::json(api.post(NURTURE), 202).await;
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
    let mut watcher = api.connection().await;
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut watcher).await.unwrap() {}
    change.commit().await.unwrap();
    assert_eq!(counts(&api.ended(&job).await), (0, 0, 0, json!({})));
    assert_eq!(enrolment_of(&api, "ada").await, (false, Value::Null));
    assert!(outbox(&api).await.is_empty());
}
