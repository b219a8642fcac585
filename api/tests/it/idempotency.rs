//! A request that is repeated with its idempotency key runs once.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::{self, Api, faults, id};

const LEADS: &str = "/dev/crm/leads";

fn keyed(request: RequestBuilder, key: &str) -> RequestBuilder {
    request.header("idempotency-key", key)
}

async fn sent(request: RequestBuilder) -> (u16, bool, Vec<(String, String)>, String) {
    let answer: Response = request.send().await.unwrap();
    let replayed = answer.headers().contains_key("idempotent-replayed");
    let compared = ["location", "etag", "content-type"];
    let header =
        |name: &&str| answer.headers().get(*name).map(|value| ((*name).to_owned(), value.to_str().unwrap().to_owned()));
    let headers = compared.iter().filter_map(header).collect();
    (answer.status().as_u16(), replayed, headers, answer.text().await.unwrap())
}

#[tokio::test]
async fn the_stored_response_is_replayed_byte_by_byte() {
    let api = Api::start().await;
    let ask = || keyed(api.post(LEADS), "k-1").json(&json!({ "name": "Ada", "email": "ada@example.com" }));
    let (status, replayed, headers, body) = sent(ask()).await;
    assert_eq!((status, replayed), (201, false));
    // Even after the record has changed.
    let lead: Value = serde_json::from_str(&body).unwrap();
    api.send(Method::PUT, &format!("{LEADS}/{}", id(&lead)), json!({ "name": "Countess" }), 200).await;
    assert_eq!(sent(ask()).await, (201, true, headers, body));
    assert_eq!(api.read(LEADS).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_scoped_to_its_route_its_api_key_and_one_request() {
    let api = Api::start().await;
    let body = |email: &str| json!({ "name": "Ada", "email": email });
    let ask = |path: &str, email: &str| keyed(api.post(path), "k-1").json(&body(email));
    support::json(ask(LEADS, "ada@example.com"), 201).await;
    let other = support::json(ask(LEADS, "bob@example.com"), 422).await;
    assert_eq!(other, json!({ "message": "Idempotency key was used with a different request" }));
    support::json(ask("/dev/crm/customers", "ada@example.com"), 201).await;
    let (another_key, _) = api.new_key(None).await;
    let request = reqwest::Client::new().post(api.url(LEADS)).bearer_auth(another_key).json(&body("bob@example.com"));
    assert_eq!(keyed(request, "k-1").send().await.unwrap().status(), 201);
    for key in ["", " ", &"k".repeat(256)] {
        let rejected = support::json(keyed(api.post(LEADS), key).json(&body("c@example.com")), 400).await;
        assert_eq!(faults(&rejected), [("Idempotency-Key", "invalid")]);
    }
}

#[tokio::test]
async fn only_successful_responses_are_stored() {
    let api = Api::start().await;
    let lead = api.create(LEADS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let ask = || keyed(api.post(LEADS), "k-1").json(&json!({ "name": "Ada", "email": "ada@example.com" }));
    assert_eq!(sent(ask()).await.0, 409);
    api.delete(&format!("{LEADS}/{}", id(&lead)), 204).await;
    let (status, replayed, ..) = sent(ask()).await;
    assert_eq!((status, replayed), (201, false));
}

#[tokio::test]
async fn of_concurrent_requests_with_one_key_one_runs_and_the_others_replay_it() {
    let api = Api::start().await;
    for round in 0..20 {
        let body = json!({ "name": "Ada", "email": format!("ada{round}@example.com") });
        let concurrent = (0..4).map(|_| sent(keyed(api.post(LEADS), &format!("k-{round}")).json(&body)));
        let answers = futures_util::future::join_all(concurrent).await;
        let created: Vec<_> = answers.iter().filter(|(status, replayed, ..)| *status == 201 && !replayed).collect();
        assert_eq!(created.len(), 1, "{answers:?}");
        for (status, replayed, _, body) in &answers {
            match status {
                201 => assert_eq!(body, &created[0].3, "{replayed}"),
                409 => assert!(body.contains("still running"), "{body}"),
                other => panic!("{other}: {body}"),
            }
        }
    }
    assert_eq!(api.read(LEADS).await.as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn conversions_batches_and_uploads_honour_the_key_too() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let lead = api.create(LEADS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let convert = || keyed(api.post(&format!("{LEADS}/{}/convert", id(&lead))), "c");
    let batch = || {
        keyed(api.post("/dev/crm/customers/batch"), "b")
            .json(&json!({ "items": [{ "name": "x", "email": "x@example.com" }] }))
    };
    let upload = |file: &'static str| {
        let part = reqwest::multipart::Part::text(file).file_name("leads.csv");
        keyed(api.post("/dev/crm/leads/import"), "u").multipart(reqwest::multipart::Form::new().part("file", part))
    };
    let file = "name,email\nBob,bob@example.com\n";
    for (first, again) in [(convert(), convert()), (batch(), batch()), (upload(file), upload(file))] {
        let (status, replayed, headers, body) = sent(first).await;
        assert!((200..300).contains(&status) && !replayed, "{status} {body}");
        assert_eq!(sent(again).await, (status, true, headers, body));
    }
    assert_eq!(sent(upload("name,email\nEve,eve@example.com\n")).await.0, 422);
    assert_eq!(api.read("/dev/crm/jobs").await.as_array().unwrap().len(), 1);
    let mut connection = api.connection().await;
    let uploads: i64 = sqlx::query_scalar("SELECT count(*) FROM imports").fetch_one(&mut connection).await.unwrap();
    assert_eq!(uploads, 1, "the repeated upload is discarded");
}
