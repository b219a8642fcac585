//! Feedback is requested from customers and submitted.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;
use uuid::Uuid;

use crate::support::{self, Api, each, faults, id};
use crate::workflows::{outbox, rows, suppress, worker};

const CUSTOMERS: &str = "/dev/crm/customers";
const FEEDBACK: &str = "/dev/crm/feedback";
/// The fields that a complete answer changes.
pub const ANSWERED: [&str; 5] = ["answered_at", "category", "comment", "rating", "status"];

pub async fn customer(api: &Api, email: &str) -> String {
    id(&api.create(CUSTOMERS, json!({ "name": "Ada Lovelace", "email": email })).await).to_owned()
}

/// Requests feedback from a customer, and returns the job.
pub async fn ask(api: &Api, customer: &str) -> Value {
    support::json(api.post(&format!("{CUSTOMERS}/{customer}/feedback/request")), 202).await
}

/// The path of a job's feedback.
pub fn path_of(job: &Value) -> String {
    assert_eq!(job["subject"]["type"], "feedback", "{job}");
    format!("{FEEDBACK}/{}", job["subject"]["id"].as_str().unwrap())
}

async fn request_fails(api: &Api, customer: &str, status: u16) -> Value {
    support::json(api.post(&format!("{CUSTOMERS}/{customer}/feedback/request")), status).await
}

/// Inserts feedback that was requested on a day of January, and answered an hour later or not at
/// all.
pub async fn given(api: &Api, customer_id: &str, day: u32, answer: Option<(i16, &str)>) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, category, requested_at, answered_at,
             created_at, updated_at)
         SELECT $1, $2, $3, $4, $5, $6, at, CASE WHEN $5 IS NOT NULL THEN at + interval '1 hour' END, at, at
         FROM make_timestamptz(2026, 1, $7, 0, 0, 0, 'UTC') AS at",
    )
    .bind(api.workspace_id)
    .bind(id)
    .bind(Uuid::try_parse(customer_id).unwrap())
    .bind(if answer.is_some() { "answered" } else { "requested" })
    .bind(answer.map(|(rating, _)| rating))
    .bind(answer.map(|(_, category)| category))
    .bind(i32::try_from(day).unwrap())
    .execute(&mut api.connection().await)
    .await
    .unwrap();
    id
}

#[tokio::test]
async fn feedback_is_read_filtered_and_paged() {
    let api = Api::start().await;
    let (ada, bob) = (customer(&api, "ada@example.com").await, customer(&api, "bob@example.com").await);
    let support = given(&api, &ada, 2, Some((2, "support"))).await;
    let product = given(&api, &bob, 3, Some((5, "product"))).await;
    let open = given(&api, &ada, 4, None).await;
    assert_eq!(
        api.read(&format!("{FEEDBACK}/{support}")).await,
        json!({
            "id": support, "customer_id": ada, "status": "answered", "rating": 2, "comment": null,
            "category": "support", "custom_fields": {}, "requested_at": "2026-01-02T00:00:00Z", "reminders": 0, "last_reminder_at": null,
            "answered_at": "2026-01-02T01:00:00Z", "expired_at": null, "created_at": "2026-01-02T00:00:00Z",
            "updated_at": "2026-01-02T00:00:00Z", "external_id": null,
        })
    );
    for (query, expected) in [
        ("", vec![open, product, support]),
        ("status=answered", vec![product, support]),
        ("status=requested,expired", vec![open]),
        ("rating[gte]=3", vec![product]),
        ("rating=2", vec![support]),
        ("category=product", vec![product]),
        (&format!("customer_id={ada}"), vec![open, support]),
        ("created_at[lt]=2026-01-04&created_at[gte]=2026-01-03", vec![product]),
        ("answered_at[gte]=2026-01-02T01:00:00Z&sort=created_at", vec![support, product]),
    ] {
        let found = api.read(&format!("{FEEDBACK}?{query}")).await;
        let expected: Vec<String> = expected.iter().map(Uuid::to_string).collect();
        assert_eq!(each(&found, "id"), expected, "{query}");
    }
    let page = api.get(&format!("{FEEDBACK}?limit=2&count=true")).send().await.unwrap();
    assert_eq!(page.headers()["x-total-count"], "3");
    assert!(page.headers().contains_key("link"));
    let wrong = support::json(api.get(&format!("{FEEDBACK}?status=lost&rating=good&mood=1")), 400).await;
    assert_eq!(faults(&wrong), [("status", "invalid"), ("rating", "invalid"), ("mood", "unknown")]);
    support::json(api.get(&format!("{FEEDBACK}/{ada}")), 404).await;
    assert_eq!(faults(&support::json(api.get(&format!("{FEEDBACK}/7")), 400).await), [("feedbackId", "invalid")]);
}

#[tokio::test]
async fn feedback_is_deleted_and_restored_with_its_customer() {
    let api = Api::start().await;
    let ada = customer(&api, "ada@example.com").await;
    given(&api, &ada, 2, Some((4, "support"))).await;
    given(&api, &ada, 3, None).await;
    let before = api.read(FEEDBACK).await;
    api.delete(&format!("{CUSTOMERS}/{ada}"), 204).await;
    assert_eq!(api.read(FEEDBACK).await, json!([]));
    support::json(api.post(&format!("{CUSTOMERS}/{ada}/restore")), 200).await;
    assert_eq!(api.read(FEEDBACK).await, before);
}

#[tokio::test]
async fn undoing_an_import_keeps_a_customer_with_feedback() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let file = "name,email\nAda,ada@example.com\nBob,bob@example.com\n";
    let import = api.imported(&format!("{CUSTOMERS}/import"), file).await;
    let customers = api.read(&format!("{CUSTOMERS}?email=ada@example.com")).await;
    given(&api, id(&customers[0]), 2, None).await;
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&import))), 202).await;
    let undo = api.ended(&undo).await;
    assert_eq!((&undo["result"]["removed"], &undo["result"]["left"]), (&json!(1), &json!(1)));
    assert_eq!(each(&api.read(CUSTOMERS).await, "name"), ["Ada"]);
}

#[tokio::test]
async fn a_customer_gets_a_request_and_answers() {
    let api = Api::start().await;
    api.leaves_jobs("find_themes");
    let _worker = worker(&api);
    let ada = customer(&api, "ada@example.com").await;
    let answer = api.post(&format!("{CUSTOMERS}/{ada}/feedback/request")).json(&json!({})).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let job = support::body(answer, 202).await;
    assert_eq!((&job["kind"], &location), (&json!("request_feedback"), &format!("/dev/crm/jobs/{}", id(&job))));
    let path = path_of(&job);
    let asked = api.read(&path).await;
    assert_eq!((&asked["status"], &asked["customer_id"]), (&json!("requested"), &json!(ada)));

    let job = api.ended(&job).await;
    assert_eq!((&job["status"], &job["result"]), (&json!("succeeded"), &json!({ "sent": 1 })), "{job}");
    let requested = api.read(&path).await;
    assert!(requested["requested_at"].as_str() > asked["requested_at"].as_str(), "{requested}");
    let emails = outbox(&api).await;
    let [email] = &emails[..] else { panic!("{emails:?}") };
    assert_eq!((email.event.as_str(), email.to_email.as_str()), ("feedback_request", "ada@example.com"));
    assert_eq!((email.to_name.as_deref(), email.subject_type.as_deref()), (Some("Ada Lovelace"), Some("customer")));
    assert!(email.text_body.contains("/feedback/") && email.text_body.contains("Ada"), "{}", email.text_body);
    assert!(email.unsubscribe.as_ref().unwrap().contains("/unsubscribe/"), "{email:?}");

    let body = json!({ "rating": 5, "comment": " Great service! ", "category": "support" });
    let answered = api.send(Method::POST, &path, body.clone(), 200).await;
    let fields = ["status", "rating", "comment", "category"].map(|name| &answered[name]);
    assert_eq!(fields, [&json!("answered"), &json!(5), &json!("Great service!"), &json!("support")]);
    assert!(answered["answered_at"].is_string() && answered["answered_at"] == answered["updated_at"], "{answered}");
    assert_eq!(api.read(&path).await, answered);
    let again = api.send(Method::POST, &path, body, 409).await;
    assert_eq!(again["message"], "Resource already exists");
    assert_eq!(api.read(&path).await, answered);
    assert_eq!(changes(&api, &path, "key").await, [ANSWERED]);
    // The email was still queued.
    assert_eq!(states(&api).await, ["cancelled"]);
    // The customer can be asked again.
    assert_ne!(path_of(&ask(&api, &ada).await), path);
}

/// The changed fields of each change by one type of actor, newest first.
pub async fn changes(api: &Api, path: &str, actor_type: &str) -> Vec<Vec<String>> {
    let history = api.read(&format!("{path}/history")).await;
    let changes = history.as_array().unwrap().iter().filter(|change| change["action"] != "created");
    let by = changes.filter(|change| change["actor"]["type"] == actor_type);
    by.map(|change| {
        let mut names: Vec<String> = change["changes"].as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        names
    })
    .collect()
}

/// The states of all emails, oldest first.
pub async fn states(api: &Api) -> Vec<String> {
    sqlx::query_scalar("SELECT state FROM emails ORDER BY id").fetch_all(&mut api.connection().await).await.unwrap()
}

#[tokio::test]
async fn requests_that_cannot_be_sent_are_rejected() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let ada = customer(&api, "ada@example.com").await;
    request_fails(&api, "0191d2c0-6f5e-7000-8000-00000000000a", 404).await;
    assert_eq!(faults(&request_fails(&api, "ada", 400).await), [("customerId", "invalid")]);
    let path = format!("{CUSTOMERS}/{ada}/feedback/request");
    let wrong = api.send(Method::POST, &path, json!({ "channel": "sms" }), 400).await;
    assert_eq!(faults(&wrong), [("channel", "unknown")]);
    assert_eq!(faults(&support::json(api.post(&format!("{path}?wait=1")), 400).await), [("wait", "unknown")]);

    let first = ask(&api, &ada).await;
    assert_eq!(request_fails(&api, &ada, 409).await["message"], "Resource already exists", "asked already");
    api.send(Method::POST, &path_of(&first), json!({ "rating": 4 }), 200).await;
    api.send(Method::PUT, &format!("{CUSTOMERS}/{ada}"), json!({ "status": "blocked" }), 200).await;
    request_fails(&api, &ada, 409).await;
    api.send(Method::PUT, &format!("{CUSTOMERS}/{ada}"), json!({ "status": "inactive" }), 200).await;
    suppress(&api, "ADA@example.com").await;
    request_fails(&api, &ada, 409).await;
    rows(&api, "DELETE FROM suppressions").await;
    ask(&api, &ada).await;
    assert_eq!(api.read(FEEDBACK).await.as_array().unwrap().len(), 2, "rejected requests leave nothing");
    assert_eq!(api.read("/dev/crm/jobs?kind=request_feedback").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_invalid_answer_is_rejected_with_every_fault() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let ada = customer(&api, "ada@example.com").await;
    let path = path_of(&ask(&api, &ada).await);
    let asked = api.read(&path).await;
    let long = |length: usize| "x".repeat(length);
    for (body, expected) in [
        (json!({}), vec![("rating", "required")]),
        (json!({ "rating": null }), vec![("rating", "required")]),
        (json!({ "rating": 0 }), vec![("rating", "out_of_range")]),
        (json!({ "rating": 6 }), vec![("rating", "out_of_range")]),
        (json!({ "rating": -1 }), vec![("rating", "out_of_range")]),
        (json!({ "rating": 1e300 }), vec![("rating", "out_of_range")]),
        (json!({ "rating": 4.5 }), vec![("rating", "invalid")]),
        (json!({ "rating": "5" }), vec![("rating", "invalid")]),
        (json!({ "rating": true }), vec![("rating", "invalid")]),
        (json!({ "rating": [5] }), vec![("rating", "invalid")]),
        (json!({ "rating": 5, "comment": long(10_001) }), vec![("comment", "too_long")]),
        (json!({ "rating": 5, "comment": long(1_000_000) }), vec![("comment", "too_long")]),
        (json!({ "rating": 5, "comment": "a\u{0}b" }), vec![("comment", "invalid")]),
        (json!({ "rating": 5, "comment": 7 }), vec![("comment", "invalid")]),
        (json!({ "rating": 5, "category": long(101) }), vec![("category", "too_long")]),
        (json!({ "rating": 5, "category": "a\nb" }), vec![("category", "invalid")]),
        (
            json!({ "rating": 5, "status": "answered", "customer_id": ada }),
            vec![("status", "unknown"), ("customer_id", "unknown")],
        ),
        (json!({ "comment": 1, "mood": 2 }), vec![("rating", "required"), ("comment", "invalid"), ("mood", "unknown")]),
    ] {
        let rejected = api.send(Method::POST, &path, body.clone(), 400).await;
        assert_eq!(faults(&rejected), expected, "{}", body.to_string().split_at(60.min(body.to_string().len())).0);
    }
    api.send(Method::POST, &path, json!({ "rating": 5, "comment": long(1024 * 1024) }), 413).await;
    assert_eq!(api.read(&path).await, asked);
    let missing = format!("{FEEDBACK}/0191d2c0-6f5e-7000-8000-00000000000a");
    api.send(Method::POST, &missing, json!({ "rating": 5 }), 404).await;
    let accepted = api.send(Method::POST, &path, json!({ "rating": 5.0, "comment": "", "category": null }), 200).await;
    assert_eq!(
        (&accepted["rating"], &accepted["comment"], &accepted["category"]),
        (&json!(5), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn of_concurrent_answers_one_is_saved() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let ada = customer(&api, "ada@example.com").await;
    for _ in 0..10 {
        let path = path_of(&ask(&api, &ada).await);
        let concurrent = (1..=4).map(|rating| api.post(&path).json(&json!({ "rating": rating })).send());
        let answers = futures_util::future::join_all(concurrent).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.as_ref().unwrap().status().as_u16()).collect();
        let winner = statuses.iter().position(|status| *status == 200).unwrap();
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 3, "{statuses:?}");
        assert_eq!(api.read(&path).await["rating"], json!(winner + 1));
    }
}

#[tokio::test]
async fn of_concurrent_requests_one_is_created() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    for round in 0..10 {
        let ada = customer(&api, &format!("ada{round}@example.com")).await;
        let path = format!("{CUSTOMERS}/{ada}/feedback/request");
        let answers = futures_util::future::join_all((0..4).map(|_| api.post(&path).send())).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.as_ref().unwrap().status().as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 409, 409, 409]);
    }
    assert_eq!(api.read("/dev/crm/jobs").await.as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_request_whose_email_was_never_sent_gets_a_new_one() {
    let api = Api::start().await;
    let _worker = worker(&api);
    let ada = customer(&api, "ada@exmaple.com").await;
    let customer = format!("{CUSTOMERS}/{ada}");
    let job = api.ended(&ask(&api, &ada).await).await;
    let path = path_of(&job);
    request_fails(&api, &ada, 409).await;

    // The address is corrected; the customer is blocked and unblocked; then deleted and restored.
    api.send(Method::PUT, &customer, json!({ "email": "ada@example.com" }), 200).await;
    for round in 1..=3 {
        assert_eq!(states(&api).await, vec!["cancelled"; round]);
        let answers =
            futures_util::future::join_all((0..4).map(|_| api.post(&format!("{customer}/feedback/request")).send()));
        let (mut accepted, mut statuses) = (Vec::new(), Vec::new());
        for answer in answers.await {
            let answer = answer.unwrap();
            statuses.push(answer.status().as_u16());
            if statuses.ends_with(&[202]) {
                accepted.push(answer.json::<Value>().await.unwrap());
            }
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 409, 409, 409]);
        assert_ne!(id(&accepted[0]), id(&job));
        assert_eq!(path_of(&accepted[0]), path, "it is the same feedback");
        assert_eq!(api.ended(&accepted[0]).await["result"], json!({ "sent": 1 }));
        request_fails(&api, &ada, 409).await;
        let emails = outbox(&api).await;
        assert_eq!((emails.len(), emails[round].to_email.as_str()), (round + 1, "ada@example.com"));
        assert_eq!(states(&api).await[round], "queued");
        match round {
            1 => {
                for status in ["blocked", "active"] {
                    api.send(Method::PUT, &customer, json!({ "status": status }), 200).await;
                }
            }
            2 => {
                api.delete(&customer, 204).await;
                support::json(api.post(&format!("{customer}/restore")), 200).await;
            }
            _ => {}
        }
    }
    // An email that was sent, or may have been, is not sent again.
    for state in ["sending", "sent", "deferred", "bounced", "unknown"] {
        rows(&api, &format!("UPDATE emails SET state = '{state}' WHERE state <> 'cancelled'")).await;
        request_fails(&api, &ada, 409).await;
    }
    api.send(Method::POST, &path, json!({ "rating": 5 }), 200).await;
    assert_eq!(api.read(FEEDBACK).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_was_skipped_can_be_sent_later() {
    let api = Api::start().await;
    let ada = customer(&api, "ada@example.com").await;
    let job = ask(&api, &ada).await;
    api.send(Method::PUT, &format!("{CUSTOMERS}/{ada}"), json!({ "status": "blocked" }), 200).await;
    let _worker = worker(&api);
    assert_eq!(api.ended(&job).await["result"], json!({ "sent": 0, "skipped": "blocked" }));
    api.send(Method::PUT, &format!("{CUSTOMERS}/{ada}"), json!({ "status": "active" }), 200).await;
    let again = ask(&api, &ada).await;
    assert_eq!(path_of(&again), path_of(&job));
    assert_eq!(api.ended(&again).await["result"], json!({ "sent": 1 }));
}

#[tokio::test]
async fn requests_and_answers_honour_the_idempotency_key() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let ada = customer(&api, "ada@example.com").await;
    let path = format!("{CUSTOMERS}/{ada}/feedback/request");
    let ask = || api.post(&path).header("idempotency-key", "ask");
    let job = support::json(ask(), 202).await;
    let again = ask().send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(support::body(again, 202).await, job);
    let path = path_of(&job);
    let answer = |rating: u8| api.post(&path).header("idempotency-key", "answer").json(&json!({ "rating": rating }));
    let answered = support::json(answer(2), 200).await;
    let again = answer(2).send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(support::body(again, 200).await, answered);
    support::json(answer(3), 422).await;
    assert_eq!(api.read(&path).await["rating"], 2);
}

#[tokio::test]
async fn an_expired_request_can_still_be_answered() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let ada = customer(&api, "ada@example.com").await;
    let path = path_of(&ask(&api, &ada).await);
    rows(&api, "UPDATE feedback SET status = 'expired', expired_at = now()").await;
    // The customer is asked again in the meantime.
    ask(&api, &ada).await;
    let answered = api.send(Method::POST, &path, json!({ "rating": 3 }), 200).await;
    assert_eq!(answered["status"], "answered");
    assert!(answered["expired_at"].is_string());
    assert_eq!(each(&api.read(&format!("{FEEDBACK}?sort=created_at")).await, "status"), ["answered", "requested"]);
}

#[tokio::test]
async fn a_request_is_skipped_if_the_customer_changed_before_its_email() {
    let api = Api::start().await;
    let mut jobs = Vec::new();
    for name in ["blocked", "suppressed", "closed", "deleted"] {
        let customer = customer(&api, &format!("{name}@example.com")).await;
        let job = ask(&api, &customer).await;
        match name {
            "blocked" => {
                api.send(Method::PUT, &format!("{CUSTOMERS}/{customer}"), json!({ "status": "blocked" }), 200).await;
            }
            "suppressed" => suppress(&api, "suppressed@EXAMPLE.com").await,
            "closed" => drop(api.send(Method::POST, &path_of(&job), json!({ "rating": 1 }), 200).await),
            _ => api.delete(&format!("{CUSTOMERS}/{customer}"), 204).await,
        }
        jobs.push((name, job));
    }
    let _worker = worker(&api);
    for (name, job) in jobs {
        let job = api.ended(&job).await;
        assert_eq!(job["result"], json!({ "sent": 0, "skipped": name }), "{job}");
    }
    assert_eq!(outbox(&api).await.len(), 0);
}

#[tokio::test]
async fn template_syntax_in_a_customers_name_stays_text() {
    let api = Api::start().await;
    let _worker = worker(&api);
    for name in ["Ada\nBcc: all@example.com", "Ada\rLovelace", "Ada\u{85}L"] {
        let body = json!({ "name": name, "email": "ada@example.com" });
        assert_eq!(faults(&api.send(Method::POST, CUSTOMERS, body, 400).await), [("name", "invalid")]);
    }
    let body = json!({ "name": "{{7*7}}<b>x", "email": "ada@example.com" });
    let ada = api.create(CUSTOMERS, body).await;
    api.ended(&ask(&api, id(&ada)).await).await;
    let [email] = &outbox(&api).await[..] else { panic!("one email") };
    assert!(email.subject.contains("{{7*7}}<b>x") && email.text_body.contains("{{7*7}}<b>x"), "{email:?}");
    assert!(email.html_body.as_ref().unwrap().contains("{{7*7}}&lt;b&gt;x"), "{email:?}");
}
