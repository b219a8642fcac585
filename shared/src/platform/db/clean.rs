//! How a connection whose user left in the middle becomes clean again.
//!
//! sqlx reads the answers that nobody waited for before the next statement, and hands an error among
//! them to whoever runs that statement. So a connection is given back when nothing is under way on it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::STATEMENT_TIMEOUT;
use super::pool::{Lent, TransactionState};

/// Most answers are there by then, and a statement that is about to end costs less than cancelling it.
const SOON: Duration = Duration::from_millis(5);
/// A connection that is not clean by then is closed.
const PATIENCE: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

/// How far a connection is with the answers to what was sent over it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// All are read.
    Read,
    /// Some are under way.
    UnderWay,
    /// They cannot be read.
    Lost,
}

/// Looks without waiting, and without a round trip.
///
/// sqlx counts the answers that it expects. The one exception is COPY, which is done in a
/// [`Transaction`](super::Transaction) only, and a step that does not come to its end is always cleaned.
pub(super) fn answers(connection: &mut PgConnection) -> Answers {
    // A statement that was not sent is not going to be: nobody waits for what it would do.
    if connection.should_flush() {
        return Answers::Lost;
    }
    loop {
        match pin!(connection.flush()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return Answers::UnderWay,
            Poll::Ready(Ok(())) => return Answers::Read,
            // The answer of a statement whose user left.
            Poll::Ready(Err(sqlx::Error::Database(_))) => {}
            Poll::Ready(Err(_)) => return Answers::Lost,
        }
    }
}

/// Cleans a connection and gives it back; closes it if that does not succeed.
pub(super) async fn clean(lent: Lent, transaction: TransactionState) {
    let mut unclean = Unclean(Some(lent));
    let Some(lent) = &mut unclean.0 else { return };
    let failed = match timeout(PATIENCE, settle(lent, transaction)).await {
        Ok(Ok(())) => return drop(unclean.0.take()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its answer does not come".to_owned(),
    };
    tracing::debug!(failed, "a connection that was left in the middle is closed");
}

/// A connection that is closed unless it becomes clean, whatever happens meanwhile.
struct Unclean(Option<Lent>);

impl Drop for Unclean {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            lent.close();
        }
    }
}

/// Reads what is under way, after cancelling it if it takes long, and rolls back what was begun.
async fn settle(lent: &mut Lent, transaction: TransactionState) -> sqlx::Result<()> {
    let (connection, backend) = lent.parts();
    let was_cancelled = match timeout(SOON, read_answers(connection)).await {
        Ok(read) => read.map(|()| backend.is_being_cancelled())?,
        Err(_) => {
            // What a COMMIT does is not to be undone, and cancelled it could end before its copies are safe.
            if transaction != TransactionState::Committing {
                backend.cancel_next().await?;
            }
            read_answers(connection).await?;
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

async fn read_answers(connection: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        match connection.flush().await {
            Err(sqlx::Error::Database(_)) => {}
            read => return read,
        }
    }
}

/// Asks for a number of this time alone: only a connection on which nothing else is under way gives it
/// back. Locks that belong to the session are given up on the way.
async fn prove(connection: &mut PgConnection) -> sqlx::Result<()> {
    static NUMBERS: AtomicI64 = AtomicI64::new(1);
    let number = NUMBERS.fetch_add(1, Relaxed);
    let statement = "SELECT $1::int8 FROM pg_advisory_unlock_all()";
    let echo: i64 = sqlx::query_scalar(statement).bind(number).fetch_one(connection).await?;
    if echo == number { Ok(()) } else { Err(sqlx::Error::Protocol("an answer belongs to another statement".into())) }
}
