//! Provokes every code of a 409, and of a 404 for a reference in a body, and compares them with the codes
//! that the document lists for each operation.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use shared::queue::Outcome;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::emails::{queued, set_state};
use crate::feedback::{ask, path_of};
use crate::jobs::{claim, finish};
use crate::support::{Api, each, id, json as answer};
use crate::workflows::suppress;

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const ORDERS: &str = "/dev/crm/orders";
const USERS: &str = "/dev/crm/users";
const TEST: &str = "/dev/crm/emails/test";
const NOBODY: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

/// The codes of each operation, by its method and path.
type Codes = BTreeMap<String, BTreeSet<String>>;

/// What the document lists.
fn documented(document: &Value) -> Codes {
    let mut codes = Codes::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for status in ["404", "409"] {
                let Some(reference) = operation["responses"][status]["$ref"].as_str() else { continue };
                let response = document.pointer(&reference[1..]).unwrap();
                let body = &response["content"]["application/json"]["schema"];
                let listed = body["properties"]["errors"]["items"]["properties"]["code"]["enum"].as_array();
                assert!(listed.is_some() || status == "404", "{method} {path} has a 409 without codes");
                let listed = listed.into_iter().flatten().map(|code| code.as_str().unwrap().to_owned());
                let listed: Vec<String> = listed.collect();
                if !listed.is_empty() {
                    codes.entry(format!("{} {path}", method.to_uppercase())).or_default().extend(listed);
                }
            }
        }
    }
    codes
}

/// An API whose conflicts are recorded.
struct Recorder {
    api: Api,
    document: Value,
    provoked: Codes,
}

impl Recorder {
    async fn start() -> Self {
        let api = Api::start().await;
        let document = api.read("/openapi.json").await;
        Self { api, document, provoked: Codes::new() }
    }

    /// The path of the document that serves a path.
    fn template(&self, path: &str) -> String {
        let serves = |template: &&String| {
            let path = path.split('?').next().unwrap();
            let (parts, of_template) = (path.split('/'), template.split('/'));
            parts.clone().count() == of_template.clone().count()
                && parts.zip(of_template).all(|(part, of_template)| of_template.starts_with('{') || part == of_template)
        };
        // Static paths win over ids.
        let paths = self.document["paths"].as_object().unwrap();
        let template = paths.keys().filter(serves).min_by_key(|template| template.matches('{').count());
        template.unwrap_or_else(|| panic!("{path} is not in the document")).clone()
    }

    fn record(&mut self, method: &Method, path: &str, answer: &Value) {
        let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{method} {path} has no reason: {answer}"));
        assert_eq!(errors.len(), 1, "{answer}");
        let code = errors[0]["code"].as_str().unwrap().to_owned();
        let operation = format!("{method} {}", self.template(path));
        self.provoked.entry(operation).or_default().insert(code);
    }

    /// Sends a request that conflicts with a record.
    async fn conflict(&mut self, method: Method, path: &str, body: Value, (code, id): (&str, &str)) {
        let mut methods = vec![method.clone()];
        methods.extend((method == Method::PUT).then_some(Method::PATCH));
        for method in methods {
            let request = self.api.request(method.clone(), path);
            let request = if body.is_null() { request } else { request.json(&body) };
            let refused = answer(request, 409).await;
            let reason = &refused["errors"][0];
            assert_eq!((&reason["code"], &reason["id"]), (&json!(code), &json!(id)), "{method} {path}: {refused}");
            self.record(&method, path, &refused);
        }
    }

    /// Sends a request that refers to a record which does not exist.
    async fn missing(&mut self, method: Method, path: &str, body: Value, field: &str) {
        let mut methods = vec![method.clone()];
        methods.extend((method == Method::PUT).then_some(Method::PATCH));
        for method in methods {
            let request = self.api.request(method.clone(), path);
            let request = if body.is_null() { request } else { request.json(&body) };
            let refused = answer(request, 404).await;
            let reason = &refused["errors"][0];
            assert_eq!((&reason["code"], &reason["field"]), (&json!("not_found"), &json!(field)), "{refused}");
            self.record(&method, path, &refused);
        }
    }

    async fn create(&self, path: &str, body: Value) -> String {
        id(&self.api.create(path, body).await).to_owned()
    }

    async fn sql(&self, statement: &'static str, id: &str) {
        let id = Uuid::try_parse(id).unwrap();
        sqlx::query(statement).bind(id).execute(&mut self.api.connection().await).await.unwrap();
    }
}

fn person(email: &str) -> Value {
    json!({ "name": "x", "email": email })
}

/// A body without the key of another one.
fn keyed(mut body: Value, external_id: &str) -> Value {
    body["external_id"] = external_id.into();
    body
}

#[tokio::test]
async fn each_operation_lists_exactly_the_codes_that_it_returns() {
    let mut recorder = Recorder::start().await;
    for kind in ["import_leads", "nurture_leads", "request_feedback", "bulk_leads"] {
        recorder.api.leaves_jobs(kind);
    }
    taken_values(&mut recorder).await;
    references(&mut recorder).await;
    conversions(&mut recorder).await;
    enrolments(&mut recorder).await;
    restores(&mut recorder).await;
    feedback(&mut recorder).await;
    jobs(&mut recorder).await;
    emails(&mut recorder).await;
    running_requests(&mut recorder).await;
    uploads(&mut recorder).await;
    schedules(&mut recorder).await;
    keys(&mut recorder).await;
    webhooks(&mut recorder).await;
    let documented = documented(&recorder.document);
    for (operation, codes) in &documented {
        assert_eq!(recorder.provoked.get(operation), Some(codes), "{operation}");
    }
    assert_eq!(recorder.provoked, documented);
}

async fn taken_values(recorder: &mut Recorder) {
    let lead = recorder.create(LEADS, keyed(person("lead@example.com"), "1")).await;
    let customer = recorder.create(CUSTOMERS, keyed(person("customer@example.com"), "1")).await;
    let (leads, customers) = (format!("{LEADS}/{lead}/interactions"), format!("{CUSTOMERS}/{customer}/interactions"));
    let order = json!({ "customer_id": customer, "product_id": NOBODY, "quantity": 1 });
    let call = json!({ "type": "call", "subject": "s", "date": "2026-01-15" });
    for (path, body) in [
        (LEADS, person("a@example.com")),
        (CUSTOMERS, person("a@example.com")),
        (ORDERS, order),
        (leads.as_str(), json!({ "type": "call" })),
        (customers.as_str(), call),
    ] {
        let owner = recorder.create(path, keyed(body.clone(), "2")).await;
        let mut other = body.clone();
        if body.get("email").is_some() {
            other["email"] = "b@example.com".into();
        }
        recorder.conflict(Method::POST, path, keyed(other.clone(), "2"), ("taken", &owner)).await;
        let place = format!("{path}/{}", recorder.create(path, other).await);
        recorder.conflict(Method::PUT, &place, json!({ "external_id": "2" }), ("taken", &owner)).await;
    }
    for path in [LEADS, CUSTOMERS, "/dev/crm/users", "/dev/crm/suppressions"] {
        let body = |email: &str| if path.ends_with("suppressions") { json!({ "email": email }) } else { person(email) };
        let owner = recorder.create(path, body("mine@example.com")).await;
        recorder.conflict(Method::POST, path, body("MINE@example.com."), ("taken", &owner)).await;
        if !path.ends_with("suppressions") {
            let place = format!("{path}/{}", recorder.create(path, body("other@example.com")).await);
            recorder.conflict(Method::PUT, &place, json!({ "email": "mine@EXAMPLE.com" }), ("taken", &owner)).await;
        }
    }
    let of_lead = |email: &str| json!({ "name": "x", "email": email, "lead_id": lead });
    let owner = recorder.create(CUSTOMERS, of_lead("c@example.com")).await;
    recorder.conflict(Method::POST, CUSTOMERS, of_lead("d@example.com"), ("taken", &owner)).await;
    let place = format!("{CUSTOMERS}/{customer}");
    recorder.conflict(Method::PUT, &place, json!({ "lead_id": lead }), ("taken", &owner)).await;
}

async fn references(recorder: &mut Recorder) {
    let customer = recorder.create(CUSTOMERS, person("refers@example.com")).await;
    let order = |customer: &str| json!({ "customer_id": customer, "product_id": NOBODY, "quantity": 1 });
    let order_id = recorder.create(ORDERS, order(&customer)).await;
    let with_lead = json!({ "name": "x", "email": "nobody@example.com", "lead_id": NOBODY });
    recorder.missing(Method::POST, CUSTOMERS, with_lead, "lead_id").await;
    let place = format!("{CUSTOMERS}/{customer}");
    recorder.missing(Method::PUT, &place, json!({ "lead_id": NOBODY }), "lead_id").await;
    recorder.missing(Method::POST, ORDERS, order(NOBODY), "customer_id").await;
    let place = format!("{ORDERS}/{order_id}");
    recorder.missing(Method::PUT, &place, json!({ "customer_id": NOBODY }), "customer_id").await;
    for (list, field) in [(CUSTOMERS, "lead_id"), (ORDERS, "customer_id")] {
        let body = json!({ "filter": "all", "action": "update", "set": { field: NOBODY } });
        recorder.missing(Method::POST, &format!("{list}/bulk"), body, &format!("set.{field}")).await;
    }
    for (template, field) in [("nurture", "lead_id"), ("feedback_request", "customer_id")] {
        let sequence = recorder.api.read("/dev/crm/settings").await["nurture_sequence"][0]["id"].clone();
        let template = if template == "nurture" { sequence } else { json!(template) };
        let body = json!({ "template": template, field: NOBODY });
        recorder.missing(Method::POST, "/dev/crm/emails/preview", body.clone(), field).await;
        let user = recorder.create(USERS, person(&format!("{field}@example.com"))).await;
        let test = json!({ "template": body["template"], field: NOBODY, "user_id": user });
        recorder.missing(Method::POST, TEST, test, field).await;
    }
    recorder.missing(Method::POST, TEST, json!({ "template": "feedback_request", "user_id": NOBODY }), "user_id").await;
    let user = recorder.create(USERS, person("gone@example.com")).await;
    recorder.create("/dev/crm/suppressions", json!({ "email": "gone@example.com" })).await;
    let body = json!({ "template": "feedback_request", "user_id": user });
    recorder.conflict(Method::POST, TEST, body, ("suppressed", &user)).await;
}

async fn conversions(recorder: &mut Recorder) {
    let lead = recorder.create(LEADS, person("convert@example.com")).await;
    let convert = format!("{LEADS}/{lead}/convert");
    let customer = id(&answer(recorder.api.post(&convert), 201).await["customer"]).to_owned();
    recorder.conflict(Method::POST, &convert, Value::Null, ("already_converted", &customer)).await;
    let other = recorder.create(LEADS, person("other-lead@example.com")).await;
    let convert = format!("{LEADS}/{other}/convert");
    recorder.conflict(Method::POST, &convert, json!({ "email": "convert@example.com" }), ("taken", &customer)).await;
    let owner = recorder.create(CUSTOMERS, keyed(person("owner@example.com"), "converted")).await;
    recorder.conflict(Method::POST, &convert, json!({ "external_id": "converted" }), ("taken", &owner)).await;
}

async fn enrolments(recorder: &mut Recorder) {
    let lead = recorder.create(LEADS, person("enroll@example.com")).await;
    let (path, enroll) = (format!("{LEADS}/{lead}"), format!("{LEADS}/{lead}/nurture/enroll"));
    recorder.api.send(Method::PUT, &path, json!({ "status": "proposal" }), 200).await;
    recorder.conflict(Method::POST, &enroll, Value::Null, ("not_nurtured", &lead)).await;
    recorder.api.send(Method::PUT, &path, json!({ "status": "new" }), 200).await;
    let suppression = recorder.create("/dev/crm/suppressions", json!({ "email": "enroll@example.com" })).await;
    recorder.conflict(Method::POST, &enroll, Value::Null, ("suppressed", &suppression)).await;
}

async fn restores(recorder: &mut Recorder) {
    let customer = recorder.create(CUSTOMERS, person("orders@example.com")).await;
    let order = json!({ "customer_id": customer, "product_id": NOBODY, "quantity": 1 });
    for (path, body) in [
        (LEADS, person("restored@example.com")),
        (CUSTOMERS, person("restored@example.com")),
        (ORDERS, keyed(order, "restored")),
        ("/dev/crm/users", person("restored@example.com")),
    ] {
        let deleted = recorder.create(path, body.clone()).await;
        let restore = format!("{path}/{deleted}/restore");
        recorder.conflict(Method::POST, &restore, Value::Null, ("not_deleted", &deleted)).await;
        recorder.api.delete(&format!("{path}/{deleted}"), 204).await;
        let owner = recorder.create(path, body).await;
        recorder.conflict(Method::POST, &restore, Value::Null, ("taken", &owner)).await;
        recorder.api.delete(&format!("{path}/{owner}"), 204).await;
        answer(recorder.api.post(&restore), 200).await;
        recorder.conflict(Method::POST, &restore, Value::Null, ("not_deleted", &deleted)).await;
    }
    // A record of the restored one is in the way of nothing but another one's key.
    let owner = recorder.create(CUSTOMERS, person("with-orders@example.com")).await;
    let order =
        |customer: &str| keyed(json!({ "customer_id": customer, "product_id": NOBODY, "quantity": 1 }), "child");
    recorder.create(ORDERS, order(&owner)).await;
    recorder.api.delete(&format!("{CUSTOMERS}/{owner}"), 204).await;
    let taker = recorder.create(ORDERS, order(&customer)).await;
    recorder.conflict(Method::POST, &format!("{CUSTOMERS}/{owner}/restore"), Value::Null, ("taken", &taker)).await;

    let deleted =
        recorder.create(ORDERS, json!({ "customer_id": customer, "product_id": NOBODY, "quantity": 1 })).await;
    recorder.api.delete(&format!("{ORDERS}/{deleted}"), 204).await;
    recorder.api.delete(&format!("{CUSTOMERS}/{customer}"), 204).await;
    recorder.missing(Method::POST, &format!("{ORDERS}/{deleted}/restore"), Value::Null, "customer_id").await;
}

async fn feedback(recorder: &mut Recorder) {
    let customer = recorder.create(CUSTOMERS, person("feedback@example.com")).await;
    let request = format!("{CUSTOMERS}/{customer}/feedback/request");
    let given = path_of(&ask(&recorder.api, &customer).await);
    let first = given.rsplit('/').next().unwrap().to_owned();
    let restore = format!("{given}/restore");
    recorder.conflict(Method::POST, &request, Value::Null, ("open_request", &first)).await;
    recorder.conflict(Method::POST, &restore, Value::Null, ("not_deleted", &first)).await;
    recorder.api.delete(&given, 204).await;
    let open = path_of(&ask(&recorder.api, &customer).await);
    let second = open.rsplit('/').next().unwrap().to_owned();
    recorder.conflict(Method::POST, &restore, Value::Null, ("open_request", &second)).await;
    recorder.api.send(Method::POST, &open, json!({ "rating": 5 }), 200).await;
    recorder.conflict(Method::POST, &open, json!({ "rating": 5 }), ("already_answered", &second)).await;
    // Callers cannot set the external id of feedback.
    recorder.sql("UPDATE history SET former = former || '{\"external_id\": \"1\"}' WHERE record_id = $1", &first).await;
    recorder.sql("UPDATE feedback SET external_id = '1' WHERE id = $1", &second).await;
    recorder.conflict(Method::POST, &restore, Value::Null, ("taken", &second)).await;

    suppress(&recorder.api, "FEEDBACK@example.com").await;
    let suppressed = recorder.api.read("/dev/crm/suppressions?email=feedback@example.com").await;
    recorder.conflict(Method::POST, &request, Value::Null, ("suppressed", each(&suppressed, "id")[0])).await;
    let place = format!("{CUSTOMERS}/{customer}");
    recorder.api.send(Method::PUT, &place, json!({ "status": "blocked" }), 200).await;
    recorder.conflict(Method::POST, &request, Value::Null, ("blocked", &customer)).await;
    recorder.api.delete(&place, 204).await;
    recorder.missing(Method::POST, &restore, Value::Null, "customer_id").await;
}

async fn jobs(recorder: &mut Recorder) {
    // The jobs of feedback requests are not claimed here.
    sqlx::query("DELETE FROM jobs").execute(&mut recorder.api.connection().await).await.unwrap();
    let path = |job: &Value, verb: &str| format!("/dev/crm/jobs/{}/{verb}", id(job));
    let import = recorder.api.import("Name,Email\nAnn,ann@example.com\n").await;
    recorder.conflict(Method::POST, &path(&import, "undo"), Value::Null, ("job_unfinished", id(&import))).await;
    let claimed = claim(&recorder.api).await;
    finish(&recorder.api, claimed, Outcome::Succeeded(None)).await;
    recorder.conflict(Method::POST, &path(&import, "retry"), Value::Null, ("job_succeeded", id(&import))).await;
    let nurture = async |api: &Api| answer(api.post("/dev/crm/leads/nurture/start"), 202).await;
    let first = nurture(&recorder.api).await;
    recorder.conflict(Method::POST, &path(&first, "undo"), Value::Null, ("not_undoable", id(&first))).await;
    answer(recorder.api.post(&path(&first, "cancel")), 200).await;
    let second = nurture(&recorder.api).await;
    recorder.conflict(Method::POST, &path(&first, "retry"), Value::Null, ("already_running", id(&second))).await;
}

async fn schedules(recorder: &mut Recorder) {
    const SCHEDULES: &str = "/dev/crm/schedules";
    let of = |kind: &str, params: Value| json!({ "kind": kind, "params": params, "every": "P1D" });
    let run = |schedule: &str| format!("{SCHEDULES}/{schedule}/run");
    let customer = recorder.create(CUSTOMERS, person("scheduled@example.com")).await;
    let request = recorder.create(SCHEDULES, of("request_feedback", json!({ "customer_id": customer }))).await;
    let open = ask(&recorder.api, &customer).await;
    recorder.conflict(Method::POST, &run(&request), Value::Null, ("open_request", id(&open["subject"]))).await;
    let suppression = recorder.create("/dev/crm/suppressions", json!({ "email": "scheduled@example.com" })).await;
    recorder.conflict(Method::POST, &run(&request), Value::Null, ("suppressed", &suppression)).await;
    let place = format!("{CUSTOMERS}/{customer}");
    recorder.api.send(Method::PUT, &place, json!({ "status": "blocked" }), 200).await;
    recorder.conflict(Method::POST, &run(&request), Value::Null, ("blocked", &customer)).await;
    recorder.api.delete(&place, 204).await;
    recorder.missing(Method::POST, &run(&request), Value::Null, "params.customer_id").await;
    let nobody = json!({ "customer_id": NOBODY });
    recorder.missing(Method::POST, SCHEDULES, of("request_feedback", nobody.clone()), "params.customer_id").await;
    let change = json!({ "params": nobody });
    recorder.missing(Method::PUT, &format!("{SCHEDULES}/{request}"), change, "params.customer_id").await;

    let convert = json!({ "filter": "all", "action": "convert", "dry_run": true });
    let convert = id(&answer(recorder.api.post("/dev/crm/leads/bulk").json(&convert), 202).await).to_owned();
    let update = json!({ "filter": "all", "action": "update", "set": { "notes": "x" }, "dry_run": true });
    let update = id(&answer(recorder.api.post("/dev/crm/leads/bulk").json(&update), 202).await).to_owned();
    for (job, code) in [(&convert, "not_undoable"), (&update, "job_unfinished")] {
        let undo = recorder.create(SCHEDULES, of("undo_bulk", json!({ "job_id": job }))).await;
        recorder.conflict(Method::POST, &run(&undo), Value::Null, (code, job)).await;
    }

    let nightly = id(&recorder.api.read(&format!("{SCHEDULES}?kind=nightly")).await[0]).to_owned();
    let path = format!("{SCHEDULES}/{nightly}");
    recorder.conflict(Method::DELETE, &path, Value::Null, ("not_deletable", &nightly)).await;
    let set_aside = "INSERT INTO scheduled_runs (workspace_id, id, schedule_id, date, status)
                     SELECT workspace_id, gen_random_uuid(), id, current_date, 'set_aside' FROM schedules WHERE id = $1";
    recorder.sql(set_aside, &nightly).await;
    let refused = answer(recorder.api.post(&run(&nightly)), 409).await;
    recorder.record(&Method::POST, &run(&nightly), &refused);

    let body = of("process_followups", json!({}));
    let mut status = 201;
    while status == 201 {
        status = recorder.api.post(SCHEDULES).json(&body).send().await.unwrap().status().as_u16();
    }
    let refused = answer(recorder.api.post(SCHEDULES).json(&body), 409).await;
    recorder.record(&Method::POST, SCHEDULES, &refused);
}

async fn uploads(recorder: &mut Recorder) {
    const UPLOADS: &str = "/dev/crm/uploads";
    let file = "name,email\nEve,eve@example.com\n";
    let store = |api: &Api, bytes: &'static str| {
        api.post(UPLOADS).header("content-type", "application/octet-stream").header("upload-length", 31).body(bytes)
    };
    let partial = id(&answer(store(&recorder.api, "name"), 201).await).to_owned();
    for records in
        ["leads", "customers", "orders", "leads/interactions", "customers/interactions", "feedback", "suppressions"]
    {
        let import = format!("/dev/crm/{records}/import");
        let path = format!("{import}?upload={partial}");
        recorder.conflict(Method::POST, &path, Value::Null, ("upload_incomplete", &partial)).await;
        recorder.missing(Method::POST, &format!("{import}?upload={NOBODY}"), Value::Null, "upload").await;
    }
    let path = format!("{UPLOADS}/{partial}");
    let request = recorder.api.request(Method::PATCH, &path).header("content-type", "application/octet-stream");
    let refused = answer(request.header("upload-offset", 3).body("x"), 409).await;
    recorder.record(&Method::PATCH, &path, &refused);
    recorder.api.delete(&path, 204).await;
    let mut oldest = None;
    for _ in 0..3 {
        let upload = id(&answer(store(&recorder.api, file), 201).await).to_owned();
        answer(recorder.api.post(&format!("{LEADS}/import?upload={upload}")), 202).await;
        oldest.get_or_insert(upload);
    }
    let refused = answer(store(&recorder.api, file), 409).await;
    assert_eq!(refused["errors"][0]["id"], oldest.unwrap());
    recorder.record(&Method::POST, UPLOADS, &refused);
}

async fn keys(recorder: &mut Recorder) {
    const KEYS: &str = "/dev/crm/keys";
    let own = recorder.api.read("/dev/crm/me").await["key"].clone();
    recorder.conflict(Method::DELETE, &format!("{KEYS}/{}", id(&own)), Value::Null, ("last_key", id(&own))).await;
    let expired = recorder.create(KEYS, json!({ "name": "x", "scopes": ["records:read"] })).await;
    recorder.sql("UPDATE api_keys SET expires_at = now() WHERE id = $1", &expired).await;
    recorder.conflict(Method::POST, &format!("{KEYS}/{expired}/rotate"), Value::Null, ("key_expired", &expired)).await;
}

async fn emails(recorder: &mut Recorder) {
    let email = queued(&recorder.api, "ada@example.com", None).await;
    for (state, verb) in [("queued", "resend"), ("bounced", "mark-sent"), ("sent", "cancel")] {
        set_state(&recorder.api, email, state).await;
        let path = format!("/dev/crm/emails/{email}/{verb}");
        recorder.conflict(Method::POST, &path, Value::Null, ("wrong_state", &email.to_string())).await;
    }
}

async fn webhooks(recorder: &mut Recorder) {
    const WEBHOOKS: &str = "/dev/crm/webhooks";
    let body = json!({ "url": "https://example.com/hooks", "events": ["*"] });
    let webhook = recorder.create(WEBHOOKS, body.clone()).await;
    let place = format!("{WEBHOOKS}/{webhook}");
    let delivery = id(&answer(recorder.api.post(&format!("{place}/test")), 201).await).to_owned();
    recorder.api.send(Method::PUT, &place, json!({ "enabled": false }), 200).await;
    let retry = format!("deliveries/{delivery}/retry");
    for (verb, body) in [("test", Value::Null), (&retry, Value::Null), ("replay", json!({ "since": "2026-01-01" }))] {
        recorder.conflict(Method::POST, &format!("{place}/{verb}"), body, ("wrong_state", &webhook)).await;
    }
    for _ in 1..50 {
        recorder.create(WEBHOOKS, body.clone()).await;
    }
    let refused = answer(recorder.api.post(WEBHOOKS).json(&body), 409).await;
    recorder.record(&Method::POST, WEBHOOKS, &refused);
}

/// Sends each `POST` while a request with its idempotency key is running.
async fn running_requests(recorder: &mut Recorder) {
    let mut other = recorder.api.connection().await;
    let paths = recorder.document["paths"].as_object().unwrap().clone();
    for (template, methods) in paths.iter().filter(|(path, _)| path.starts_with("/dev/crm")) {
        let Some(operation) = methods.get("post") else { continue };
        hold_key(&mut other, template, "k").await;
        let path: String = template
            .split('/')
            .map(|part| if part.starts_with('{') { NOBODY } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let request = recorder.api.post(&path).header("idempotency-key", "k");
        let refused = answer(with_body(request, &operation["requestBody"]), 409).await;
        assert_eq!(refused["message"], "A request with this idempotency key is still running", "{template}");
        assert_eq!(refused["errors"][0]["field"], "Idempotency-Key");
        recorder.record(&Method::POST, &path, &refused);
    }
}

/// The example of a body.
fn with_body(request: RequestBuilder, body: &Value) -> RequestBuilder {
    let content = &body["content"];
    if content.get("multipart/form-data").is_some() {
        return request.multipart(Form::new().part("file", Part::text("name,email\nx,x@example.com\n")));
    }
    match content.get("application/json") {
        Some(json) => request.json(&json["example"]),
        None => request,
    }
}

/// Takes the lock of an idempotency key, as a running request does.
async fn hold_key(connection: &mut PgConnection, route: &str, key: &str) {
    let lock = "SELECT pg_advisory_lock(('x' || substr(encode(sha256(
                    int8send(16) || uuid_send(id) || int8send(octet_length($1)) || convert_to($1, 'UTF8')
                        || int8send(octet_length($2)) || convert_to($2, 'UTF8')
                ), 'hex'), 1, 16))::bit(64)::bigint) FROM api_keys";
    sqlx::query(lock).bind(route).bind(key).execute(connection).await.unwrap();
}
