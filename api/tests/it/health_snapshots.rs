//! The daily snapshot of many customers, while workers die and get into each other's way.

use serde_json::{Value, json};
use shared::insight::health::SnapshotHealth;
use shared::queue;
use testing::Process;

use crate::runs::kill_after_pages;
use crate::support::{Api, id};

/// Makes customers, of whom each third has orders, each as long ago as they come late.
pub(crate) async fn many(api: &Api, customers: i32) {
    let mut connection = api.connection().await;
    for statement in [
        "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
         SELECT $1, gen_random_uuid(), 'A', n || '@example.com', n || '@example.com', 'individual', 'active', '{}', '', now(), now()
         FROM generate_series(1, $2) AS n",
        "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
         SELECT workspace_id, gen_random_uuid(), id, id, 1 + number % 9, 'pending', now() - make_interval(mins => number::integer * 20), now(), now()
         FROM (SELECT workspace_id, id, row_number() OVER (ORDER BY id) AS number FROM customers WHERE workspace_id = $1) AS numbered
         WHERE number % 3 = 0 AND $2 > 0",
    ] {
        sqlx::query(statement).bind(api.workspace_id).bind(customers).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql("ANALYZE customers; ANALYZE orders").execute(&mut connection).await.unwrap();
}

async fn run(api: &Api, statement: &'static str) {
    sqlx::query(statement).execute(&mut api.connection().await).await.unwrap();
}

pub(crate) async fn start(api: &Api) -> Value {
    let payload = SnapshotHealth { dry_run: false };
    let job = queue::start_run(&mut api.connection().await, api.workspace_id, None, &payload).await.unwrap();
    json!({ "id": job.id })
}

/// What the day has: one snapshot for each customer, and sums that are those of the snapshots.
async fn assert_whole(api: &Api, customers: i64) {
    let mut connection = api.connection().await;
    let (snapshots, distinct, strays): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(DISTINCT customer_id), count(*) FILTER (WHERE date <> (now() AT TIME ZONE 'UTC')::date)
         FROM health_snapshots WHERE workspace_id = $1",
    )
    .bind(api.workspace_id)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!((snapshots, distinct, strays), (customers, customers, 0));
    let differing: i64 = sqlx::query_scalar(
        "WITH segments AS (SELECT segment, count(*) FROM health_snapshots WHERE workspace_id = $1 GROUP BY segment),
         bands AS (
             SELECT coalesce(band, 'none'), count(*), coalesce(sum(health), 0) FROM health_snapshots
             WHERE workspace_id = $1 GROUP BY 1
         ),
         kept_segments AS (SELECT segment, customers FROM segment_snapshots WHERE workspace_id = $1),
         kept_bands AS (SELECT band, customers, health FROM band_snapshots WHERE workspace_id = $1)
         SELECT (SELECT count(*) FROM ((TABLE segments EXCEPT TABLE kept_segments) UNION ALL (TABLE kept_segments EXCEPT TABLE segments)) AS d)
             + (SELECT count(*) FROM ((TABLE bands EXCEPT TABLE kept_bands) UNION ALL (TABLE kept_bands EXCEPT TABLE bands)) AS d)",
    )
    .bind(api.workspace_id)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(differing, 0, "the sums of the day are not those of its snapshots");
}

#[tokio::test]
async fn a_killed_worker_leaves_one_snapshot_for_each_customer() {
    let api = Api::start().await;
    many(&api, 25_000).await;
    let job = start(&api).await;
    let (killed_at, ended) = kill_after_pages(&api, &job).await;
    let is_in = |phase: &str| killed_at.iter().any(|cursor| cursor["page"].get(phase).is_some());
    assert!(is_in("score") && is_in("keep"), "killed at {killed_at:?}");
    let result = &ended["result"];
    assert_eq!((&result["customers"], &result["kept"]), (&json!(25_000), &json!(25_000)), "{ended}");
    assert_whole(&api, 25_000).await;
}

#[tokio::test]
async fn two_snapshots_at_once_keep_one_for_each_customer() {
    let api = Api::start().await;
    many(&api, 7_000).await;
    // Two jobs at once are what a lost lease looks like; callers cannot start them.
    let first = start(&api).await;
    run(&api, "UPDATE jobs SET dedupe_key = NULL").await;
    let second = start(&api).await;
    assert_ne!(id(&first), id(&second));
    let _workers = (Process::worker(&api.database, &[]), Process::worker(&api.database, &[]));
    for job in [first, second] {
        let job = api.ended(&job).await;
        assert_eq!((&job["status"], &job["result"]["kept"]), (&json!("succeeded"), &json!(7_000)), "{job}");
    }
    assert_whole(&api, 7_000).await;
    // Another workspace has none of it.
    let api = api.on("globex").await;
    assert_whole(&api, 0).await;
}
