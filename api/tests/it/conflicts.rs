//! Every 409, and every 404 for a reference in a body, states its reason.

use reqwest::Method;
use serde_json::{Value, json};
use shared::queue::Outcome;

use crate::emails::{queued, set_state};
use crate::feedback::{ask, customer, path_of};
use crate::jobs::{claim, finish};
use crate::support::{Api, id, json};
use crate::workflows::suppress;

const LEADS: &str = "/dev/crm/leads";
const CUSTOMERS: &str = "/dev/crm/customers";
const NOBODY: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

/// The body of a 409 with this reason.
pub fn conflict(field: &str, code: &str, message: &str) -> Value {
    json!({ "message": "Resource already exists", "errors": [{ "field": field, "code": code, "message": message }] })
}

/// The body of a 404 for a reference in the body.
pub fn missing(field: &str, message: &str) -> Value {
    json!({
        "message": "Resource not found",
        "errors": [{ "field": field, "code": "not_found", "message": message }],
    })
}

/// The same with the id of the conflicting record.
pub fn with_id(mut conflict: Value, id: &str) -> Value {
    conflict["errors"][0]["id"] = id.into();
    conflict
}

#[tokio::test]
async fn a_taken_value_is_reported_with_its_field() {
    let api = Api::start().await;
    let person = |email: &str| json!({ "name": "Ann", "email": email });
    for (path, noun) in [(LEADS, "lead"), (CUSTOMERS, "customer"), ("/dev/crm/users", "user")] {
        let ann = api.create(path, person("ann@example.com")).await;
        let bob = api.create(path, person("bob@example.com")).await;
        let taken = with_id(conflict("email", "taken", &format!("another {noun} has this email")), id(&ann));
        assert_eq!(api.send(Method::POST, path, person("ANN@example.com"), 409).await, taken);
        let change = json!({ "email": "ann@Example.com" });
        assert_eq!(api.send(Method::PUT, &format!("{path}/{}", id(&bob)), change, 409).await, taken);
    }
    let suppression = api.create("/dev/crm/suppressions", json!({ "email": "ann@example.com" })).await;
    let again = api.send(Method::POST, "/dev/crm/suppressions", json!({ "email": "ANN@example.com" }), 409).await;
    assert_eq!(again, with_id(conflict("email", "taken", "this email is already suppressed"), id(&suppression)));

    let lead = api.read(LEADS).await[0].clone();
    let of_lead = |email: &str| json!({ "name": "x", "email": email, "lead_id": id(&lead) });
    let first = api.create(CUSTOMERS, of_lead("c1@example.com")).await;
    let taken = with_id(conflict("lead_id", "taken", "another customer belongs to this lead"), id(&first));
    assert_eq!(api.send(Method::POST, CUSTOMERS, of_lead("c2@example.com"), 409).await, taken);
    // The same within a transaction, and when the request is repeated with its key.
    let keyed = || api.post(CUSTOMERS).header("idempotency-key", "k").json(&of_lead("c2@example.com"));
    assert_eq!(json(keyed(), 409).await, taken);
    assert_eq!(json(keyed(), 409).await, taken);
}

#[tokio::test]
async fn a_missing_reference_is_reported_with_its_field_and_a_missing_path_without() {
    let api = Api::start().await;
    let ada = customer(&api, "ada@example.com").await;
    let order = |customer: &str| json!({ "customer_id": customer, "product_id": NOBODY, "quantity": 1 });
    let no_customer = missing("customer_id", "no customer has this id");
    assert_eq!(api.send(Method::POST, "/dev/crm/orders", order(NOBODY), 404).await, no_customer);
    let created = api.create("/dev/crm/orders", order(&ada)).await;
    let change = json!({ "customer_id": NOBODY });
    let path = format!("/dev/crm/orders/{}", id(&created));
    assert_eq!(api.send(Method::PUT, &path, change, 404).await, no_customer);
    let no_lead = missing("lead_id", "no lead has this id");
    let body = json!({ "name": "x", "email": "x@example.com", "lead_id": NOBODY });
    assert_eq!(api.send(Method::POST, CUSTOMERS, body, 404).await, no_lead);
    let change = json!({ "lead_id": NOBODY });
    assert_eq!(api.send(Method::PUT, &format!("{CUSTOMERS}/{ada}"), change, 404).await, no_lead);

    let plain = json!({ "message": "Resource not found" });
    let call = json!({ "type": "call", "subject": "s", "date": "2026-01-15" });
    for path in [format!("{LEADS}/{NOBODY}/interactions"), format!("{CUSTOMERS}/{NOBODY}/interactions")] {
        let body = if path.starts_with(LEADS) { json!({ "type": "call" }) } else { call.clone() };
        assert_eq!(api.send(Method::POST, &path, body, 404).await, plain, "{path}");
    }
    for path in ["feedback/request", "restore"].map(|action| format!("{CUSTOMERS}/{NOBODY}/{action}")) {
        assert_eq!(json(api.post(&path), 404).await, plain, "{path}");
    }
    assert_eq!(json(api.post(&format!("{LEADS}/{NOBODY}/convert")), 404).await, plain);
    assert_eq!(api.send(Method::PUT, &format!("{LEADS}/{NOBODY}"), json!({ "name": "x" }), 404).await, plain);
}

#[tokio::test]
async fn each_item_of_a_batch_reports_its_reason() {
    let api = Api::start().await;
    let ann = api.create(LEADS, json!({ "name": "Ann", "email": "ann@example.com" })).await;
    let batch = async |path: &str, items: Value| {
        let answer = api.send(Method::POST, &format!("{path}/batch"), json!({ "items": items }), 200).await;
        answer["results"].as_array().unwrap().iter().map(|result| result["error"].clone()).collect::<Vec<_>>()
    };
    let errors = batch(
        LEADS,
        json!([
            { "name": "Bob", "email": "bob@example.com" },
            { "name": "x", "email": "ANN@example.com" },
            { "name": "x", "email": "BOB@example.com" },
            { "id": NOBODY, "name": "x" },
        ]),
    )
    .await;
    let bob = api.read(&format!("{LEADS}?email=bob@example.com")).await[0].clone();
    let taken = conflict("email", "taken", "another lead has this email");
    assert_eq!(errors[1], with_id(taken.clone(), id(&ann)));
    assert_eq!(errors[2], with_id(taken, id(&bob)));
    assert_eq!(errors[3], missing("id", "no record has this id"));

    let of = |email: &str, lead: &str| json!({ "name": "x", "email": email, "lead_id": lead });
    let items = json!([of("a@example.com", id(&ann)), of("b@example.com", id(&ann)), of("c@example.com", NOBODY)]);
    let errors = batch(CUSTOMERS, items).await;
    let first = api.read(CUSTOMERS).await[0].clone();
    assert_eq!(errors[1], with_id(conflict("lead_id", "taken", "another customer belongs to this lead"), id(&first)));
    assert_eq!(errors[2], missing("lead_id", "no lead has this id"));
    let order = json!({ "customer_id": NOBODY, "product_id": NOBODY, "quantity": 1 });
    let errors = batch("/dev/crm/orders", json!([order])).await;
    assert_eq!(errors[0], missing("customer_id", "no customer has this id"));
}

#[tokio::test]
async fn a_conversion_reports_the_conflicting_customer() {
    let api = Api::start().await;
    let lead = async |email: &str| api.create(LEADS, json!({ "name": "Ann", "email": email })).await;
    let (ann, bob) = (lead("ann@example.com").await, lead("bob@example.com").await);
    let convert = |lead: &Value| format!("{LEADS}/{}/convert", id(lead));
    let created = json(api.post(&convert(&ann)), 201).await;
    let customer = id(&created["customer"]);
    let again = json(api.post(&convert(&ann)), 409).await;
    let converted = conflict("customer_id", "already_converted", "the lead already has a customer");
    assert_eq!(again, with_id(converted, customer));
    let body = json!({ "email": "ann@example.com" });
    let theirs = api.send(Method::POST, &convert(&bob), body, 409).await;
    let taken = conflict("email", "taken", "the customer with this email belongs to another lead");
    assert_eq!(theirs, with_id(taken, customer));
}

#[tokio::test]
async fn feedback_requests_and_answers_report_why_they_conflict() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let ada = customer(&api, "ada@example.com").await;
    let request = async || json(api.post(&format!("{CUSTOMERS}/{ada}/feedback/request")), 409).await;
    let path = path_of(&ask(&api, &ada).await);
    let open = conflict("customer_id", "open_request", "the customer has an unanswered request");
    assert_eq!(request().await, with_id(open, path.rsplit('/').next().unwrap()));
    api.send(Method::POST, &path, json!({ "rating": 5 }), 200).await;
    let again = api.send(Method::POST, &path, json!({ "rating": 5 }), 409).await;
    let answered = conflict("status", "already_answered", "the feedback was already answered");
    assert_eq!(again, with_id(answered, path.rsplit('/').next().unwrap()));
    suppress(&api, "ada@example.com").await;
    let suppressions = api.read("/dev/crm/suppressions").await;
    let suppressed = conflict("email", "suppressed", "the customer's address is suppressed");
    assert_eq!(request().await, with_id(suppressed, id(&suppressions[0])));
    api.send(Method::PUT, &format!("{CUSTOMERS}/{ada}"), json!({ "status": "blocked" }), 200).await;
    assert_eq!(request().await, with_id(conflict("status", "blocked", "the customer is blocked"), &ada));
}

#[tokio::test]
async fn jobs_and_emails_report_the_state_that_conflicts() {
    let api = Api::start().await;
    api.leaves_jobs("nurture_leads");
    let job = api.import("Name,Email\nAnn,ann@example.com\n").await;
    let path = |job: &Value, verb: &str| format!("/dev/crm/jobs/{}/{verb}", id(job));
    let running = json(api.post(&path(&job, "undo")), 409).await;
    let claimed = claim(&api).await;
    finish(&api, claimed, Outcome::Succeeded(None)).await;
    assert_eq!(
        json(api.post(&path(&job, "retry")), 409).await,
        with_id(conflict("status", "job_succeeded", "the job succeeded and cannot be retried"), id(&job))
    );
    assert_eq!(running, with_id(conflict("status", "job_unfinished", "the import has not finished"), id(&job)));
    let nurture = json(api.post("/dev/crm/leads/nurture/start"), 202).await;
    let no_import = json(api.post(&path(&nurture, "undo")), 409).await;
    assert_eq!(
        no_import,
        with_id(conflict("kind", "not_undoable", "only imports and bulk changes can be undone"), id(&nurture))
    );

    // Another run of the same work was started after the first had been cancelled.
    json(api.post(&path(&nurture, "cancel")), 200).await;
    let second = json(api.post("/dev/crm/leads/nurture/start"), 202).await;
    let retried = json(api.post(&path(&nurture, "retry")), 409).await;
    let already = conflict("id", "already_running", "another job is already doing the same work");
    assert_eq!(retried, with_id(already, id(&second)));

    let email = queued(&api, "ada@example.com", None).await;
    for (state, verb) in [("queued", "resend"), ("sent", "resend"), ("bounced", "mark-sent"), ("sent", "cancel")] {
        set_state(&api, email, state).await;
        let rejected = json(api.post(&format!("/dev/crm/emails/{email}/{verb}")), 409).await;
        let wrong = conflict("state", "wrong_state", &format!("the email is {state}"));
        assert_eq!(rejected, with_id(wrong, &email.to_string()));
    }
}

#[tokio::test]
async fn a_restore_reports_why_it_conflicts() {
    let api = Api::start().await;
    let person = || json!({ "name": "Ann", "email": "ann@example.com" });
    for (path, noun) in [(LEADS, "lead"), (CUSTOMERS, "customer")] {
        let ann = api.create(path, person()).await;
        let restore = format!("{path}/{}/restore", id(&ann));
        let not_deleted = with_id(conflict("id", "not_deleted", "the record is not deleted"), id(&ann));
        assert_eq!(json(api.post(&restore), 409).await, not_deleted);
        api.delete(&format!("{path}/{}", id(&ann)), 204).await;
        let other = api.create(path, person()).await;
        let taken = with_id(conflict("email", "taken", &format!("another {noun} has this email")), id(&other));
        assert_eq!(json(api.post(&restore), 409).await, taken);
        api.delete(&format!("{path}/{}", id(&other)), 204).await;
        json(api.post(&restore), 200).await;
        // The record was deleted before, and exists again.
        let again = json(api.post(&restore), 409).await;
        assert_eq!(again, not_deleted);
    }
}
