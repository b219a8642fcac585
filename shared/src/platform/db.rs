//! Connections to PostgreSQL and the migrations.

mod cancel;
mod clean;
pub mod copy;
mod pool;
mod share;
mod time;
mod work;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::config::Database;

use pool::TransactionState;
pub use pool::{Pool, PoolConnection};
pub use share::on_behalf_of;
pub use time::{CLOCK, Clock, database_now, now};
pub use work::{Finished, within};

/// Every migration, built into the binaries.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// A step of a job takes at most 5 s; nothing we run needs longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

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
        ("idle_in_transaction_session_timeout", "15s".to_owned()),
        ("statement_timeout", format!("{}ms", STATEMENT_TIMEOUT.as_millis())),
    ]);
    Pool::new(options, settings)
}

/// The workspaces that a statement finds one by one: it returns the first after `$1`, so that none with many
/// rows is read as a whole.
pub async fn workspaces(connection: &mut PgConnection, next: &'static str) -> Result<Vec<Uuid>> {
    let mut workspaces = Vec::new();
    let mut last = Uuid::nil();
    while let Some(found) = sqlx::query_scalar(next).bind(last).fetch_optional(&mut *connection).await? {
        last = found;
        workspaces.push(found);
    }
    Ok(workspaces)
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
/// One that is dropped before its end is rolled back in the background: what runs is cancelled, and
/// the connection returns to the pool when nothing of the transaction is left on it. A COPY must be
/// done in one: sqlx does not count its answers, so only what a step does at its end shows whether they
/// were read.
#[derive(Debug)]
pub struct Transaction {
    connection: PoolConnection,
}

impl Transaction {
    /// Begins on a connection of the pool.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away.
    pub async fn begin(pool: &Pool) -> Result<Self> {
        let mut connection = pool.acquire().await?;
        connection.set_transaction(TransactionState::Open);
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        Ok(Self { connection })
    }

    /// Commits. When it fails, whether it was committed is not known.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database went away meanwhile, or the time of the work is over.
    pub async fn commit(mut self) -> Result<()> {
        let _under_way = self.connection.begin_commit()?;
        sqlx::raw_sql("COMMIT").execute(&mut *self.connection).await?;
        self.connection.set_transaction(TransactionState::None);
        Ok(())
    }

    /// Takes everything back, and gives the connection back to the pool.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away; then, too, nothing of it stays.
    pub async fn rollback(mut self) -> Result<()> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection).await?;
        self.connection.set_transaction(TransactionState::None);
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Transaction {
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
