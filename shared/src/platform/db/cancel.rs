//! Cancelling a statement from outside the connection that runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Row};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

/// How long a call may take, including connecting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls `pg_cancel_backend` over a reserved connection.
///
/// sqlx keeps the key of the protocol's own cancel request private. A call also has an advantage: once
/// it has returned, the signal is delivered and cannot hit a later statement of the connection.
#[derive(Debug)]
pub(super) struct Canceller {
    options: PgConnectOptions,
    connection: Mutex<Option<PgConnection>>,
}

impl Canceller {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: Mutex::new(None) }
    }

    async fn cancel(&self, session: &Session) -> sqlx::Result<()> {
        let mut reserved = self.connection.lock().await;
        // A call that fails or is dropped also drops the connection.
        let mut connection = match reserved.take() {
            Some(connection) => connection,
            None => PgConnection::connect_with(&self.options).await?,
        };
        call(&mut connection, session).await?;
        *reserved = Some(connection);
        Ok(())
    }
}

/// Process ids are reused: the start time distinguishes a session from a later one.
async fn call(connection: &mut PgConnection, session: &Session) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2")
        .bind(session.pid)
        .bind(session.started)
        .execute(connection)
        .await?;
    Ok(())
}

/// The session of a connection on the server.
#[derive(Debug)]
struct Session {
    pid: i32,
    started: DateTime<Utc>,
}

/// The server side of a connection.
#[derive(Debug)]
pub(super) struct Backend {
    /// `None` with a pooler, where each transaction may run in another session.
    session: Option<Session>,
    canceller: Arc<Canceller>,
    /// Locked while a call is in progress.
    call: Arc<Mutex<()>>,
    /// A call failed without a reply, and may still reach the server.
    is_in_doubt: AtomicBool,
}

/// The permission to make a call, while no other call is in progress.
pub(super) struct Call {
    _under_way: OwnedMutexGuard<()>,
}

impl Backend {
    /// Reads the session of a new connection.
    pub(super) async fn of(
        connection: &mut PgConnection,
        canceller: &Arc<Canceller>,
        pooler: bool,
    ) -> sqlx::Result<Arc<Self>> {
        let session = if pooler { None } else { Some(Session::of(connection).await?) };
        let (call, is_in_doubt) = (Arc::default(), AtomicBool::new(false));
        Ok(Arc::new(Self { session, canceller: canceller.clone(), call, is_in_doubt }))
    }

    /// Whether the connection's statements can be cancelled.
    pub(super) fn is_direct(&self) -> bool {
        self.session.is_some()
    }

    /// Whether a call is in progress, or may still reach the server.
    pub(super) fn is_being_cancelled(&self) -> bool {
        self.is_in_doubt.load(Relaxed) || self.call.try_lock().is_err()
    }

    /// Reserves a call; returns `None` if one is in progress.
    pub(super) fn announce(&self) -> Option<Call> {
        self.call.clone().try_lock_owned().ok().map(|guard| Call { _under_way: guard })
    }

    /// Cancels the running statement, if there is one.
    ///
    /// # Errors
    /// If the server may still cancel a later statement. A refusal by the server is not an error.
    pub(super) async fn cancel(&self, _call: Call) -> sqlx::Result<()> {
        let Some(session) = &self.session else { return Ok(()) };
        let was_in_doubt = self.is_in_doubt.swap(true, Relaxed);
        match timeout(PATIENCE, self.canceller.cancel(session)).await {
            Ok(Ok(())) => {}
            Ok(Err(sqlx::Error::Database(error))) => {
                tracing::warn!(%error, "the database refused to cancel a statement; waiting for it to end");
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        }
        self.is_in_doubt.store(was_in_doubt, Relaxed);
        Ok(())
    }

    /// Cancels the running statement, after a call that is in progress.
    ///
    /// # Errors
    /// As [`Backend::cancel`].
    pub(super) async fn cancel_next(&self) -> sqlx::Result<()> {
        self.cancel(Call { _under_way: self.call.clone().lock_owned().await }).await
    }

    /// Waits until no call is in progress.
    ///
    /// # Errors
    /// If a call may still reach the server.
    pub(super) async fn left_alone(&self) -> sqlx::Result<()> {
        drop(self.call.lock().await);
        if self.is_in_doubt.load(Relaxed) { Err(sqlx::Error::PoolTimedOut) } else { Ok(()) }
    }
}

impl Session {
    async fn of(connection: &mut PgConnection) -> sqlx::Result<Self> {
        let statement = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let row = sqlx::Executor::fetch_one(connection, sqlx::raw_sql(statement)).await?;
        Ok(Self { pid: row.try_get("pid")?, started: row.try_get("backend_start")? })
    }
}
