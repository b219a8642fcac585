//! Reports about feedback: response rates and satisfaction.

use serde_json::{Value, json};
use shared::insight::themes;
use testing::Process;
use uuid::Uuid;

use crate::support::{self, Api, each, faults, id};

const ANALYTICS: &str = "/dev/crm/feedback/analytics";
const DASHBOARD: &str = "/dev/crm/feedback/dashboard";
const MARCH: &str = "?from=2026-03-01&to=2026-04-01";

impl Api {
    /// Inserts a request made at a time, and its answer: its time, rating and category.
    async fn asked(&self, name: &str, requested_at: &str, answer: Option<(&str, i16, Option<&str>)>) -> String {
        let customer = self.customer(name, &[]).await;
        let feedback = Uuid::now_v7();
        sqlx::query(
            "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, category, requested_at, answered_at, created_at, updated_at)
             VALUES ($1, $2, $3, CASE WHEN $4::text IS NULL THEN 'requested' ELSE 'answered' END, $5, $6, $7::timestamptz,
                 $4::timestamptz, $7::timestamptz, $7::timestamptz)",
        )
        .bind(self.workspace_id)
        .bind(feedback)
        .bind(Uuid::try_parse(&customer).unwrap())
        .bind(answer.map(|(at, ..)| at))
        .bind(answer.map(|(_, rating, _)| rating))
        .bind(answer.and_then(|(.., category)| category))
        .bind(requested_at)
        .execute(&mut self.connection().await)
        .await
        .unwrap();
        feedback.to_string()
    }
}

#[tokio::test]
async fn without_feedback_the_figures_are_zero_or_null() {
    let api = Api::start().await;
    let figures = api.read(ANALYTICS).await;
    for (field, expected) in [
        ("sent", json!(0)),
        ("answered", json!(0)),
        ("response_rate", json!({ "numerator": 0, "denominator": 0, "rate": null })),
        ("median_hours_to_answer", json!(null)),
        ("n", json!(0)),
        ("mean_rating", json!(null)),
        ("distribution", json!({ "1": 0, "2": 0, "3": 0, "4": 0, "5": 0 })),
        ("csat", json!({ "numerator": 0, "denominator": 0, "rate": null, "low": null, "high": null })),
        ("nps", json!({ "promoters": 0, "passives": 0, "detractors": 0, "n": 0, "value": null })),
        ("by_category", json!([])),
    ] {
        assert_eq!(figures[field], expected, "{field}");
    }
    // A period of 90 days can touch 91 calendar days.
    assert!((90..=91).contains(&figures["by_interval"].as_array().unwrap().len()));
    let dashboard = api.report(DASHBOARD).await;
    assert_eq!(
        dashboard["open_requests"],
        json!({ "count": 0, "oldest_requested_at": null, "due_reminders": 0, "due_to_expire": 0 })
    );
    assert_eq!((&dashboard["latest_answers"], &dashboard["themes"]), (&json!([]), &json!([])));
    assert_eq!(dashboard["analytics"]["csat"], figures["csat"]);
}

#[tokio::test]
async fn requests_and_ratings_count_in_the_period_of_their_own_time() {
    let api = Api::start().await;
    // Asked in February, answered in March; asked and answered in March; asked in March, answered
    // in April.
    api.asked("feb", "2026-02-27T00:00:00Z", Some(("2026-03-01T00:00:00Z", 5, Some("price")))).await;
    api.asked("mar", "2026-03-10T00:00:00Z", Some(("2026-03-10T06:00:00Z", 2, Some("support")))).await;
    api.asked("mar2", "2026-03-10T12:00:00Z", Some(("2026-03-11T12:00:00Z", 4, None))).await;
    api.asked("apr", "2026-03-31T23:59:59Z", Some(("2026-04-05T00:00:00Z", 1, Some("support")))).await;
    api.asked("open", "2026-03-20T00:00:00Z", None).await;

    let figures = api.read(&format!("{ANALYTICS}{MARCH}&interval=week")).await;
    assert_eq!((&figures["sent"], &figures["answered"]), (&json!(4), &json!(3)));
    assert_eq!(figures["response_rate"], json!({ "numerator": 3, "denominator": 4, "rate": 0.75 }));
    assert_eq!(figures["median_hours_to_answer"], 24.0);
    assert_eq!((&figures["n"], &figures["mean_rating"]), (&json!(3), &json!(11.0 / 3.0)));
    assert_eq!(figures["distribution"], json!({ "1": 0, "2": 1, "3": 0, "4": 1, "5": 1 }));
    assert_eq!(figures["csat"]["rate"], 2.0 / 3.0);
    assert_eq!(figures["nps"], json!({ "promoters": 1, "passives": 1, "detractors": 1, "n": 3, "value": 0.0 }));
    let categories = figures["by_category"].as_array().unwrap();
    assert_eq!(categories.len(), 3);
    assert!(categories.iter().any(|of| of["category"] == "support" && of["n"] == 1 && of["mean_rating"] == 2.0));
    // Weeks begin on Monday, so the first one begins in February.
    let weeks: Vec<(&str, i64, i64)> = figures["by_interval"]
        .as_array()
        .unwrap()
        .iter()
        .map(|week| {
            (&week["start"].as_str().unwrap()[..10], week["sent"].as_i64().unwrap(), week["n"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(
        weeks,
        [
            ("2026-02-23", 0, 1),
            ("2026-03-02", 0, 0),
            ("2026-03-09", 2, 2),
            ("2026-03-16", 1, 0),
            ("2026-03-23", 0, 0),
            ("2026-03-30", 1, 0)
        ]
    );
    // In Auckland, March ends at 11:00 UTC on March 31, before the last request.
    let auckland = api
        .read(&format!("{ANALYTICS}?from=2026-03-01&to=2026-03-31T11:00:00Z&interval=month&tz=Pacific/Auckland"))
        .await;
    assert_eq!((&auckland["sent"], &auckland["by_interval"].as_array().unwrap().len()), (&json!(3), &1));

    let answer = support::json(api.get(&format!("{ANALYTICS}?interval=hour&tz=Mars/Base")), 400).await;
    assert_eq!(faults(&answer), [("interval", "invalid"), ("tz", "invalid")]);
    support::json(api.get(&format!("{DASHBOARD}?from=2026-02-01&to=2026-01-01")), 400).await;

    let api = api.on("another").await;
    assert_eq!(api.read(&format!("{ANALYTICS}{MARCH}")).await["sent"], 0);
}

#[tokio::test]
async fn the_dashboard_shows_open_requests_and_the_latest_answers() {
    let api = Api::start().await;
    let hours_ago = |hours: i64| (chrono::Utc::now() - chrono::Duration::hours(hours)).to_rfc3339();
    api.asked("late", &hours_ago(100), None).await;
    let reminded = api.asked("reminded", &hours_ago(200), None).await;
    let last = api.asked("last", &hours_ago(300), None).await;
    api.asked("fresh", &hours_ago(1), None).await;
    let mut connection = api.connection().await;
    for (feedback, reminders, hours) in [(reminded, 1, 20), (last, 2, 80)] {
        sqlx::query(
            "UPDATE feedback SET reminders = $2, last_reminder_at = now() - make_interval(hours => $3) WHERE id = $1",
        )
        .bind(Uuid::try_parse(&feedback).unwrap())
        .bind(reminders)
        .bind(hours)
        .execute(&mut connection)
        .await
        .unwrap();
    }
    let mut answers = Vec::new();
    for number in 0..12 {
        let at = hours_ago(50 - number);
        answers.push(api.asked(&format!("a{number}"), &at, Some((&at, 4, None))).await);
    }
    answers.reverse();

    let dashboard = api.report(DASHBOARD).await;
    let open = &dashboard["open_requests"];
    assert_eq!((&open["count"], &open["due_reminders"], &open["due_to_expire"]), (&json!(4), &json!(1), &json!(1)));
    assert_eq!(each(&dashboard["latest_answers"], "id"), answers[..10]);
    let listed: Value = api.read(&format!("/dev/crm/feedback/{}", id(&dashboard["latest_answers"][0]))).await;
    assert_eq!(dashboard["latest_answers"][0], listed);
    assert_eq!((&dashboard["analytics"]["sent"], &dashboard["analytics"]["n"]), (&json!(16), &json!(12)));
}

#[tokio::test]
async fn the_dashboard_shows_the_first_themes() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let now = chrono::Utc::now().to_rfc3339();
    for (number, comment) in
        ["the battery life is great", "the sound quality is poor"].iter().cycle().take(24).enumerate()
    {
        let feedback = api.asked(&format!("c{number}"), &now, None).await;
        let answer = json!({ "rating": if number % 2 == 0 { 5 } else { 2 }, "comment": comment });
        api.send(reqwest::Method::POST, &format!("/dev/crm/feedback/{feedback}"), answer, 200).await;
    }
    let job = themes::start(&mut api.connection().await, api.workspace_id, None, false).await.unwrap();
    api.ended(&json!({ "id": job.id })).await;
    let all = api.report("/dev/crm/feedback/themes").await;
    let dashboard = api.report(DASHBOARD).await;
    let first: Vec<&str> = each(&all["themes"], "label").into_iter().take(5).collect();
    assert!(!first.is_empty(), "{all}");
    assert_eq!(each(&dashboard["themes"], "label"), first);
}
