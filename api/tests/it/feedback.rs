//! Customers are asked for feedback, and give it.

use dev::testing::Process;
use serde_json::json;
use uuid::Uuid;

use crate::support::{self, Api, each, faults, id};

const CUSTOMERS: &str = "/dev/crm/customers";
const FEEDBACK: &str = "/dev/crm/feedback";

async fn customer(api: &Api, email: &str) -> String {
    id(&api.create(CUSTOMERS, json!({ "name": "Ada Lovelace", "email": email })).await).to_owned()
}

/// Feedback as if it had been answered on a day of January, or not at all.
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
            "category": "support", "requested_at": "2026-01-02T00:00:00Z", "reminders": 0, "last_reminder_at": null,
            "answered_at": "2026-01-02T01:00:00Z", "expired_at": null, "created_at": "2026-01-02T00:00:00Z",
            "updated_at": "2026-01-02T00:00:00Z",
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
async fn feedback_goes_and_comes_back_with_its_customer() {
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
async fn a_customer_with_feedback_stays_when_its_import_is_taken_back() {
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
