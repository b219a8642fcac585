//! Measures the skew between this machine's clock and the database's, and so whether the database answers.

use std::time::Duration;

use shared::Result;
use shared::platform::db::{CLOCK, Pool};
use tokio::time::{sleep, timeout};

use crate::AppState;

/// How often the skew is measured, once it is known.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often the skew is measured before it is known.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);

/// How long the database may take to answer, until it counts as unavailable.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures the skew until the process stops. Times that requests record are corrected by it.
pub(crate) async fn watch(state: AppState) {
    let measuring = async {
        loop {
            let measured = timeout(PATIENCE, measure(&state.pool)).await;
            let is_up = match measured {
                Ok(Ok(())) => true,
                // Perhaps no connection of the pool was free.
                Ok(Err(_)) | Err(_) => timeout(PATIENCE, state.pool.connect()).await.is_ok_and(|it| it.is_ok()),
            };
            state.metrics.found_database(is_up);
            sleep(if CLOCK.is_known() { INTERVAL } else { FIRST_INTERVAL }).await;
        }
    };
    state.stopping.run_until_cancelled(measuring).await;
}

async fn measure(pool: &Pool) -> Result<()> {
    CLOCK.measure(&mut *pool.acquire().await?).await
}
