//! Bodies that are expensive to process are rejected without using much memory.

use reqwest::{Body, Client};
use serde_json::{Value, json};
use testing::Process;

use crate::support::{self, Api, faults, id};

const LEADS: &str = "/dev/crm/leads";
const MIB: usize = 1024 * 1024;

async fn post(api: &Api, path: &str, body: String) -> Value {
    let request = api.post(path).header("content-type", "application/json").body(body);
    support::json(request, 400).await
}

#[tokio::test]
async fn errors_are_bounded_in_number_and_length() {
    let api = Api::start().await;
    let key = "k".repeat(1_000);
    let duplicates = format!("{{\"{key}\":{{{}\"x\":0}}}}", "\"x\":0,".repeat(5_000));
    let unknown: String = (0..5_000).map(|n| format!("\"{key}{n}\":0,")).take(800).collect();
    let unknown = format!("{{\"name\":\"Ada\",{unknown}\"email\":\"a@example.com\"}}");
    for (body, more) in [(duplicates, 4_900), (unknown, 700)] {
        let rejected = post(&api, LEADS, body).await;
        let errors = rejected["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 101);
        assert!(errors.iter().all(|error| error["field"].as_str().unwrap().chars().count() <= 200));
        assert_eq!(errors[100], json!({ "field": "body", "code": "more", "message": format!("and {more} more") }));
    }
}

#[tokio::test]
async fn the_number_of_values_in_a_body_is_limited() {
    let api = Api::start().await;
    let numbers = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
    let lead = |fields: String| format!("{{\"name\":\"Ada\",\"email\":\"a@example.com\",\"custom_fields\":{fields}}}");
    // The maximum size of custom fields.
    let full = lead(format!("{{\"a\":{}}}", numbers(8_000)));
    let request = api.post(LEADS).header("content-type", "application/json").body(full);
    let created = support::json(request, 201).await;
    assert_eq!(created["custom_fields"]["a"].as_array().unwrap().len(), 8_000);
    assert_eq!(api.read(&format!("{LEADS}/{}", id(&created))).await, created);
    for many in
        [numbers(400_000), format!("[{}[]]", "[],".repeat(200_000)), format!("[{}{{}}]", "{\"\":0},".repeat(90_000))]
    {
        let rejected = post(&api, LEADS, lead(format!("{{\"a\":{many}}}"))).await;
        assert_eq!(faults(&rejected), [("body", "too_many")]);
    }
    let batch = format!("{{\"items\":[{{}},{}]}}", lead(format!("{{\"a\":{}}}", numbers(20_000))));
    assert_eq!(faults(&post(&api, &format!("{LEADS}/batch"), batch).await), [("items.1", "too_many")]);
    let twice = r#"{"items":[{"name":"Ada","name":"Bob","email":"a@example.com"}]}"#;
    assert_eq!(faults(&post(&api, &format!("{LEADS}/batch"), twice.into()).await), [("items.0.name", "duplicate")]);
}

#[tokio::test]
async fn custom_fields_are_returned_as_written() {
    let api = Api::start().await;
    let fields = json!({ "z": 1, "a": [1.5, -0.0, 1e300, "\u{e4}\"", null, true], "m": { "b": {}, "a": [] }, "": "" });
    let lead = json!({ "name": "Ada", "email": "ada@example.com", "custom_fields": fields });
    let created = api.create(LEADS, lead).await;
    let path = format!("{LEADS}/{}", id(&created));
    assert_eq!(created["custom_fields"], fields);
    assert_eq!(api.read(&path).await["custom_fields"], fields);
    // The same fields in another order are not a change.
    let reversed: serde_json::Map<_, _> = fields.as_object().unwrap().clone().into_iter().rev().collect();
    let same = api.send(reqwest::Method::PUT, &path, json!({ "custom_fields": reversed }), 200).await;
    assert_eq!(same["updated_at"], created["updated_at"]);
    let cleared = api.send(reqwest::Method::PUT, &path, json!({ "custom_fields": null }), 200).await;
    assert_eq!(cleared["custom_fields"], json!({}));
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(history[0]["changes"]["custom_fields"]["from"], fields, "{history}");
    let export = api.get(&format!("{LEADS}/export")).send().await.unwrap().text().await.unwrap();
    assert!(!export.contains("{}"), "{export}");
}

#[tokio::test]
async fn the_records_that_a_batch_updates_are_limited_in_size() {
    let api = Api::start().await;
    let fields: serde_json::Map<_, _> = (0..90).map(|n| (format!("k{n}"), json!("v".repeat(150)))).collect();
    let lead = |n: usize| json!({ "name": "Ada", "email": format!("{n}@example.com"), "notes": "ä".repeat(10_000), "custom_fields": fields });
    let mut ids = Vec::new();
    for chunk in [0..250, 250..500, 500..600] {
        let items: Vec<Value> = chunk.map(lead).collect();
        let answer = api.send(reqwest::Method::POST, &format!("{LEADS}/batch"), json!({ "items": items }), 200).await;
        ids.extend(answer["results"].as_array().unwrap().iter().map(|result| id(&result["record"]).to_owned()));
    }
    let items = |count: usize| -> Value {
        ids.iter().take(count).map(|id| json!({ "id": id, "score": 7 })).collect::<Vec<_>>().into()
    };
    let path = format!("{LEADS}/batch");
    let rejected = api.send(reqwest::Method::POST, &path, json!({ "items": items(600) }), 400).await;
    assert_eq!(faults(&rejected), [("items", "too_large")]);
    let changed = api.send(reqwest::Method::POST, &path, json!({ "items": items(300) }), 200).await;
    assert!(changed["results"].as_array().unwrap().iter().all(|result| result["record"]["score"] == 7));
}

/// The peak memory of the process.
fn peak(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.program_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Sends a body byte by byte, so that each is a piece of its own.
fn dripping(body: String) -> Body {
    Body::wrap_stream(futures_util::stream::iter(
        body.into_bytes().into_iter().map(|byte| Ok::<_, std::io::Error>(vec![byte])),
    ))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn hostile_bodies_use_little_memory() {
    let api = Api::start().await;
    // An unoptimized build on a busy machine reads 15 MiB for longer than a request may take.
    let process = Process::api_with(&api.database, &[("CRM_API__REQUEST_TIMEOUT_S", "600")]).await;
    let before = peak(&process);
    let many = |item: &str, bytes: usize| format!("{{\"a\":[{}0]}}", item.repeat(bytes / item.len()));
    let long = "k".repeat(100_000);
    let send = async |path: &str, kind: &str, body: Body| {
        let request = Client::new().post(format!("{}{path}", process.url)).bearer_auth(&api.key);
        request.header("content-type", kind).body(body).send().await.unwrap().status().as_u16()
    };
    for body in [
        format!("{{\"{long}\":{{{}\"x\":0}}}}", "\"x\":0,".repeat(100_000)),
        many("[],", 1_000_000),
        many("{\"\":0},", 1_000_000),
        many("0,", 1_000_000),
        format!("{{\"a\":{}", "[".repeat(1_000_000)),
    ] {
        assert_eq!(send(LEADS, "application/json", body.into()).await, 400);
    }
    assert_eq!(send(LEADS, "application/json", dripping(many("0,", 200_000))).await, 400);
    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
    for form in ["x".repeat(60_000_000), format!("{head}{}", "x".repeat(60_000_000))] {
        let kind = "multipart/form-data; boundary=b";
        // The response may arrive before the whole body was sent, so sending may fail.
        let request = Client::new().post(format!("{}{LEADS}/import", process.url)).bearer_auth(&api.key);
        if let Ok(answer) = request.header("content-type", kind).body(form).send().await {
            assert_eq!(answer.status(), 400);
        }
    }
    let grown = peak(&process) - before;
    assert!(grown < 20 * MIB + 16 * MIB, "{} MiB", grown / MIB);
    for item in ["[],", "{},", "{\"a\":[0,0,0,0,0,0]},"] {
        let batch = format!("{{\"items\":[{}{{}}]}}", item.repeat(15 * MIB / item.len()));
        assert_eq!(send(&format!("{LEADS}/batch"), "application/json", batch.into()).await, 400);
    }
    let grown = peak(&process) - before;
    assert!(grown < 200 * MIB, "{} MiB", grown / MIB);
}
