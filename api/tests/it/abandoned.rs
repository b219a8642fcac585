//! Callers who leave before their answer, and requests that run out of time.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testing::create_trigger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{self, Api, id};

const LEADS: &str = "/dev/crm/leads";

/// Sends a request without waiting for its answer.
async fn send(api: &Api, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{headers}", body.len());
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    stream.write_all((api.head(method, path, &headers) + body).as_bytes()).await.unwrap();
    stream
}

/// Sends a `GET` without waiting for its answer.
async fn send_get(api: &Api, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    stream.write_all(api.head("GET", path, "").as_bytes()).await.unwrap();
    stream
}

/// Sessions of the API that meet a condition.
async fn sessions(connection: &mut PgConnection, condition: &str) -> i64 {
    let statement = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'crm-api' AND {condition}"
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await.unwrap()
}

/// Waits until so many sessions of the API wait for a lock.
async fn until_waiting(connection: &mut PgConnection, count: i64) {
    let begun = Instant::now();
    while sessions(connection, "wait_event_type = 'Lock'").await != count {
        assert!(begun.elapsed() < Duration::from_secs(15), "{count} sessions never waited");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Statements and transactions of the API that are under way.
async fn under_way(connection: &mut PgConnection) -> i64 {
    sessions(connection, "state <> 'idle'").await
}

/// Nobody else reads or writes the table until the returned connection is closed or its transaction ends.
async fn lock(api: &Api, table: &str) -> PgConnection {
    let mut connection = api.connection().await;
    let statement = format!("BEGIN; LOCK TABLE {table}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(connection).await.unwrap()
}

/// Everything until the server closes the connection, or the connection's answer is complete.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut piece)).await;
        match read.expect("there is an answer").unwrap() {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    String::from_utf8(answer).unwrap()
}

fn lead(name: &str) -> String {
    json!({ "name": name, "email": format!("{name}@example.com") }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_leave_change_no_answer_of_others() {
    let api = Api::start_with(|settings| settings.database.max_connections = 3).await;
    let customer = api.create("/dev/crm/customers", json!({ "name": "Bea", "email": "bea@example.com" })).await;
    let path = format!("/dev/crm/customers/{}", id(&customer));
    let bad = json!({ "customer_id": uuid::Uuid::nil(), "product_id": uuid::Uuid::nil(), "quantity": 1 }).to_string();
    let taken = json!({ "name": "Bea", "email": "bea@example.com" }).to_string();
    let leave = async |turn: u64| {
        for round in 0..60 {
            let stream = match (round + turn) % 4 {
                0 => send(&api, "POST", "/dev/crm/orders", "", &bad).await,
                1 => send(&api, "POST", "/dev/crm/customers", "", &taken).await,
                2 => send_get(&api, &format!("/dev/crm/customers/{}", uuid::Uuid::nil())).await,
                _ => send_get(&api, "/dev/crm/customers").await,
            };
            tokio::time::sleep(Duration::from_micros((round * 7 + turn * 13) * 31 % 3000)).await;
            drop(stream);
        }
    };
    let read = async || {
        for _ in 0..200 {
            assert_eq!(api.read(&path).await, customer);
        }
    };
    tokio::join!(leave(0), leave(1), leave(2), leave(3), read(), read());
    assert_eq!(count(&mut api.connection().await, "customers").await, 1);
}

#[tokio::test]
async fn a_read_is_cancelled_when_its_caller_leaves() {
    let api = Api::start_with(|settings| settings.database.max_connections = 1).await;
    let lead = api.create(LEADS, json!({ "name": "Ann", "email": "ann@example.com" })).await;
    let customer = api.create("/dev/crm/customers", json!({ "name": "Bea", "email": "bea@example.com" })).await;
    let mut watch = api.connection().await;
    let _locked = lock(&api, "leads").await;
    let reader = send_get(&api, &format!("{LEADS}/{}", id(&lead))).await;
    until_waiting(&mut watch, 1).await;
    drop(reader);
    // The one connection is free again, though the lock is still held.
    let begun = Instant::now();
    assert_eq!(api.read(&format!("/dev/crm/customers/{}", id(&customer))).await, customer);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(sessions(&mut watch, "wait_event_type = 'Lock'").await, 0);
}

#[tokio::test]
async fn a_stream_of_events_ends_with_its_caller() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import("Name,Email\nAnn,ann@example.com\n").await;
    let mut watch = api.connection().await;
    let mut stream = send_get(&api, &format!("/dev/crm/jobs/{}/events", id(&job))).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    let _locked = lock(&api, "jobs").await;
    until_waiting(&mut watch, 1).await;
    drop(stream);
    until_waiting(&mut watch, 0).await;
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_caller() {
    let api = Api::start().await;
    let mut watch = api.connection().await;
    sqlx::query(
        "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, notes, custom_fields, search_vector, created_at, updated_at)
         SELECT $1, gen_random_uuid(), 'Ann', n || '@example.com', n || '@example.com', 'direct', 'new', 0, repeat('x', 9000), '{}', '', now(), now()
         FROM generate_series(1, 4000) AS n",
    )
    .bind(api.workspace_id)
    .execute(&mut watch)
    .await
    .unwrap();
    let mut stream = send_get(&api, LEADS).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    // The reader has taken nothing more yet, so most of the list is not read.
    let _locked = lock(&api, "leads").await;
    let mut piece = vec![0; 1 << 20];
    while sessions(&mut watch, "wait_event_type = 'Lock'").await == 0 {
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut piece)).await;
    }
    drop(stream);
    until_waiting(&mut watch, 0).await;
}

#[tokio::test]
async fn a_write_whose_caller_left_runs_to_its_end_and_its_answer_is_kept() {
    let api = Api::start().await;
    let mut watch = api.connection().await;
    let locked = lock(&api, "leads").await;
    let ann = lead("ann");
    let writers = [
        send(&api, "POST", LEADS, "Idempotency-Key: once\r\n", &ann).await,
        send(&api, "POST", LEADS, "", &lead("bob")).await,
    ];
    until_waiting(&mut watch, 2).await;
    drop(writers);
    locked.close().await.unwrap();
    let replay = loop {
        let again = api.post(LEADS).header("Idempotency-Key", "once");
        let again = again.header("Content-Type", "application/json").body(ann.clone()).send().await.unwrap();
        // 409 while the first is still running.
        if again.status() == 201 {
            break again;
        }
        assert_eq!(again.status(), 409);
    };
    assert_eq!(replay.headers()["idempotent-replayed"], "true");
    let replay: Value = serde_json::from_str(&replay.text().await.unwrap()).unwrap();
    assert_eq!(replay["name"], "ann");
    let begun = Instant::now();
    while count(&mut watch, "leads").await < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_takes_too_long_is_rolled_back_before_its_answer() {
    let api = Api::start_with(|settings| settings.api.request_timeout_s = 1).await;
    let kept = api.create(LEADS, json!({ "name": "Kim", "email": "kim@example.com" })).await;
    let kept_path = format!("{LEADS}/{}", id(&kept));
    let mut watch = api.connection().await;
    let locked = lock(&api, "leads").await;
    let late = json!({ "message": "Request took too long" });
    // One statement by itself, a transaction, a transaction that keeps its answer, and reads.
    assert_eq!(api.send(Method::POST, LEADS, json!({ "name": "Ann", "email": "ann@example.com" }), 503).await, late);
    assert_eq!(under_way(&mut watch).await, 0);
    assert_eq!(support::json(api.request(Method::DELETE, &kept_path), 503).await, late);
    assert_eq!(under_way(&mut watch).await, 0);
    let keyed = || {
        api.post(LEADS).header("Idempotency-Key", "once").json(&json!({ "name": "Ann", "email": "ann@example.com" }))
    };
    assert_eq!(support::json(keyed(), 503).await, late);
    assert_eq!(under_way(&mut watch).await, 0);
    for path in [&kept_path, LEADS] {
        assert_eq!(support::json(api.get(path), 503).await, late);
        assert_eq!(under_way(&mut watch).await, 0);
    }
    locked.close().await.unwrap();
    assert_eq!(count(&mut watch, "leads").await, 1);
    assert_eq!(count(&mut watch, "idempotency_keys").await, 0);
    assert_eq!(api.read(&kept_path).await, kept);
    assert_eq!(support::json(keyed(), 201).await["name"], "Ann");
}

/// Makes each commit that changes a lead take as long, in this test's database.
async fn slow_commits(api: &Api, seconds: f32) {
    let function = format!(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'"
    );
    let trigger = "CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON leads DEFERRABLE INITIALLY DEFERRED
                   FOR EACH ROW EXECUTE FUNCTION linger()";
    create_trigger(&mut api.connection().await, &function, trigger).await;
}

#[tokio::test]
async fn a_commit_under_way_is_waited_for_and_its_answer_is_sent() {
    let api = Api::start_with(|settings| settings.api.request_timeout_s = 1).await;
    slow_commits(&api, 2.5).await;
    let begun = Instant::now();
    let keyed =
        api.post(LEADS).header("Idempotency-Key", "once").json(&json!({ "name": "Ann", "email": "ann@example.com" }));
    assert_eq!(support::json(keyed, 201).await["name"], "Ann");
    assert!(begun.elapsed() > Duration::from_secs(2));
    let mut watch = api.connection().await;
    assert_eq!(count(&mut watch, "leads").await, 1);
    // A statement that commits by itself can still be taken back.
    let late = api.send(Method::POST, LEADS, json!({ "name": "Bob", "email": "bob@example.com" }), 503).await;
    assert_eq!(late, json!({ "message": "Request took too long" }));
    assert_eq!(under_way(&mut watch).await, 0);
    assert_eq!(count(&mut watch, "leads").await, 1);
}

#[tokio::test]
async fn behind_a_pooler_nothing_is_cancelled() {
    let api = Api::start_with(|settings| {
        settings.api.request_timeout_s = 1;
        settings.database.pooler = true;
    })
    .await;
    let lead = api.create(LEADS, json!({ "name": "Ann", "email": "ann@example.com" })).await;
    let path = format!("{LEADS}/{}", id(&lead));
    let mut watch = api.connection().await;
    let locked = lock(&api, "leads").await;
    let leaver = send_get(&api, &path).await;
    until_waiting(&mut watch, 1).await;
    drop(leaver);
    let mut late = send_get(&api, &path).await;
    let mut write = send(&api, "DELETE", &path, "", "").await;
    until_waiting(&mut watch, 3).await;
    // All of them run out of time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sessions(&mut watch, "wait_event_type = 'Lock'").await, 3);
    locked.close().await.unwrap();
    assert!(answer(&mut late).await.starts_with("HTTP/1.1 200"));
    // It cannot begin its COMMIT any more.
    assert!(answer(&mut write).await.starts_with("HTTP/1.1 503"));
    assert_eq!(api.read(&path).await, lead);
}

#[tokio::test]
async fn a_write_whose_caller_left_ends_before_the_process_does() {
    let mut api = Api::start().await;
    let mut watch = api.connection().await;
    let locked = lock(&api, "leads").await;
    let writer = send(&api, "POST", LEADS, "", &lead("ann")).await;
    until_waiting(&mut watch, 1).await;
    drop(writer);
    api.stop();
    let stopped = tokio::spawn(api.stopped());
    assert_eq!(sessions(&mut watch, "wait_event_type = 'Lock'").await, 1);
    locked.close().await.unwrap();
    let _database = stopped.await.unwrap();
    assert_eq!(count(&mut watch, "leads").await, 1);
}

#[tokio::test]
async fn what_is_cut_off_is_cancelled() {
    let api = Api::start_with(|settings| settings.api.shutdown_s = 1).await;
    let mut watch = api.connection().await;
    let locked = lock(&api, "leads").await;
    let _reader = send_get(&api, LEADS).await;
    let _writer = send(&api, "POST", LEADS, "Idempotency-Key: once\r\n", &lead("ann")).await;
    let leaver = send(&api, "POST", LEADS, "", &lead("bob")).await;
    until_waiting(&mut watch, 3).await;
    drop(leaver);
    let _database = api.stopped().await;
    assert_eq!(sessions(&mut watch, "wait_event_type = 'Lock'").await, 0);
    locked.close().await.unwrap();
    assert_eq!(count(&mut watch, "leads").await, 0);
}
