//! A pool of connections.
//!
//! sqlx's own pool pings the server each time a connection is returned: a second round trip for every
//! small read. This pool pings only connections that were idle for a while, and all connections after
//! any connection has failed.
//!
//! A connection returns to the pool when no reply is pending on it. A connection whose future was
//! dropped in the middle of a statement is [cleaned](super::clean) first.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::cancel::{Backend, Canceller};
use super::clean::{self, Replies};
use super::share::{self, Shares};
use super::work::{Committing, Work};
use crate::error::{Error, Result, troubles};
use crate::platform::config::Database;
use crate::platform::finishing::{Background, Finishing};

/// A connection that was idle for this long may have lost its server.
const IDLE: Duration = Duration::from_secs(1);
/// A connection of this age is replaced: the memory of its session only grows.
const OLD: Duration = Duration::from_secs(30 * 60);

/// A pool of connections to the database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: managed::Pool<Connector>,
    /// One permit for each connection. Callers wait here and not in `connections`, so that dropping a
    /// waiting future costs nothing, and dropping a connecting one keeps its connection.
    turns: Arc<Semaphore>,
    shares: Arc<Shares>,
    patience: Duration,
    options: Arc<PgConnectOptions>,
    /// Connections that are being opened or cleaned.
    background: Arc<Background>,
}

impl Pool {
    /// Creates a pool that connects when the first connection is acquired.
    pub(super) fn new(options: PgConnectOptions, settings: &Database) -> Result<Self> {
        let options = Arc::new(options);
        let canceller = Arc::new(Canceller::new((*options).clone()));
        let connector = Connector { options: options.clone(), canceller, pooler: settings.pooler };
        let patience = Duration::from_secs(settings.acquire_timeout_s);
        let connections = managed::Pool::builder(connector)
            .max_size(settings.max_connections as usize)
            .create_timeout(Some(patience))
            .recycle_timeout(Some(patience))
            // The most recently used connection is the least likely to be broken.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?;
        let size = settings.max_connections as usize;
        let (turns, shares) = (Arc::new(Semaphore::new(size)), Arc::new(Shares::new(size)));
        Ok(Self { connections, turns, shares, patience, options, background: Arc::default() })
    }

    /// How many connections the pool opens at most.
    pub fn max_connections(&self) -> u32 {
        u32::try_from(self.connections.status().max_size).unwrap_or(u32::MAX)
    }

    /// Acquires a connection, which returns to the pool when it is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] also if all connections stay in use for too long, or the time limit of
    /// [`within`](super::within) has passed.
    pub async fn acquire(&self) -> Result<PoolConnection> {
        let turn = match timeout(self.patience, self.turn()).await {
            Ok(turn) => turn.map_err(|_| Error::Unavailable(sqlx::Error::PoolClosed))?,
            Err(_) => return Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
        };
        let lent = Finishing::new(lend(self.connections.clone(), turn), &self.background).await?;
        let work = Work::current();
        if work.as_ref().is_some_and(|work| !work.enter(&lent.object.backend)) {
            return Err(out_of_time());
        }
        let background = self.background.clone();
        Ok(PoolConnection { lent: Some(lent), transaction: TransactionState::None, work, background })
    }

    /// Waits for a turn: first within the workspace's share, so that no workspace has more callers than its
    /// share in the common queue.
    async fn turn(&self) -> Result<Turn, AcquireError> {
        let share = match share::current() {
            Some(share) => Some(share.acquire_owned().await?),
            None => None,
        };
        Ok(Turn { _turn: self.turns.clone().acquire_owned().await?, _share: share })
    }

    /// The connections that each workspace may use.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The options of the pool's connections, for a connection outside the pool.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Opens a connection outside the pool, for work that must not wait for one.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect_with(&self.options).await.map_err(Error::while_connecting)
    }

    /// Stops handing out connections, waits for those that are being cleaned, and closes those that are not
    /// in use.
    pub async fn close(&self) {
        self.turns.close();
        self.background.tasks.close();
        self.background.tasks.wait().await;
        self.connections.close();
    }
}

/// The right to use a connection.
#[derive(Debug)]
struct Turn {
    _turn: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
}

fn out_of_time() -> Error {
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the time for this work is over");
    Error::Unavailable(sqlx::Error::Io(error))
}

/// Reuses an idle connection, or opens one.
async fn lend(connections: managed::Pool<Connector>, turn: Turn) -> Result<Lent> {
    match connections.get().await {
        Ok(object) => Ok(Lent { object, _turn: turn }),
        Err(PoolError::Backend(error)) => Err(error),
        Err(PoolError::Timeout(_)) => Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
        Err(PoolError::Closed) => Err(Error::Unavailable(sqlx::Error::PoolClosed)),
        Err(error) => Err(Error::internal(error.to_string())),
    }
}

/// A connection that is out of the pool. Dropping it returns the connection as it is.
#[derive(Debug)]
pub(super) struct Lent {
    // Declared first, so that the connection returns before the next caller gets its turn.
    object: Object<Connector>,
    _turn: Turn,
}

impl Lent {
    /// Closes the connection instead of returning it.
    pub(super) fn close(self) {
        let Self { object, _turn } = self;
        drop(Object::take(object));
    }

    /// The client and the server side of the connection.
    pub(super) fn parts(&mut self) -> (&mut PgConnection, &Backend) {
        let Tested { connection, backend, .. } = &mut *self.object;
        (connection, backend)
    }
}

/// Whether a transaction is open on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransactionState {
    /// No transaction: each statement commits by itself.
    None,
    /// A transaction was begun, and must be rolled back unless it is committed.
    Open,
    /// The transaction is being committed, or the outcome of the commit is unknown.
    Committing,
}

/// A connection of a [`Pool`].
#[derive(Debug)]
pub struct PoolConnection {
    lent: Option<Lent>,
    transaction: TransactionState,
    work: Option<Arc<Work>>,
    background: Arc<Background>,
}

impl PoolConnection {
    /// Records that a transaction begins or has ended.
    pub(super) fn set_transaction(&mut self, transaction: TransactionState) {
        self.transaction = transaction;
    }

    /// Records that the transaction is being committed, for as long as the returned value is held.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the time limit of [`within`](super::within) has passed.
    pub(super) fn begin_commit(&mut self) -> Result<Option<Committing>> {
        let committing = match self.work.clone() {
            Some(work) => Some(work.commit().ok_or_else(out_of_time)?),
            None => None,
        };
        self.transaction = TransactionState::Committing;
        Ok(committing)
    }

    /// Returns the connection to the pool, at once if it is clean and otherwise after cleaning it.
    fn give_back(&mut self, mut lent: Lent) {
        let (connection, backend) = lent.parts();
        let is_quiet = self.transaction == TransactionState::None && !backend.is_being_cancelled();
        match (clean::replies(connection), Handle::try_current()) {
            (Replies::Read, _) if is_quiet => drop(lent),
            (Replies::Read | Replies::Pending, Ok(runtime)) => {
                let cleaning = clean::clean(lent, self.transaction);
                match &self.work {
                    Some(work) => {
                        let cleaning = work.cleaning.track_future(cleaning);
                        self.background.tasks.spawn_on(cleaning, &runtime)
                    }
                    None => self.background.tasks.spawn_on(cleaning, &runtime),
                };
            }
            _ => lent.close(),
        }
    }
}

impl Drop for PoolConnection {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        if let Some(work) = &self.work {
            work.leave(&lent.object.backend);
        }
        self.give_back(lent);
    }
}

impl Deref for PoolConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.lent {
            Some(lent) => &lent.object.connection,
            None => unreachable!("a connection is used after it was returned to the pool"),
        }
    }
}

impl DerefMut for PoolConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.lent {
            Some(lent) => &mut lent.object.connection,
            None => unreachable!("a connection is used after it was returned to the pool"),
        }
    }
}

/// Opens connections, and checks whether they can be reused.
#[derive(Debug)]
pub(super) struct Connector {
    options: Arc<PgConnectOptions>,
    canceller: Arc<Canceller>,
    pooler: bool,
}

/// A connection with the process's count of database failures when the connection last worked.
#[derive(Debug)]
pub(super) struct Tested {
    connection: PgConnection,
    backend: Arc<Backend>,
    troubles: u64,
}

impl managed::Manager for Connector {
    type Type = Tested;
    type Error = Error;

    async fn create(&self) -> Result<Tested> {
        let troubles = troubles();
        let mut connection = PgConnection::connect_with(&self.options).await.map_err(Error::while_connecting)?;
        let backend =
            Backend::of(&mut connection, &self.canceller, self.pooler).await.map_err(Error::while_connecting)?;
        Ok(Tested { connection, backend, troubles })
    }

    async fn recycle(&self, tested: &mut Tested, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.age() > OLD {
            return Err(RecycleError::message("too old"));
        }
        let troubles = troubles();
        if metrics.last_used() > IDLE || tested.troubles != troubles {
            tested.connection.ping().await.map_err(|error| RecycleError::Backend(error.into()))?;
            tested.troubles = troubles;
        }
        Ok(())
    }
}
