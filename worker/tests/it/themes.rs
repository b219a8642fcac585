//! Themes, from the customers' feedback to the API's response.

use serde_json::{Value, json};
use shared::accounts::api_keys::{self, NewKey};
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;
use shared::insight::themes;
use sqlx::PgConnection;
use testing::{Database, Process};
use uuid::Uuid;

use crate::support::PATIENCE;

/// A workspace with an API server and a worker.
struct Shop {
    database: Database,
    api: Process,
    _worker: Process,
    key: String,
    workspace: Uuid,
}

impl Shop {
    async fn open() -> Self {
        let database = Database::create().await;
        let mut connection = database.pool().acquire().await.unwrap();
        let workspace = workspaces::create(&mut connection, "shop").await.unwrap().id;
        let new = NewKey::of("test", Scopes::ALL, None).unwrap();
        let key = api_keys::create(&mut connection, workspace, &new).await.unwrap().0.reveal().to_owned();
        drop(connection);
        let (api, worker) = (Process::api(&database).await, Process::worker(&database, &[]));
        Self { database, api, _worker: worker, key, workspace }
    }

    async fn connection(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.database.pool().acquire().await.unwrap()
    }

    /// Adds feedback, one answer a day, the last one today; returns the ids.
    async fn answered(&self, answers: &[(i16, &str)]) -> Vec<Uuid> {
        let mut connection = self.connection().await;
        let mut ids = Vec::new();
        for (days, (rating, comment)) in answers.iter().rev().enumerate() {
            ids.push(answer(&mut connection, self.workspace, (*rating, comment), days).await);
        }
        ids.reverse();
        ids
    }

    /// Discovers themes, and waits until the job has ended.
    async fn find(&self) -> Value {
        let job = themes::start(&mut *self.connection().await, self.workspace, Some("nightly"), false).await.unwrap();
        self.ended(job.id).await
    }

    /// Starts the job that reads new feedback, and waits until it has ended.
    async fn read(&self) -> Value {
        let job = themes::answered(&mut *self.connection().await, self.workspace, None).await.unwrap();
        self.ended(job.id).await
    }

    async fn ended(&self, job: Uuid) -> Value {
        let started = std::time::Instant::now();
        loop {
            let job = self.get(&format!("/dev/crm/jobs/{job}")).await;
            if job["finished_at"].is_string() {
                assert_eq!(job["status"], "succeeded", "{job}");
                return job["result"].clone();
            }
            assert!(started.elapsed() < PATIENCE, "{job}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Returns the themes of the present answers. A report that took long to compute is otherwise returned
    /// again for a minute.
    async fn themes(&self, query: &str) -> Value {
        sqlx::query("DELETE FROM reports").execute(self.database.pool()).await.unwrap();
        self.get(&format!("/dev/crm/feedback/themes?{query}")).await
    }

    async fn get(&self, path: &str) -> Value {
        self.answer(path, 200).await
    }

    async fn post(&self, path: &str, body: Value, status: u16) -> Value {
        let request = reqwest::Client::new().post(format!("{}{path}", self.api.url)).bearer_auth(&self.key);
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        answer.json().await.unwrap()
    }

    async fn answer(&self, path: &str, status: u16) -> Value {
        let request = reqwest::Client::new().get(format!("{}{path}", self.api.url)).bearer_auth(&self.key);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        answer.json().await.unwrap()
    }
}

/// Inserts an answer of some days ago, with its customer.
async fn answer(connection: &mut PgConnection, workspace: Uuid, (rating, comment): (i16, &str), days: usize) -> Uuid {
    let (customer, feedback) = (Uuid::now_v7(), Uuid::now_v7());
    sqlx::query(
        "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
         VALUES ($1, $2, 'Ada', $2 || '@example.com', $2 || '@example.com', 'individual', 'active', '{}', '', now(), now())",
    )
    .bind(workspace)
    .bind(customer)
    .execute(&mut *connection)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, comment, category, requested_at, answered_at, created_at, updated_at)
         SELECT $1, $2, $3, 'answered', $4, nullif($5, ''), 'Charcoal Fabric', at, at, at, at
         FROM (SELECT now() - make_interval(days => $6, secs => 1) AS at) AS ago",
    )
    .bind(workspace)
    .bind(feedback)
    .bind(customer)
    .bind(rating)
    .bind(comment)
    .bind(i32::try_from(days).unwrap())
    .execute(&mut *connection)
    .await
    .unwrap();
    feedback
}

const SPEAKER: [(i16, &str); 12] = [
    (5, "Great sound quality, and the music fills the room."),
    (5, "Set up was easy. Music all day!"),
    (4, "The sound quality surprised me, the charcoal fabric less so."),
    (1, "The set up failed three times. Nobody answers in support."),
    (2, "Easy setup, but the battery dies within hours."),
    (5, "We listen to music in the garden with it."),
    (1, "Battery dead after a week. Support does not answer."),
    (4, "Good music, good sound quality, charcoal fabric."),
    (3, "Battery could be better, the support is friendly."),
    (5, ""),
    (5, "Love it"),
    (2, "The battery is not good. Setup took forever."),
];

fn labels(themes: &Value) -> Vec<&str> {
    themes["themes"].as_array().unwrap().iter().map(|theme| theme["label"].as_str().unwrap()).collect()
}

fn theme<'a>(themes: &'a Value, label: &str) -> &'a Value {
    let all = themes["themes"].as_array().unwrap();
    all.iter().find(|theme| theme["label"] == label).unwrap_or_else(|| panic!("{label} in {themes:#}"))
}

#[tokio::test]
async fn feedback_is_grouped_into_themes_with_quotes() {
    let shop = Shop::open().await;
    let empty = shop.themes("").await;
    assert_eq!((&empty["themes"], &empty["answers"], &empty["mean_rating"]), (&json!([]), &json!(0), &Value::Null));

    let ids = shop.answered(&SPEAKER).await;
    let result = shop.find().await;
    assert_eq!((&result["found"], &result["comments"]), (&json!(true), &json!(11)));
    let themes = shop.themes("").await;
    assert_eq!(themes["answers"], 12);
    assert_eq!(themes["comments"], 11);
    let found = labels(&themes);
    assert!(
        ["sound quality", "set up", "music", "battery", "support"].iter().all(|label| found.contains(label)),
        "{found:?}"
    );
    assert!(!found.iter().any(|label| label.contains("fabric")), "a category became a theme: {found:?}");

    let battery = theme(&themes, "battery");
    assert_eq!(battery["count"], 4);
    assert_eq!(battery["share"]["denominator"], 11);
    assert_eq!(battery["mean_rating"], 2.0);
    // The mean of all answers is 42 ÷ 12; without the four about the battery, it is 34 ÷ 8.
    assert!((battery["impact"].as_f64().unwrap() - (42.0 / 12.0 - 34.0 / 8.0)).abs() < 1e-9, "{battery}");
    assert!(battery["sentiment"].as_f64().unwrap() < 0.0, "{battery}");
    assert!(theme(&themes, "music")["sentiment"].as_f64().unwrap() > 0.5);
    let quotes = battery["quotes"].as_array().unwrap();
    assert_eq!(quotes.len(), 3);
    assert!(
        quotes.iter().all(|quote| quote["excerpt"].as_str().unwrap().to_lowercase().contains("battery")),
        "{quotes:?}"
    );
    assert!(quotes.iter().all(|quote| ids.iter().any(|id| quote["id"] == id.to_string())));

    // The last six days, compared with the six days before.
    let from = (chrono::Utc::now() - chrono::Duration::days(6)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let week = shop.themes(&format!("from={from}")).await;
    assert_eq!(week["answers"], 6);
    assert_eq!(
        theme(&week, "battery")["change"],
        json!({ "value": 3.0, "before": 1.0, "change": 2.0, "relative_change": 2.0 })
    );
}

#[tokio::test]
async fn a_theme_lists_its_comments() {
    let shop = Shop::open().await;
    let ids = shop.answered(&SPEAKER).await;
    shop.find().await;
    let themes = shop.themes("").await;
    let (battery, music) = (theme(&themes, "battery"), theme(&themes, "music"));
    let id = |theme: &Value| theme["id"].as_str().unwrap().to_owned();
    let listed = async |filter: String| {
        let feedback = shop.get(&format!("/dev/crm/feedback?{filter}")).await;
        let feedback = feedback.as_array().unwrap().iter();
        feedback.map(|record| record["id"].as_str().unwrap().parse::<Uuid>().unwrap()).collect::<Vec<_>>()
    };
    // Newest first: the last four comments about the battery.
    let about_battery: Vec<Uuid> = [11, 8, 6, 4].map(|at: usize| ids[at]).into();
    assert_eq!(listed(format!("theme={}", id(battery))).await, about_battery);
    let pages = [
        listed(format!("theme={}&limit=3", id(battery))).await,
        listed(format!("theme={}&rating=2", id(battery))).await,
    ];
    assert_eq!(pages, [about_battery[..3].to_vec(), vec![ids[11], ids[4]]]);
    let either = listed(format!("theme={},{}", id(battery), id(music))).await;
    assert_eq!(either.len(), 8);
    let neither = listed(format!("theme[ne]={},{}", id(battery), id(music))).await;
    assert_eq!(either.len() + neither.len(), ids.len());
    // Comments without a theme, and answers without a comment.
    let without = listed("theme=null".to_owned()).await;
    assert!(without.contains(&ids[9]) && without.contains(&ids[10]), "{without:?}");
    assert_eq!(listed("theme[ne]=null".to_owned()).await.len() + without.len(), ids.len());
    assert!(listed(format!("theme={}", Uuid::nil())).await.is_empty());
    let rejected = shop.answer("/dev/crm/feedback?theme=battery", 400).await;
    assert_eq!(rejected["errors"][0]["field"], "theme");

    // The link of each theme lists as many comments as it counts, also in a part of the time.
    let from = (chrono::Utc::now() - chrono::Duration::days(6)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    for themes in [themes, shop.themes(&format!("from={from}")).await] {
        for theme in themes["themes"].as_array().unwrap() {
            let listed = shop.get(theme["query"].as_str().unwrap()).await;
            assert_eq!(listed.as_array().unwrap().len(), theme["count"].as_u64().unwrap() as usize, "{theme}");
        }
    }
}

#[tokio::test]
async fn a_new_answer_changes_only_its_own_themes() {
    let shop = Shop::open().await;
    shop.answered(&SPEAKER).await;
    shop.find().await;
    let before = shop.themes("").await;
    let ids = shop.answered(&[(5, "The battery is great")]).await;
    let result = shop.read().await;
    assert_eq!(result["found"], false);
    let after = shop.themes("").await;
    assert_eq!(theme(&after, "battery")["count"], 5);
    assert_eq!(theme(&after, "battery")["id"], theme(&before, "battery")["id"]);
    assert_eq!(theme(&after, "music")["count"], theme(&before, "music")["count"]);

    // The answer is deleted with its customer, and restored with it.
    let mut connection = shop.connection().await;
    let row = sqlx::query_scalar("SELECT to_jsonb(feedback) FROM feedback WHERE id = $1").bind(ids[0]);
    let row: Value = row.fetch_one(&mut *connection).await.unwrap();
    sqlx::query("DELETE FROM feedback WHERE id = $1").bind(ids[0]).execute(&mut *connection).await.unwrap();
    // Any worker may already have noticed the deletion.
    themes::wake(&mut connection).await.unwrap();
    shop.read().await;
    assert_eq!(theme(&shop.themes("").await, "battery")["count"], 4);
    sqlx::query("INSERT INTO feedback SELECT * FROM jsonb_populate_record(NULL::feedback, $1)")
        .bind(row)
        .execute(&mut *connection)
        .await
        .unwrap();
    shop.read().await;
    assert_eq!(theme(&shop.themes("").await, "battery")["count"], 5);
    assert_eq!(themes::wake(&mut connection).await.unwrap(), 0);
}

#[tokio::test]
async fn repeated_discovery_finds_the_same_themes() {
    let shop = Shop::open().await;
    shop.answered(&SPEAKER).await;
    shop.find().await;
    let mut first = shop.themes("").await;
    let sums = "SELECT coalesce(jsonb_agg(to_jsonb(d) - 'quotes' ORDER BY day, theme_id), '[]') FROM theme_days d";
    let counted: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(sums)).fetch_one(shop.database.pool()).await.unwrap();
    // Simulates a worker that died: the answers that it had processed are not counted twice.
    let mut connection = shop.connection().await;
    themes::assign_step(&mut connection, shop.workspace, Uuid::nil()).await.unwrap();
    shop.find().await;
    let mut second = shop.themes("").await;
    let again: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(sums)).fetch_one(shop.database.pool()).await.unwrap();
    assert_eq!(counted, again);
    for themes in [&mut first, &mut second] {
        for name in ["as_of", "found_at", "period"] {
            themes.as_object_mut().unwrap().remove(name);
        }
        // The queries contain the period.
        for theme in themes["themes"].as_array_mut().unwrap() {
            theme.as_object_mut().unwrap().remove("query");
        }
    }
    assert_eq!(first, second);

    // The readings add up to all answers.
    let (answers, ratings): (i64, i64) = sqlx::query_as("SELECT count(*), sum(rating)::bigint FROM feedback_readings")
        .fetch_one(shop.database.pool())
        .await
        .unwrap();
    assert_eq!((answers, ratings), (12, 42));
    let preview = themes::start(&mut connection, shop.workspace, None, true).await.unwrap();
    let preview = shop.ended(preview.id).await;
    assert_eq!((&preview["dry_run"], preview["preview"].as_array().unwrap().is_empty()), (&json!(true), false));
}

#[tokio::test]
async fn workspaces_have_separate_themes_and_invalid_parameters_are_named() {
    let shop = Shop::open().await;
    shop.answered(&SPEAKER).await;
    shop.find().await;
    let other = shop.database.key("other").await;
    let request = reqwest::Client::new().get(format!("{}/dev/crm/feedback/themes", shop.api.url)).bearer_auth(other);
    let themes: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!((&themes["themes"], &themes["answers"]), (&json!([]), &json!(0)));

    let rejected = shop.answer("/dev/crm/feedback/themes?interval=day&tz=Mars&colour=red", 400).await;
    let fields: Vec<&str> =
        rejected["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["interval", "tz", "colour"]);
}

#[tokio::test]
async fn new_feedback_is_read_automatically() {
    let shop = Shop::open().await;
    let customer = shop.post("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" }), 201).await;
    let asked = format!("/dev/crm/customers/{}/feedback/request", customer["id"].as_str().unwrap());
    let asked = shop.post(&asked, json!({}), 202).await;
    let answered = format!("/dev/crm/feedback/{}", asked["subject"]["id"].as_str().unwrap());
    shop.post(&answered, json!({ "rating": 4, "comment": "The battery is fine, and the sound is good." }), 200).await;
    let jobs = shop.get("/dev/crm/jobs?kind=find_themes").await;
    let result = shop.ended(jobs[0]["id"].as_str().unwrap().parse().unwrap()).await;
    assert!(result["read"].as_i64() <= Some(1), "{result}");
}
