//! An operator moves a workspace to another cell.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use testing::{Database, Process, citus};
use uuid::Uuid;

use crate::cli::program;
use crate::feedback_page;
use crate::holds::{NURTURE, until};
use crate::nurture::many_leads;
use crate::support::{self, Api};
use crate::workflows::{outbox, run};

/// Two cells with the same secrets. In the old one, `acme` has rows of every kind, and has been suspended.
struct Cells {
    old: Database,
    new: Database,
    acme: Uuid,
    key: String,
    /// The token of a link that unsubscribes one of acme's leads.
    token: String,
}

impl Cells {
    /// `None` where the tests run on Citus, which workspaces are not moved from.
    async fn start() -> Option<Self> {
        if citus::is_tested() {
            testing::skipped("workspaces are moved between databases without Citus");
            return None;
        }
        let api = Api::start().await;
        api.leaves_jobs("find_themes");
        let token = fill(&api).await;
        let (acme, key) = (api.workspace_id, api.key.clone());
        let (old, new) = (api.stopped().await, Database::create().await);
        until("the programs of the old cell are gone", async || !is_connected(&old).await).await;
        crm(&old, &["workspaces", "suspend", "acme"]).await;
        old.key("stays").await;
        new.key("there").await;
        let secrets: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT name, value FROM secrets").fetch_all(old.pool()).await.unwrap();
        for (name, value) in secrets {
            let copy = "INSERT INTO secrets (name, value) VALUES ($1, $2)
                        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            sqlx::query(copy).bind(name).bind(value).execute(new.pool()).await.unwrap();
        }
        Some(Self { old, new, acme, key, token })
    }

    async fn run(&self) -> Output {
        self.run_to(&self.new).await
    }

    async fn run_to(&self, database: &Database) -> Output {
        program(&self.old, &["workspaces", "move", "acme", "--to", database.url()]).output().await.unwrap()
    }

    /// Moves the workspace, which must succeed.
    async fn moved(&self) {
        let output = self.run().await;
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("acme and its ") && said.contains("rows are in the other cell"), "{said}");
    }

    /// Expects that the workspace is not moved, for this reason.
    async fn refused(&self, reason: &str) {
        self.refused_to(&self.new, reason).await;
    }

    async fn refused_to(&self, database: &Database, reason: &str) {
        let before = contents(&self.old, self.acme).await;
        let output = self.run_to(database).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.ends_with(&format!("crm-api: {reason}\n")), "{said}");
        assert_eq!(contents(&self.old, self.acme).await, before);
    }
}

/// Fills a workspace through its API: records of all kinds, emails that wait, a paused kind of work, an old key.
async fn fill(api: &Api) -> String {
    let worker = Process::worker(&api.database, &["--queues", "workflows,imports"]);
    many_leads(api, 3).await;
    feedback_page::asked(api).await;
    let customers = api.read("/dev/crm/customers").await;
    let customer = support::id(&customers[0]).to_owned();
    let order = json!({ "customer_id": customer, "product_id": Uuid::now_v7(), "quantity": 2 });
    api.create("/dev/crm/orders", order).await;
    let call = json!({ "type": "call", "date": "2026-01-05T10:00:00Z", "subject": "Renewal" });
    api.create(&format!("/dev/crm/customers/{customer}/interactions"), call).await;
    api.create("/dev/crm/suppressions", json!({ "email": "gone@example.com" })).await;
    api.ended(&api.import("name,email\nEve,eve@example.com\n").await).await;
    let keys = api.read("/dev/crm/keys").await;
    let rotated = format!("/dev/crm/keys/{}/rotate", support::id(&keys[0]));
    run(api, NURTURE).await;
    until("all events have their numbers", async || {
        !contents(&api.database, api.workspace_id).await.contains_key("new_events")
    })
    .await;
    drop(worker);
    // An event that has no number yet.
    api.send(Method::PUT, &format!("/dev/crm/customers/{customer}"), json!({ "company": "Analytical Engines" }), 200)
        .await;
    support::json(api.post(&rotated), 200).await;
    let emails = outbox(api).await;
    let email = emails.iter().find(|email| email.to_email == "lead1@example.com").unwrap();
    email.unsubscribe.as_ref().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// The output of a command that must succeed.
async fn crm(database: &Database, arguments: &[&str]) {
    let output = program(database, arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The rows of a workspace by table, without what each database gives its own.
async fn contents(database: &Database, workspace: Uuid) -> BTreeMap<String, Vec<Value>> {
    let tables = "SELECT DISTINCT table_name::text FROM information_schema.columns
                  JOIN information_schema.tables USING (table_schema, table_name)
                  WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND column_name = 'workspace_id'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(database.pool()).await.unwrap();
    let mut conditions: Vec<_> = tables.into_iter().map(|table| (table, "workspace_id = $1")).collect();
    conditions.push(("workspaces".to_owned(), "id = $1"));
    conditions.push(("rotated_keys".to_owned(), "key_id IN (SELECT id FROM api_keys WHERE workspace_id = $1)"));
    let mut contents = BTreeMap::new();
    for (table, condition) in conditions {
        let rows = format!("SELECT to_jsonb(rows) - 'position' - 'xact_id' FROM {table} AS rows WHERE {condition}");
        let mut rows: Vec<Value> =
            sqlx::query_scalar(AssertSqlSafe(rows)).bind(workspace).fetch_all(database.pool()).await.unwrap();
        rows.sort_by_key(Value::to_string);
        if !rows.is_empty() {
            contents.insert(table, rows);
        }
    }
    contents
}

async fn execute(database: &Database, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(database.pool()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_moves_with_all_its_rows_and_its_keys_and_links_work_there() {
    let Some(cells) = Cells::start().await else { return };
    let before = contents(&cells.old, cells.acme).await;
    for table in ["leads", "orders", "stale_customers", "rotated_keys", "emails", "jobs", "events", "new_events"] {
        assert!(before.contains_key(table), "{table}: {:?}", before.keys());
    }
    cells.moved().await;
    assert_eq!(contents(&cells.old, cells.acme).await, BTreeMap::new());
    assert_eq!(contents(&cells.new, cells.acme).await, before);
    cells.refused("there is no workspace \"acme\"").await;

    let Cells { new, acme, key, token, .. } = cells;
    crm(&new, &["workspaces", "unsuspend", "acme"]).await;
    let api = Api::over(new, |_| {}).await;
    api.leaves_jobs("find_themes");
    let leads = support::json(api.request_with(&key, Method::GET, "/dev/crm/leads"), 200).await;
    assert_eq!(leads.as_array().unwrap().len(), 4, "{leads}");
    let left = Client::new().post(api.url(&format!("/unsubscribe/{token}"))).send().await.unwrap();
    assert_eq!(left.status(), 200);
    // Everything that waited goes on, and what was accepted gets its number.
    let _worker = Process::worker(&api.database, &[]);
    until("all events have their numbers", async || !contents(&api.database, acme).await.contains_key("new_events"))
        .await;
    run(&api, NURTURE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_interrupted_is_finished_without_a_second_copy() {
    let Some(cells) = Cells::start().await else { return };
    let before = contents(&cells.old, cells.acme).await;
    // The copy is committed, and then the old database fails.
    execute(
        &cells.old,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the disk is full'; END $$;
         CREATE TRIGGER fail BEFORE DELETE ON workspaces FOR EACH ROW EXECUTE FUNCTION fail();
         ALTER TABLE workspaces ENABLE ALWAYS TRIGGER fail",
    )
    .await;
    let failed = cells.run().await;
    assert!(String::from_utf8(failed.stderr).unwrap().contains("the disk is full"));
    for database in [&cells.old, &cells.new] {
        assert_eq!(contents(database, cells.acme).await, before);
    }
    execute(&cells.old, "DROP TRIGGER fail ON workspaces").await;

    // Nobody may lose what was accepted in one of the two since.
    let unsuspended = "UPDATE workspaces SET suspended_at = suspended_at + interval '1 second' WHERE name = 'acme'";
    execute(&cells.new, unsuspended).await;
    let in_both = "the workspace is in the other database, too, and was changed since it was copied";
    cells.refused(in_both).await;
    execute(&cells.new, &unsuspended.replace('+', "-")).await;
    // Its id is not the newest one: the clock of the machine that gave it was late.
    let event = "INSERT INTO new_events (workspace_id, id, type, subject_type, subject_id, actor_type, created_at)
                 SELECT id, '00000000-0000-7000-8000-000000000000', 'suppression.created', 'suppression', id, 'customer', now()
                 FROM workspaces WHERE name = 'acme'";
    execute(&cells.old, event).await;
    cells.refused(in_both).await;
    execute(&cells.old, "DELETE FROM new_events WHERE id = '00000000-0000-7000-8000-000000000000'").await;

    cells.moved().await;
    assert_eq!(contents(&cells.old, cells.acme).await, BTreeMap::new());
    assert_eq!(contents(&cells.new, cells.acme).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_killed_while_it_copies_leaves_everything_where_it_was() {
    let Some(cells) = Cells::start().await else { return };
    let before = contents(&cells.old, cells.acme).await;
    // It waits for one of its last tables.
    let mut holder = cells.new.pool().begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE suppressions").execute(&mut *holder).await.unwrap();
    let mut moving = program(&cells.old, &["workspaces", "move", "acme", "--to", cells.new.url()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'suppressions'::regclass";
    let waiting = async || sqlx::query_scalar::<_, i64>(waits).fetch_one(cells.new.pool()).await.unwrap();
    until("it waits", async || waiting().await == 1).await;
    moving.kill().await.unwrap();
    holder.rollback().await.unwrap();
    until("its session has ended", async || {
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        sqlx::query_scalar::<_, i64>(locks).fetch_one(cells.new.pool()).await.unwrap() == 0
    })
    .await;
    assert_eq!(contents(&cells.old, cells.acme).await, before);
    assert_eq!(contents(&cells.new, cells.acme).await, BTreeMap::new());

    cells.moved().await;
    assert_eq!(contents(&cells.new, cells.acme).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_moves_at_once_one_moves_the_workspace() {
    let Some(cells) = Cells::start().await else { return };
    let before = contents(&cells.old, cells.acme).await;
    let (one, other) = tokio::join!(cells.run(), cells.run());
    assert_eq!([&one, &other].iter().filter(|output| output.status.success()).count(), 1, "{one:?} {other:?}");
    assert_eq!(contents(&cells.old, cells.acme).await, BTreeMap::new());
    assert_eq!(contents(&cells.new, cells.acme).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_lose_or_mix_up_something_is_refused() {
    let Some(cells) = Cells::start().await else { return };
    crm(&cells.old, &["workspaces", "unsuspend", "acme"]).await;
    cells.refused("the workspace is not suspended").await;
    crm(&cells.old, &["workspaces", "suspend", "acme"]).await;
    cells.refused_to(&cells.old, "the other database is this one, or another move uses it").await;

    let worker = Process::worker(&cells.old, &[]);
    until("the worker is connected", async || is_connected(&cells.old).await).await;
    let output = cells.run().await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("crm-api: programs of this cell are still connected to its database: crm-worker "), "{said}");
    drop(worker);
    until("the worker is gone", async || !is_connected(&cells.old).await).await;

    execute(&cells.new, "UPDATE secrets SET value = '\\x00' || substr(value, 2)").await;
    cells.refused("the databases have different rows in the table secrets").await;
    let copied: Vec<u8> = sqlx::query_scalar("SELECT value FROM secrets").fetch_one(cells.old.pool()).await.unwrap();
    sqlx::query("UPDATE secrets SET value = $1").bind(copied).execute(cells.new.pool()).await.unwrap();

    execute(&cells.new, "UPDATE workspaces SET name = 'acme'").await;
    cells.refused("the other database has another workspace of this name").await;
    execute(&cells.new, "UPDATE workspaces SET name = 'there'").await;

    execute(&cells.new, "INSERT INTO _sqlx_migrations SELECT 99999999999999, 'later', now(), true, '', 0").await;
    cells.refused("the other database has another version of the schema").await;
    execute(&cells.new, "DELETE FROM _sqlx_migrations WHERE version = 99999999999999").await;

    // A role that may write, but not as rows are.
    let role = format!("crm_{:016x}", rand::random::<u64>());
    let mut url = Url::parse(cells.new.url()).unwrap();
    let password = url.password().unwrap_or("").to_owned();
    let create =
        format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT pg_read_all_data, pg_write_all_data TO {role}");
    execute(&cells.new, &create).await;
    url.set_username(&role).unwrap();
    let arguments = ["workspaces", "move", "acme", "--to", url.as_str()];
    let output = program(&cells.old, &arguments).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let needs = format!("the role {role} needs this in its database: GRANT SET ON PARAMETER session_replication_role");
    assert!(said.contains(&needs), "{said}");
    execute(&cells.new, &format!("GRANT SET ON PARAMETER session_replication_role TO {role}")).await;
    let output = program(&cells.old, &arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let drop = format!("REVOKE SET ON PARAMETER session_replication_role FROM {role}; DROP ROLE {role}");
    execute(&cells.new, &drop).await;
}

/// Whether programs of the cell are connected.
async fn is_connected(database: &Database) -> bool {
    let connected = "SELECT EXISTS (SELECT FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'crm-%')";
    sqlx::query_scalar(connected).fetch_one(database.pool()).await.unwrap()
}
