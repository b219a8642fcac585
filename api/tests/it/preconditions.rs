//! Conditional requests with `If-Match` and `If-None-Match`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::emails::queued;
use crate::support::{Api, id};

#[tokio::test]
async fn a_write_is_rejected_if_the_record_has_changed() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("/dev/crm/leads/{}", id(&lead));
    let tag = async || {
        let answer = api.get(&path).send().await.unwrap();
        answer.headers()["etag"].to_str().unwrap().to_owned()
    };
    let put = async |if_match: &str, name: &str| {
        let request = api.request(Method::PUT, &path).header("if-match", if_match).json(&json!({ "name": name }));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned()))
    };
    let seen = tag().await;
    assert_eq!(tag().await, seen, "the tag of an unchanged record stays");
    let (status, changed) = put(&seen, "Ada L.").await;
    assert_eq!((status, changed.as_deref()), (200, Some(tag().await.as_str())));
    assert_eq!(put(&seen, "Too late").await.0, 412);
    assert_eq!(put("\"other\", *", "Any").await.0, 200);
    let now = tag().await;
    assert_eq!(put(&format!("\"other\", {now}"), "One of them").await.0, 200);
    for (weakened, name) in
        [("W/\"TAG\"", "Weak"), ("\"TAG-gzip\"", "Gzip"), ("W/\"TAG-zstd\"", "Zstd"), ("\"TAG-br\"", "Brotli")]
    {
        let seen = weakened.replace("TAG", tag().await.trim_matches('"'));
        assert_eq!(put(&seen, name).await.0, 200, "{weakened}");
        assert_eq!(put(&seen, "Stale").await.0, 412, "{weakened}");
    }

    let delete = async |if_match: &str| {
        api.request(Method::DELETE, &path).header("if-match", if_match).send().await.unwrap().status().as_u16()
    };
    assert_eq!(delete(&seen).await, 412);
    assert_eq!(delete(&tag().await).await, 204);
}

#[tokio::test]
async fn of_concurrent_writes_with_one_tag_one_succeeds() {
    let api = Api::start().await;
    let customer = api.create("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("/dev/crm/customers/{}", id(&customer));
    let seen = api.get(&path).send().await.unwrap().headers()["etag"].clone();
    let concurrent = (0..8).map(|n| {
        let body = json!({ "notes": format!("{n}") });
        let request = api.request(Method::PUT, &path).header("if-match", seen.clone()).json(&body);
        async move { request.send().await.unwrap().status().as_u16() }
    });
    let mut statuses = futures_util::future::join_all(concurrent).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn concurrent_changes_of_different_fields_are_all_saved() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("/dev/crm/leads/{}", id(&lead));
    let fields = json!({ "phone": "1", "company": "c", "notes": "n", "score": 7, "status": "won", "source": "direct" });
    let changes = fields.as_object().unwrap().iter().map(|(field, value)| {
        let request = api.request(Method::PUT, &path).json(&json!({ field: value }));
        async move { assert_eq!(request.send().await.unwrap().status(), 200) }
    });
    futures_util::future::join_all(changes).await;
    let after = api.read(&path).await;
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(&after[field], value, "{field}");
    }
    let history = api.read(&format!("{path}/history")).await;
    assert_eq!(history.as_array().unwrap().len(), 1 + 6);
}

#[tokio::test]
async fn an_unchanged_record_is_not_sent_again() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ann", "email": "ann@example.com" })).await;
    let path = format!("/dev/crm/leads/{}", id(&lead));
    let known = api.get(&path).send().await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    for (condition, status) in [(known.clone(), 304), (format!("\"x\", W/{known}"), 304), ("\"x\"".to_owned(), 200)] {
        let answer = api.get(&path).header("if-none-match", &condition).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["etag"].to_str().unwrap()), (status, known.as_str()));
        assert_eq!(answer.headers().contains_key("content-type"), status == 200, "{condition}");
        assert_eq!(answer.bytes().await.unwrap().is_empty(), status == 304, "{condition}");
    }
    api.request(Method::PUT, &path).json(&json!({ "score": 1 })).send().await.unwrap().error_for_status().unwrap();
    let answer = api.get(&path).header("if-none-match", &known).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_changed_score_is_news_for_readers_and_no_conflict_for_writers() {
    let api = Api::start().await;
    let customer = api.create("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("/dev/crm/customers/{}", id(&customer));
    let seen = api.get(&path).send().await.unwrap().headers()["etag"].clone();
    let order = json!({ "customer_id": customer["id"], "product_id": id(&customer), "quantity": 3 });
    api.create("/dev/crm/orders", order).await;
    // Scores are computed when they are asked for, or by the worker.
    api.read("/dev/crm/customers/segments").await;

    let read = api.get(&path).header("if-none-match", seen.clone()).send().await.unwrap();
    assert_eq!(read.status(), 200);
    assert_ne!(read.headers()["etag"], seen);
    let scored: Value = serde_json::from_str(&read.text().await.unwrap()).unwrap();
    assert_ne!(scored["segment"], customer["segment"]);

    let put = api.request(Method::PUT, &path).header("if-match", seen).json(&json!({ "notes": "called" }));
    assert_eq!(put.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn jobs_and_emails_have_tags_too() {
    let api = Api::start().await;
    let job = api.import("Name,Email\nAnn,ann@example.com\n").await;
    let email = queued(&api, "ada@example.com", None).await;
    let (job, email) = (format!("/dev/crm/jobs/{}", id(&job)), format!("/dev/crm/emails/{email}"));
    let tag = |answer: &reqwest::Response| answer.headers()["etag"].to_str().unwrap().to_owned();
    for path in [&job, &email] {
        let known = tag(&api.get(path).send().await.unwrap());
        let answer = api.get(path).header("if-none-match", &known).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), tag(&answer)), (304, known.clone()), "{path}");
        assert!(answer.bytes().await.unwrap().is_empty(), "{path}");
    }
    let queued = tag(&api.get(&job).send().await.unwrap());
    let cancelled = tag(&api.post(&format!("{job}/cancel")).send().await.unwrap());
    assert_ne!(cancelled, queued);
    let answer = api.get(&job).header("if-none-match", &queued).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), tag(&answer)), (200, cancelled));
}
