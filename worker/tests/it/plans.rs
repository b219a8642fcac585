//! The plans of the ledger's statements, on a table that looks like one in use.

use serde_json::Value;
use shared::mail;
use shared::queue::{CLAIM, CLAIM_QUARANTINED, FINISH, LOOK, RENEW, RESCUE, SWEEP, WAITING};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::Ledger;

/// 100,000 jobs of three workspaces: most are done, some wait, some are held, some are overdue.
const FILL: &str = "
    INSERT INTO jobs (id, workspace_id, queue, kind, payload, status, attempt, crashes, run_at, lease_until, finished_at)
    SELECT gen_random_uuid(), ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, 'chores', 'chore', '{}', status, 1,
        CASE WHEN status = 'queued' AND n % 1000 = 3 THEN 1 ELSE 0 END,
        now() - n * interval '1 second',
        CASE WHEN status = 'running' THEN now() + (n / 100 % 100 - 5) * interval '1 minute' END,
        CASE WHEN status = 'succeeded' THEN now() END
    FROM generate_series(1, 100000) AS n,
        LATERAL (SELECT CASE WHEN n % 10 < 5 THEN 'queued' WHEN n % 100 = 7 THEN 'running' ELSE 'succeeded' END) AS s (status)";

#[tokio::test]
async fn the_statements_of_the_queue_read_what_they_need_and_no_more() {
    let ledger = Ledger::create().await;
    ledger.run(FILL).await;
    ledger.run("ANALYZE jobs").await;
    let mut connection = ledger.connection().await;
    let held: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM jobs WHERE lease_until IS NOT NULL LIMIT 500")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(held.len(), 500);
    let ids = format!("'{{{}}}'", held.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
    let ones = array("1");

    // Both plans that a prepared statement may get: for its values, and for any.
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::query(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut *connection).await.unwrap();

        for ranges in [EVERYTHING, MARKED] {
            let types = "text, bigint, float8, uuid[], timestamptz[], uuid[], uuid[], uuid[]";
            let values = format!("'chores', 500, 15, {ranges}, '{{00000000-0000-0000-0000-000000000001}}'");
            let plan = explain(&mut connection, types, CLAIM, &values).await;
            assert_eq!(plan.indexes(), ["jobs_due_idx"], "{mode}\n{plan:#?}");
            assert!(plan.rows() <= 600, "{mode}: {} rows\n{plan:#?}", plan.rows());

            let types = "text, bigint, uuid[], timestamptz[], uuid[], uuid[], uuid[], float8";
            let values = format!("'chores', 4, {ranges}, '{{00000000-0000-0000-0000-000000000001}}', 1");
            let plan = explain(&mut connection, types, WAITING, &values).await;
            assert_eq!(plan.indexes(), ["jobs_due_idx"], "{mode}\n{plan:#?}");
            assert!(plan.rows() <= 10, "{mode}: {} rows\n{plan:#?}", plan.rows());
        }

        let plan = explain(&mut connection, "text", SWEEP, "'chores'").await;
        assert!(plan.indexes().iter().all(|index| index.starts_with("jobs_")), "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 10, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let plan = explain(&mut connection, "text[], float8", CLAIM_QUARANTINED, "'{chores}', 15").await;
        assert_eq!(plan.indexes(), ["jobs_pkey", "jobs_suspect_idx"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 4, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let plan = explain(&mut connection, "uuid[], integer[], float8", RENEW, &format!("{ids}, {ones}, 15")).await;
        assert_eq!(plan.indexes(), ["jobs_pkey"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 500, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let types = "uuid[], integer[], text[], text[], text[], smallint[], float8[], text[]";
        let nulls = array("NULL");
        let values =
            format!("{ids}, {ones}, {}, {nulls}, {nulls}, {}, {}, {nulls}", array("succeeded"), array("0"), array("0"));
        let plan = explain(&mut connection, types, FINISH, &values).await;
        assert_eq!(plan.indexes(), ["jobs_pkey"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 500, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let plan = explain(&mut connection, "timestamptz, float8, bigint", LOOK, "'epoch', 0, 1000").await;
        assert_eq!(plan.indexes(), ["jobs_lease_idx"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 200, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let plan = explain(&mut connection, "smallint, uuid[]", RESCUE, &format!("5::smallint, {ids}")).await;
        assert_eq!(plan.indexes(), ["jobs_pkey"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 1500, "{mode}: {} rows\n{plan:#?}", plan.rows());
    }
}

/// 100,000 mails of three workspaces: most were sent, some wait, some are held, some are overdue.
const FILL_EMAILS: &str = "
    INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_domain, subject, text_body, state,
        attempt, run_at, lease_until, subject_type, subject_id)
    SELECT gen_random_uuid(), ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, 'nurture', n::text, 'a@b.example',
        n || '@example.com', 'example.com', 's', 't', state, 1, now() - n * interval '1 second',
        CASE WHEN n % 100 = 7 THEN now() + (n / 100 % 100 - 5) * interval '1 minute' END, 'lead', gen_random_uuid()
    FROM generate_series(1, 100000) AS n,
        LATERAL (SELECT CASE WHEN n % 10 < 3 THEN 'queued' WHEN n % 100 = 7 THEN 'sending' ELSE 'sent' END) AS s (state)";

#[tokio::test]
async fn the_statements_of_the_outbox_read_what_they_need_and_no_more() {
    let ledger = Ledger::create().await;
    ledger.run(FILL_EMAILS).await;
    ledger.run("ANALYZE emails").await;
    let mut connection = ledger.connection().await;
    let held: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM emails WHERE lease_until IS NOT NULL LIMIT 500")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let ids = format!("'{{{}}}'", held.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
    let (one, other, ones) = (held[0], held[1], array("1"));
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::query(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut *connection).await.unwrap();

        for ranges in [EVERYTHING, MARKED] {
            let types = "bigint, float8, uuid[], timestamptz[], uuid[], uuid[]";
            let plan = explain(&mut connection, types, mail::LEASE_DUE, &format!("500, 15, {ranges}")).await;
            assert_eq!(plan.indexes(), ["emails_due_idx"], "{mode}\n{plan:#?}");
            assert!(plan.rows() <= 600, "{mode}: {} rows\n{plan:#?}", plan.rows());
        }

        let plan = explain(&mut connection, "", mail::SWEEP, "").await;
        // Any index that starts with the workspace leads from one to the next.
        assert!(plan.indexes().iter().all(|index| index.starts_with("emails_")), "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 10, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let types = "uuid, integer, text, text, float8, uuid, uuid, integer, float8, uuid, text";
        let workspace = "'00000000-0000-0000-0000-000000000001'";
        let values = format!("'{one}', 1, 'sent', 'taken', 0, NULL, '{other}', 1, 15, {workspace}, 'a@example.com'");
        let plan = explain(&mut connection, types, mail::MARK, &values).await;
        assert_eq!(plan.indexes(), ["emails_pkey", "suppressions_email_key"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 4, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let plan =
            explain(&mut connection, "uuid[], integer[], float8", mail::RENEW, &format!("{ids}, {ones}, 15")).await;
        assert_eq!(plan.indexes(), ["emails_pkey"], "{mode}\n{plan:#?}");

        let plan = explain(&mut connection, "uuid[], integer[]", mail::HAND_BACK, &format!("{ids}, {ones}")).await;
        assert_eq!(plan.indexes(), ["emails_pkey"], "{mode}\n{plan:#?}");

        let plan = explain(&mut connection, "timestamptz, float8, bigint", mail::LOOK, "'epoch', 0, 1000").await;
        assert_eq!(plan.indexes(), ["emails_lease_idx"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 200, "{mode}: {} rows\n{plan:#?}", plan.rows());

        let plan = explain(&mut connection, "uuid[]", mail::RESCUE, &ids).await;
        assert_eq!(plan.indexes(), ["emails_pkey"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 1500, "{mode}: {} rows\n{plan:#?}", plan.rows());
    }
}

/// The ranges of a claim that has no marks, and of one that has a mark in the second workspace.
const EVERYTHING: &str = "'{00000000-0000-0000-0000-000000000000}', '{epoch}',
    '{00000000-0000-0000-0000-000000000000}', '{ffffffff-ffff-ffff-ffff-ffffffffffff}'";
const MARKED: &str = "'{00000000-0000-0000-0000-000000000000, 00000000-0000-0000-0000-000000000001}',
    ARRAY['epoch', now() - interval '20000 seconds'],
    '{00000000-0000-0000-0000-000000000000, 00000000-0000-0000-0000-000000000000}',
    '{00000000-0000-0000-0000-000000000001, ffffffff-ffff-ffff-ffff-ffffffffffff}'";

fn array(element: &str) -> String {
    format!("'{{{}}}'", vec![element; 500].join(","))
}

/// What a statement did when it was really run, and was rolled back.
#[derive(Debug)]
pub struct Plan(Value);

pub async fn explain(connection: &mut PgConnection, types: &str, statement: &str, values: &str) -> Plan {
    let mut transaction = connection.begin().await.unwrap();
    let (types, values) =
        if types.is_empty() { Default::default() } else { (format!("({types})"), format!("({values})")) };
    let prepare = format!("PREPARE statement {types} AS {statement}");
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE statement {values}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *transaction).await.unwrap();
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *transaction).await.unwrap();
    sqlx::raw_sql("DEALLOCATE statement").execute(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    Plan(plan[0]["Plan"].clone())
}

impl Plan {
    /// The indexes through which the table was reached; a sequential scan shows as one.
    pub fn indexes(&self) -> Vec<String> {
        let mut indexes = Vec::new();
        visit(&self.0, &mut |node| {
            if let Some(index) = node["Index Name"].as_str() {
                indexes.push(index.to_owned());
            }
            if node["Node Type"] == "Seq Scan" {
                indexes.push(format!("none: {}", node["Relation Name"]));
            }
        });
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    /// The rows that all scans of indexes met, kept or not.
    pub fn rows(&self) -> u64 {
        let mut rows = 0.0;
        visit(&self.0, &mut |node| {
            if node["Index Name"].is_string() {
                let met = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"];
                let met: f64 = met.iter().filter_map(|key| node[key].as_f64()).sum();
                rows += met * node["Actual Loops"].as_f64().unwrap_or(1.0);
            }
        });
        rows.round() as u64
    }
}

fn visit(node: &Value, see: &mut impl FnMut(&Value)) {
    see(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        visit(child, see);
    }
}
