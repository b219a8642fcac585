//! Browsers may call the API from the origins that the operator allows.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::json;

use crate::support::{self, Api};

const ALLOWED: &str = "https://app.example.com";
const LEADS: &str = "/dev/crm/leads";

async fn start(origin: &str) -> Api {
    let origin = shared::platform::config::Origin::try_from(origin.to_owned()).unwrap();
    Api::start_with(move |settings| settings.api.cors_origins = vec![origin]).await
}

fn preflight(api: &Api, path: &str, origin: &str) -> RequestBuilder {
    let request = Client::new().request(Method::OPTIONS, api.url(path)).header("origin", origin);
    let request = request.header("access-control-request-method", "PUT");
    request.header("access-control-request-headers", "authorization,content-type,if-match")
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn the_preflight_of_an_allowed_origin_needs_no_key() {
    let api = start(ALLOWED).await;
    for path in [LEADS, "/dev/crm/leads/import", "/dev/crm/nothing", "/openapi.json"] {
        let answer = preflight(&api, path, ALLOWED).send().await.unwrap();
        assert_eq!(answer.status(), 204, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(ALLOWED));
        assert_eq!(header(&answer, "access-control-max-age"), Some("600"));
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        let methods = header(&answer, "access-control-allow-methods").unwrap();
        assert!(["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        let headers = header(&answer, "access-control-allow-headers").unwrap().to_lowercase();
        for needed in ["authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "x-request-id"]
        {
            assert!(headers.contains(needed), "{headers}");
        }
        assert!(header(&answer, "x-request-id").is_some() && header(&answer, "vary") == Some("origin"));
        assert!(answer.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn other_origins_are_no_different_from_any_client_without_a_key() {
    let api = start(ALLOWED).await;
    for origin in ["https://other.example.com", "http://app.example.com", "null", "https://app.example.com:8443"] {
        let answer = preflight(&api, LEADS, origin).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (401, None), "{origin}");
        let answer = api.get(LEADS).header("origin", origin).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (200, None), "{origin}");
        assert_eq!(header(&answer, "vary"), Some("origin"));
    }
    // An OPTIONS that is no preflight needs a key.
    let plain = Client::new().request(Method::OPTIONS, api.url(LEADS)).header("origin", ALLOWED);
    support::json(plain, 401).await;
}

#[tokio::test]
async fn scripts_of_an_allowed_origin_can_read_every_response() {
    let api = start(ALLOWED).await;
    let created = api.post(LEADS).json(&json!({ "name": "Ada", "email": "ada@example.com" }));
    let without_key = Client::new().get(api.url(LEADS));
    for (request, status) in [
        (created, 201),
        (api.get(LEADS), 200),
        (api.get("/dev/crm/leads/1"), 400),
        (api.get("/dev/crm/nothing"), 404),
        (api.request(Method::DELETE, LEADS), 405),
        (without_key, 401),
    ] {
        let answer = request.header("origin", ALLOWED).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (status, Some(ALLOWED)));
        assert_eq!(
            header(&answer, "access-control-expose-headers").unwrap(),
            "ETag, Link, Location, X-Next-Cursor, X-Total-Count, X-Request-Id, Idempotent-Replayed, Preference-Applied, Retry-After, \
             RateLimit, RateLimit-Policy"
        );
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
    // Pages are opened by people, not read by scripts.
    let page = Client::new().get(api.url("/feedback/token")).header("origin", ALLOWED).send().await.unwrap();
    assert_eq!(header(&page, "access-control-allow-origin"), None);
}

#[tokio::test]
async fn by_default_no_origin_is_allowed() {
    let api = Api::start().await;
    let answer = preflight(&api, LEADS, ALLOWED).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "vary")), (401, None));
    let answer = api.get(LEADS).header("origin", ALLOWED).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn an_operator_can_allow_any_origin() {
    let api = start("*").await;
    let answer = api.get(LEADS).header("origin", "https://any.example").send().await.unwrap();
    assert_eq!(header(&answer, "access-control-allow-origin"), Some("https://any.example"));
}
