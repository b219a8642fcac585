//! The headlines of the dashboard that are as of now, beside a snapshot; and its themes.

use chrono::Utc;
use serde_json::{Value, json};
use shared::insight::themes;
use testing::Process;

use super::story::DASHBOARD;
use crate::customer_health::age;
use crate::segments::ago;
use crate::support::Api;

/// A figure of the group, or of the band, that is called so.
fn of<'a>(groups: &'a Value, key: &str, name: &str) -> &'a Value {
    groups.as_array().unwrap().iter().find(|group| group[key] == name).unwrap()
}

/// A number beside the one before, as callers see it.
fn beside(value: f64, before: Option<f64>) -> Value {
    let change = before.map(|before| value - before);
    let relative = before.filter(|before| *before != 0.0).map(|before| (value - before) / before);
    json!({ "value": value, "before": before, "change": change, "relative_change": relative })
}

/// The example of `docs/insight/dashboard.md`.
#[tokio::test]
async fn the_worked_example_of_segments_and_health() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let ada = api.customer("ada", &[(2, 1)]).await;
    let bob = api.customer("bob", &[(300, 1)]).await;
    api.customer("cy", &[]).await;
    let dashboard = api.report(DASHBOARD).await;
    let (segments, health) = (&dashboard["segments"], &dashboard["health"]);
    assert_eq!((&segments["complete"], &segments["since"]), (&json!(true), &json!(null)));
    assert_eq!(segments["groups"].as_array().unwrap().len(), 11);
    let share = json!({ "numerator": 1, "denominator": 3, "rate": 1.0 / 3.0 });
    for name in ["new", "dormant", "prospects"] {
        let expected = json!({ "segment": name, "count": 1, "share": share, "change": beside(1.0, None) });
        assert_eq!(of(&segments["groups"], "segment", name), &expected);
    }
    assert_eq!((&health["since"], &health["mean_score"]), (&json!(null), &beside(62.5, None)));
    let known = json!({ "band": "at_risk", "count": 1, "share": share, "change": beside(1.0, None) });
    assert_eq!(of(&health["by_health"], "band", "at_risk"), &known);
    assert_eq!((&health["by_health"][3]["band"], &health["by_health"][3]["count"]), (&json!("none"), &json!(1)));

    // Twenty days later: here, the snapshot of today is made older.
    api.snapshot(false).await;
    age(&mut api.connection().await, api.workspace_id, 20).await;
    api.order(&bob, 0, 1).await;
    let dashboard = api.report(DASHBOARD).await;
    let (segments, health) = (&dashboard["segments"], &dashboard["health"]);
    assert_eq!((&segments["since"], &health["since"]), (&json!(ago(20)), &json!(ago(20))));
    let change = |name: &str| of(&segments["groups"], "segment", name)["change"].clone();
    assert_eq!(change("dormant"), beside(0.0, Some(1.0)));
    assert_eq!(change("active"), beside(1.0, Some(0.0)));
    assert_eq!(change("new"), beside(1.0, Some(1.0)));
    assert_eq!(health["mean_score"], beside(100.0, Some(62.5)));
    assert_eq!(of(&health["by_health"], "band", "healthy")["change"], beside(2.0, Some(1.0)));
    assert_eq!(of(&health["by_health"], "band", "at_risk")["change"], beside(0.0, Some(1.0)));
    assert_eq!(health["by_health"][3]["change"], beside(1.0, Some(1.0)));

    // A period without a snapshot has nothing to compare with.
    let later = api.report(&format!("{DASHBOARD}?from={}", ago(10))).await;
    assert_eq!((&later["health"]["since"], &later["health"]["mean_score"]), (&json!(null), &beside(100.0, None)));
    assert_eq!(later["segments"], *segments);

    // Who is deleted counts no more, and again when restored; as in the report itself.
    api.delete(&format!("/dev/crm/customers/{ada}"), 204).await;
    let count = |dashboard: &Value, name: &str| of(&dashboard["segments"]["groups"], "segment", name)["count"].clone();
    let dashboard = api.report(DASHBOARD).await;
    assert_eq!((count(&dashboard, "new"), count(&dashboard, "prospects")), (json!(0), json!(1)));
    api.post(&format!("/dev/crm/customers/{ada}/restore")).send().await.unwrap();
    let dashboard = api.report(DASHBOARD).await;
    assert_eq!(count(&dashboard, "new"), 1);
    let report = api.report("/dev/crm/customers/segments").await;
    for group in report["groups"].as_array().unwrap() {
        assert_eq!(group["count"], count(&dashboard, group["segment"].as_str().unwrap()));
    }
    // Another workspace has none of it.
    let other = api.on("globex").await;
    let dashboard = other.report(DASHBOARD).await;
    assert_eq!((&dashboard["health"]["mean_score"]["value"], count(&dashboard, "new")), (&json!(null), json!(0)));
}

#[tokio::test]
async fn the_dashboard_has_the_three_first_themes() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    assert_eq!(api.report(DASHBOARD).await["themes"], json!([]));
    let mut connection = api.connection().await;
    let comments = [
        "The battery dies after an hour.",
        "The delivery was late and the box was broken.",
        "The screen is bright.",
        "The price is too high.",
        "Our support call was friendly.",
    ];
    for (number, comment) in (0..30).zip(comments.iter().cycle()) {
        sqlx::query(
            "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, comment, requested_at, answered_at, created_at, updated_at)
             SELECT $1, gen_random_uuid(), $2, 'answered', $3, $4, at, at, at, at FROM (SELECT $5::timestamptz AS at) AS t",
        )
        .bind(api.workspace_id)
        .bind(uuid::Uuid::try_parse(&api.customer(&format!("c{number}"), &[]).await).unwrap())
        .bind(i16::try_from(number % 5 + 1).unwrap())
        .bind(*comment)
        .bind(Utc::now() - chrono::Duration::days(number * 5))
        .execute(&mut connection)
        .await
        .unwrap();
    }
    let job = themes::start(&mut connection, api.workspace_id, None, false).await.unwrap();
    api.ended(&json!({ "id": job.id })).await;
    let all = api.report("/dev/crm/feedback/themes").await;
    let expected: Vec<Value> = all["themes"].as_array().unwrap().iter().take(3).map(headline).collect();
    assert_eq!(expected.len(), 3, "{all:#}");
    assert!(expected.iter().any(|theme| theme["change"]["before"].as_f64() > Some(0.0)), "{expected:#?}");
    assert_eq!(api.report(DASHBOARD).await["themes"], Value::Array(expected));
}

fn headline(theme: &Value) -> Value {
    json!({ "id": theme["id"], "label": theme["label"], "count": theme["count"], "change": theme["change"] })
}
