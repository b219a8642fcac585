//! Settings are looked at and changed on pages.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::{Shown, Visitor};
use crate::support::{Api, each, id};
use crate::webhooks::Setup;

const GENERAL: &str = "/console/settings/general";
const TEMPLATES: &str = "/console/settings/templates";
const USERS: &str = "/console/settings/users";
const USERS_OF_API: &str = "/dev/crm/users";
const KEYS: &str = "/console/settings/keys";
const SESSIONS: &str = "/console/settings/sessions";
const WEBHOOKS: &str = "/console/settings/webhooks";
const SCHEDULES: &str = "/console/settings/schedules";
const AUDIT: &str = "/console/settings/audit";

/// Sends a form of a page that must be accepted; returns the page that it leads to.
async fn submit(visitor: &Visitor, page: &str, action: &str, values: &[(&str, &str)]) -> String {
    let shown = visitor.fill_in(&visitor.visit(page).await, action, values).await;
    assert_eq!(shown.status, 303, "{action}: {}", shown.html);
    shown.leads_to().to_owned()
}

/// Checks that an input has a fault.
fn assert_faulty(shown: &Shown, field: &str, message: &str) {
    assert!(shown.html.contains(&format!("id=\"w-{field}\"")), "{field}: {}", shown.html);
    assert!(shown.html.contains(message), "{message}: {}", shown.html);
}

#[tokio::test]
async fn the_first_tab_is_one_that_the_key_may_see() {
    let api = Api::start().await;
    for (scopes, tab) in [("*", GENERAL), ("keys", KEYS), ("webhooks,workflows", WEBHOOKS), ("workflows", SCHEDULES)] {
        let visitor = Visitor::signed_in(&api, scopes).await;
        assert_eq!(visitor.visit("/console/settings").await.leads_to(), tab, "{scopes}");
    }
    let visitor = Visitor::signed_in(&api, "records:read,imports").await;
    let page = visitor.page("/console/settings").await;
    assert!(page.contains("<code>records:read</code>") && !page.contains(GENERAL), "{page}");
    for path in [GENERAL, TEMPLATES, USERS, KEYS, SESSIONS, WEBHOOKS, SCHEDULES, AUDIT] {
        assert_eq!(visitor.visit(path).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn settings_are_changed_and_faults_are_shown_at_their_fields() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "settings").await;
    let before = api.read("/dev/crm/settings").await;
    // What is not changed stays, and defaults stay defaults.
    assert_eq!(submit(&visitor, GENERAL, GENERAL, &[]).await, GENERAL);
    assert_eq!(api.read("/dev/crm/settings").await, before);
    let values = [
        ("sender_name", "Engines & Co"),
        ("reply_to", "ada@example.com"),
        ("time_zone", "Europe/Berlin"),
        ("nightly_at", "03:30"),
        ("send_between", "09:00-17:00"),
        ("send_on", "monday"),
        ("send_on", "friday"),
        ("max_emails_per_run", "500"),
        ("nurture_enroll_created", "true"),
    ];
    submit(&visitor, GENERAL, GENERAL, &values).await;
    let settings = api.read("/dev/crm/settings").await;
    assert_eq!(settings["send_on"], json!(["monday", "friday"]));
    assert_eq!((&settings["max_emails_per_run"], &settings["nurture_enroll_created"]), (&json!(500), &json!(true)));
    let page = visitor.page(GENERAL).await;
    assert!(page.contains("Engines &amp; Co"), "{page}");

    let form = visitor.visit(GENERAL).await;
    let refused = visitor.fill_in(&form, GENERAL, &[("reply_to", "no"), ("max_emails_per_run", "many")]).await;
    assert_eq!(refused.status, 400);
    assert_faulty(&refused, "reply_to", "Reply-to must be");
    assert_faulty(&refused, "max_emails_per_run", "value=\"many\"");
}

#[tokio::test]
async fn two_people_who_change_the_same_settings_see_both_values() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "settings").await;
    let form = visitor.visit(GENERAL).await;
    api.send(Method::PATCH, "/dev/crm/settings", json!({ "sender_name": "Theirs" }), 200).await;
    let conflict = visitor.fill_in(&form, GENERAL, &[("sender_name", "Mine")]).await;
    assert_eq!(conflict.status, 412);
    assert!(conflict.html.contains("<td>Mine</td><td>Theirs</td>"), "{}", conflict.html);
    assert_eq!(api.read("/dev/crm/settings").await["sender_name"], "Theirs");
    // The second attempt knows the other value, and replaces it.
    assert_eq!(visitor.fill_in(&conflict, GENERAL, &[]).await.status, 303);
    assert_eq!(api.read("/dev/crm/settings").await["sender_name"], "Mine");
    // A form that is sent twice is no conflict with itself.
    let form = visitor.visit(GENERAL).await;
    for _ in 0..2 {
        assert_eq!(visitor.fill_in(&form, GENERAL, &[("sender_name", "Twice")]).await.status, 303);
    }
}

#[tokio::test]
async fn steps_are_added_moved_edited_and_removed() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "settings,emails:read").await;
    let subjects = async || each(&api.read("/dev/crm/settings").await["nurture_sequence"], "subject").join("|");
    let before = subjects().await;
    let new = format!("{TEMPLATES}/steps/new");
    let form = visitor.visit(&new).await;
    let refused =
        visitor.fill_in(&form, &new, &[("subject", "Hi {{ lead.nme }}"), ("body", "x"), ("delay_days", "1.5")]).await;
    assert_eq!(refused.status, 400);
    assert_faulty(&refused, "subject", "unknown variable lead.nme");
    assert_faulty(&refused, "delay_days", "Days to wait");
    for _ in 0..2 {
        let values = [("subject", "Hi {{ lead.name }}"), ("body", "Line one\r\n\r\nLine two"), ("delay_days", "2")];
        assert_eq!(visitor.fill_in(&refused, &new, &values).await.leads_to(), TEMPLATES);
    }
    assert_eq!(subjects().await, format!("{before}|Hi {{{{ lead.name }}}}"));

    let steps = api.read("/dev/crm/settings").await["nurture_sequence"].clone();
    let last = steps.as_array().unwrap().last().unwrap();
    assert_eq!(last["body"], "Line one\n\nLine two");
    let step = format!("{TEMPLATES}/steps/{}", id(last));
    submit(&visitor, TEMPLATES, &format!("{step}/move"), &[("to", "0")]).await;
    assert_eq!(subjects().await, format!("Hi {{{{ lead.name }}}}|{before}"));
    submit(&visitor, &step, &step, &[("subject", "Hello")]).await;
    assert_eq!(subjects().await, format!("Hello|{before}"));
    submit(&visitor, TEMPLATES, &format!("{step}/remove"), &[]).await;
    assert_eq!(subjects().await, before);
    assert_eq!(visitor.visit(&step).await.status, 404);
}

#[tokio::test]
async fn a_template_is_previewed_in_its_frame_before_it_is_saved() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "settings,emails:read").await;
    let path = format!("{TEMPLATES}/feedback_request");
    let page = visitor.visit(&path).await;
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("frame-src 'self'"));
    assert!(
        page.html
            .contains(&format!("<iframe name=\"preview\" title=\"Preview of the email\" src=\"{path}/html\" sandbox"))
    );
    let frame = visitor.visit(&format!("{path}/html")).await;
    assert_eq!(
        frame.headers["content-security-policy"],
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
    );
    let draft =
        page.form(&path, &[("subject", "<b>Well</b>?"), ("body", "Draft: {{ url }} <script>alert(1)</script>")]);
    let draft: Vec<(&str, &str)> = draft.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let shown = Shown::of(visitor.post(&format!("{path}/html"), &draft).send().await.unwrap()).await;
    assert!(shown.html.contains("&lt;b&gt;Well&lt;/b&gt;?") && shown.html.contains("Draft: "), "{}", shown.html);
    assert!(!shown.html.contains("<script>"), "{}", shown.html);
    let broken = visitor.send(&format!("{path}/html"), &[("subject", "x"), ("body", "{% if")]).await;
    assert!(broken.html.contains("template.body"), "{}", broken.html);
    assert_ne!(api.read("/dev/crm/settings").await["templates"]["feedback_request"]["subject"], "<b>Well</b>?");

    let refused = visitor.fill_in(&page, &path, &[("body", "No link")]).await;
    assert_eq!(refused.status, 400);
    assert_faulty(&refused, "body", "Body ");
    submit(&visitor, &path, &path, &[("subject", "How was it?")]).await;
    let subject = async || api.read("/dev/crm/settings").await["templates"]["feedback_request"]["subject"].clone();
    assert_eq!(subject().await, "How was it?");
    submit(&visitor, &path, &format!("{path}/restore"), &[]).await;
    assert_ne!(subject().await, "How was it?");
    // Without the scope of previews there is none.
    let page = Visitor::signed_in(&api, "settings").await.page(&path).await;
    assert!(!page.contains("<iframe"), "{page}");
}

#[tokio::test]
async fn a_template_is_sent_to_a_user_as_a_test_before_it_is_saved() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "settings,emails:read,workflows").await;
    let path = format!("{TEMPLATES}/feedback_request");
    assert!(visitor.page(&path).await.contains("Send a test to"));
    api.create(USERS_OF_API, json!({ "name": "Grace", "email": "grace@example.com" })).await;
    let draft = |to| [("subject", "How was it?"), ("body", "Tell us: {{ url }}"), ("test_to", to)];
    let test = format!("{path}/test");
    for stranger in ["", "ada@example.com"] {
        let answer = visitor.send(&test, &draft(stranger)).await;
        assert!(answer.html.contains("only to a user of the workspace"), "{}", answer.html);
    }
    assert_eq!(api.read("/dev/crm/emails").await, json!([]));
    let answer = visitor.send(&test, &draft("grace@example.com")).await;
    assert!(answer.html.contains("A test was queued for"), "{}", answer.html);
    assert_eq!(api.read("/dev/crm/emails").await[0]["subject"], "[Test] How was it?");
}

#[tokio::test]
async fn a_user_is_created_edited_deleted_and_brought_back() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "settings").await;
    let new = format!("{USERS}/new");
    let form = visitor.visit(&new).await;
    let values = [("name", "<b>Grace</b>"), ("email", "grace@example.com")];
    for _ in 0..2 {
        assert_eq!(visitor.fill_in(&form, &new, &values).await.leads_to(), USERS);
    }
    let users = api.read("/dev/crm/users").await;
    assert_eq!(each(&users, "name"), ["<b>Grace</b>"]);
    let list = visitor.page(USERS).await;
    assert!(list.contains("&lt;b&gt;Grace&lt;/b&gt;") && !list.contains("<b>Grace"), "{list}");
    let taken = visitor.fill_in(&visitor.visit(&new).await, &new, &values).await;
    assert_eq!(taken.status, 409);
    let user = format!("{USERS}/{}", id(&users[0]));
    submit(&visitor, &user, &user, &[("name", "Grace Hopper")]).await;
    assert_eq!(submit(&visitor, &user, &format!("{user}/delete"), &[]).await, USERS);
    assert_eq!(api.read("/dev/crm/users").await, json!([]));
    visitor.submit(&format!("{user}/restore"), &[]).await;
    assert_eq!(each(&api.read("/dev/crm/users").await, "name"), ["Grace Hopper"]);
}

#[tokio::test]
async fn a_key_is_shown_once_on_the_page_that_answers_the_form() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "keys,records:read").await;
    let new = format!("{KEYS}/new");
    let form = visitor.visit(&new).await;
    assert!(form.html.contains("value=\"records:read\"") && !form.html.contains("value=\"records:write\""));
    let values = [("name", "website"), ("scopes", "records:read"), ("expires_at", "2999-12-31T10:00")];
    let created = visitor.fill_in(&form, &new, &values).await;
    assert_eq!((created.status, created.leads_to()), (200, ""));
    assert_eq!(created.headers["cache-control"], "no-store");
    let key = created.html.split("value=\"crm_").nth(1).map(|rest| format!("crm_{}", &rest[..rest.find('"').unwrap()]));
    let key = key.expect("a key");
    assert!(!format!("{:?}", created.headers).contains(&key));
    let me = crate::support::json(api.request_with(&key, Method::GET, "/dev/crm/me"), 200).await;
    assert_eq!((&me["key"]["name"], &me["key"]["expires_at"]), (&json!("website"), &json!("2999-12-31T10:00:00Z")));
    // The same form again creates no other key, and does not show this one.
    let again = visitor.fill_in(&form, &new, &values).await;
    assert!(again.status == 200 && !again.html.contains(&key), "{}", again.html);
    assert_eq!(each(&api.read("/dev/crm/keys").await, "name").iter().filter(|name| **name == "website").count(), 1);
    let none = visitor.fill_in(&form, &new, &[("name", "x"), ("once", "other")]).await;
    assert_faulty(&none, "scopes", "Scopes ");

    let path = format!("{KEYS}/{}", id(&me["key"]));
    let rotate = format!("{path}/rotate");
    let refused = visitor.fill_in(&visitor.visit(&path).await, &rotate, &[("overlap_hours", "721")]).await;
    assert_faulty(&refused, "overlap_hours", "Hours that the old key works");
    let rotated = visitor.fill_in(&visitor.visit(&path).await, &rotate, &[("overlap_hours", "1")]).await;
    assert!(rotated.html.contains("value=\"crm_") && !rotated.html.contains(&key), "{}", rotated.html);
    assert_eq!(submit(&visitor, &path, &format!("{path}/revoke"), &[]).await, KEYS);
    assert_eq!(visitor.visit(&path).await.status, 404);
    // A key with more scopes is shown, and not offered to be changed.
    let wide = api.read("/dev/crm/keys").await.as_array().unwrap().iter().find(|key| key["name"] == "test").cloned();
    let page = visitor.page(&format!("{KEYS}/{}", id(&wide.unwrap()))).await;
    assert!(!page.contains("/rotate") && !page.contains("/revoke"), "{page}");
}

#[tokio::test]
async fn sessions_are_listed_with_their_keys_and_signed_out() {
    let api = Api::start().await;
    let (visitor, other) = (Visitor::signed_in(&api, "*").await, Visitor::signed_in(&api, "*").await);
    let page = visitor.page(SESSIONS).await;
    assert_eq!(page.matches("This one").count(), 1);
    let latest = id(&api.read("/dev/crm/sessions").await[0]).to_owned();
    submit(&visitor, SESSIONS, &format!("{SESSIONS}/{latest}/end"), &[]).await;
    assert_eq!(other.visit(SESSIONS).await.status, 303);
    let log = visitor.page(&format!("{AUDIT}?type=session.ended")).await;
    assert!(log.contains("<td>session.ended</td>"), "{log}");
    assert_eq!(api.read("/dev/crm/audit?type=session.ended").await[0]["actor"]["type"], "session");
}

#[tokio::test]
async fn a_webhook_is_created_and_its_delivery_is_seen() {
    let setup = Setup::start().await;
    let _worker = setup.worker();
    let (api, receiver) = (&setup.api, &setup.receiver);
    let visitor = Visitor::signed_in(api, "webhooks,records:read").await;
    let new = format!("{WEBHOOKS}/new");
    let form = visitor.visit(&new).await;
    let refused = visitor.fill_in(&form, &new, &[("url", "https://user:no@example.com/"), ("rate_limit", "0")]).await;
    assert_eq!(refused.status, 400);
    assert_faulty(&refused, "url", "URL ");
    let url = receiver.url("/hooks");
    let values = [
        ("url", url.as_str()),
        ("events", "lead.*"),
        ("single_events", "order.created"),
        ("rate_limit", ""),
        ("headers", "Authorization: Bearer x:y"),
    ];
    let created = visitor.fill_in(&form, &new, &values).await;
    assert!(created.status == 200 && created.html.contains("value=\"whsec_"), "{}", created.html);
    let webhook = api.read("/dev/crm/webhooks").await[0].clone();
    assert_eq!(webhook["events"], json!(["lead.*", "order.created"]));
    assert_eq!(webhook["header_names"], json!(["Authorization"]));
    let path = format!("{WEBHOOKS}/{}", id(&webhook));
    let delivery = submit(&visitor, &path, &format!("{path}/ping"), &[]).await;
    setup.until(&webhook, "delivered", |deliveries| deliveries.iter().all(|it| it["state"] == "delivered")).await;
    let page = visitor.page(&delivery).await;
    assert!(page.contains("Delivery of ping") && page.contains("Delivered"), "{page}");
    assert!(visitor.page(&format!("{path}?state=delivered")).await.contains(&delivery));
    assert!(visitor.page(&format!("{path}?state=failed")).await.contains("No deliveries"));
    submit(&visitor, &delivery, &format!("{delivery}/retry"), &[]).await;

    let edit = format!("{path}/edit");
    submit(&visitor, &edit, &edit, &[("description", "Ours"), ("events", "*"), ("single_events", "")]).await;
    let changed = api.read("/dev/crm/webhooks").await[0].clone();
    assert_eq!((&changed["description"], &changed["events"]), (&json!("Ours"), &json!(["*"])));
    assert_eq!(changed["header_names"], json!(["Authorization"]));
    let rotated = visitor.fill_in(&visitor.visit(&path).await, &format!("{path}/rotate"), &[]).await;
    assert!(rotated.html.contains("value=\"whsec_"), "{}", rotated.html);
    let off = json!({ "enabled": false });
    api.send(Method::PATCH, &format!("/dev/crm/webhooks/{}", id(&webhook)), off, 200).await;
    submit(&visitor, &path, &format!("{path}/enable"), &[]).await;
    let faulty = visitor.fill_in(&visitor.visit(&path).await, &format!("{path}/replay"), &[("since", "soon")]).await;
    assert_faulty(&faulty, "since", "From ");
    let job = submit(&visitor, &path, &format!("{path}/replay"), &[("since", "2026-01-01T00:00")]).await;
    assert!(job.starts_with("/console/jobs/"), "{job}");
    assert_eq!(submit(&visitor, &path, &format!("{path}/delete"), &[]).await, WEBHOOKS);
    assert_eq!(api.read("/dev/crm/webhooks").await, json!([]));
}

#[tokio::test]
async fn a_schedule_is_created_paused_run_and_deleted() {
    let api = Api::start().await;
    api.leaves_jobs("nurture_leads");
    let visitor = Visitor::signed_in(&api, "workflows").await;
    let new = format!("{SCHEDULES}/new");
    let form = visitor.visit(&new).await;
    let values = [("kind", "nurture_leads"), ("cron", "every day"), ("params", "{\"enroll\": 7}")];
    let refused = visitor.fill_in(&form, &new, &values).await;
    assert_eq!(refused.status, 400);
    assert_faulty(&refused, "cron", "Cron expression ");
    let values = [("params", "{\"enroll\": true}"), ("cron", "30 8 * * mon-fri"), ("time_zone", "Europe/Berlin")];
    let path = visitor.fill_in(&refused, &new, &values).await.leads_to().to_owned();
    let read = async || -> Value { api.read(&path.replace("/console/settings", "/dev/crm")).await };
    let created = read().await;
    assert_eq!((&created["params"], &created["time_zone"]), (&json!({ "enroll": true }), &json!("Europe/Berlin")));
    let page = visitor.page(&path).await;
    assert_eq!(page.matches("<li><time").count(), 5, "{page}");

    let edit = format!("{path}/edit");
    submit(&visitor, &edit, &edit, &[("cron", ""), ("every", "P7D"), ("params", "")]).await;
    let changed = read().await;
    assert_eq!((&changed["every"], &changed["cron"], &changed["params"]), (&json!("P7D"), &Value::Null, &json!({})));
    submit(&visitor, &edit, &edit, &[("overlap", "queue")]).await;
    assert_eq!(read().await["overlap"], "queue");
    submit(&visitor, &path, &format!("{path}/pause"), &[]).await;
    assert_eq!(read().await["status"], "paused");
    assert!(visitor.submit(&format!("{path}/run"), &[]).await.starts_with("/console/jobs/"));
    assert!(visitor.page(&path).await.contains("Run now"));
    submit(&visitor, &path, &format!("{path}/resume"), &[]).await;
    assert_eq!(read().await["status"], "active");
    submit(&visitor, &path, &format!("{path}/delete"), &[]).await;
    assert_eq!(visitor.visit(&path).await.status, 404);
}

#[tokio::test]
async fn the_audit_log_is_filtered_and_names_its_actors() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let path = format!("/dev/crm/leads/{}", id(&lead));
    api.send(Method::PUT, &path, json!({ "company": "<i>Engines</i>" }), 200).await;
    let visitor = Visitor::signed_in(&api, "*").await;
    let page = visitor
        .page(&format!("{AUDIT}?subject.type=lead&subject.id={}&created_at%5Bgte%5D=2020-01-01", id(&lead)))
        .await;
    assert!(page.contains("lead.updated") && page.contains("lead.created") && !page.contains("<td>session.started"));
    assert!(page.contains(">test</a>") && page.contains("Company: "), "{page}");
    assert!(page.contains("&lt;i&gt;Engines") && page.contains(&format!("/console/leads/{}", id(&lead))), "{page}");
    for query in ["actor.type=worker", "actor.type=session", "actor.type=schedule", "created_at%5Blt%5D=2020-01-01"] {
        assert!(visitor.page(&format!("{AUDIT}?{query}")).await.contains("No entries"), "{query}");
    }
    let refused = visitor.visit(&format!("{AUDIT}?actor.id=nobody")).await;
    assert_eq!(refused.status, 400);
}
