//! Savepoints.

use sqlx::PgConnection;

use crate::error::Result;

/// A part of a transaction that can be rolled back alone, also after a statement of it failed. Savepoints may be
/// nested: the inner one ends before the outer one.
#[derive(Debug)]
#[must_use]
pub(crate) struct Savepoint(());

impl Savepoint {
    /// Begins a part of the connection's transaction.
    pub async fn begin(connection: &mut PgConnection) -> Result<Self> {
        sqlx::raw_sql("SAVEPOINT part").execute(connection).await?;
        Ok(Self(()))
    }

    /// Ends the part, whose writes remain.
    pub async fn release(self, connection: &mut PgConnection) -> Result<()> {
        sqlx::raw_sql("RELEASE SAVEPOINT part").execute(connection).await?;
        Ok(())
    }

    /// Ends the part and rolls its writes back.
    pub async fn rollback(self, connection: &mut PgConnection) -> Result<()> {
        sqlx::raw_sql("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").execute(connection).await?;
        Ok(())
    }
}
