//! Runs: what is the same for every kind, whatever its pages are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use shared::insight::themes;
use shared::queue;
use shared::schedule::nightly::CleanUp;
use sqlx::FromRow;
use testing::{Process, create_trigger};
use uuid::Uuid;

use crate::support::{self, Api, id};
use crate::workflows::{add_user, rows};
use crate::{feedback, feedback_reminders, followups, health_snapshots, nurture};

/// Runs a job whose worker is killed after each page, or few, and returns the cursors at which it was, and the
/// job when it has ended.
pub(crate) async fn kill_after_pages(api: &Api, job: &Value) -> (Vec<Value>, Value) {
    let mut killed_at = Vec::new();
    loop {
        let mut doomed = Process::worker(&api.database, &["--queues", "imports,workflows"]);
        let before = cursor(api, job).await;
        let moved = async {
            while cursor(api, job).await == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), moved).await.expect("the run goes on");
        doomed.kill9().await;
        // Waiting for the lease to run out would show no more.
        rows(api, "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL").await;
        match cursor(api, job).await {
            Some(at) if at != "end" => killed_at.push(at),
            _ => break,
        }
    }
    let _worker = Process::worker(&api.database, &["--queues", "imports,workflows"]);
    (killed_at, api.ended(job).await)
}

async fn cursor(api: &Api, job: &Value) -> Option<Value> {
    sqlx::query_scalar("SELECT cursor FROM jobs WHERE id = $1")
        .bind(id(job).parse::<Uuid>().unwrap())
        .fetch_one(&mut api.connection().await)
        .await
        .unwrap()
}

/// What a job had recorded at some time.
#[derive(Debug, FromRow)]
struct Moment {
    kind: String,
    status: String,
    result: Value,
    cursor: Option<Value>,
}

/// Has the database note whatever jobs record from now on.
async fn watch(api: &Api) {
    let mut connection = api.connection().await;
    let table = "CREATE TABLE moments (
                     place bigint GENERATED ALWAYS AS IDENTITY, kind text, status text, result json, cursor jsonb
                 )";
    sqlx::raw_sql(table).execute(&mut connection).await.unwrap();
    let function = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                        INSERT INTO moments (kind, status, result, cursor)
                        VALUES (NEW.kind, NEW.status, NEW.result, NEW.cursor);
                        RETURN NULL;
                    END $$";
    let trigger = "CREATE TRIGGER note AFTER UPDATE ON jobs FOR EACH ROW WHEN (NEW.result IS NOT NULL)
                   EXECUTE FUNCTION note()";
    create_trigger(&mut connection, function, trigger).await;
}

async fn moments(api: &Api) -> Vec<Moment> {
    sqlx::query_as("SELECT kind, status, result, cursor FROM moments ORDER BY place")
        .fetch_all(&mut api.connection().await)
        .await
        .unwrap()
}

/// Records for every kind of run, most of them for more than one page.
async fn fill(api: &Api) {
    nurture::many_leads(api, 2_100).await;
    let ann = add_user(api, "Ann", "ann@acme.example").await;
    let lead = followups::lead(api, "Lead-of-Ann", Some(ann)).await;
    followups::many_due(api, &lead, 2_100).await;
    feedback_reminders::many(api, 1_100).await;
    sqlx::query(
        "INSERT INTO nurture_steps (workspace_id, lead_id, step_id, taken_at)
         VALUES ($1, gen_random_uuid(), gen_random_uuid(), now())",
    )
    .bind(api.workspace_id)
    .execute(&mut api.connection().await)
    .await
    .unwrap();
    let customer = feedback::customer(api, "cyd@example.com").await;
    let asked = feedback::ask(api, &customer).await;
    let answer = json!({ "rating": 5, "comment": "Great sound, great music, great garden." });
    api.send(reqwest::Method::POST, &feedback::path_of(&asked), answer, 200).await;
}

/// Starts a run of every kind; returns their jobs.
async fn start_all(api: &Api) -> Vec<Value> {
    let import = api.imported("/dev/crm/leads/import", "name,email\nUna,una@example.com\nUrs,urs@example.com\n").await;
    let mut jobs = Vec::new();
    for path in [
        format!("/dev/crm/jobs/{}/undo", id(&import)),
        "/dev/crm/leads/nurture/start".to_owned(),
        "/dev/crm/leads/nurture/start?dry_run=true".to_owned(),
        "/dev/crm/followups/process".to_owned(),
        "/dev/crm/feedback/process-reminders".to_owned(),
    ] {
        jobs.push(support::json(api.post(&path), 202).await);
    }
    jobs.push(health_snapshots::start(api).await);
    let (mut connection, workspace) = (api.connection().await, api.workspace_id);
    let found = themes::start(&mut connection, workspace, None, false).await.unwrap();
    let cleaned = queue::start_run(&mut connection, workspace, None, &CleanUp {}).await.unwrap();
    jobs.extend([found.id, cleaned.id].map(|id| json!({ "id": id })));
    jobs
}

/// The paths of all fields of an object.
fn fields(value: &Value) -> BTreeSet<String> {
    let Value::Object(object) = value else { return BTreeSet::new() };
    let below = |(name, value): (&String, &Value)| {
        let mut below: Vec<String> = fields(value).into_iter().map(|field| format!("{name}.{field}")).collect();
        below.push(name.clone());
        below
    };
    object.iter().flat_map(below).collect()
}

/// The texts in a cursor that stand for a record, a time or a person.
fn texts(cursor: &Value) -> Vec<&str> {
    match cursor {
        Value::String(text) if text.len() > 15 => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(object) => object.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn callers_never_see_where_a_run_goes_on() {
    let api = Api::start().await;
    watch(&api).await;
    let _worker = Process::worker(&api.database, &[]);
    fill(&api).await;
    for job in start_all(&api).await {
        let job = api.ended(&job).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert!(job.get("cursor").is_none(), "{job}");
    }
    let moments = moments(&api).await;
    let mut cursors = BTreeMap::<&str, BTreeSet<String>>::new();
    for moment in &moments {
        cursors.entry(&moment.kind).or_default().extend(moment.cursor.iter().map(Value::to_string));
        let is_of_run = |other: &&Moment| {
            (&other.kind, &other.result["dry_run"]) == (&moment.kind, &moment.result["dry_run"])
                && other.status == "succeeded"
        };
        let end = moments.iter().find(is_of_run).unwrap();
        assert_eq!(fields(&moment.result), fields(&end.result), "{moment:?}");
        if moment.result["preview"].is_null() {
            let result = moment.result.to_string();
            let is_told = |text: &&str| result.contains(text);
            let told: Vec<&str> =
                moments.iter().filter_map(|m| m.cursor.as_ref()).flat_map(texts).filter(is_told).collect();
            assert!(told.is_empty() && !result.contains('@'), "{told:?} stands in {moment:?}");
        }
    }
    let kinds = [
        "clean_up",
        "find_themes",
        "nurture_leads",
        "process_followups",
        "remind_feedback",
        "snapshot_health",
        "undo_import",
    ];
    for kind in kinds {
        assert!(cursors[kind].len() >= 2, "{kind} was at {:?}", cursors[kind]);
    }
    assert_eq!(cursors["request_feedback"], BTreeSet::from([json!("end").to_string()]));
}
