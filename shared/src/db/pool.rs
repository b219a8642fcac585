//! Connections that are used again.
//!
//! sqlx's own pool asks the server whether a connection is alive each time it is given back: a second
//! round trip for every small read. Here that is asked only of a connection that was not used for a
//! while, or when any connection had trouble since.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use crate::config::Database;
use crate::error::{Error, Result};

/// A connection that was not used for this long may have died with its server or on the way.
const IDLE: Duration = Duration::from_secs(1);
/// A connection is replaced when it is as old as this: what it keeps in memory only grows.
const OLD: Duration = Duration::from_secs(30 * 60);

/// How often any connection of this process was in trouble.
static TROUBLES: AtomicU64 = AtomicU64::new(0);

/// Notes that a connection was in trouble, so that all are looked at before they are used again.
pub(crate) fn trouble() {
    TROUBLES.fetch_add(1, Relaxed);
}

/// Some connections to the database. Cloning it gives another handle on the same ones.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: managed::Pool<Connector>,
    options: Arc<PgConnectOptions>,
}

impl Pool {
    /// A pool that connects when its first connection is asked for.
    pub(super) fn new(options: PgConnectOptions, settings: &Database) -> Result<Self> {
        let options = Arc::new(options);
        let connector = Connector { options: options.clone() };
        let patience = Some(Duration::from_secs(settings.acquire_timeout_s));
        let connections = managed::Pool::builder(connector)
            .max_size(settings.max_connections as usize)
            .wait_timeout(patience)
            .create_timeout(patience)
            .recycle_timeout(patience)
            // The one that was used last is the least likely to have died.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { connections, options })
    }

    /// A connection, which is given back when it is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away, or all connections are in use for too long.
    pub async fn acquire(&self) -> Result<PoolConnection> {
        match self.connections.get().await {
            Ok(connection) => Ok(PoolConnection(Some(connection))),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Timeout(TimeoutType::Wait | TimeoutType::Create | TimeoutType::Recycle)) => {
                Err(Error::Unavailable(sqlx::Error::PoolTimedOut))
            }
            Err(PoolError::Closed) => Err(Error::Unavailable(sqlx::Error::PoolClosed)),
            Err(error) => Err(Error::internal(error.to_string())),
        }
    }

    /// How its connections are made, for one that is kept apart.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Hands out no connection any more, and closes those that are not in use.
    pub fn close(&self) {
        self.connections.close();
    }
}

/// A connection of a [`Pool`].
#[derive(Debug)]
pub struct PoolConnection(Option<Object<Connector>>);

impl PoolConnection {
    /// Closes it instead of giving it back.
    pub fn discard(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

impl Deref for PoolConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.0 {
            Some(connection) => &connection.connection,
            None => unreachable!("a connection is used after it was discarded"),
        }
    }
}

impl DerefMut for PoolConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.0 {
            Some(connection) => &mut connection.connection,
            None => unreachable!("a connection is used after it was discarded"),
        }
    }
}

/// Makes connections, and looks whether they can be used again.
#[derive(Debug)]
struct Connector {
    options: Arc<PgConnectOptions>,
}

/// A connection with the number of troubles there had been when it was last known to be alive.
#[derive(Debug)]
struct Tested {
    connection: PgConnection,
    troubles: u64,
}

impl managed::Manager for Connector {
    type Type = Tested;
    type Error = Error;

    async fn create(&self) -> Result<Tested> {
        let troubles = TROUBLES.load(Relaxed);
        let connection = PgConnection::connect_with(&self.options).await.map_err(Error::while_connecting)?;
        Ok(Tested { connection, troubles })
    }

    async fn recycle(&self, tested: &mut Tested, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.age() > OLD {
            return Err(RecycleError::message("is old"));
        }
        let troubles = TROUBLES.load(Relaxed);
        if metrics.last_used() > IDLE || tested.troubles != troubles {
            tested.connection.ping().await.map_err(|error| RecycleError::Backend(error.into()))?;
            tested.troubles = troubles;
        }
        Ok(())
    }
}
