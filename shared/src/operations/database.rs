//! The connections to the database.

use serde::Serialize;
use sqlx::{FromRow, PgConnection};

use crate::error::Result;

/// The connections to the database server.
#[derive(Debug, Clone, Serialize)]
pub struct Connections {
    /// How many the server accepts.
    pub max_connections: i64,
    /// How many are open, to all its databases.
    pub connections: i64,
    /// Those to this database.
    pub by_program: Vec<ProgramConnections>,
}

/// The connections of a program to this database.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct ProgramConnections {
    /// What the program calls itself (`application_name`), such as `crm-worker 3fa85f64 mail`.
    pub program: String,
    /// Its connections.
    pub connections: i64,
    /// Those that run a statement.
    pub active: i64,
    /// The age of its oldest transaction in seconds.
    pub oldest_transaction_s: Option<f64>,
}

/// Counts the connections to the database. A role that may not see those of others counts them without their state.
pub async fn connections(connection: &mut PgConnection) -> Result<Connections> {
    let (max_connections, connections) = sqlx::query_as(
        "SELECT current_setting('max_connections')::bigint,
             (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let by_program = sqlx::query_as(
        "SELECT coalesce(nullif(application_name, ''), 'other') AS program, count(*) AS connections,
             count(*) FILTER (WHERE state = 'active') AS active,
             max(extract(epoch FROM clock_timestamp() - xact_start))::float8 AS oldest_transaction_s
         FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
         GROUP BY 1 ORDER BY 2 DESC, 1",
    )
    .fetch_all(connection)
    .await?;
    Ok(Connections { max_connections, connections, by_program })
}
