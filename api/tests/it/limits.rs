//! Rate limits of API keys.

use reqwest::{Client, Response};
use serde_json::json;

use crate::support::{self, Api, body};

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn a_key_over_its_rate_limit_gets_a_429_with_retry_after() {
    let api = Api::start_with(|settings| settings.api.rate_limit_per_minute = 3).await;
    for (path, status, left) in [
        ("/dev/crm/leads", 200, "\"default\";r=2;t=20"),
        ("/dev/crm/leads/1", 400, "\"default\";r=1;t=40"),
        ("/dev/crm/no/such/thing", 404, "\"default\";r=0;t=60"),
    ] {
        let answer = api.get(path).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "ratelimit-policy"), "\"default\";q=3;w=60");
        assert_eq!(header(&answer, "ratelimit"), left);
    }
    let rejected = api.get("/dev/crm/leads").send().await.unwrap();
    let wait: u64 = header(&rejected, "retry-after").parse().unwrap();
    assert!((15..=20).contains(&wait), "{wait}");
    assert_eq!(header(&rejected, "ratelimit"), "\"default\";r=0;t=60");
    assert!(rejected.headers().contains_key("x-request-id"));
    assert_eq!(body(rejected, 429).await, json!({ "message": "Too many requests" }));

    // Other keys are counted separately, and requests without a key are not counted.
    let (another, _) = api.new_key(None).await;
    let answer = Client::new().get(api.url("/dev/crm/leads")).bearer_auth(another).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "ratelimit")), (200, "\"default\";r=2;t=20"));
    let answer = api.get("/healthz").send().await.unwrap();
    assert!(answer.status().is_success() && !answer.headers().contains_key("ratelimit"));
    support::json(Client::new().get(api.url("/dev/crm/leads")), 401).await;
}

#[tokio::test]
async fn requests_are_replenished_over_the_minute() {
    let api = Api::start_with(|settings| settings.api.rate_limit_per_minute = 60).await;
    for _ in 0..60 {
        assert_eq!(api.get("/dev/crm/jobs").send().await.unwrap().status(), 200);
    }
    support::until(429, || api.get("/dev/crm/jobs")).await;
    let wait = support::until(200, || api.get("/dev/crm/jobs")).await;
    assert!(wait.as_secs_f64() < 3.0, "{wait:?}");
}

#[tokio::test]
async fn without_the_setting_there_is_no_limit() {
    let api = Api::start().await;
    for _ in 0..100 {
        let answer = api.get("/dev/crm/jobs").send().await.unwrap();
        assert!(answer.status().is_success() && !answer.headers().contains_key("ratelimit"));
    }
}
