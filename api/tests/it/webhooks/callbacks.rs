//! The end of a job is delivered to whoever asks for it with the request that starts the job.

use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Setup, WEBHOOKS, verifies};
use crate::support::{self, faults, id};

impl Setup {
    fn import(&self, query: &str) -> RequestBuilder {
        let part = Part::text("name,email\nAda,ada@example.com\n").file_name("leads.csv");
        self.api.post(&format!("/dev/crm/leads/import?{query}")).multipart(Form::new().part("file", part))
    }

    async fn callback_secret(&self) -> Value {
        let path = format!("{WEBHOOKS}/callback-secret");
        support::json(self.api.post(&path), 200).await["secret"].clone()
    }
}

fn encoded(url: &str) -> String {
    url.replace(':', "%3A").replace('/', "%2F")
}

#[tokio::test]
async fn the_end_of_a_job_arrives_at_its_callback_url() {
    let setup = Setup::start().await;
    let url = encoded(&setup.receiver.url("/done"));
    let refused = support::json(setup.import(&format!("callback_url={url}")), 400).await;
    assert_eq!(faults(&refused), [("callback_url", "no_secret")]);
    let secret = setup.callback_secret().await;
    let job = support::json(setup.import(&format!("callback_url={url}&on_conflict=update")), 202).await;
    let _worker = setup.worker();
    let received = setup.receiver.until(1).await;
    assert_eq!(received[0].path, "/done");
    assert!(verifies(&received[0], &secret));
    let event = received[0].json();
    assert_eq!((&event["type"], &event["subject"]["id"]), (&json!("job.succeeded"), &job["id"]));

    // The same request again is answered from what is stored, and asks for nothing more.
    let rotated = setup.callback_secret().await;
    let started = setup.api.post(&format!("/dev/crm/leads/nurture/start?callback_url={url}&dry_run=true"));
    support::json(started, 202).await;
    let received = setup.receiver.until(2).await;
    assert!(verifies(&received[1], &secret) && verifies(&received[1], &rotated));
    // Every callback ends with its delivery.
    let began = std::time::Instant::now();
    while setup.run("UPDATE webhook_callbacks SET url = url").await > 0 {
        assert!(began.elapsed() < super::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(setup.receiver.count(), 2);
}

#[tokio::test]
async fn the_end_of_a_job_arrives_at_a_webhook_that_wants_other_events() {
    let setup = Setup::start().await;
    let webhook = setup.webhook(json!({ "events": ["order.created"] })).await;
    let job = support::json(setup.import(&format!("webhook_id={}", id(&webhook))), 202).await;
    let _worker = setup.worker();
    let delivered = setup.until_all(&webhook, 1, "delivered").await;
    assert_eq!(delivered[0]["event_type"], "job.succeeded");
    let received = setup.receiver.until(1).await;
    assert_eq!(received[0].json()["subject"]["id"], job["id"]);
    assert!(verifies(&received[0], &webhook["secret"]));
}

#[tokio::test]
async fn a_callback_is_checked_like_a_webhook() {
    let setup = Setup::start().await;
    setup.callback_secret().await;
    let webhook = setup.webhook(json!({})).await;
    for (query, fault) in [
        ("callback_url=http%3A%2F%2F127.0.0.2%2F".to_owned(), ("callback_url", "address")),
        ("callback_url=ftp%3A%2F%2Fexample.com".to_owned(), ("callback_url", "scheme")),
        ("webhook_id=1".to_owned(), ("webhook_id", "invalid")),
        (format!("webhook_id={}", uuid::Uuid::nil()), ("webhook_id", "not_found")),
        (
            format!("webhook_id={}&callback_url={}", id(&webhook), encoded(&setup.receiver.url("/"))),
            ("webhook_id", "not_allowed"),
        ),
    ] {
        for path in ["/dev/crm/leads/nurture/start", "/dev/crm/followups/process"] {
            let answer = support::json(setup.api.post(&format!("{path}?{query}")), 400).await;
            assert_eq!(faults(&answer), [fault], "{query}");
        }
    }
    // No other operation has these parameters.
    let path = format!("/dev/crm/leads?webhook_id={}", id(&webhook));
    let answer = setup.api.send(Method::POST, &path, json!({}), 400).await;
    assert_eq!(faults(&answer), [("webhook_id", "unknown")]);
}
