//! The declarations of record types match their tables, and PostgreSQL prepares the statements
//! generated from them.

use std::collections::BTreeSet;

use shared::accounts::users::User;
use shared::crm::customers::Customer;
use shared::crm::feedback::Feedback;
use shared::crm::interactions::{CustomerInteraction, LeadInteraction};
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::records::{KeyForm, Record};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::Api;

const ID: &str = "0191d2c0-6f5e-7000-8000-00000000000a";

#[tokio::test]
async fn declarations_are_true_of_their_tables() {
    let api = Api::start().await;
    let mut connection = api.connection().await;
    // PostgreSQL would read such small tables sequentially otherwise.
    sqlx::query("SET enable_seqscan = off").execute(&mut connection).await.unwrap();
    check::<Lead>(&mut connection).await;
    check::<Customer>(&mut connection).await;
    check::<LeadInteraction>(&mut connection).await;
    check::<CustomerInteraction>(&mut connection).await;
    check::<Order>(&mut connection).await;
    check::<Feedback>(&mut connection).await;
    check::<User>(&mut connection).await;
}

async fn check<R: Record>(connection: &mut PgConnection) {
    check_columns::<R>(connection).await;
    check_constraints::<R>(connection).await;
    check_plans::<R>(connection).await;
    check_statements::<R>(connection).await;
}

/// Reading, writing and restoring a row covers all of its columns.
async fn check_columns<R: Record>(connection: &mut PgConnection) {
    let declared = ["workspace_id"].into_iter().chain(R::COLUMNS.iter().copied());
    let declared = declared.chain(R::SEARCHABLE.then_some("search_vector"));
    let has_email = R::UNIQUE.iter().any(|key| key.form == KeyForm::Email);
    let email_key = if has_email { &["email_key", "email_duplicate"][..] } else { &[] };
    let declared = declared.chain(email_key.iter().copied());
    let declared = declared.chain(R::IMPORTED.then_some("import_job_id"));
    let creator = if R::HAS_CREATOR { &["created_by_type", "created_by_id"][..] } else { &[] };
    let declared = declared.chain(creator.iter().copied());
    let columns = "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(named::<R>(connection, columns).await, declared.map(str::to_owned).collect(), "{}", R::TABLE);
}

/// Every constraint has a declared meaning for callers: a taken key or a missing reference.
async fn check_constraints<R: Record>(connection: &mut PgConnection) {
    let unique = "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = $1::regclass AND indisunique AND NOT indisprimary";
    let declared = R::UNIQUE.iter().map(|key| key.constraint.to_owned()).collect();
    assert_eq!(named::<R>(connection, unique).await, declared, "{}", R::TABLE);

    let foreign = "SELECT conname FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'f'";
    let parent = R::PARENT.map(|parent| format!("{}_{}_fkey", R::TABLE, parent.column));
    let declared = R::REFERENCES.iter().map(|reference| reference.constraint.to_owned()).chain(parent).collect();
    assert_eq!(named::<R>(connection, foreign).await, declared, "{}", R::TABLE);
}

/// Lookups by a key use its index, so they compare values with the index's expression and
/// condition.
async fn check_plans<R: Record>(connection: &mut PgConnection) {
    for key in R::UNIQUE {
        let owners = R::statements().by_key(key.field).unwrap().owners.as_str();
        let explain = format!("EXPLAIN {owners}");
        let explain = explain.replace("$1", &format!("'{ID}'")).replace("$2", &format!("'{{{ID}}}'"));
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
        assert!(plan.iter().any(|line| line.contains(key.constraint)), "{}: {plan:#?}", R::TABLE);
    }
}

async fn check_statements<R: Record>(connection: &mut PgConnection) {
    for statement in R::statements().all() {
        let statement = statement.as_str();
        assert!(statement.contains("workspace_id"), "{statement}");
        // COPY cannot be prepared; imports and batches run it.
        if !statement.starts_with("COPY") {
            let prepare = format!("PREPARE statement AS {statement}; DEALLOCATE statement");
            let prepared = sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *connection).await;
            assert!(prepared.is_ok(), "{prepared:?} of {statement}");
        }
    }
}

async fn named<R: Record>(connection: &mut PgConnection, names: &'static str) -> BTreeSet<String> {
    let found: Vec<String> = sqlx::query_scalar(names).bind(R::TABLE).fetch_all(connection).await.unwrap();
    found.into_iter().collect()
}
