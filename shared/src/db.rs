//! Connections to PostgreSQL and the migrations.

mod pool;
mod time;

use std::ops::{Deref, DerefMut};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::config::Database;
use crate::error::{Error, Result};

pub(crate) use pool::trouble;
pub use pool::{Pool, PoolConnection};
pub use time::{CLOCK, Clock, now};

/// Every migration, built into the binaries.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// A pool of connections for the process called `name`, which operators see in `pg_stat_activity`.
///
/// Connecting happens when the first connection is asked for, so a process starts, and waits,
/// while its database is away.
///
/// # Errors
/// [`Error::Internal`] if the URL is not one.
pub fn pool(settings: &Database, name: &str) -> Result<Pool> {
    let options: PgConnectOptions = settings.url.parse().map_err(Error::from)?;
    let options = options.application_name(name).options([
        // A process that stops in the middle of a transaction must not hold its locks for ever.
        ("idle_in_transaction_session_timeout", "15s"),
        // A step of a job takes at most 5 s; nothing we run needs longer.
        ("statement_timeout", "30s"),
    ]);
    Pool::new(options, settings)
}

/// Brings the schema up to this program's version. Safe when several processes do it at once:
/// sqlx holds an advisory lock meanwhile.
///
/// # Errors
/// [`Error::Unavailable`], or [`Error::Internal`] with what is wrong with the migrations.
pub async fn migrate(settings: &Database) -> Result<()> {
    // A connection of its own: a migration may take longer than any statement of the pool may.
    let mut connection = PgConnection::connect(&settings.url).await.map_err(Error::while_connecting)?;
    MIGRATOR.run(&mut connection).await.map_err(|error| Error::Internal(error.into()))?;
    connection.close().await?;
    Ok(())
}

/// The versions of migrations that this program knows and the database has not seen.
///
/// # Errors
/// [`Error::Unavailable`] while the database is away.
pub async fn pending_migrations(connection: &mut PgConnection) -> Result<Vec<i64>> {
    let applied: Vec<i64> =
        match sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(connection).await {
            Ok(applied) => applied,
            // 42P01: there is no such table before the first migration.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Vec::new(),
            Err(error) => return Err(error.into()),
        };
    Ok(MIGRATOR.iter().map(|migration| migration.version).filter(|version| !applied.contains(version)).collect())
}

/// A transaction that takes everything back unless it is committed.
///
/// One that is dropped before its end closes its connection instead of giving it back to the pool. A job
/// that loses its lease is dropped wherever it is, and a COPY of sqlx that is dropped before its end
/// leaves a connection on which the next statement would read the answers to the last ones.
#[derive(Debug)]
pub struct Step {
    connection: PoolConnection,
    ended: bool,
}

impl Step {
    /// Begins on a connection of the pool.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away.
    pub async fn begin(pool: &Pool) -> Result<Self> {
        let mut step = Self { connection: pool.acquire().await?, ended: false };
        sqlx::raw_sql("BEGIN").execute(&mut *step.connection).await?;
        Ok(step)
    }

    /// Commits. When it fails, whether it was committed is not known.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database went away meanwhile.
    pub async fn commit(mut self) -> Result<()> {
        sqlx::raw_sql("COMMIT").execute(&mut *self.connection).await?;
        self.ended = true;
        Ok(())
    }
}

impl Step {
    /// Takes everything back, and gives the connection back to the pool.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away; then, too, nothing of it stays.
    pub async fn rollback(mut self) -> Result<()> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection).await?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.discard();
        }
    }
}

impl Deref for Step {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Step {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Until the transaction ends, statements are planned for the tables as they are. A plan that was kept
/// from when a table was empty reads all of it for each step, and a first run grows it a thousandfold
/// before the database counts again.
pub(crate) async fn plan_afresh(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("SET LOCAL plan_cache_mode = force_custom_plan").execute(connection).await?;
    Ok(())
}
