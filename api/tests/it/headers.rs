//! Headers that decide what a request does are honoured or rejected, never ignored.

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::support::{self, Api, faults, id};

const LEADS: &str = "/dev/crm/leads";

fn with(request: RequestBuilder, name: &'static str, value: &[u8]) -> RequestBuilder {
    request.header(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
}

#[tokio::test]
async fn a_malformed_condition_changes_and_deletes_nothing() {
    let api = Api::start().await;
    let lead = api.create(LEADS, json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("{LEADS}/{}", id(&lead));
    for method in [Method::DELETE, Method::PUT] {
        for wrong in [&b"\"\xc3\xa4\""[..], b"\"x\xff\"", b"x", b"\"x", b"\"x\" \"y\"", b"", b"\"x\", y", b"w/\"x\""] {
            let request = with(api.request(method.clone(), &path), "if-match", wrong).json(&json!({ "name": "Eve" }));
            assert_eq!(faults(&support::json(request, 400).await), [("If-Match", "invalid")], "{method} {wrong:?}");
        }
        let twice = with(with(api.request(method.clone(), &path), "if-match", b"\"x\""), "if-match", b"*");
        let twice = twice.json(&json!({ "name": "Eve" }));
        assert_eq!(faults(&support::json(twice, 400).await), [("If-Match", "duplicate")]);
    }
    assert_eq!(api.read(&path).await, lead, "nothing was changed");
    let any = with(api.request(Method::DELETE, &path), "if-match", b"*").send().await.unwrap();
    assert_eq!(any.status(), 204);
}

#[tokio::test]
async fn repeated_and_unreadable_headers_are_rejected() {
    let api = Api::start().await;
    let create = || api.post(LEADS).body(r#"{"name":"Ada","email":"ada@example.com"}"#);
    let plain = || with(create(), "content-type", b"application/json");
    for (request, fault) in [
        (with(plain(), "content-type", b"application/json"), ("Content-Type", "duplicate")),
        (with(with(plain(), "idempotency-key", b"a"), "idempotency-key", b"a"), ("Idempotency-Key", "duplicate")),
        (with(plain(), "idempotency-key", b"k\xc3\xa9y"), ("Idempotency-Key", "invalid")),
        (with(create(), "content-type", b"application/json\xff"), ("Content-Type", "invalid")),
        (with(plain(), "content-encoding", b"gz\xedp"), ("Content-Encoding", "invalid")),
        (with(plain(), "accept", b"text/\xff"), ("Accept", "invalid")),
    ] {
        assert_eq!(faults(&support::json(request, 400).await), [fault]);
    }
    let read = with(api.get(LEADS), "if-none-match", b"\"\xff\"");
    assert_eq!(faults(&support::json(read, 400).await), [("If-None-Match", "invalid")]);
    assert_eq!(api.read(LEADS).await, json!([]), "nothing was created");
    // A list may be split over several lines, and an invalid request id is replaced.
    let several = with(with(api.get(LEADS), "accept", b"text/csv"), "accept", b"*/*");
    assert_eq!(several.send().await.unwrap().status(), 200);
    let replaced = with(api.get(LEADS), "x-request-id", b"\xff").send().await.unwrap();
    assert_eq!((replaced.status().as_u16(), replaced.headers()["x-request-id"].len()), (200, 36));
}

#[tokio::test]
async fn two_authorization_headers_are_a_400_rather_than_a_401() {
    let api = Api::start().await;
    let anyone = reqwest::Client::new().get(format!("http://{}{LEADS}", api.address));
    let other = with(with(anyone, "authorization", b"Bearer x"), "authorization", b"Bearer y");
    assert_eq!(faults(&support::json(other, 400).await), [("Authorization", "duplicate")]);
    let twice = with(api.get(LEADS), "authorization", format!("Bearer {}", api.key).as_bytes());
    assert_eq!(faults(&support::json(twice, 400).await), [("Authorization", "duplicate")]);
    let anyone = reqwest::Client::new().get(format!("http://{}{LEADS}", api.address));
    let unreadable = with(anyone, "authorization", b"Bearer \xff");
    assert_eq!(faults(&support::json(unreadable, 400).await), [("Authorization", "invalid")]);
    // Without a key, the response is a 401, whatever else is wrong with the request.
    let anyone = reqwest::Client::new().get(format!("http://{}{LEADS}", api.address));
    support::json(with(with(anyone, "if-match", b"x"), "if-match", b"\xff"), 401).await;
}
