//! Rate limits of API keys.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Client, Response};
use serde_json::json;
use shared::accounts::workspaces::{self, OwnLimit};
use shared::platform::config::{Network, Settings};

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

/// Sends requests to servers for some seconds, several at once, and returns how many were allowed.
async fn hammer(addresses: &[SocketAddr], key: &str, time: Duration) -> usize {
    let until = Instant::now() + time;
    let clients = addresses.iter().flat_map(|address| [address; 4]).map(async |address| {
        let (client, mut allowed) = (Client::new(), 0);
        while Instant::now() < until {
            let request = client.get(format!("http://{address}/dev/crm/me")).bearer_auth(key);
            match request.send().await.unwrap().status().as_u16() {
                200 => allowed += 1,
                status => assert_eq!(status, 429),
            }
        }
        allowed
    });
    join_all(clients).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_share_the_limit() {
    let limit = |settings: &mut Settings| {
        settings.api.rate_limit_per_minute = 1_200;
        settings.api.rate_limit_burst = 200;
    };
    let api = Api::start_with(limit).await;
    let mut settings = support::settings(api.database.url());
    limit(&mut settings);
    let others = [support::serve(settings.clone()).await, support::serve(settings).await];
    let addresses = [api.address, others[0].address, others[1].address];

    let begun = Instant::now();
    let allowed = hammer(&addresses, &api.key, Duration::from_secs(4)).await;
    let expected = 200.0 + 20.0 * begun.elapsed().as_secs_f64();
    assert!((allowed as f64 - expected).abs() <= expected / 10.0, "{allowed} of {expected}");
    // Whichever process is asked now, nothing is left.
    let (other, _) = api.new_key(None).await;
    assert!(hammer(&addresses[1..2], &api.key, Duration::from_secs(1)).await < 40);
    assert_eq!(hammer(&addresses[2..], &other, Duration::from_millis(20)).await.min(1), 1);
}

#[tokio::test]
async fn an_operator_sets_the_limit_of_a_workspace() {
    let api = Api::start_with(|settings| settings.api.rate_limit_per_minute = 600).await;
    let set = async |per_minute, burst| {
        let limit = OwnLimit { per_minute, burst };
        workspaces::set_own_limit(&mut api.connection().await, api.workspace_id, limit).await.unwrap();
        let me = api.read("/dev/crm/me").await["limits"].clone();
        (me["requests_per_minute"].clone(), me["burst"].clone())
    };
    assert_eq!(set(Some(6_000), Some(5)).await, (json!(6_000), json!(5)));
    assert_eq!(set(None, Some(2)).await, (json!(600), json!(2)));
    assert_eq!(set(Some(100), None).await, (json!(100), json!(100)));
    assert_eq!(set(Some(0), None).await, (json!(null), json!(null)));
    assert_eq!(set(None, None).await, (json!(600), json!(600)));
    set(Some(60), Some(1)).await;
    support::until(429, || api.get("/dev/crm/me")).await;
    set_default(&api).await;
}

async fn set_default(api: &Api) {
    workspaces::set_own_limit(&mut api.connection().await, api.workspace_id, OwnLimit::default()).await.unwrap();
    support::until(200, || api.get("/dev/crm/me")).await;
}

#[tokio::test]
async fn an_address_that_sends_many_rejected_keys_gets_429() {
    let api = Api::start_with(|settings| settings.api.rejected_keys_per_minute = 5).await;
    let rejected = || Client::new().get(api.url("/dev/crm/me")).bearer_auth("crm_wrong");
    for _ in 0..5 {
        support::json(rejected(), 401).await;
    }
    let answer = rejected().send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(body(answer, 429).await, json!({ "message": "Too many requests" }));
    // Valid keys from there are accepted.
    support::json(api.get("/dev/crm/me"), 200).await;
}

#[tokio::test]
async fn requests_without_a_key_are_limited_by_address() {
    let api = Api::start_with(|settings| settings.api.open_requests_per_second = 5).await;
    let statuses = async |path: &str| {
        let url = api.url(path);
        let answers = join_all((0..30).map(|_| Client::new().get(&url).send())).await;
        answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect::<BTreeSet<_>>()
    };
    for path in ["/healthz", "/unsubscribe/x", "/feedback/x", "/openapi.json"] {
        assert!(statuses(path).await.contains(&429), "{path}");
    }
    support::json(api.get("/dev/crm/me"), 200).await;
}

#[tokio::test]
async fn a_forwarded_address_counts_if_it_comes_from_a_trusted_proxy() {
    for (proxies, refused) in [(vec![], 429), (vec!["127.0.0.0/8".to_owned()], 401)] {
        let api = Api::start_with(|settings| {
            settings.api.rejected_keys_per_minute = 3;
            settings.api.trusted_proxies = proxies.into_iter().map(|proxy| Network::try_from(proxy).unwrap()).collect();
        })
        .await;
        let rejected = |client: &str| Client::new().get(api.url("/dev/crm/me")).header("x-forwarded-for", client);
        for client in 1..=3 {
            support::json(rejected(&format!("203.0.113.{client}")), 401).await;
        }
        support::json(rejected("203.0.113.9"), refused).await;
        for _ in 0..3 {
            rejected("203.0.113.1").send().await.unwrap();
        }
        support::json(rejected("203.0.113.1"), 429).await;
    }
}
