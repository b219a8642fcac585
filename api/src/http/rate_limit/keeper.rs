//! The background task that leases the requests of API keys from the database.

use std::time::{Duration, Instant};

use shared::accounts::rate_limits::{self, Ask};
use shared::{Error, Result};
use sqlx::{Connection, PgConnection};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::leases::{Leases, TICK};
use crate::AppState;

/// How long a statement may take before the process applies the limits on its own.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a database that does not answer is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Leases what requests need until the process stops, and returns the rest then.
///
/// It has a connection of its own: requests that wait for a lease may have taken all those of the pool.
pub(crate) async fn keep(state: AppState) {
    let leases = &state.limits.leases;
    let mut link = Link { state: &state, connection: None };
    let keeping = async {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = Instant::now();
                    leases.tick(now - last, now);
                    last = now;
                }
                () = leases.wanted.notified() => {}
            }
            link.renew(leases).await;
        }
    };
    state.stopping.run_until_cancelled(keeping).await;
    let _ = link.ask(&leases.surrender()).await;
    if let Some(connection) = link.connection.take() {
        let _ = timeout(PATIENCE, connection.close()).await;
    }
}

/// The connection, which is opened when the first request needs it.
struct Link<'a> {
    state: &'a AppState,
    connection: Option<PgConnection>,
}

impl Link<'_> {
    async fn renew(&mut self, leases: &Leases) {
        let asks = leases.asks(Instant::now());
        if asks.is_empty() {
            return;
        }
        match self.ask(&asks).await {
            Ok(answer) => leases.receive(&asks, &answer, Instant::now()),
            Err(error) => {
                tracing::debug!(%error, "rate limits apply to this process alone until the database answers");
                self.connection = None;
                leases.go_alone();
                sleep(RETRY_EVERY).await;
            }
        }
    }

    async fn ask(&mut self, asks: &[Ask]) -> Result<Vec<rate_limits::Lease>> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let asked = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.open().await?,
            };
            let answer = rate_limits::lease(&mut connection, asks).await?;
            // A connection whose statement failed or was abandoned is not used again.
            self.connection = Some(connection);
            Ok(answer)
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(Error::Unavailable(sqlx::Error::PoolTimedOut)))
    }

    async fn open(&self) -> Result<PgConnection> {
        let mut connection = self.state.pool.connect().await?;
        // A crash of the server may forget leases of the last moments, which costs nothing that matters. The
        // sessions of a pooler are shared with writes that must not be forgotten.
        if !self.state.settings.database.pooler {
            rate_limits::commit_later(&mut connection).await?;
        }
        Ok(connection)
    }
}
