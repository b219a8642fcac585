//! Reviews of other systems, as feedback.

use serde_json::json;

use super::*;

const FEEDBACK: &str = "/dev/crm/feedback";

#[tokio::test]
async fn reviews_are_answered_feedback_and_nobody_is_emailed() {
    let (api, _worker) = start().await;
    let ann = api.create(CUSTOMERS, json!({ "name": "Ann", "email": "ann@example.com", "external_id": "7" })).await;
    let file = "Review ID,Email,Star Rating,Review,Topic,Review Date,Source\n\
                r1,ann@example.com,★★★★☆,\"Fast delivery, good price\",Delivery,2026-01-05 10:00,Trustpilot\n\
                r2,ann@example.com,5/5,,Delivery,2026-01-06,Google\n\
                r3,ann@example.com,4.5,Half a star,Delivery,2026-01-06,Google\n\
                r4,ann@example.com,,No stars,Delivery,2026-01-06,Google\n\
                r5,eve@example.com,2,Stranger,Delivery,2026-01-06,Google\n";
    let job = import(&api, FEEDBACK, "", file).await;
    assert_counts(&job, json!({ "created": 2, "failed": 3 }));
    assert_eq!(
        remarks(&api, &job).await,
        ["4 failed required", "4 failed invalid", "5 failed required", "6 failed not_found"]
    );
    let found = api.read(&format!("{FEEDBACK}?import_job_id={}&sort=created_at&limit=9", id(&job))).await;
    let expected = json!({
        "customer_id": ann["id"], "status": "answered", "rating": 4, "comment": "Fast delivery, good price",
        "category": "Delivery", "answered_at": "2026-01-05T10:00:00Z", "requested_at": "2026-01-05T10:00:00Z",
        "created_at": "2026-01-05T10:00:00Z", "external_id": "r1", "custom_fields": { "Source": "Trustpilot" },
    });
    assert_has(&found[0], expected);
    assert_has(&found[1], json!({ "rating": 5, "comment": null }));
    // They are analysed like answers.
    let analytics = api.report(&format!("{FEEDBACK}/analytics?from=2026-01-01&to=2026-02-01")).await;
    assert_eq!(analytics["totals"]["answered"].as_i64().or(analytics["answered"].as_i64()), Some(2), "{analytics}");
    assert_eq!(api.read("/dev/crm/emails").await, json!([]));

    assert_counts(&import(&api, FEEDBACK, "", file).await, json!({ "skipped": 2, "failed": 3 }));
    let changed = "Review ID,Star Rating\nr1,1\n";
    let second = import(&api, FEEDBACK, "on_conflict=update", changed).await;
    assert_counts(&second, json!({ "updated": 1 }));
    for (job, expected) in [(&second, [0, 1, 0]), (&job, [1, 0, 1])] {
        let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(job))), 202).await;
        let undo = api.ended(&undo).await;
        let counts = ["removed", "restored", "left"].map(|name| undo["result"][name].as_i64().unwrap());
        assert_eq!(counts, expected, "{undo}");
    }
}

#[tokio::test]
async fn an_imported_request_is_open_once_and_sends_nothing() {
    let (api, _worker) = start().await;
    let ann = api.create(CUSTOMERS, json!({ "name": "Ann", "email": "ann@example.com" })).await;
    let file = "customer_email,status,external_id\nann@example.com,requested,1\nann@example.com,requested,2\n\
                ann@example.com,expired,3\nann@example.com,answered,4\n";
    let job = import(&api, FEEDBACK, "", file).await;
    assert_counts(&job, json!({ "created": 2, "failed": 2 }));
    assert_eq!(remarks(&api, &job).await, ["3 failed open_request", "5 failed required"]);
    // A later row answers it; a request is not opened again.
    let file = "external_id,rating,status\n1,5,\n3,,requested\n";
    let job = import(&api, FEEDBACK, "on_conflict=update", file).await;
    assert_counts(&job, json!({ "updated": 1, "failed": 1 }));
    let found = api.read(&format!("{FEEDBACK}?customer_id={}&status=answered", id(&ann))).await;
    assert_eq!(found[0]["rating"], 5);
    let reminders = support::json(api.post(&format!("{FEEDBACK}/process-reminders")), 202).await;
    assert_eq!(api.ended(&reminders).await["result"]["reminded"], 0);
    assert_eq!(api.read("/dev/crm/emails").await, json!([]));
}
