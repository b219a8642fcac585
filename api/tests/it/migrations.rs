//! Upgrades a full database of 0.1.0: every row survives and remains usable.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use shared::platform::db;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testing::{Database, Process};

use crate::support::{self, Api};
use crate::workflows::{outbox, worker};

/// The last migration of 0.1.0.
const LAST_OF_0_1_0: i64 = 20_261_125_021_000;
/// Rows in every table of 0.1.0, as its programs wrote them.
const ROWS_OF_0_1_0: &str = include_str!("migrations/0.1.0.sql");
/// Tables that only have rows while something is running, or that are recomputed.
const MAY_BE_EMPTY: [&str; 8] = [
    "customer_marks",
    "feedback_readings",
    "feedback_unread",
    "followups",
    "import_seen",
    "reports",
    "theme_days",
    "themes",
];
/// Tables that have been renamed.
const RENAMED: [(&str, &str); 3] =
    [("customer_marks", "stale_customers"), ("email_pace", "email_rate_limits"), ("slots", "scheduled_runs")];

/// Its runs that were under way, see there.
const RUNS_OF_0_1_0: &str = include_str!("migrations/runs_of_0.1.0.sql");

/// A database of 0.1.0.
async fn database_of_0_1_0() -> (Database, PgConnection) {
    let database = Database::empty().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let before = db::MIGRATOR.iter().filter(|migration| migration.version <= LAST_OF_0_1_0).cloned();
    Migrator::with_migrations(before.collect()).run(&mut connection).await.unwrap();
    sqlx::raw_sql(ROWS_OF_0_1_0).execute(&mut connection).await.unwrap();
    (database, connection)
}

/// How many rows each table has.
async fn counts(connection: &mut PgConnection) -> BTreeMap<String, i64> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut counts = BTreeMap::new();
    for table in tables {
        let count = format!("SELECT count(*) FROM {table}");
        let rows = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *connection).await.unwrap();
        counts.insert(table, rows);
    }
    counts
}

#[tokio::test]
async fn upgrading_a_full_database_preserves_every_row() {
    let (database, mut connection) = database_of_0_1_0().await;
    let mut expected = counts(&mut connection).await;
    let is_empty = |(table, rows): &(&String, &i64)| **rows == 0 && !MAY_BE_EMPTY.contains(&table.as_str());
    let empty: Vec<_> = expected.iter().filter(is_empty).collect();
    assert!(empty.is_empty(), "nothing is in {empty:?}");

    shared::migrate::run(&support::settings(database.url()).database, |_| ()).await.unwrap();
    for (before, after) in RENAMED {
        let rows = expected.remove(before).unwrap();
        expected.insert(after.to_owned(), rows);
    }
    let found = counts(&mut connection).await;
    for (table, rows) in &expected {
        assert_eq!(found.get(table), Some(rows), "{table}");
    }

    // Rows of 0.1.0 can be read, found, changed and restored.
    let api = Api::over(database, |_| {}).await;
    api.leaves_jobs("import_leads");
    let leads = api.read("/dev/crm/leads").await;
    assert!(leads.as_array().is_some_and(|leads| !leads.is_empty()), "{leads}");
    let id = leads[0]["id"].as_str().unwrap();
    let name = leads[0]["name"].as_str().unwrap().split(' ').next().unwrap().to_owned();
    let found = api.read(&format!("/dev/crm/leads?q={name}")).await;
    assert!(found.as_array().unwrap().iter().any(|lead| lead["id"] == id), "{found}");
    let changed = support::json(
        api.request(Method::PUT, &format!("/dev/crm/leads/{id}")).json(&json!({ "notes": "moved" })),
        200,
    )
    .await;
    assert_eq!(changed["notes"], "moved");
    let deleted: uuid::Uuid = sqlx::query_scalar(
        "SELECT record_id FROM history WHERE action = 'deleted' AND record_type = 'lead' ORDER BY id DESC LIMIT 1",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    let restored: Value = support::json(api.post(&format!("/dev/crm/leads/{deleted}/restore")), 200).await;
    assert_eq!(restored["id"], deleted.to_string());
    let nightly = api.read("/dev/crm/schedules?kind=nightly").await[0].clone();
    assert_eq!((&nightly["cron"], &nightly["time_zone"]), (&json!("0 2 * * *"), &json!("UTC")));
    let nights = api.read(&format!("/dev/crm/schedules/{}/runs", nightly["id"].as_str().unwrap())).await;
    assert_eq!((&nights[0]["date"], nights.as_array().unwrap().len()), (&json!("2026-11-29"), 1));
    for list in ["customers", "orders", "feedback", "users", "emails", "suppressions", "jobs"] {
        let list = format!("/dev/crm/{list}");
        assert!(api.read(&list).await.as_array().is_some_and(|records| !records.is_empty()), "{list}");
    }
}

#[tokio::test]
async fn nurture_continues_with_the_leads_that_it_knew() {
    let (database, mut connection) = database_of_0_1_0().await;
    let statements = "
        UPDATE leads SET import_job_id = NULL;
        INSERT INTO leads (workspace_id, id, name, email, source, status, score, custom_fields, words, import_job_id, won_at, created_at, updated_at)
        SELECT workspaces.id, gen_random_uuid(), row.name, row.name || '@enrol.example', 'other', row.status, 0, '{}', '',
            CASE WHEN row.imported THEN gen_random_uuid() END, CASE WHEN row.status = 'won' THEN now() - interval '1 day' END,
            now() - interval '9 days', now()
        FROM workspaces, (VALUES ('own', 'proposal', false), ('won', 'won', false), ('imported', 'new', true), ('known', 'lost', true))
            AS row (name, status, imported)
        WHERE workspaces.id = (SELECT workspace_id FROM leads LIMIT 1);
        INSERT INTO nurture_steps (workspace_id, lead_id, step_id, taken_at)
        SELECT workspace_id, id, gen_random_uuid(), now() FROM leads WHERE email = 'known@enrol.example'";
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    let settings = support::settings(database.url());
    shared::migrate::run(&settings.database, |_| ()).await.unwrap();
    type Row = (String, Option<String>, Option<i32>, Option<i32>);
    let enrolled = "SELECT name, nurture_left, extract(day FROM now() - nurture_enrolled_at)::integer,
            extract(day FROM now() - nurture_left_at)::integer
        FROM leads WHERE email LIKE '%@enrol.example' ORDER BY name";
    let found: Vec<Row> = sqlx::query_as(enrolled).fetch_all(&mut connection).await.unwrap();
    let row =
        |name: &str, left: Option<&str>, enrolled, left_at| (name.into(), left.map(Into::into), enrolled, left_at);
    assert_eq!(
        found,
        [
            row("imported", None, None, None),
            row("known", Some("lost"), Some(9), Some(0)),
            row("own", None, Some(9), None),
            row("won", Some("won"), Some(9), Some(1)),
        ]
    );
    // A batch that is repeated changes nothing.
    let repeat = "INSERT INTO backfills (workspace_id, name) SELECT id, 'leads_enrolment' FROM workspaces";
    sqlx::raw_sql(repeat).execute(&mut connection).await.unwrap();
    shared::migrate::run(&settings.database, |_| ()).await.unwrap();
    assert_eq!(sqlx::query_as::<_, Row>(enrolled).fetch_all(&mut connection).await.unwrap(), found);
}

#[tokio::test]
async fn an_import_that_is_under_way_reads_names_into_their_fields() {
    let (database, mut connection) = database_of_0_1_0().await;
    let targets = json!(["first_name", { "field": "email" }, "last_name", "custom", "ignored"]);
    let changed = sqlx::query("UPDATE imports SET plan = jsonb_set(plan, '{targets}', $1) WHERE id = $2");
    let import = uuid::uuid!("01a227ce-8a91-735f-ad91-ea5c4d2bfaa0");
    changed.bind(targets).bind(import).execute(&mut connection).await.unwrap();
    shared::migrate::run(&support::settings(database.url()).database, |_| ()).await.unwrap();
    let found: Vec<Value> = sqlx::query_scalar("SELECT plan -> 'targets' FROM imports ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let field = |name: &str| json!({ "field": name });
    let named = json!([field("first_name"), field("email"), field("last_name"), "custom", "ignored"]);
    assert_eq!(found, [json!([field("name"), field("email"), field("score")]), named]);
}

#[tokio::test]
async fn a_run_resumes_after_its_last_committed_page() {
    let (database, mut connection) = database_of_0_1_0().await;
    sqlx::raw_sql(RUNS_OF_0_1_0).execute(&mut connection).await.unwrap();
    shared::migrate::run(&support::settings(database.url()).database, |_| ()).await.unwrap();
    let api = Api::over(database, |_| {}).await;

    let cursors: Vec<Value> = sqlx::query_scalar(
        "SELECT cursor FROM jobs WHERE id::text LIKE '05000000-%' AND cursor IS NOT NULL ORDER BY id",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let lead = |n: u8| format!("01000000-0000-7000-8000-00000000000{n}");
    let first = "04000000-0000-7000-8000-000000000001";
    let walk = json!({ "began": "2026-11-20T10:00:00Z",
        "at": { "leads": { "date": "2026-11-01T10:00:00Z", "id": "02000000-0000-7000-8000-000000000001" } } });
    let expected = [
        json!({ "page": lead(1) }),
        json!({ "page": walk }),
        json!({ "page": { "began_at": "2026-11-20T10:00:00Z", "after": ["2026-11-01T10:00:00Z", first] } }),
        json!({ "page": { "records": lead(3) } }),
        json!({ "page": { "keep": "03000000-0000-7000-8000-000000000001" } }),
        json!({ "assign": first }),
        json!({ "page": null }),
        json!("end"),
        json!({ "page": { "history": "01a227cd-cea9-7701-9aa7-d3bc3be239d4" } }),
        json!("end"),
    ];
    assert_eq!(cursors, expected);

    let job = |n: u8| format!("/dev/crm/jobs/05000000-0000-7000-8000-00000000000{n:x}");
    let result = async |n: u8| api.read(&job(n)).await["result"].clone();
    let healthy = json!({ "date": "2026-11-28", "customers": 1, "healthy": 1, "watch": 0, "at_risk": 0, "unknown": 0,
        "dry_run": false, "kept": 0 });
    assert_eq!(result(5).await, healthy);
    assert_eq!(result(6).await, json!({ "read": 3, "found": true, "themes": 1, "comments": 2 }));
    assert_eq!(result(9).await, json!({ "removed": 1, "restored": 1, "left": 0 }));
    assert_eq!(result(11).await["runs"][0]["result"], json!({ "interactions": 0 }));
    assert_eq!(result(11).await["runs"].as_array().unwrap().len(), 2);

    let _workers = [worker(&api), Process::worker(&api.database, &["--queues", "imports"])];
    for n in [1, 2, 3, 4] {
        let job = api.ended(&json!({ "id": job(n).rsplit('/').next().unwrap() })).await;
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    let (nurtured, followed_up, reminded) = (result(1).await, result(2).await, result(3).await);
    assert!(nurtured["leads"].as_i64() >= Some(3) && nurtured["sent"].as_i64() >= Some(2), "{nurtured}");
    assert_eq!([&followed_up["interactions"], &followed_up["followed_up"], &followed_up["sent"]], [3, 3, 1]);
    assert_eq!([&reminded["open"], &reminded["reminded"]], [2, 2], "{reminded}");
    assert_eq!(result(4).await, json!({ "removed": 2, "restored": 0, "left": 1, "unsuppressed": 0 }));
    let mut written: Vec<String> = outbox(&api).await.into_iter().map(|email| email.to_email).collect();
    written.retain(|email| ["lin@", "lou@", "cam@", "cyd@"].iter().any(|start| email.starts_with(start)));
    written.sort();
    assert_eq!(written, ["cyd@example.com", "lou@example.com"]);
    assert_eq!(api.read("/dev/crm/leads?email=una@example.com").await.as_array().unwrap().len(), 1);
    assert_eq!(api.read("/dev/crm/leads?email=urs@example.com").await, json!([]));
}
