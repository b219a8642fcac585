//! The statements on scores, as PostgreSQL plans them among many customers.

use shared::crm::customers::Customer;
use shared::insight::scoring::{Day, FACTS};
use shared::query::List;
use shared::records::{Fields, Record};
use sqlx::{AssertSqlSafe, PgConnection};
use testing::plan::Plan;
use uuid::Uuid;

use crate::support::Api;

const CUSTOMERS: i32 = 20_000;

/// Many customers of two workspaces, with scores; few of each hundred are at risk.
async fn fill(connection: &mut PgConnection, workspace: Uuid) {
    // No statistics but those that the test makes.
    for table in ["customers", "orders", "customer_interactions", "feedback"] {
        let alter = format!("ALTER TABLE {table} SET (autovacuum_enabled = false)");
        sqlx::raw_sql(AssertSqlSafe(alter)).execute(&mut *connection).await.unwrap();
    }
    for workspace in [workspace, Uuid::now_v7()] {
        let statements = [
            "INSERT INTO customers (workspace_id, id, name, email, email_key, type, status, custom_fields, search_vector, created_at, updated_at)
             SELECT $1, gen_random_uuid(), 'A', n || '@example.com', n || '@example.com', 'individual', 'active', '{}', '', now() - make_interval(mins => n), now()
             FROM generate_series(1, $2) AS n",
            "INSERT INTO orders (workspace_id, id, customer_id, product_id, quantity, status, order_date, created_at, updated_at)
             SELECT $1, gen_random_uuid(), id, id, 1, 'pending', now() - make_interval(days => n), now(), now()
             FROM customers, generate_series(1, 3) AS n WHERE workspace_id = $1 AND $2 > 0",
            "INSERT INTO customer_interactions (workspace_id, id, customer_id, type, subject, date, created_at, updated_at)
             SELECT $1, gen_random_uuid(), id, 'call', 's', now() - make_interval(days => n), now(), now()
             FROM customers, generate_series(1, 3) AS n WHERE workspace_id = $1 AND $2 > 0",
            "INSERT INTO feedback (workspace_id, id, customer_id, status, rating, requested_at, answered_at, created_at, updated_at)
             SELECT $1, gen_random_uuid(), id, 'answered', 4, now(), now(), now(), now()
             FROM customers, generate_series(1, 2) AS n WHERE workspace_id = $1 AND $2 > 0",
            "INSERT INTO customer_scores (workspace_id, customer_id, created_at, orders, quantity, segment, health, band, date)
             SELECT $1, id, created_at, 1, 1, CASE WHEN n % 100 = 0 THEN 'at_risk' ELSE 'loyal' END, 50,
                 CASE WHEN n % 200 = 0 THEN 'at_risk' ELSE 'watch' END, current_date
             FROM (SELECT id, created_at, row_number() OVER (ORDER BY created_at) AS n FROM customers WHERE workspace_id = $1) AS numbered
             WHERE $2 > 0",
        ];
        for statement in statements {
            sqlx::query(statement).bind(workspace).bind(CUSTOMERS).execute(&mut *connection).await.unwrap();
        }
    }
}

#[tokio::test]
async fn lists_read_their_page_and_facts_the_records_of_their_customers() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    let workspace = api.workspace_id;
    fill(&mut connection, workspace).await;
    read_facts(&mut connection, workspace).await;
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.unwrap();
    read_facts(&mut connection, workspace).await;
    let page = |parameters: &[(&str, &str)]| {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let list = List::parse(&Customer::LIST, workspace, &parameters).unwrap();
        list.page(workspace, Customer::columns(), 51).sql().as_str().to_owned()
    };
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::raw_sql(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut connection).await.unwrap();
        for (name, index) in [("segment", "customer_scores_segment_idx"), ("health", "customer_scores_band_idx")] {
            let statement = page(&[(name, "at_risk")]);
            let values = format!("'{workspace}', 'at_risk', '{workspace}', 51, 51");
            let plan = Plan::of(&mut connection, "", &statement, &values).await;
            // The segment, the score and the band of each customer are looked up.
            let mut expected = [index, "customer_scores_pkey", "customers_pkey"];
            expected.sort_unstable();
            assert_eq!(plan.indexes(), expected, "{mode}: {statement}");
            assert!(plan.rows() <= 104 + 3 * 51, "{mode}: {} rows", plan.rows());
        }
    }
}

/// Facts are read by the indexes of their customers, for one and for many.
async fn read_facts(connection: &mut PgConnection, workspace: Uuid) {
    sqlx::raw_sql("SET statement_timeout = '30s'").execute(&mut *connection).await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        sqlx::raw_sql(AssertSqlSafe(format!("SET plan_cache_mode = {mode}"))).execute(&mut *connection).await.unwrap();
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM customers WHERE workspace_id = $1 LIMIT 500")
            .bind(workspace)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let day = Day::today(connection, workspace).await.unwrap();
        for ids in [&ids[..1], &ids[..]] {
            let array: Vec<String> = ids.iter().map(Uuid::to_string).collect();
            let values = format!(
                "'{workspace}', '{{{}}}', '{}', '{}', '{}'",
                array.join(","),
                day.start(),
                day.end(),
                day.since()
            );
            let plan = Plan::of(connection, "", FACTS, &values).await;
            let expected = [
                "customer_interactions_customer_id_idx",
                "customers_pkey",
                "feedback_customer_id_idx",
                "orders_customer_id_idx",
            ];
            let indexes = plan.indexes();
            let also =
                indexes.iter().map(|index| index.replace("interactions_date_idx", "interactions_customer_id_idx"));
            assert_eq!(also.collect::<Vec<_>>(), expected, "{mode}");
            assert!(plan.rows() <= 12 * ids.len() as u64, "{mode}: {} rows for {}", plan.rows(), ids.len());
        }
    }
}
