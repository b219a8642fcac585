//! After the upgrade, emails that 0.1.0 distinguished can be the same. All records stay.

use reqwest::Method;
use serde_json::{Value, json};
use shared::platform::backfill::Progress;
use sqlx::{AssertSqlSafe, PgConnection};
use testing::Process;
use uuid::Uuid;

use crate::backfills::unkeyed;
use crate::doctor;
use crate::support::{self, Api, each, id};
use crate::workflows::suppress;

const LEADS: &str = "/dev/crm/leads";
const TABLES: [&str; 4] = ["leads", "customers", "users", "suppressions"];

/// The emails of three records, oldest first; ids are not in the order of age, as after an import.
const EMAILS: [(u8, &str); 3] = [(2, "ann@m\u{fc}nchen.de"), (3, "Ann@xn--mnchen-3ya.de"), (1, "ANN@M\u{dc}NCHEN.DE")];

fn record(n: u8) -> String {
    format!("00000000-0000-7000-8000-{n:012}")
}

/// Inserts a record as 0.1.0 has written it.
async fn insert(connection: &mut PgConnection, workspace: Uuid, table: &str, (n, email): (u8, &str), age: usize) {
    let (columns, values) = match table {
        "leads" => (
            ", name, source, status, score, custom_fields, search_vector, updated_at",
            ", 'x', 'other', 'new', 0, '{}', '', now()",
        ),
        "customers" => (
            ", name, type, status, custom_fields, search_vector, updated_at",
            ", 'x', 'individual', 'active', '{}', '', now()",
        ),
        "users" => (", name, updated_at", ", 'x', now()"),
        _ => (", reason", ", 'manual'"),
    };
    let insert = format!(
        "INSERT INTO {table} (workspace_id, id, email, created_at{columns})
         VALUES ('{workspace}', '{}', '{email}', timestamptz '2026-01-01' - {age} * interval '1 day'{values})",
        record(n)
    );
    unkeyed(connection, table).await;
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(connection).await.unwrap();
}

async fn must_rewrite(connection: &mut PgConnection, workspace: Uuid, table: &str) {
    let insert = sqlx::query("INSERT INTO backfills (workspace_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    insert.bind(workspace).bind(table).execute(connection).await.unwrap();
}

async fn migrate(api: &Api) -> Vec<Progress> {
    let mut reported = Vec::new();
    let settings = support::settings(api.database.url());
    shared::migrate::run(&settings.database, |progress| reported.extend(progress.rows().cloned())).await.unwrap();
    reported
}

/// An API whose tables have the three records, migrated.
async fn migrated() -> Api {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    for table in TABLES {
        for (at, row) in EMAILS.into_iter().enumerate() {
            insert(&mut connection, api.workspace_id, table, row, 10 - at).await;
        }
        must_rewrite(&mut connection, api.workspace_id, table).await;
    }
    migrate(&api).await;
    api
}

async fn put(api: &Api, path: &str, n: u8, body: Value, status: u16) -> Value {
    api.send(Method::PUT, &format!("{path}/{}", record(n)), body, status).await
}

#[tokio::test]
async fn records_with_one_email_are_all_there_and_can_be_changed() {
    let api = migrated().await;
    for table in TABLES {
        let path = format!("/dev/crm/{table}");
        let mut listed = api.read(&format!("{path}?email=ann@m%C3%BCnchen.de")).await;
        listed.as_array_mut().unwrap().sort_by_key(|record| record["id"].to_string());
        assert_eq!(each(&listed, "id"), [record(1), record(2), record(3)], "{table}");
        assert_eq!(each(&listed, "email"), [EMAILS[2].1, EMAILS[0].1, EMAILS[1].1]);
        if table == "suppressions" {
            continue;
        }
        for n in 1..=3 {
            let changed = put(&api, &path, n, json!({ "name": format!("Ann {n}") }), 200).await;
            assert_eq!(changed["name"], format!("Ann {n}"));
        }
        // In another form it remains the same email, and a whole record can be sent back.
        put(&api, &path, 3, json!({ "email": "ann@m\u{fc}nchen.de." }), 200).await;
        let read = api.read(&format!("{path}/{}", record(1))).await;
        put(&api, &path, 1, read, 200).await;
        // An email of its own ends the matter, and another record's is taken.
        put(&api, &path, 3, json!({ "email": "new@example.com" }), 200).await;
        put(&api, &path, 3, json!({ "email": "ann@m\u{fc}nchen.de" }), 409).await;
        let person = json!({ "name": "x", "email": "NEW@example.com" });
        api.send(Method::POST, &path, person, 409).await;
    }
}

#[tokio::test]
async fn the_oldest_record_owns_the_email_and_then_the_next() {
    let api = migrated().await;
    for table in TABLES {
        let path = format!("/dev/crm/{table}");
        let body = match table {
            "suppressions" => json!({ "email": "ann@m\u{fc}nchen.de" }),
            _ => json!({ "name": "x", "email": "ann@m\u{fc}nchen.de" }),
        };
        for n in [2, 3, 1] {
            api.send(Method::POST, &path, body.clone(), 409).await;
            api.delete(&format!("{path}/{}", record(n)), 204).await;
        }
        api.create(&path, body).await;
    }
}

#[tokio::test]
async fn another_system_updates_the_owner() {
    let api = migrated().await;
    let _worker = Process::worker(&api.database, &["--queues", "imports"]);
    for path in ["/dev/crm/leads", "/dev/crm/customers"] {
        let upsert = json!({ "name": "Upserted", "email": "ANN@xn--mnchen-3ya.de" });
        let updated = api.send(Method::POST, &format!("{path}?on_conflict=update"), upsert, 200).await;
        assert_eq!(id(&updated), record(2));
        let items = json!({ "items": [{ "id": record(1), "name": "Batched" }, { "id": record(1), "email": "ann@m\u{fc}nchen.de" }] });
        let results = api.send(Method::POST, &format!("{path}/batch"), items, 200).await;
        assert_eq!(results["results"][1]["record"]["name"], "Batched", "{results}");
        // An export that is imported again changes no record by the row of another one.
        let file = api.get(&format!("{path}/export?fields=id,name,email")).send().await.unwrap().text().await.unwrap();
        let job =
            api.imported(&format!("{path}/import?on_conflict=update"), file.replace("Upserted", "Imported")).await;
        assert_eq!([&job["result"]["updated"], &job["result"]["failed"]], [1, 2], "{job}");
        let mut names = api.read(path).await;
        names.as_array_mut().unwrap().sort_by_key(|record| record["id"].to_string());
        assert_eq!(each(&names, "name"), ["Batched", "Imported", "x"]);
    }
}

#[tokio::test]
async fn a_suppressed_address_receives_nothing_by_any_record() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    for (at, row) in EMAILS.into_iter().enumerate() {
        insert(&mut connection, api.workspace_id, "leads", row, at).await;
    }
    must_rewrite(&mut connection, api.workspace_id, "leads").await;
    migrate(&api).await;
    suppress(&api, "ANN@m\u{fc}nchen.de.").await;
    let _worker = Process::worker(&api.database, &["--queues", "workflows"]);
    let run = support::json(api.post("/dev/crm/leads/nurture/start"), 202).await;
    let result = api.ended(&run).await["result"].clone();
    assert_eq!([&result["sent"], &result["skipped"]["suppressed"]], [0, 3], "{result}");
}

#[tokio::test]
async fn the_doctor_lists_the_duplicates() {
    let api = migrated().await;
    let doctor = async || doctor::finding(&doctor::examine(&api.database, &[]).await, "records.emails").clone();
    let found = doctor().await;
    assert_eq!(
        (&found["level"], &found["message"]),
        (&json!("fault"), &json!("8 records have the email of another one."))
    );
    let listed = found["details"].as_array().unwrap();
    assert_eq!(listed.len(), 8, "{found}");
    let (owner, first, second) = (record(2), record(3), record(1));
    let lines = [
        format!("acme  leads  {first}  {}  has the email of {owner}  {}", EMAILS[1].1, EMAILS[0].1),
        format!("acme  leads  {second}  {}  has the email of {owner}  {}", EMAILS[2].1, EMAILS[0].1),
    ];
    assert_eq!([&listed[0], &listed[1]], [&json!(lines[0]), &json!(lines[1])]);
    for table in TABLES {
        for n in [2, 3] {
            api.delete(&format!("/dev/crm/{table}/{}", record(n)), 204).await;
        }
    }
    assert_eq!(doctor().await["level"], "ok");
}

#[tokio::test]
async fn an_interrupted_migration_resumes_and_keeps_every_duplicate() {
    const PAIRS: i64 = 3_000;
    let api = Api::start().await;
    let mut connection = api.connection().await;
    unkeyed(&mut connection, "leads").await;
    // The younger record of each pair comes in an earlier batch than the older one.
    let insert = format!(
        "INSERT INTO leads (workspace_id, id, name, email, source, status, score, custom_fields, search_vector, created_at, updated_at)
         SELECT '{}', ('00000000-0000-7000-8000-' || lpad((n + older * {PAIRS})::text, 12, '0'))::uuid, 'x',
             n || CASE older WHEN 0 THEN '@m\u{fc}nchen.de' ELSE '@xn--mnchen-3ya.de' END, 'other', 'new', 0, '{{}}', '',
             now() - older * interval '1 day', now()
         FROM generate_series(1, {PAIRS}) AS n, generate_series(0, 1) AS older",
        api.workspace_id
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap();
    must_rewrite(&mut connection, api.workspace_id, "leads").await;
    let breaks = "ALTER TABLE leads ADD CONSTRAINT breaks CHECK (email <> '2500@xn--mnchen-3ya.de') NOT VALID";
    sqlx::raw_sql(breaks).execute(&mut connection).await.unwrap();
    let settings = support::settings(api.database.url());
    assert!(shared::migrate::run(&settings.database, |_| ()).await.is_err());
    sqlx::raw_sql("ALTER TABLE leads DROP CONSTRAINT breaks").execute(&mut connection).await.unwrap();
    let done: Vec<i64> = migrate(&api).await.iter().map(|progress| progress.done).collect();
    assert_eq!(done, [6_000], "the first batches were committed");
    let owners = "SELECT count(*) FILTER (WHERE email_duplicate = 0 AND email LIKE '%xn--%'),
                      count(*) FILTER (WHERE email_duplicate > 0 AND email NOT LIKE '%xn--%') FROM leads";
    let owners: (i64, i64) = sqlx::query_as(owners).fetch_one(&mut connection).await.unwrap();
    assert_eq!(owners, (PAIRS, PAIRS), "the oldest owns the email");

    // Again, nothing changes.
    let state = "SELECT md5(string_agg(id::text || email_key || email_duplicate || xmin, ',' ORDER BY id)) FROM leads";
    let before: String = sqlx::query_scalar(state).fetch_one(&mut connection).await.unwrap();
    must_rewrite(&mut connection, api.workspace_id, "leads").await;
    migrate(&api).await;
    assert_eq!(sqlx::query_scalar::<_, String>(state).fetch_one(&mut connection).await.unwrap(), before);
    assert_eq!(api.read(&format!("{LEADS}?email=7@M%C3%9CNCHEN.de")).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn emails_and_deleted_records_get_their_normal_form() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let lead = api.create(LEADS, json!({ "name": "Ann", "email": "Ann@m\u{fc}nchen.de" })).await;
    api.delete(&format!("{LEADS}/{}", id(&lead)), 204).await;
    for statement in [
        "UPDATE history SET former = former - 'email_key' - 'email_duplicate'",
        "ALTER TABLE emails DROP CONSTRAINT emails_to_email_key_check",
        "INSERT INTO emails (workspace_id, id, event, event_key, from_email, to_email, to_domain, subject, text_body, state)
         SELECT id, gen_random_uuid(), 'nurture', 'n', 'a@b.example', 'Ann@M\u{dc}NCHEN.de', 'm\u{dc}nchen.de', 's', 't', 'queued'
         FROM workspaces",
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    for table in ["history", "emails"] {
        must_rewrite(&mut connection, api.workspace_id, table).await;
    }
    migrate(&api).await;
    let deleted = api.read(&format!("{LEADS}?deleted=true&email=ann@xn--mnchen-3ya.de")).await;
    assert_eq!(each(&deleted, "id"), [id(&lead)]);
    let emails = api.read("/dev/crm/emails?to_email=ann@xn--mnchen-3ya.de").await;
    assert_eq!(each(&emails, "to_email"), ["Ann@M\u{dc}NCHEN.de"]);
    let domain: String = sqlx::query_scalar("SELECT to_domain FROM emails").fetch_one(&mut connection).await.unwrap();
    assert_eq!(domain, "xn--mnchen-3ya.de");
    suppress(&api, "ann@m\u{fc}nchen.de").await;
    assert_eq!(each(&api.read("/dev/crm/emails").await, "state"), ["suppressed"]);
}
