//! All errors have the same form.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Api, faults};

#[tokio::test]
async fn unknown_paths_and_records_are_reported_as_json() {
    let api = Api::start().await;
    for path in ["/", "/dev", "/dev/crmleads", "/dev/crm", "/dev/crm/", "/dev/crm/leads/", "/dev/crm/no/such/thing"] {
        assert_eq!(support::json(api.get(path), 404).await, json!({ "message": "Resource not found" }), "{path}");
    }
    let unknown = api.get("/dev/crm/leads/01890a5d-ac96-774b-bcce-b302099a8057");
    assert_eq!(support::json(unknown, 404).await, json!({ "message": "Resource not found" }));
}

#[tokio::test]
async fn a_wrong_method_gets_the_allowed_ones() {
    let api = Api::start().await;
    for (path, allowed) in [
        ("/dev/crm/leads", "GET,HEAD,POST,OPTIONS"),
        ("/dev/crm/leads/import", "POST,OPTIONS"),
        ("/healthz", "GET,HEAD,OPTIONS"),
    ] {
        let response = api.request(Method::PATCH, path).send().await.unwrap();
        assert_eq!(response.headers()["allow"], allowed);
        assert_eq!(support::body(response, 405).await, json!({ "message": "Method Not Allowed" }));
    }
}

#[tokio::test]
async fn an_id_in_a_path_must_be_valid() {
    let api = Api::start().await;
    for (path, name) in
        [("/dev/crm/leads/1", "leadId"), ("/dev/crm/jobs/%00", "jobId"), ("/dev/crm/jobs/x/events", "jobId")]
    {
        assert_eq!(faults(&support::json(api.get(path), 400).await), [(name, "invalid")]);
    }
    // Invalid UTF-8, and several ids at once.
    for (path, name) in
        [("/dev/crm/leads/%ff", "leadId"), ("/dev/crm/leads/%ff/history", "leadId"), ("/dev/crm/orders/%c3", "orderId")]
    {
        assert_eq!(faults(&support::json(api.get(path), 400).await), [(name, "invalid")], "{path}");
    }
    let both = support::json(api.get("/dev/crm/leads/%ff/interactions/2"), 400).await;
    assert_eq!(faults(&both), [("leadId", "invalid"), ("interactionId", "invalid")]);
    // Only the form used in responses is accepted.
    let plain = "/dev/crm/leads/01890a5dac96774bbcceb302099a8057";
    assert_eq!(faults(&support::json(api.get(plain), 400).await), [("leadId", "invalid")]);
}

#[tokio::test]
async fn unknown_parameters_are_rejected_by_name() {
    let api = Api::start().await;
    for path in
        ["/dev/crm/leads?limt=1", "/dev/crm/jobs?limt=1", "/dev/crm/jobs/01890a5d-ac96-774b-bcce-b302099a8057?limt=1"]
    {
        assert_eq!(faults(&support::json(api.get(path), 400).await), [("limt", "unknown")], "{path}");
    }
    let broken = support::json(api.get("/dev/crm/leads?a=%ff&b=%z1&c=%&status=%6eew"), 400).await;
    assert_eq!(faults(&broken), [("a", "invalid"), ("b", "invalid"), ("c", "invalid")]);
    assert_eq!(support::json(api.get("/dev/crm/leads?status=%6eew&q=a+b&"), 200).await, json!([]));
}

async fn create(api: &Api, kind: &str, body: impl Into<reqwest::Body>, status: u16) -> Value {
    support::json(api.post("/dev/crm/leads").header("content-type", kind).body(body), status).await
}

#[tokio::test]
async fn all_faults_of_a_body_are_reported_at_once() {
    let api = Api::start().await;
    let answer = create(&api, "application/json", r#"{"email":"ann","score":101,"scroe":1,"id":"x"}"#, 400).await;
    let mut faults = faults(&answer);
    faults.sort_unstable();
    let expected = [
        ("email", "invalid"),
        ("id", "read_only"),
        ("name", "required"),
        ("score", "out_of_range"),
        ("scroe", "unknown"),
    ];
    assert_eq!(faults, expected);
}

#[tokio::test]
async fn a_body_must_be_one_json_object() {
    let api = Api::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let answer = create(&api, kind, "{}", 415).await;
        assert_eq!(answer, json!({ "message": "Content-Type must be application/json" }));
    }
    for (body, code) in
        [("", "required"), ("[]", "invalid"), ("null", "invalid"), ("{", "malformed"), ("{}x", "malformed")]
    {
        let answer = create(&api, "application/json; charset=utf-8", body, 400).await;
        assert_eq!(faults(&answer), [("body", code)], "{body}");
    }
    let latin = create(&api, "application/json", b"{\"name\":\"Andr\xe9\"}".to_vec(), 400).await;
    assert_eq!(faults(&latin), [("body", "malformed")]);
    let twice = r#"{"name":"Ann","email":"ann@example.com","custom_fields":{"a":1,"a":2},"name":"Bob"}"#;
    let twice = create(&api, "application/json", twice, 400).await;
    assert_eq!(faults(&twice), [("custom_fields.a", "duplicate"), ("name", "duplicate")]);
}

#[tokio::test]
async fn compressed_bodies_are_rejected() {
    let api = Api::start().await;
    api.leaves_jobs("nurture_leads");
    let encoded = json!({ "message": "Content-Encoding is not supported; send the body uncompressed" });
    let post = |path: &str, encoding: &str| api.post(path).header("content-encoding", encoding);
    let lead = |email: &str| json!({ "name": "Ann", "email": email });
    for encoding in ["gzip", "br", "identity, gzip"] {
        let request = post("/dev/crm/leads", encoding).json(&lead("ann@example.com"));
        assert_eq!(support::json(request, 415).await, encoded, "{encoding}");
    }
    let batch = post("/dev/crm/leads/batch", "gzip").json(&json!({ "items": [lead("ann@example.com")] }));
    assert_eq!(support::json(batch, 415).await, encoded);
    let start = post("/dev/crm/leads/nurture/start", "gzip").json(&json!({}));
    assert_eq!(support::json(start, 415).await, encoded);
    let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::text("Name,Email\n"));
    assert_eq!(support::json(post("/dev/crm/leads/import", "gzip").multipart(form), 415).await, encoded);
    support::json(post("/dev/crm/leads", "Identity").json(&lead("ann@example.com")), 201).await;
    support::json(post("/dev/crm/leads/nurture/start", "gzip"), 202).await;
}

#[tokio::test]
async fn deeply_nested_json_is_rejected() {
    let api = Api::start_with(|settings| settings.api.max_body_bytes = 10_000_000).await;
    for depth in [64, 200, 100_000, 4_000_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let body = format!(r#"{{"custom_fields":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
            if body.len() > 10_000_000 {
                continue;
            }
            assert_eq!(faults(&create(&api, "application/json", body, 400).await), [("body", "malformed")], "{depth}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_rejected_with_and_without_a_content_length() {
    let api = Api::start_with(|settings| settings.api.max_body_bytes = 1000).await;
    let body = format!(r#"{{"name":"{}"}}"#, "a".repeat(1000));
    let too_large = json!({ "message": "Request body too large" });
    assert_eq!(create(&api, "application/json", body.clone(), 413).await, too_large);
    let pieces = futures_util::stream::iter(
        body.into_bytes().chunks(100).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>(),
    );
    assert_eq!(create(&api, "application/json", reqwest::Body::wrap_stream(pieces), 413).await, too_large);
    let huge = api.get("/dev/crm/leads").header("x-large", "a".repeat(40_000));
    assert_eq!(support::json(huge, 431).await, json!({ "message": "Request headers too large" }));
}

#[tokio::test]
async fn every_response_carries_the_id_of_its_request() {
    let api = Api::start().await;
    let id_of = async |path: &str, given: &str| {
        let response = api.get(path).header("x-request-id", given).send().await.unwrap();
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    for path in ["/healthz", "/dev/crm/leads", "/dev/crm/leads/x", "/nowhere"] {
        assert_eq!(id_of(path, "order-17_b.2").await, "order-17_b.2", "{path}");
        for invalid in ["", "two words", "a/b", &"a".repeat(129)] {
            let generated = id_of(path, invalid).await;
            assert_eq!(uuid::Uuid::parse_str(&generated).unwrap().get_version_num(), 7, "{invalid}");
        }
    }
}

#[tokio::test]
async fn an_internal_error_shows_only_the_id_of_the_request() {
    let api = Api::start().await;
    sqlx::raw_sql("ALTER TABLE leads RENAME TO moved").execute(&mut api.connection().await).await.unwrap();
    let request = api.get("/dev/crm/leads").header("x-request-id", "abc");
    let answer = support::json(request, 500).await;
    assert_eq!(answer, json!({ "message": "Internal server error", "request_id": "abc" }));
}
