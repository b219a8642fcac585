//! The query plans of the queue's and the outbox's statements, on tables of a realistic size.

use shared::mail;
use shared::operations::gauges::{DUE_WEBHOOKS, FAILED_JOBS, OPEN_EMAILS, OPEN_JOBS};
use shared::queue::{
    CLAIM, CLAIM_QUARANTINED, CONDEMN, END, ENTRIES, HEAD, LOOK, QUARANTINED, RENEW, REQUEUE, RESCUE, YIELD,
};
use shared::schedule::DUE;
use sqlx::AssertSqlSafe;
use testing::citus;
use testing::plan::{self, Plan};
use uuid::Uuid;

use crate::support::Ledger;

/// 100,000 jobs of three workspaces: finished, waiting and running, some with expired leases.
const FILL: &str = "
    INSERT INTO jobs (id, workspace_id, queue, kind, payload, status, attempt, crashes, run_at, lease_until, finished_at)
    SELECT gen_random_uuid(), ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, 'chores', 'chore', '{}', status, 1,
        CASE WHEN status = 'queued' AND n % 1000 = 3 THEN 1 ELSE 0 END,
        now() - n * interval '1 second',
        CASE WHEN status = 'running' THEN now() + (n / 100 % 100 - 5) * interval '1 minute' END,
        CASE WHEN status = 'succeeded' THEN now() END
    FROM generate_series(1, 100000) AS n,
        LATERAL (SELECT CASE WHEN n % 10 < 5 THEN 'queued' WHEN n % 100 = 7 THEN 'running' ELSE 'succeeded' END) AS s (status)";

/// 10,000 schedules, of which a few are due.
const SCHEDULES: &str = "
    INSERT INTO schedules (workspace_id, id, kind, every, time_zone, overlap, catch_up, passed_until, due_at)
    SELECT (SELECT id FROM workspaces WHERE name = 'scheduled'), gen_random_uuid(), 'process_followups', 'PT1H', 'UTC', 'skip', 'latest', now(),
        CASE WHEN n % 10 > 0 THEN now() + (n - 20) * interval '1 second' END
    FROM generate_series(1, 10000) AS n";

#[tokio::test]
async fn looking_for_due_schedules_reads_those_that_are_due_and_the_next_one() {
    let ledger = Ledger::create().await;
    ledger.run("INSERT INTO workspaces (id, name) VALUES (gen_random_uuid(), 'scheduled')").await;
    ledger.run(SCHEDULES).await;
    ledger.run("ANALYZE schedules").await;
    let mut connection = plan::connect(&ledger.url).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::query(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut connection).await.unwrap();
        let plan = Plan::of(&mut connection, "bigint, uuid[], uuid[]", DUE, "1000, '{}', NULL").await;
        assert_eq!(plan.indexes(), ["schedules_due_idx"], "{mode}\n{plan:#?}");
        assert!(plan.rows() <= 25, "{mode}: {} rows\n{plan:#?}", plan.rows());
    }
}

/// 100,000 jobs, emails and deliveries that ended, and 1,000 of each that have not; 1,000 jobs failed long ago.
const ENDED: &str = "
    INSERT INTO jobs (id, workspace_id, queue, kind, payload, status, run_at, finished_at, error)
    SELECT gen_random_uuid(), gen_random_uuid(), 'chores', 'chore', '{}',
        CASE WHEN n <= 1000 THEN 'queued' WHEN n <= 3000 THEN 'failed' ELSE 'succeeded' END, now() - n * interval '1 s',
        CASE WHEN n > 2000 THEN now() - interval '2 days' WHEN n > 1000 THEN now() END, CASE WHEN n % 3 = 0 THEN 'why' END
    FROM generate_series(1, 101000) AS n;
    INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_email_key, to_domain, subject,
        text_body, state)
    SELECT gen_random_uuid(), gen_random_uuid(), 'nurture', n::text, 'a@b.example', 'a@b.example', 'a@b.example',
        'b.example', '', '', CASE WHEN n <= 1000 THEN 'queued' ELSE 'sent' END
    FROM generate_series(1, 101000) AS n;
    INSERT INTO webhook_deliveries (workspace_id, id, webhook_id, event_id, event_type, number, state, run_at, created_at,
        updated_at)
    SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'lead.created', n,
        CASE WHEN n <= 1000 THEN 'pending' ELSE 'delivered' END, now(), now(), now()
    FROM generate_series(1, 101000) AS n";

#[tokio::test]
async fn the_gauges_of_the_cluster_read_nothing_that_has_ended() {
    if citus::is_tested() {
        return testing::skipped("settings of the planner do not reach nodes");
    }
    let ledger = Ledger::create().await;
    sqlx::raw_sql(ENDED).execute(&ledger.pool).await.unwrap();
    let mut connection = ledger.connection().await;
    // Neither depends on statistics.
    for statistics in ["SELECT", "ANALYZE jobs, emails, webhook_deliveries"] {
        sqlx::query(statistics).execute(&mut *connection).await.unwrap();
        sqlx::query("SET enable_seqscan = off").execute(&mut *connection).await.unwrap();
        for (statement, indexes, rows) in [
            (OPEN_JOBS, &["jobs_due_idx", "jobs_lease_idx", "jobs_suspect_idx"][..], 1_000),
            (FAILED_JOBS, &["jobs_failed_idx"], 1_000),
            (OPEN_EMAILS, &["emails_due_idx", "emails_subject_idx", "emails_lease_idx", "emails_unknown_idx"], 1_000),
            (DUE_WEBHOOKS, &["webhook_deliveries_due_idx", "webhooks_pkey"], 1_000),
        ] {
            let plan = Plan::of(&mut connection, "text", statement, "'chores'").await;
            // All of these have nothing but what waits.
            assert!(plan.indexes().iter().all(|used| indexes.contains(&used.as_str())), "{statement}\n{plan:#?}");
            assert!(plan.rows() <= rows, "{} rows\n{statement}\n{plan:#?}", plan.rows());
        }
    }
}

#[tokio::test]
async fn statements_of_the_queue_read_only_the_rows_they_need() {
    let ledger = Ledger::create().await;
    ledger.run(FILL).await;
    ledger.run("ANALYZE jobs").await;
    let mut connection = plan::connect(&ledger.url).await;
    let held: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE workspace_id = $1 AND lease_until IS NOT NULL ORDER BY id LIMIT 300",
    )
    .bind(WORKSPACE)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(held.len(), 300);
    let ids = format!("'{{{}}}'", held.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
    let (one, ones, nulls) = (held[0], array("1"), array("NULL"));
    let mine = format!("'{WORKSPACE}', {ids}, {ones}");

    // A prepared statement may get either kind of plan.
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::query(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut connection).await.unwrap();
        let mut expect = async |statement: &str, types: &str, values: &str, indexes: &[&str], rows: u64| {
            if plan::is_hidden(statement) {
                return;
            }
            let plan = Plan::of(&mut connection, types, statement, values).await;
            assert_eq!(plan.indexes(), indexes, "{mode}\n{statement}\n{plan:#?}");
            assert!(plan.rows() <= rows, "{mode}: {} rows\n{statement}\n{plan:#?}", plan.rows());
        };
        for from in [EVERYTHING, MARKED] {
            let types = "uuid, timestamptz, uuid, uuid, text, text[]";
            for paused in ["'{}'", "'{errand,import}'"] {
                expect(ENTRIES, types, &format!("{from}, 'chores', {paused}"), &["jobs_due_idx"], 64).await;
            }
        }
        let head = format!("'{WORKSPACE}', 'chores', '{{}}'");
        expect(HEAD, "uuid, text, text[]", &head, &["jobs_due_idx"], 1).await;

        let types = "uuid, text, bigint, float8, timestamptz, timestamptz, uuid, text[], uuid";
        for run_at in ["'epoch'", "now() - interval '20000 seconds'"] {
            let values = format!("'{WORKSPACE}', 'chores', 500, 15, now(), {run_at}, '{}', '{{}}', NULL", Uuid::nil());
            expect(CLAIM, types, &values, &["jobs_due_idx"], 500).await;
        }
        let types = "text[], text[], uuid[], uuid[]";
        expect(QUARANTINED, types, "'{chores}', '{}', '{}', NULL", &["jobs_suspect_idx"], 100).await;
        let types = "uuid, uuid, float8, timestamptz, uuid";
        expect(CLAIM_QUARANTINED, types, &format!("'{WORKSPACE}', '{one}', 15, now(), NULL"), &["jobs_pkey"], 1).await;

        expect(
            RENEW,
            "uuid, uuid[], integer[], timestamptz",
            &format!("{mine}, now() + interval '15 seconds'"),
            &["jobs_pkey"],
            300,
        )
        .await;
        let values = format!("{mine}, {}, {nulls}, {nulls}", array("succeeded"));
        expect(END, "uuid, uuid[], integer[], text[], text[], text[]", &values, &["jobs_pkey"], 300).await;
        let types = "uuid, uuid[], integer[], float8, text, smallint, jsonb";
        expect(REQUEUE, types, &format!("{mine}, 1, 'why', 1::smallint, NULL"), &["jobs_pkey"], 300).await;
        expect(YIELD, "uuid, uuid[], integer[]", &mine, &["jobs_pkey"], 300).await;

        expect(LOOK, "timestamptz, float8, bigint", "'epoch', 0, 1000", &["jobs_lease_idx"], 200).await;
        for statement in [RESCUE, CONDEMN] {
            let values = format!("'{WORKSPACE}', {ids}, 5::smallint");
            expect(statement, "uuid, uuid[], smallint", &values, &["jobs_pkey"], 900).await;
        }
    }
}

/// 100,000 emails of three workspaces: sent, waiting and being sent, some with expired leases.
const FILL_EMAILS: &str = "
    INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_email_key, to_domain, subject, text_body, state,
        attempt, run_at, lease_until, subject_type, subject_id)
    SELECT gen_random_uuid(), ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, 'nurture', n::text, 'a@b.example',
        n || '@example.com', n || '@example.com', 'example.com', 's', 't', state, 1, now() - n * interval '1 second',
        CASE WHEN n % 100 = 7 THEN now() + (n / 100 % 100 - 5) * interval '1 minute' END, 'lead', gen_random_uuid()
    FROM generate_series(1, 100000) AS n,
        LATERAL (SELECT CASE WHEN n % 10 < 3 THEN 'queued' WHEN n % 100 = 7 THEN 'sending' ELSE 'sent' END) AS s (state)";

#[tokio::test]
async fn statements_of_the_outbox_read_only_the_rows_they_need() {
    let ledger = Ledger::create().await;
    ledger.run(FILL_EMAILS).await;
    ledger.run("ANALYZE emails").await;
    let mut connection = plan::connect(&ledger.url).await;
    let held: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM emails WHERE workspace_id = $1 AND lease_until IS NOT NULL ORDER BY id LIMIT 300",
    )
    .bind(WORKSPACE)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let ids = format!("'{{{}}}'", held.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","));
    let (one, other) = (held[0], held[1]);
    let mine = format!("'{WORKSPACE}', {ids}, {}", array("1"));
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::query(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut connection).await.unwrap();
        let mut expect = async |statement: &str, types: &str, values: &str, indexes: &[&str], rows: u64| {
            if plan::is_hidden(statement) {
                return;
            }
            let plan = Plan::of(&mut connection, types, statement, values).await;
            assert_eq!(plan.indexes(), indexes, "{mode}\n{statement}\n{plan:#?}");
            assert!(plan.rows() <= rows, "{mode}: {} rows\n{statement}\n{plan:#?}", plan.rows());
        };
        for from in [EVERYTHING, MARKED] {
            let types = "uuid, timestamptz, uuid, uuid";
            expect(mail::ENTRIES, types, from, &["emails_due_idx"], 64).await;
        }
        expect(mail::HEAD, "uuid", &format!("'{WORKSPACE}'"), &["emails_due_idx"], 1).await;
        let types = "uuid, bigint, float8, timestamptz, uuid, uuid";
        let values = format!("'{WORKSPACE}', 500, 15, 'epoch', '{}', NULL", Uuid::nil());
        expect(mail::LEASE_DUE, types, &values, &["emails_due_idx"], 500).await;

        let key = "uuid, uuid, integer, text";
        let last = format!("'{WORKSPACE}', '{one}', 1, 'taken'");
        expect(mail::SENT, key, &last, &["emails_pkey"], 1).await;
        expect(mail::DEFERRED, &format!("{key}, float8"), &format!("{last}, 60"), &["emails_pkey"], 1).await;
        expect(mail::ENDED, &format!("{key}, text"), &format!("{last}, 'bounced'"), &["emails_pkey"], 1).await;
        let indexes = &["emails_pkey", "suppressions_email_key"];
        let next = format!("'{WORKSPACE}', '{other}', 1, 15, 'a@example.com', 'https://crm.example'");
        expect(mail::SENDING, "uuid, uuid, integer, float8, text, text", &next, indexes, 1).await;
        let types = format!("{key}, uuid, integer, float8, text, text");
        let both = format!("{last}, '{other}', 1, 15, 'a@example.com', 'https://crm.example'");
        // The first of the two is read again for its event.
        expect(mail::SENT_THEN_SENDING, &types, &both, indexes, 3).await;
        let suppressed = format!("'{WORKSPACE}', '{other}', 1, 'a@example.com'");
        expect(mail::SUPPRESSED, key, &suppressed, indexes, 1).await;

        let types = "uuid, uuid[], integer[], timestamptz";
        expect(mail::RENEW, types, &format!("{mine}, now() + interval '15 seconds'"), &["emails_pkey"], 300).await;
        expect(mail::HAND_BACK, "uuid, uuid[], integer[]", &mine, &["emails_pkey"], 300).await;
        expect(mail::LOOK, "timestamptz, float8, bigint", "'epoch', 0, 1000", &["emails_lease_idx"], 200).await;
        expect(mail::RESCUE, "uuid, uuid[]", &format!("'{WORKSPACE}', {ids}"), &["emails_pkey"], 900).await;
    }
}

/// One of the three workspaces.
const WORKSPACE: Uuid = Uuid::from_u128(1);

/// The start of a claim without marks, and of a claim with a mark in one workspace.
const EVERYTHING: &str = "'00000000-0000-0000-0000-000000000000', 'epoch',
    '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'";
const MARKED: &str = "'00000000-0000-0000-0000-000000000001', now() - interval '20000 seconds',
    '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'";

fn array(element: &str) -> String {
    format!("'{{{}}}'", vec![element; 300].join(","))
}
