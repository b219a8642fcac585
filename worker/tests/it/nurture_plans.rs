//! The query plans of the statements that select leads for nurture, on tables of a realistic size.

use shared::workflows::nurture::{AMONG, ENROLLED};
use sqlx::AssertSqlSafe;
use testing::plan::Plan;
use uuid::Uuid;

use crate::support::Ledger;

/// 60,000 leads of three workspaces, half of them enrolled, with steps, interactions, bounced emails and suppressions.
const FILL: [&str; 5] = [
    "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, custom_fields, search_vector, created_at, updated_at, nurture_enrolled_at)
     SELECT ('00000000-0000-0000-0000-00000000000' || n % 3)::uuid, gen_random_uuid(), 'A', n || '@example.com', n || '@example.com', 'other',
         (ARRAY['new', 'contacted', 'qualified', 'lost', 'won'])[1 + n % 5], 1, '{}', '', now(), now(), CASE WHEN n % 2 = 0 THEN now() END
     FROM generate_series(1, 60000) AS n",
    "INSERT INTO nurture_steps (workspace_id, lead_id, step_id, taken_at)
     SELECT workspace_id, id, gen_random_uuid(), now() FROM leads, generate_series(1, 2)",
    "INSERT INTO lead_interactions (workspace_id, id, lead_id, type, created_at, updated_at)
     SELECT workspace_id, gen_random_uuid(), id, 'email', now(), now() FROM leads, generate_series(1, 2)",
    "INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_email_key, to_domain, subject, text_body, state,
         attempt, run_at, subject_type, subject_id)
     SELECT gen_random_uuid(), workspace_id, 'nurture', id::text, 'a@b.example', email, email, 'example.com', 's', 't',
         CASE WHEN random() < 0.05 THEN 'bounced' ELSE 'sent' END, 1, now(), 'lead', id
     FROM leads",
    "INSERT INTO suppressions (workspace_id, id, email, email_key, reason, created_at)
     SELECT workspace_id, gen_random_uuid(), email, email, 'unsubscribed', now() FROM leads WHERE random() < 0.1",
];

#[tokio::test]
async fn nurture_reads_only_its_page_of_leads_and_their_related_rows() {
    let ledger = Ledger::create().await;
    for statement in FILL {
        ledger.run(statement).await;
    }
    // As autovacuum does; the index of enrolled leads then has all that a page needs.
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut *ledger.connection().await).await.unwrap();
    let mut connection = ledger.connection().await;
    let workspace = "00000000-0000-0000-0000-000000000001";
    let page: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM leads WHERE workspace_id = $1 ORDER BY id OFFSET 10000 LIMIT 2000")
            .bind(Uuid::try_parse(workspace).unwrap())
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    // A run executes its statements with custom plans.
    sqlx::query(AssertSqlSafe("SET plan_cache_mode = force_custom_plan")).execute(&mut *connection).await.unwrap();
    let statuses = "{new,contacted,qualified}";

    let values = format!("'{workspace}', '{}', 2000", page[0]);
    let plan = Plan::of(&mut connection, "uuid, uuid, bigint", ENROLLED, &values).await;
    assert_eq!(plan.indexes(), ["leads_enrolled_idx"], "{plan:#?}");
    assert!(plan.rows() <= 2_000 * 2, "{} rows\n{plan:#?}", plan.rows());

    for (leads, are_all, index) in [(2_000, true, "leads_pkey"), (500, false, "leads_enrolled_idx")] {
        let ids: Vec<String> = page.iter().take(leads).map(Uuid::to_string).collect();
        let values = format!(
            "'{workspace}', '{statuses}', '{{{}}}', {are_all}, '{}', '{}'",
            ids.join(","),
            page[0],
            page[leads - 1]
        );
        let plan = Plan::of(&mut connection, "uuid, text[], uuid[], boolean, uuid, uuid", AMONG, &values).await;
        let [emails, interactions] = ["emails_to_email_idx", "lead_interactions_lead_id_idx"];
        let expected = [emails, interactions, index, "nurture_steps_pkey", "suppressions_email_key"];
        assert_eq!(plan.indexes(), expected, "{plan:#?}");
        // For each lead: the lead, two steps, two interactions, one email, and a suppression for some.
        assert!(plan.rows() <= u64::try_from(leads).unwrap() * 8, "{} rows\n{plan:#?}", plan.rows());
    }
}
