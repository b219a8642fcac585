//! Connections to PostgreSQL, transactions and migrations.

mod cancel;
mod clean;
pub mod copy;
mod nodes;
mod pool;
mod savepoint;
mod share;
mod time;
mod work;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::platform::config::Database;
use crate::platform::{backfill, distribute};

pub(crate) use nodes::{Among, or_nothing};
use pool::TransactionState;
pub use pool::{Pool, PoolConnection};
pub(crate) use savepoint::Savepoint;
pub use share::on_behalf_of;
pub use time::{CLOCK, Clock, database_now, now};
pub use work::{Finished, within};

/// Every migration, built into the binaries.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// A step of a job takes at most 5 s; no other statement needs longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates a pool for the process called `name`, which operators see in `pg_stat_activity`.
///
/// The pool connects when the first connection is acquired, so a process can start while the
/// database is unavailable.
///
/// # Errors
/// [`Error::Internal`] if the URL is invalid.
pub fn pool(settings: &Database, name: &str) -> Result<Pool> {
    Pool::new(options(settings, name)?, settings)
}

/// Creates a pool as [`pool`] does, for statements about many rows: each is planned afresh, since a plan from the time
/// when a table was empty can compare all its rows with all that are given. On other pools, such statements are not
/// `persistent`, which does the same.
///
/// # Errors
/// [`Error::Internal`] if the URL is invalid.
pub fn batch_pool(settings: &Database, name: &str) -> Result<Pool> {
    Pool::new(options(settings, name)?.options([("plan_cache_mode", "force_custom_plan")]), settings)
}

fn options(settings: &Database, name: &str) -> Result<PgConnectOptions> {
    let options: PgConnectOptions = settings.url.parse().map_err(Error::from)?;
    Ok(options.application_name(name).options([
        // A process that stops in the middle of a transaction must not hold its locks forever.
        ("idle_in_transaction_session_timeout", "15s".to_owned()),
        ("statement_timeout", format!("{}ms", STATEMENT_TIMEOUT.as_millis())),
        // Compiling a statement takes longer than most statements, and the planner decides it by its estimates.
        ("jit", "off".to_owned()),
    ]))
}

/// The workspaces that a statement finds one by one: `next` returns the first workspace after `$1` and
/// [among](Among) `$2`, so that a workspace with many rows costs one index lookup.
pub async fn workspaces(connection: &mut PgConnection, next: &'static str) -> Result<Vec<Uuid>> {
    let (mut workspaces, mut last, mut among) = (Vec::new(), Uuid::nil(), Among::new());
    loop {
        let found = sqlx::query_scalar(next).bind(last).bind(among.workspaces()).fetch_optional(&mut *connection).await;
        match among.accept(connection, found.map_err(Error::from)).await? {
            Some(Some(found)) => {
                last = found;
                workspaces.push(found);
            }
            Some(None) => return Ok(workspaces),
            None => (),
        }
    }
}

/// Brings the schema up to this program's version. Several processes can do this at once: sqlx holds an
/// advisory lock.
pub(crate) async fn apply_migrations(connection: &mut PgConnection) -> Result<()> {
    MIGRATOR.run(connection).await.map_err(|error| Error::Internal(error.into()))
}

/// Applies the migrations up to a version.
pub(crate) async fn apply_migrations_to(connection: &mut PgConnection, version: i64) -> Result<()> {
    MIGRATOR.run_to(version, connection).await.map_err(|error| Error::Internal(error.into()))
}

/// The versions of the migrations that have been applied, in their order.
pub(crate) async fn applied_versions(connection: &mut PgConnection) -> Result<Vec<i64>> {
    let applied = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
    match applied.fetch_all(connection).await {
        Ok(applied) => Ok(applied),
        // 42P01: the table does not exist before the first migration.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The versions of the migrations that have not been applied, in their order.
pub(crate) async fn missing_versions(connection: &mut PgConnection) -> Result<Vec<i64>> {
    let applied = applied_versions(connection).await?;
    Ok(MIGRATOR.iter().map(|migration| migration.version).filter(|version| !applied.contains(version)).collect())
}

/// What `crm-api migrate` has still to do: the versions of missing migrations, or else the tables to distribute,
/// or else the names of unfinished backfills.
pub async fn pending_migrations(connection: &mut PgConnection) -> Result<Vec<String>> {
    let missing = missing_versions(connection).await?;
    if !missing.is_empty() {
        return Ok(missing.iter().map(i64::to_string).collect());
    }
    let tables = distribute::pending(connection).await?;
    if tables.is_empty() { backfill::pending(connection).await } else { Ok(tables) }
}

/// A transaction that is rolled back unless it is committed.
///
/// Dropping an open transaction rolls it back in the background: the running statement is cancelled, and
/// the connection returns to the pool once the transaction has ended on the server. A COPY must run in a
/// transaction: sqlx does not count its replies, and the end of a transaction proves that all of them
/// were read.
#[derive(Debug)]
pub struct Transaction {
    connection: PoolConnection,
}

impl Transaction {
    /// Begins a transaction on a connection of the pool.
    pub async fn begin(pool: &Pool) -> Result<Self> {
        let mut connection = pool.acquire().await?;
        connection.set_transaction(TransactionState::Open);
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        Ok(Self { connection })
    }

    /// Commits the transaction. After an error it is unknown whether the transaction was committed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] also if the time limit of [`within`] has passed.
    pub async fn commit(mut self) -> Result<()> {
        let _under_way = self.connection.begin_commit()?;
        sqlx::raw_sql("COMMIT").execute(&mut *self.connection).await?;
        self.connection.set_transaction(TransactionState::None);
        Ok(())
    }

    /// Rolls the transaction back and returns the connection to the pool. The transaction has no effect
    /// even if this fails.
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

/// Makes the database plan each statement anew until the transaction ends. A cached plan from the time
/// when a table was empty scans the whole table for each step, and a first run can grow a table a
/// thousandfold before the next ANALYZE.
pub(crate) async fn plan_afresh(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("SET LOCAL plan_cache_mode = force_custom_plan").execute(connection).await?;
    Ok(())
}
