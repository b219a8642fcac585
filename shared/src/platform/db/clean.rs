//! Cleaning connections whose future was dropped in the middle of a statement.
//!
//! Before the next statement, sqlx reads the replies that were left unread, and returns an error among
//! them to the caller of that next statement. So a connection returns to the pool only when no reply is
//! pending on it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::STATEMENT_TIMEOUT;
use super::pool::{Lent, TransactionState};

/// Most statements end within this time, which costs less than cancelling them.
const SOON: Duration = Duration::from_millis(5);
/// A connection that is not clean by then is closed.
const PATIENCE: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

/// The state of the replies to what was sent over a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replies {
    /// All replies have been read.
    Read,
    /// Some replies are pending.
    Pending,
    /// The replies cannot be read.
    Lost,
}

/// Checks for pending replies without waiting and without a round trip.
///
/// sqlx counts the replies that it expects, except those of COPY. COPY only runs in a
/// [`Transaction`](super::Transaction), and a transaction that was not ended is always cleaned.
pub(super) fn replies(connection: &mut PgConnection) -> Replies {
    // An unsent statement must not be sent: its caller is gone.
    if connection.should_flush() {
        return Replies::Lost;
    }
    loop {
        match pin!(connection.flush()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return Replies::Pending,
            Poll::Ready(Ok(())) => return Replies::Read,
            // The error of a statement whose future was dropped.
            Poll::Ready(Err(sqlx::Error::Database(_))) => {}
            Poll::Ready(Err(_)) => return Replies::Lost,
        }
    }
}

/// Cleans a connection and returns it to the pool; closes it if that fails.
pub(super) async fn clean(lent: Lent, transaction: TransactionState) {
    let mut unclean = Unclean(Some(lent));
    let Some(lent) = &mut unclean.0 else { return };
    let failed = match timeout(PATIENCE, end_statement(lent, transaction)).await {
        Ok(Ok(())) => return drop(unclean.0.take()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no reply".to_owned(),
    };
    tracing::debug!(failed, "closed a connection that could not be cleaned");
}

/// Closes the connection when dropped, unless the connection was taken out as clean.
struct Unclean(Option<Lent>);

impl Drop for Unclean {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            lent.close();
        }
    }
}

/// Reads pending replies, cancels a statement that takes long, and rolls back an open transaction.
async fn end_statement(lent: &mut Lent, transaction: TransactionState) -> sqlx::Result<()> {
    let (connection, backend) = lent.parts();
    let was_cancelled = match timeout(SOON, read_replies(connection)).await {
        Ok(read) => read.map(|()| backend.is_being_cancelled())?,
        Err(_) => {
            // A COMMIT cannot be undone, and cancelling it could end its wait for synchronous replicas.
            if transaction != TransactionState::Committing {
                backend.cancel_next().await?;
            }
            read_replies(connection).await?;
            true
        }
    };
    backend.left_alone().await?;
    if transaction != TransactionState::None {
        sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
    }
    if was_cancelled || transaction != TransactionState::None {
        prove(connection).await?;
    }
    Ok(())
}

async fn read_replies(connection: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        match connection.flush().await {
            Err(sqlx::Error::Database(_)) => {}
            read => return read,
        }
    }
}

/// Proves that no other reply is pending: the connection must return a number that is used only once.
/// Also releases the advisory locks of the session.
async fn prove(connection: &mut PgConnection) -> sqlx::Result<()> {
    static NUMBERS: AtomicI64 = AtomicI64::new(1);
    let number = NUMBERS.fetch_add(1, Relaxed);
    let statement = "SELECT $1::int8 FROM pg_advisory_unlock_all()";
    let echo: i64 = sqlx::query_scalar(statement).bind(number).fetch_one(connection).await?;
    if echo == number { Ok(()) } else { Err(sqlx::Error::Protocol("a reply belongs to another statement".into())) }
}
