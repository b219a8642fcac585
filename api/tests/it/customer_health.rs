//! Health: what is known of a customer, in points, day by day.

use chrono::{Days, Utc};
use serde_json::{Value, json};
use shared::insight::health::SnapshotHealth;
use shared::queue;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testing::{Process, earlier};
use uuid::Uuid;

use crate::segments::ago;
use crate::support::{self, Api, each};

impl Api {
    async fn health(&self, customer: &str) -> Value {
        self.read(&format!("/dev/crm/customers/{customer}/health")).await
    }

    async fn meet(&self, customer: &str, kind: &str, days: u64, next: Option<u64>) {
        let mut body = json!({ "type": kind, "subject": "s", "date": ago(days) });
        if let Some(next) = next {
            body["next_action_date"] = json!(ago(next));
        }
        self.create(&format!("/dev/crm/customers/{customer}/interactions"), body).await;
    }

    /// Keeps an answer of a customer, given so many days ago.
    async fn rated(&self, customer: &str, days: i32, rating: i16) {
        sqlx::query(
            "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, requested_at, answered_at, created_at, updated_at)
             SELECT $1, gen_random_uuid(), $2, 'answered', $3, at, at, at, at FROM (SELECT now() - make_interval(days => $4) AS at) AS t",
        )
        .bind(self.workspace_id)
        .bind(Uuid::try_parse(customer).unwrap())
        .bind(rating)
        .bind(days)
        .execute(&mut self.connection().await)
        .await
        .unwrap();
    }

    /// Runs a snapshot to its end.
    pub async fn snapshot(&self, dry_run: bool) -> Value {
        let payload = SnapshotHealth { dry_run };
        let job = queue::start_run(&mut self.connection().await, self.workspace_id, None, &payload).await.unwrap();
        let job = self.ended(&json!({ "id": job.id })).await;
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["progress"]["done"], job["progress"]["total"]);
        job["result"].clone()
    }
}

/// The points and the maximum of each part.
fn points(health: &Value) -> Vec<(&str, Option<f64>, f64)> {
    let parts = health["parts"].as_array().unwrap().iter();
    parts
        .map(|part| (part["name"].as_str().unwrap(), part["points"].as_f64(), part["maximum"].as_f64().unwrap()))
        .collect()
}

#[tokio::test]
async fn of_a_new_customer_nothing_is_known() {
    let api = Api::start().await;
    let ada = api.customer("ada", &[]).await;
    let health = api.health(&ada).await;
    assert_eq!((&health["score"], &health["band"], &health["coverage"]), (&json!(null), &json!(null), &json!(0.0)));
    assert_eq!(health["trend"], json!({ "since": null, "from": null, "to": null, "change": null }));
    assert_eq!((health["history"].as_array().unwrap().len(), health["parts"].as_array().unwrap().len()), (0, 6));
    assert_eq!(points(&health).iter().map(|(.., maximum)| maximum).sum::<f64>(), 100.0);
    let missing = format!("/dev/crm/customers/{}/health", Uuid::now_v7());
    assert_eq!(support::json(api.get(&missing), 404).await, json!({ "message": "Resource not found" }));
    for parameter in ["days=3", "from=2026-01-01", "tz=UTC", "interval=day", "type=business", "table=history"] {
        support::json(api.get(&format!("/dev/crm/customers/{ada}/health?{parameter}")), 400).await;
    }
}

/// The example of `docs/insight/health.md`.
#[tokio::test]
async fn a_customer_is_as_well_as_the_records_say() {
    let api = Api::start().await;
    let ada = api.customer("ada", &[(45, 2), (75, 3), (105, 1), (135, 3)]).await;
    api.meet(&ada, "call", 60, Some(10)).await;
    api.meet(&ada, "support", 30, None).await;
    for (days, rating) in [(200, 1), (90, 3), (50, 4), (10, 5)] {
        api.rated(&ada, days, rating).await;
    }
    // Nothing was done since the action was due.
    let before = api.health(&ada).await;
    assert_eq!(points(&before)[5], ("next_actions", Some(2.5), 5.0));
    api.meet(&ada, "meeting", 0, None).await;

    let health = api.health(&ada).await;
    assert_eq!(
        points(&health),
        [
            ("order_recency", Some(22.5), 30.0),
            ("order_trend", Some(15.0), 15.0),
            ("engagement", Some(14.05), 20.0),
            ("feedback", Some(15.0), 20.0),
            ("support_load", Some(8.0), 10.0),
            ("next_actions", Some(5.0), 5.0),
        ]
    );
    assert_eq!((&health["score"], &health["band"], &health["coverage"]), (&json!(80), &json!("healthy"), &json!(1.0)));
    let recency = &health["parts"][0]["facts"];
    assert_eq!((&recency["days_since_last_order"], &recency["cadence_days"]), (&json!(45), &json!(30.0)));
    assert_eq!(health["parts"][3]["facts"], json!({ "ratings": [5, 4, 3], "mean_rating": 4.0 }));
    assert_eq!(each(&api.read("/dev/crm/customers?health=healthy").await, "id"), [ada]);
}

#[tokio::test]
async fn the_day_is_kept_once_however_often_it_is_taken() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let lost = api.customer("lost", &[(300, 1)]).await;
    let well = api.customer("well", &[(2, 1)]).await;
    api.customer("unknown", &[]).await;

    let counts = json!({ "customers": 3, "healthy": 1, "watch": 0, "at_risk": 1, "none": 1 });
    let told = |result: &Value, kept: i64, dry_run: bool| {
        let mut expected = counts.clone();
        expected["date"] = json!(ago(0));
        expected["kept"] = json!(kept);
        expected["dry_run"] = json!(dry_run);
        assert_eq!(*result, expected);
    };
    told(&api.snapshot(true).await, 0, true);
    assert_eq!(api.health(&lost).await["history"], json!([]));
    for _ in 0..2 {
        told(&api.snapshot(false).await, 3, false);
        let health = api.health(&lost).await;
        let today = json!({ "date": ago(0), "score": health["score"], "band": "at_risk", "segment": "dormant" });
        assert_eq!(health["history"], json!([today]));
    }
    assert_eq!(each(&api.read("/dev/crm/customers?health=at_risk").await, "id"), [&lost]);

    // The next day is told beside this one: here, this one is made older.
    let mut connection = api.connection().await;
    age(&mut connection, api.workspace_id, 20).await;
    api.order(&lost, 0, 1).await;
    let health = api.health(&lost).await;
    assert_eq!(health["trend"]["since"], ago(20));
    let change = health["score"].as_i64().unwrap() - health["trend"]["from"].as_i64().unwrap();
    assert!(change > 0 && health["trend"]["change"] == change, "{health}");
    let report = api.report("/dev/crm/customers/segments").await;
    let moves = json!([{ "from": "dormant", "to": "active", "count": 1 }]);
    assert_eq!(report["changes"], json!({ "since": ago(20), "moves": moves }), "{report:#}");
    assert_eq!(report["history"][0]["date"], ago(20));
    assert_eq!(report["history"][0]["groups"]["dormant"], 1);
    assert_eq!(api.snapshot(false).await["at_risk"], 0);
    let report = api.report("/dev/crm/customers/segments").await;
    assert_eq!(report["changes"], json!({ "since": ago(0), "moves": [] }));
    assert_eq!(report["history"].as_array().unwrap().len(), 2);
    let history = api.health(&well).await["history"].clone();
    assert_eq!(each(&history, "date"), [ago(20), ago(0)]);
    let csv = api.get(&format!("/dev/crm/customers/{well}/health?table=history")).header("accept", "text/csv");
    let csv = csv.send().await.unwrap().text().await.unwrap();
    let band = history[0]["band"].as_str().unwrap();
    assert!(csv.starts_with(&format!("date,score,band,segment\r\n{},", ago(20))) && csv.contains(band), "{csv}");
}

/// Makes all snapshots so many days older.
pub async fn age(connection: &mut PgConnection, workspace_id: Uuid, days: i32) {
    let mut transaction = connection.begin().await.unwrap();
    for statement in [
        "UPDATE health_snapshots SET date = date - $2 WHERE workspace_id = $1",
        "UPDATE band_snapshots SET date = date - $2 WHERE workspace_id = $1",
        "UPDATE segment_snapshots SET date = date - $2 WHERE workspace_id = $1",
        "UPDATE score_states SET date = date - $2, snapshot_date = snapshot_date - $2 WHERE workspace_id = $1",
    ] {
        sqlx::query(statement).bind(workspace_id).bind(days).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn scores_are_of_the_day_on_which_they_are_read() {
    let api = Api::start().await;
    let ada = api.customer("ada", &[(30, 1)]).await;
    let segment = |report: &Value, name: &str| {
        let groups = report["groups"].as_array().unwrap().iter();
        groups.filter(|group| group["segment"] == name).map(|group| group["count"].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!(segment(&api.report("/dev/crm/customers/segments").await, "new"), 1);
    // The order was made a day earlier, and so were the scores: as if a day had passed.
    let mut connection = api.connection().await;
    age(&mut connection, api.workspace_id, 1).await;
    let moved = format!("UPDATE orders SET {} WHERE customer_id = $1", earlier("order_date", "1 day"));
    sqlx::query(AssertSqlSafe(moved)).bind(Uuid::try_parse(&ada).unwrap()).execute(&mut connection).await.unwrap();
    sqlx::query("DELETE FROM stale_customers").execute(&mut connection).await.unwrap();
    let report = api.report("/dev/crm/customers/segments").await;
    assert_eq!((segment(&report, "new"), segment(&report, "promising")), (0, 1), "{report:#}");
    assert_eq!(report["complete"], true);
}

/// A day begins when it does in the time zone of the workspace.
#[tokio::test]
async fn days_are_those_of_the_workspace() {
    let api = Api::start().await;
    let ada = api.customer("ada", &[]).await;
    let order = async |hours: i64| {
        let date = (Utc::now() - chrono::Duration::hours(hours)).to_rfc3339();
        let order = json!({ "customer_id": ada, "product_id": ada, "quantity": 1, "order_date": date });
        api.create("/dev/crm/orders", order).await;
    };
    order(30).await;
    // Where two of these zones have the same date, their days still begin at different times.
    for zone in ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata", "UTC"] {
        api.send(reqwest::Method::PUT, "/dev/crm/settings", json!({ "time_zone": zone }), 200).await;
        let tz: chrono_tz::Tz = zone.parse().unwrap();
        let date = |hours| (Utc::now() - chrono::Duration::hours(hours)).with_timezone(&tz).date_naive();
        let health = api.health(&ada).await;
        let days = (date(0) - date(30)).num_days();
        assert_eq!(health["parts"][0]["facts"]["days_since_last_order"], days, "{zone}: {health:#}");
        let report = api.report("/dev/crm/customers/segments").await;
        let first = shared::insight::period::start_of(date(0) - Days::new(30), tz);
        assert_eq!(report["thresholds"]["recency"][3], json!(first), "{zone}");
        assert_eq!(report["complete"], true);
    }
}

/// One rating is not enough to call a customer healthy.
#[tokio::test]
async fn a_score_of_little_data_has_no_band() {
    let api = Api::start().await;
    let rated = api.customer("rated", &[]).await;
    api.rated(&rated, 3, 5).await;
    let buyer = api.customer("buyer", &[(2, 1)]).await;
    let health = api.health(&rated).await;
    assert_eq!((&health["score"], &health["band"], &health["coverage"]), (&json!(100), &json!(null), &json!(0.2)));
    assert_eq!(api.health(&buyer).await["band"], "healthy");
    let report = api.report("/dev/crm/customers/segments").await;
    let bands: Vec<_> = report["by_health"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["band"].clone(), group["count"].clone()))
        .collect();
    let expected = [("healthy", 1), ("watch", 0), ("at_risk", 0), ("none", 1)];
    assert_eq!(bands, expected.map(|(band, count)| (json!(band), json!(count))));
    assert_eq!(report["by_health"][3]["query"], "/dev/crm/customers?health_band=null");
    // Only the buyer counts in the mean.
    let dashboard = api.report("/dev/crm/analytics/dashboard").await;
    assert_eq!(dashboard["health"]["mean_score"]["value"], 100.0);
    assert_eq!(dashboard["health"]["by_health"][3]["count"], 1);
}

#[tokio::test]
async fn many_customers_are_scored_by_a_job_and_kept_true_by_the_worker() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let emails: Vec<String> = (0..6_500).map(|number| format!("{number}@example.com")).collect();
    let ids: Vec<Uuid> = emails.iter().map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
         SELECT $1, id, 'A', email, email, 'individual', 'active', '{}', '', now(), now() FROM unnest($2::uuid[], $3::text[]) AS new (id, email)",
    )
    .bind(api.workspace_id)
    .bind(&ids)
    .bind(emails)
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
         SELECT $1, gen_random_uuid(), id, id, 1 + number % 7, 'pending', now() - make_interval(secs => number * 5000), now(), now()
         FROM unnest($2::uuid[]) WITH ORDINALITY AS new (id, number), generate_series(1, 1 + number % 4)",
    )
    .bind(api.workspace_id)
    .bind(&ids)
    .execute(&mut connection)
    .await
    .unwrap();
    // More than a reader has patience for: a job is queued, once.
    let report = api.report("/dev/crm/customers/segments").await;
    assert_eq!(
        (&report["complete"], &report["as_of"], &report["customers"]),
        (&json!(false), &json!(null), &json!(6_500))
    );
    api.report("/dev/crm/customers/segments").await;
    let jobs = api.read("/dev/crm/jobs?kind=snapshot_health").await;
    assert_eq!(jobs.as_array().unwrap().len(), 1);

    let _worker = Process::worker(&api.database, &[]);
    api.ended(&jobs[0]).await;
    let report = api.report("/dev/crm/customers/segments").await;
    assert_eq!(
        (&report["complete"], &report["buyers"], &report["thresholds"]["ranked"]),
        (&json!(true), &json!(6_500), &json!(true))
    );
    let counted: i64 = report["groups"].as_array().unwrap().iter().map(|group| group["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, 6_500);
    // The fifth with the latest orders scores 5.
    let first: (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE recency = 5) FROM customer_scores
         WHERE last_order_at >= (SELECT recency_thresholds[4] FROM score_states)",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(first, (1_300, 1_300));

    // What changes from now on is scored by the worker.
    let customer = ids[6_499].to_string();
    api.order(&customer, 0, 500).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let quantity: i64 = sqlx::query_scalar("SELECT quantity FROM customer_scores WHERE customer_id = $1")
            .bind(ids[6_499])
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if quantity > 500 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the worker does not score");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let yesterday = Utc::now().date_naive().checked_sub_days(Days::new(1)).unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM health_snapshots WHERE date > $1")
        .bind(yesterday)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(kept, 6_500);
}
