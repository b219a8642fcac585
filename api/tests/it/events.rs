//! What happens is in the feed, in order, exactly once, with the record as it was returned.

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use shared::events::feed;
use shared::events::numbering::{BATCH, Numberer};
use shared::platform::db::Transaction;
use sqlx::{AssertSqlSafe, Connection};
use testing::{Process, citus};

use crate::support::{self, Api, faults, id};

const EVENTS: &str = "/dev/crm/events";
const LEADS: &str = "/dev/crm/leads";

/// Gives all events that are visible their numbers, as a worker does.
pub async fn number(api: &Api) {
    let mut connection = api.connection().await;
    let mut numberer = Numberer::default();
    while numberer.pass(&mut connection).await.unwrap().numbered == BATCH {}
}

/// The feed from its beginning.
pub async fn feed(api: &Api) -> Vec<Value> {
    number(api).await;
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let response = api.get(&format!("{EVENTS}?limit=1000{after}")).send().await.unwrap();
        let (next, has_more) = (cursor(&response), response.headers().contains_key("link"));
        events.extend(support::body(response, 200).await.as_array().unwrap().clone());
        if !has_more {
            return events;
        }
        after = format!("&after={next}");
    }
}

fn cursor(response: &reqwest::Response) -> String {
    response.headers()["x-next-cursor"].to_str().unwrap().to_owned()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn lead(api: &Api, email: &str) -> Value {
    api.create(LEADS, json!({ "name": "Ada", "email": email })).await
}

#[tokio::test]
async fn each_change_of_a_record_is_an_event_with_the_record_as_it_was_returned() {
    let api = Api::start().await;
    let created = lead(&api, "ada@example.com").await;
    let path = format!("{LEADS}/{}", id(&created));
    let change =
        api.request(Method::PUT, &path).header("x-request-id", "to-qualified").json(&json!({ "status": "qualified" }));
    let updated = support::json(change, 200).await;
    // Nothing changes, so there is no event.
    support::json(api.request(Method::PUT, &path).json(&json!({ "status": "qualified" })), 200).await;
    api.delete(&path, 204).await;
    let restored = support::json(api.post(&format!("{path}/restore")), 200).await;

    let events = feed(&api).await;
    assert_eq!(types(&events), ["lead.created", "lead.updated", "lead.deleted", "lead.restored"]);
    for (event, record) in events.iter().zip([&created, &updated, &updated, &restored]) {
        assert_eq!(&event["data"], record);
        assert_eq!(event["subject"], json!({ "type": "lead", "id": id(&created) }));
        assert_eq!(event["actor"]["type"], "api_key");
        assert_eq!(event["workspace_id"], api.workspace_id.to_string());
        assert!(event["id"].as_str().unwrap().strip_prefix("evt_").is_some_and(|hex| hex.len() == 32), "{event}");
    }
    assert_eq!(events[1]["request_id"], "to-qualified");
    assert_eq!(events[1]["changes"]["status"], json!({ "from": "new", "to": "qualified" }));
    assert_eq!(events[2]["changes"], Value::Null);
    let cursors: Vec<i64> = events.iter().map(|event| event["cursor"].as_i64().unwrap()).collect();
    assert!(cursors.is_sorted_by(|one, next| one < next), "{cursors:?}");
}

#[tokio::test]
async fn records_that_change_along_with_another_have_events_of_their_own() {
    let api = Api::start().await;
    let lead = lead(&api, "ada@example.com").await;
    let path = format!("{LEADS}/{}", id(&lead));
    api.create(&format!("{path}/interactions"), json!({ "type": "call", "notes": "Hello" })).await;
    let converted = support::json(api.post(&format!("{path}/convert")), 201).await;
    let customer = format!("/dev/crm/customers/{}", id(&converted["customer"]));
    let order = json!({ "customer_id": id(&converted["customer"]), "product_id": id(&lead), "quantity": 1 });
    api.create("/dev/crm/orders", order).await;
    api.delete(&path, 204).await;
    api.delete(&customer, 204).await;
    support::json(api.post(&format!("{customer}/restore")), 200).await;

    let events = feed(&api).await;
    let expected = [
        "lead.created",
        "lead_interaction.created",
        "customer.created",
        "lead.converted",
        "order.created",
        "lead_interaction.deleted",
        "customer.updated",
        "lead.deleted",
        "order.deleted",
        "customer.deleted",
        "customer.restored",
        "order.restored",
    ];
    assert_eq!(types(&events), expected);
    assert_eq!(events[2]["data"], converted["customer"]);
    assert_eq!(events[3]["data"], converted["lead"]);
    assert_eq!(events[3]["changes"]["status"], json!({ "from": "new", "to": "converted" }));
    assert_eq!(events[6]["changes"]["lead_id"], json!({ "from": id(&lead), "to": null }));
}

#[tokio::test]
async fn a_batch_has_an_event_for_each_record() {
    let api = Api::start().await;
    let known = lead(&api, "known@example.com").await;
    let items: Vec<Value> = (0..150).map(|n| json!({ "name": "N", "email": format!("{n}@example.com") })).collect();
    let items = [vec![json!({ "id": id(&known), "company": "Acme" })], items].concat();
    support::json(api.post(&format!("{LEADS}/batch")).json(&json!({ "items": items })), 200).await;
    let events = feed(&api).await;
    assert_eq!(events.len(), 152);
    let updated: Vec<&Value> = events.iter().filter(|event| event["type"] == "lead.updated").collect();
    assert_eq!(updated.len(), 1);
    assert_eq!(updated[0]["changes"]["company"], json!({ "from": null, "to": "Acme" }));
}

#[tokio::test]
async fn what_a_job_writes_is_summarised_in_its_events() {
    let api = Api::start().await;
    let job = api.import("Name,Email\nAda,ada@example.com\nBob,bob@example.com\n").await;
    let _worker = Process::worker(&api.database, &[]);
    let job = api.ended(&job).await;
    // They were recorded in the transaction that ended the job.
    let events = feed(&api).await;
    assert_eq!(types(&events), ["job.changed", "job.succeeded"]);
    for event in &events {
        assert_eq!(event["data"], job);
        assert_eq!(event["subject"], json!({ "type": "job", "id": id(&job) }));
    }
    assert_eq!(job["result"]["created"], 2);

    let cancelled = api.import("Name,Email\nCy,cy@example.com\n").await;
    api.leaves_jobs("import_leads");
    let _ = support::json(api.post(&format!("/dev/crm/jobs/{}/cancel", id(&cancelled))), 200).await;
}

#[tokio::test]
async fn a_reader_that_continues_from_its_cursor_misses_nothing_of_a_transaction_that_commits_late() {
    let api = Api::start().await;
    // It inserts its event first and commits last.
    let pool = shared::platform::db::pool(&support::settings(api.database.url()).database, "test").unwrap();
    let mut late = Transaction::begin(&pool).await.unwrap();
    let actor = shared::events::Actor::worker(api.workspace_id);
    let subject = shared::events::Subject { kind: shared::events::SubjectType::Workspace, id: api.workspace_id };
    let ping = shared::events::NewEvent::new(shared::events::EventType::Ping, subject, &json!({})).unwrap();
    shared::events::record(&mut late, &actor, vec![ping]).await.unwrap();

    lead(&api, "ada@example.com").await;
    number(&api).await;
    let response = api.get(EVENTS).send().await.unwrap();
    let next = cursor(&response);
    let first = support::body(response, 200).await;
    assert_eq!(types(first.as_array().unwrap()), ["lead.created"]);

    late.commit().await.unwrap();
    number(&api).await;
    let rest = support::json(api.get(&format!("{EVENTS}?after={next}")), 200).await;
    assert_eq!(types(rest.as_array().unwrap()), ["ping"]);
}

#[tokio::test]
async fn the_feed_is_read_in_pages_and_filtered_by_type_and_record() {
    let api = Api::start().await;
    let empty = api.get(&format!("{EVENTS}?after=latest")).send().await.unwrap();
    let begin = cursor(&empty);
    let ada = lead(&api, "ada@example.com").await;
    for n in 0..3 {
        lead(&api, &format!("{n}@example.com")).await;
    }
    api.delete(&format!("{LEADS}/{}", id(&ada)), 204).await;
    number(&api).await;

    let page = api.get(&format!("{EVENTS}?limit=2&after={begin}")).send().await.unwrap();
    let link = page.headers()["link"].to_str().unwrap().to_owned();
    let next = cursor(&page);
    assert_eq!(link, format!("</dev/crm/events?limit=2&after={next}>; rel=\"next\""));
    let page = support::body(page, 200).await;
    assert_eq!(page[1]["cursor"].to_string(), next);

    let deleted = support::json(api.get(&format!("{EVENTS}?type=lead.deleted,order.created")), 200).await;
    assert_eq!(types(deleted.as_array().unwrap()), ["lead.deleted"]);
    let of_ada = support::json(api.get(&format!("{EVENTS}?subject_id={}", id(&ada))), 200).await;
    assert_eq!(types(of_ada.as_array().unwrap()), ["lead.created", "lead.deleted"]);
    let latest = api.get(&format!("{EVENTS}?after=latest")).send().await.unwrap();
    assert!(!latest.headers().contains_key("link"));
    assert_eq!(support::body(latest, 200).await, json!([]));

    let wrong = "after=x&type=lead.eaten&subject_id=7&limit=0";
    let problem = support::json(api.get(&format!("{EVENTS}?{wrong}")), 400).await;
    assert_eq!(
        faults(&problem),
        [("after", "invalid"), ("type", "invalid"), ("subject_id", "invalid"), ("limit", "out_of_range")]
    );
    let future = support::json(api.get(&format!("{EVENTS}?after=9000000000000000")), 400).await;
    assert_eq!(faults(&future), [("after", "invalid")]);
}

#[tokio::test]
async fn a_cursor_that_is_too_old_is_answered_with_the_oldest_one() {
    let api = Api::start().await;
    lead(&api, "ada@example.com").await;
    let events = feed(&api).await;
    let connection = &mut api.connection().await;
    // As if the event were 40 days old.
    let ago = chrono::Duration::days(40).num_microseconds().unwrap();
    sqlx::query("UPDATE events SET number = number - $1").bind(ago).execute(&mut *connection).await.unwrap();
    let pruned = feed::prune(connection, api.workspace_id, 30, 100).await.unwrap();
    assert_eq!(pruned, 1);

    let oldest = events[0]["cursor"].as_i64().unwrap() - ago;
    for path in [format!("{EVENTS}?after=0"), format!("{EVENTS}/stream?after=0")] {
        let problem = support::json(api.get(&path), 410).await;
        assert_eq!(problem["oldest_cursor"], oldest);
    }
    assert_eq!(support::json(api.get(&format!("{EVENTS}?after={oldest}")), 200).await, json!([]));
    // The audit log still knows that it happened.
    let data: Option<Value> = sqlx::query_scalar("SELECT data FROM events").fetch_one(connection).await.unwrap();
    assert_eq!(data, None);
}

#[tokio::test]
async fn a_stream_sends_each_event_and_continues_where_a_client_left_off() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let mut stream = api.get(&format!("{EVENTS}/stream")).send().await.unwrap().bytes_stream();
    let ada = lead(&api, "ada@example.com").await;
    let mut text = String::new();
    while !text.ends_with("\n\n") || !text.contains("data:") {
        text += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    drop(stream);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("event:"), "lead.created");
    let event: Value = serde_json::from_str(&field("data:")).unwrap();
    assert_eq!(event["data"], ada);
    assert_eq!(event["cursor"].to_string(), field("id:"));

    lead(&api, "bob@example.com").await;
    let again = api.get(&format!("{EVENTS}/stream")).header("last-event-id", field("id:"));
    let mut stream = again.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("bob@example.com") {
        text += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(text.matches("data:").count(), 1);
}

#[tokio::test]
async fn numbers_rise_although_the_last_ones_are_lost() {
    let api = Api::start().await;
    lead(&api, "ada@example.com").await;
    let before = feed(&api).await[0]["cursor"].as_i64().unwrap();
    // A backup that was made before has neither the event nor its number.
    let connection = &mut api.connection().await;
    let mut restore = connection.begin().await.unwrap();
    for table in ["events", "event_cursors"] {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *restore).await.unwrap();
    }
    restore.commit().await.unwrap();
    lead(&api, "bob@example.com").await;
    assert!(feed(&api).await[0]["cursor"].as_i64().unwrap() > before);
}

#[tokio::test]
async fn the_feed_is_read_fast_before_any_statistics_know_of_many_changes() {
    let api = Api::start().await;
    lead(&api, "ada@example.com").await;
    number(&api).await;
    let mut connection = api.connection().await;
    // Citus makes no plan without the workspace.
    let plans = if citus::is_tested() { "auto" } else { "force_generic_plan" };
    let settings = AssertSqlSafe(format!("SET plan_cache_mode = {plans}; SET statement_timeout = '5s'"));
    sqlx::raw_sql(settings).execute(&mut connection).await.unwrap();
    let mut read =
        async || feed::read(&mut connection, api.workspace_id, None, &feed::Filter::default(), 1_000).await.unwrap();
    // A plan for a few changes compares each event with all of the workspace, which takes 10 s for the others.
    assert_eq!(read().await.events.len(), 1);
    let more = [
        "INSERT INTO history (workspace_id, id, record_type, record_id, action, actor_type, actor_id, former, latter, created_at)
         SELECT $1, gen_random_uuid(), 'lead', gen_random_uuid(), 'updated', 'key', gen_random_uuid(), '{}', '{}', now()
         FROM generate_series(1, 100000)",
        "INSERT INTO events (workspace_id, number, id, type, subject_type, subject_id, actor_type, actor_id, data, created_at)
         SELECT workspace_id, number - n, gen_random_uuid(), type, 'lead', subject_id, actor_type, actor_id, '{}', created_at
         FROM events, generate_series(1, 1000) AS n WHERE workspace_id = $1",
    ];
    for statement in more {
        sqlx::query(statement).bind(api.workspace_id).execute(&mut api.connection().await).await.unwrap();
    }
    assert_eq!(read().await.events.len(), 1_000);
}
