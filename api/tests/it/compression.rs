//! Responses are compressed for clients that accept it, except those that show a secret.

use std::io::{Read, Write};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::emails::queued;
use crate::support::{self, Api, id};

const LEADS: &str = "/dev/crm/leads";

async fn get(api: &Api, path: &str, accept: &str) -> Response {
    api.get(path).header("accept-encoding", accept).send().await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

/// All values of `Vary`.
fn vary(answer: &Response) -> String {
    let values: Vec<&str> = answer.headers().get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
    values.join(", ")
}

/// Decodes a body.
async fn decoded(answer: Response) -> Vec<u8> {
    let encoding = header(&answer, "content-encoding").map(str::to_owned);
    let bytes = answer.bytes().await.unwrap();
    let mut text = Vec::new();
    match encoding.as_deref() {
        Some("gzip") => drop(flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut text).unwrap()),
        Some("zstd") => text = zstd::decode_all(&*bytes).unwrap(),
        None => text = bytes.to_vec(),
        Some(other) => panic!("{other}"),
    }
    text
}

/// An API with a long lead, and the path of the lead.
async fn with_long_lead() -> (Api, String) {
    let api = Api::start().await;
    let lead = json!({ "name": "Ada", "email": "ada@example.com", "notes": "long ".repeat(1_000) });
    let lead = api.create(LEADS, lead).await;
    let path = format!("{LEADS}/{}", id(&lead));
    (api, path)
}

#[tokio::test]
async fn clients_choose_the_encoding() {
    let (api, lead) = with_long_lead().await;
    let plain = api.read(&lead).await;
    for path in [&lead, LEADS, &format!("{LEADS}?limit=10"), &format!("{LEADS}/export"), "/openapi.json"] {
        let expected = decoded(get(&api, path, "identity").await).await;
        for (accept, encoding) in [
            ("gzip", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("zstd;q=0.5, gzip", Some("gzip")),
            ("br", None),
            ("gzip;q=0", None),
        ] {
            let answer = get(&api, path, accept).await;
            assert_eq!(header(&answer, "content-encoding"), encoding, "{path} {accept}");
            assert_eq!(vary(&answer), "accept-encoding", "{path} {accept}");
            let is_encoded = encoding.is_some();
            assert!(!is_encoded || !answer.headers().contains_key("content-length"), "{path} {accept}");
            assert_eq!(decoded(answer).await, expected, "{path} {accept}");
        }
    }
    let answer = get(&api, &lead, "gzip").await;
    assert_eq!(serde_json::from_slice::<Value>(&decoded(answer).await).unwrap(), plain);
}

#[tokio::test]
async fn short_responses_are_not_compressed() {
    let (api, _) = with_long_lead().await;
    for path in ["/dev/crm/customers/export", "/dev/crm/me", "/healthz", "/dev/crm/nothing"] {
        let answer = get(&api, path, "gzip").await;
        // The length of a stream is not known when it begins.
        let is_stream = !answer.headers().contains_key("content-length");
        assert_eq!(header(&answer, "content-encoding"), is_stream.then_some("gzip"), "{path}");
    }
}

#[tokio::test]
async fn a_compressed_record_has_a_tag_that_conditions_accept() {
    let (api, lead) = with_long_lead().await;
    let plain = header(&get(&api, &lead, "identity").await, "etag").unwrap().to_owned();
    let answer = get(&api, &lead, "gzip").await;
    let tag = header(&answer, "etag").unwrap().to_owned();
    assert_eq!(tag, format!("W/{plain}"));
    let known = api.get(&lead).header("accept-encoding", "gzip").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!((known.status().as_u16(), header(&known, "content-encoding")), (304, None));
    let write = api.request(Method::PUT, &lead).header("if-match", &tag).json(&json!({ "score": 1 }));
    support::json(write, 200).await;
    let write = api.request(Method::PUT, &lead).header("if-match", &tag).json(&json!({ "score": 2 }));
    support::json(write, 412).await;
}

#[tokio::test]
async fn responses_that_show_a_secret_are_not_compressed() {
    let api = Api::start().await;
    let email = queued(&api, "ada@example.com", None).await;
    let long = "a link with a token ".repeat(200);
    sqlx::query("UPDATE emails SET text_body = $1").bind(&long).execute(api.database.pool()).await.unwrap();
    let path = format!("/dev/crm/emails/{email}");
    for answer in [
        get(&api, &path, "gzip").await,
        Client::new().get(api.url("/unsubscribe/token")).header("accept-encoding", "gzip").send().await.unwrap(),
    ] {
        assert_eq!(header(&answer, "content-encoding"), None);
        assert!(answer.bytes().await.unwrap().len() > 1024);
    }
    // Lists of emails show no bodies.
    let list = get(&api, "/dev/crm/emails", "gzip").await;
    assert_eq!(header(&list, "content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn events_arrive_when_they_are_sent() {
    let api = Api::start().await;
    api.leaves_jobs("import_leads");
    let job = api.import("Name,Email\nAda,ada@example.com\n").await;
    let path = format!("/dev/crm/jobs/{}/events", id(&job));
    for encoding in ["gzip", "zstd"] {
        let mut events = get(&api, &path, encoding).await;
        assert_eq!(header(&events, "content-encoding"), Some(encoding));
        let mut gzip = flate2::write::GzDecoder::new(Vec::new());
        let mut zstd = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
        // The job is not finished, so the stream stays open.
        let first = async {
            loop {
                let piece = events.chunk().await.unwrap().unwrap();
                let read = if encoding == "gzip" {
                    gzip.write_all(&piece).unwrap();
                    gzip.flush().unwrap();
                    gzip.get_ref()
                } else {
                    zstd.write_all(&piece).unwrap();
                    zstd.flush().unwrap();
                    zstd.get_ref()
                };
                let read = String::from_utf8_lossy(read);
                if read.contains("\n\n") {
                    break read.into_owned();
                }
            }
        };
        let first = tokio::time::timeout(Duration::from_secs(10), first).await.expect("the event is not held back");
        assert!(first.starts_with("event: progress\n") && first.contains(id(&job)), "{encoding}: {first}");
    }
}
