//! Misleading names are rejected in requests and in files.

use reqwest::Method;
use serde_json::json;
use testing::Process;

use crate::support::{Api, faults};

#[tokio::test]
async fn misleading_names_are_rejected_in_json() {
    let api = Api::start().await;
    for wrong in ["Ann\u{202e}nhoJ", "\u{2066}Ann", "Ann\u{2028}Smith", "A\u{ffff}", "\u{2060}", "\u{3164}"] {
        for (path, body) in [
            ("/dev/crm/leads", json!({ "name": wrong, "email": "a@example.com" })),
            ("/dev/crm/customers", json!({ "name": wrong, "email": "a@example.com" })),
            ("/dev/crm/users", json!({ "name": wrong, "email": "a@example.com" })),
        ] {
            let answer = api.send(Method::POST, path, body, 400).await;
            assert_eq!(faults(&answer), [("name", "invalid")], "{path} {wrong:?}");
        }
        let answer = api.send(Method::PUT, "/dev/crm/settings", json!({ "sender_name": wrong }), 400).await;
        assert_eq!(faults(&answer), [("sender_name", "invalid")], "{wrong:?}");
    }
    let body =
        json!({ "name": " \u{200f}Ann\u{200d}B \u{200e}", "email": "a@example.com", "company": "\u{200d} \u{200c}" });
    let lead = api.send(Method::POST, "/dev/crm/leads", body, 201).await;
    assert_eq!((&lead["name"], &lead["company"]), (&json!("Ann\u{200d}B"), &json!(null)));
    let body = json!({ "name": "\u{200e}", "email": "b@example.com" });
    let answer = api.send(Method::POST, "/dev/crm/leads", body, 400).await;
    assert_eq!(faults(&answer), [("name", "required")]);
}

#[tokio::test]
async fn misleading_names_are_rejected_in_files_and_others_trimmed() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let file = "name,email,company\n\u{200f}Ann\u{200d}B \u{200e},a@example.com,\u{200d}\n\
                Bob\u{202e}x,b@example.com,\n\u{2060},c@example.com,\nDan,d@example.com,Acme\u{2066}\n";
    let job = api.imported("/dev/crm/leads/import", file).await;
    assert_eq!((&job["result"]["created"], &job["result"]["failed"]), (&json!(2), &json!(2)), "{job}");
    // A name is required, and a company is not.
    let leads = api.read("/dev/crm/leads?sort=email").await;
    assert_eq!((&leads[0]["name"], &leads[0]["company"]), (&json!("Ann\u{200d}B"), &json!(null)));
    assert_eq!((&leads[1]["name"], &leads[1]["company"]), (&json!("Dan"), &json!(null)));
}
