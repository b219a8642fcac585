//! Text from callers, files and emails that attacks whoever looks at it.

use reqwest::Method;
use serde_json::{Value, json};

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

/// Fills a workspace with something of every kind, whose texts contain `text`.
pub async fn fill(api: &Api, text: &str) {
    let post = async |path: &str, body: Value| -> Value {
        let given = api.post(&format!("/dev/crm{path}")).json(&body).send().await.unwrap();
        let status = given.status();
        let body: Value = given.json().await.unwrap();
        assert!(status.is_success(), "{path}: {body}");
        body
    };
    let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
    let short: String = text.chars().take(100).collect();
    let lead = post("/leads", json!({
        "name": format!("Secret Lovelace {text}"), "email": format!("lead-{}@example.com", text.len()), "company": text,
        "notes": text, "source": short, "custom_fields": { "key": text },
    })).await;
    let customer = post("/customers", json!({
        "name": format!("Secret Lovelace {text}"), "email": format!("customer-{}@example.com", text.len()), "company": text,
        "custom_fields": { "key": text },
    })).await;
    post(&format!("/leads/{}/interactions", id(&lead)), json!({ "type": "note", "notes": text })).await;
    post(&format!("/customers/{}/interactions", id(&customer)), json!({ "type": "note", "notes": text })).await;
    post("/orders", json!({ "customer_id": id(&customer), "amount": 10, "items": [{ "name": text, "quantity": 1 }] }))
        .await;
    post("/users", json!({ "name": text, "email": format!("user-{}@example.com", text.len()) })).await;
    post("/keys", json!({ "name": text, "scopes": ["records:read"] })).await;
    post("/suppressions", json!({ "email": format!("gone-{}@example.com", text.len()), "reason": "manual" })).await;
    let body = json!({ "sender_name": short });
    answer(api.request(Method::PATCH, "/dev/crm/settings").json(&body), 200).await;
    let job = post(&format!("/customers/{}/request-feedback", id(&customer)), json!({})).await;
    let _ = job;
}

#[tokio::test]
async fn no_text_of_a_caller_becomes_markup() {
    let api = Api::start().await;
    for payload in payloads() {
        fill(&api, &payload).await;
    }
    let _worker = worker(&api);
    let visitor = Visitor::signed_in(&api, "*").await;
    for (path, shown) in crawl(&visitor).await {
        assert_eq!(shown.status, 200, "{path}: {}", shown.html);
        let is_html = shown.headers["content-type"].to_str().unwrap().starts_with("text/html");
        if is_html && !path.ends_with("/html") {
            assert_is_ours(&path, &shown.html);
        }
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
