//! Emails are previewed before they are sent.

use reqwest::Method;
use serde_json::{Value, json};

use crate::conflicts::missing;
use crate::support::{self, Api, faults, id};

const PREVIEW: &str = "/dev/crm/emails/preview";
const TEST: &str = "/dev/crm/emails/test";

async fn preview(api: &Api, body: Value) -> Value {
    api.send(Method::POST, PREVIEW, body, 200).await
}

fn text<'a>(email: &'a Value, part: &str) -> &'a str {
    email[part].as_str().unwrap()
}

#[tokio::test]
async fn stored_templates_are_previewed_by_name() {
    let api = Api::start().await;
    let email = preview(&api, json!({ "template": "feedback_request" })).await;
    assert_eq!(email["subject"], "How are we doing, Jane?");
    assert!(text(&email, "text").contains("Give feedback: http://localhost:3000/feedback/preview\n"), "{email}");
    assert!(text(&email, "html").contains("href=\"http://localhost:3000/unsubscribe/preview\""), "{email}");
    let settings =
        json!({ "sender_name": "Acme", "templates": { "feedback_request": { "subject": "{{ sender.name }} asks" } } });
    let settings = api.send(Method::PUT, "/dev/crm/settings", settings, 200).await;
    assert_eq!(preview(&api, json!({ "template": "feedback_request" })).await["subject"], "Acme asks");
    let step = id(&settings["nurture_sequence"][0]);
    assert_eq!(preview(&api, json!({ "template": step })).await["subject"], "Thank you for your interest, Jane");
    let digest = preview(&api, json!({ "template": "followups" })).await;
    assert_eq!(digest["subject"], "3 follow-ups due");
    assert!(!text(&digest, "html").contains("Unsubscribe"));
}

#[tokio::test]
async fn a_template_can_be_previewed_before_it_is_saved() {
    let api = Api::start().await;
    let template = json!({ "subject": "Hi {{ lead.first_name }}", "body": "{{ lead.company or 'You' }} <3" });
    let email = preview(
        &api,
        json!({ "template": template, "sample": { "lead": { "first_name": "<i>\nBo", "company": null } } }),
    )
    .await;
    assert_eq!(email["subject"], "Hi <i> Bo");
    assert!(text(&email, "html").contains("You &lt;3"));
    let digest = json!({ "subject": "{{ count }}", "body": "{% for item in items %}- {{ item.name }}\n{% endfor %}" });
    let body = json!({ "template": digest, "event": "followups", "sample": { "items": [{ "name": "A" }, { "name": "B" }], "count": 2 } });
    assert_eq!(preview(&api, body).await["text"], "- A\n- B");
}

#[tokio::test]
async fn an_email_is_previewed_for_a_lead_or_a_customer() {
    let api = Api::start().await;
    let name = "Ada {{ 7 * 7 }} <b>Lovelace</b>";
    let lead = api.create("/dev/crm/leads", json!({ "name": name, "email": "ada@example.com" })).await;
    let customer = api
        .create(
            "/dev/crm/customers",
            json!({ "name": "Grace Hopper", "email": "grace@example.com", "company": "Navy" }),
        )
        .await;
    let template =
        json!({ "subject": "{{ lead.name }}", "body": "{{ lead.name }} {{ lead.email }}{{ lead.company }}" });
    let email = preview(&api, json!({ "template": template, "lead_id": id(&lead) })).await;
    assert_eq!(email["subject"], name);
    assert!(text(&email, "text").starts_with(&format!("{name} ada@example.com\n")), "{email}");
    assert!(text(&email, "html").contains("Ada {{ 7 * 7 }} &lt;b&gt;Lovelace&lt;/b&gt; ada@example.com<"), "{email}");
    let template =
        json!({ "subject": "{{ customer.first_name }} of {{ customer.company }}", "body": "[Go]({{ url }})" });
    assert_eq!(
        preview(&api, json!({ "template": template, "customer_id": id(&customer) })).await["subject"],
        "Grace of Navy"
    );
    let strangers = api.on("another").await;
    let body = json!({ "template": template, "customer_id": id(&customer) });
    let unknown = missing("customer_id", "no customer has this id");
    assert_eq!(strangers.send(Method::POST, PREVIEW, body, 404).await, unknown);
}

#[tokio::test]
async fn an_invalid_preview_is_rejected_with_every_fault() {
    let api = Api::start().await;
    let unknown = "0191d2c0-6f5e-7000-8000-00000000000a";
    for (body, expected) in [
        (json!({}), vec![("template", "required")]),
        (json!({ "template": 7 }), vec![("template", "invalid")]),
        (json!({ "template": "welcome" }), vec![("template", "invalid")]),
        (json!({ "template": unknown }), vec![("template", "invalid")]),
        (json!({ "template": "followups", "event": "nurture" }), vec![("event", "invalid")]),
        (json!({ "template": "followups", "lead_id": unknown }), vec![("lead_id", "invalid")]),
        (json!({ "template": { "subject": "x" }, "to": "y" }), vec![("template.body", "required"), ("to", "unknown")]),
        (
            json!({ "template": { "subject": "{{ x }}", "body": "{% for %}" } }),
            vec![("template.subject", "template"), ("template.body", "template")],
        ),
        (json!({ "template": { "subject": "x", "body": "{{ url }}" } }), vec![("template.body", "template")]),
        (
            json!({ "template": "followups", "sample": { "item": 1, "user": 2 } }),
            vec![("sample.item", "unknown"), ("sample.user", "invalid")],
        ),
        (json!({ "template": "followups", "sample": [] }), vec![("sample", "invalid")]),
    ] {
        let answer = api.send(Method::POST, PREVIEW, body.clone(), 400).await;
        assert_eq!(faults(&answer), expected, "{body}");
    }
}

#[tokio::test]
async fn a_test_goes_to_a_user_and_to_nobody_else() {
    let api = Api::start().await;
    let ada = api.create("/dev/crm/leads", json!({ "name": "Ada Lovelace", "email": "ada@example.com" })).await;
    let grace = api.create("/dev/crm/users", json!({ "name": "Grace", "email": "grace@example.com" })).await;
    let template = json!({ "subject": "Hello {{ lead.first_name }}", "body": "Stop: {{ unsubscribe_url }}" });
    let body = json!({ "template": template, "lead_id": id(&ada), "user_id": id(&grace) });
    let test = api.send(Method::POST, TEST, body.clone(), 201).await;
    assert_eq!((&test["to_email"], &test["subject"]), (&json!("grace@example.com"), &json!("[Test] Hello Ada")));
    assert_eq!((&test["event"], &test["state"]), (&json!("test"), &json!("queued")));
    assert!(text(&test, "text_body").contains("/unsubscribe/preview"), "{test}");
    assert_eq!(api.read("/dev/crm/emails").await.as_array().unwrap().len(), 1);

    // Each test is an email of its own, unless the request is repeated.
    let again = || api.post(TEST).header("idempotency-key", "again").json(&body);
    let (first, repeated) = (support::json(again(), 201).await, support::json(again(), 201).await);
    assert_eq!(first["id"], repeated["id"]);
    assert_ne!(first["id"], test["id"]);

    for (wrong, field) in
        [(json!({ "template": "followups" }), "user_id"), (json!({ "user_id": id(&grace) }), "template")]
    {
        assert_eq!(faults(&api.send(Method::POST, TEST, wrong, 400).await)[0].0, field);
    }
}
