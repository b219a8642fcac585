//! What a statement reads, by its plan.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::citus;

/// The tables of a few rows by which a statement checks whether email is on hold. They are left out.
const PLACE: [&str; 2] = ["mail_place", "pg_database"];

/// Whether a statement is one whose plan Citus does not show: it writes what another part of it returns.
#[must_use]
pub fn is_hidden(statement: &str) -> bool {
    citus::is_tested() && statement.contains("INSERT INTO")
}

/// A connection for plans. On Citus, sessions that begin from here on, those of the nodes too, read a table as a whole
/// only if no index serves: the shards of a test are so small that it would often be cheaper.
///
/// # Panics
/// If the database cannot be reached.
pub async fn connect(url: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.expect("the database is there");
    if citus::is_tested() {
        let prefer =
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database()); END $$";
        sqlx::raw_sql(prefer).execute(&mut connection).await.expect("a setting is changed");
        connection = PgConnection::connect(url).await.expect("the database is there");
    }
    connection
}

/// The plan of a statement that was executed and rolled back.
#[derive(Debug)]
pub struct Plan(Value);

impl Plan {
    /// Runs a statement with parameters of these types, separated by commas, and rolls it back. Without types,
    /// PostgreSQL infers them.
    ///
    /// # Panics
    /// If the statement fails.
    pub async fn of(connection: &mut PgConnection, types: &str, statement: &str, values: &str) -> Self {
        let mut transaction = connection.begin().await.expect("a transaction begins");
        let statement = if citus::is_tested() {
            // The plan of a prepared statement is no valid JSON there.
            with_values(&mut transaction, statement, values).await
        } else {
            let types = if types.is_empty() { String::new() } else { format!("({types})") };
            let prepare = format!("PREPARE statement {types} AS {statement}");
            sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *transaction).await.expect("the statement is valid");
            format!("EXECUTE statement ({values})")
        };
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}");
        let plan = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *transaction).await;
        let plan: Value = plan.expect("the statement can be explained");
        if !citus::is_tested() {
            let forget = sqlx::raw_sql("DEALLOCATE statement").execute(&mut *transaction).await;
            forget.expect("the statement was prepared");
        }
        transaction.rollback().await.expect("the transaction ends");
        Self(plan[0]["Plan"].clone())
    }

    /// The indexes that were used. A sequential scan is listed as `none`.
    #[must_use]
    pub fn indexes(&self) -> Vec<String> {
        let mut indexes = Vec::new();
        visit(&self.0, &mut |node| {
            if let Some(index) = node["Index Name"].as_str() {
                indexes.push(of_any_shard(index));
            }
            if node["Node Type"] == "Seq Scan" {
                indexes.push(format!("none: {}", node["Relation Name"]));
            }
        });
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    /// The rows that all index scans read, including those that were filtered out.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a count")]
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

/// Sees all nodes of a plan. On Citus, the plans of the shards lie below what distributes them.
fn visit(part: &Value, see: &mut impl FnMut(&Value)) {
    if part["Node Type"].is_string() && !part["Relation Name"].as_str().is_some_and(|table| PLACE.contains(&table)) {
        see(part);
    }
    match part {
        Value::Array(parts) => parts.iter().for_each(|part| visit(part, see)),
        Value::Object(parts) => parts.values().for_each(|part| visit(part, see)),
        _ => (),
    }
}

/// The name of an index without the number of its shard.
fn of_any_shard(index: &str) -> String {
    index.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_').to_owned()
}

/// The statement with the values in the places of its parameters. A function such as `now()` is called before.
async fn with_values(connection: &mut PgConnection, statement: &str, values: &str) -> String {
    let count = (1..).take_while(|number| statement.contains(&format!("${number}"))).count();
    let columns: Vec<String> = (1..=count).map(|number| format!("column{number}")).collect();
    let quoted: Vec<String> = columns.iter().map(|column| format!("quote_nullable({column}::text)")).collect();
    let read = format!("SELECT ARRAY[{}]::text[] FROM (VALUES ({values})) AS given", quoted.join(", "));
    let literals = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(connection).await;
    let literals: Vec<String> = literals.expect("the values are valid");
    // From the last one on, because $1 begins $10.
    let numbered = literals.iter().enumerate().rev();
    numbered.fold(statement.to_owned(), |text, (at, literal)| text.replace(&format!("${}", at + 1), literal))
}
