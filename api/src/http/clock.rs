//! The clock of this machine, compared with the database's.

use std::time::Duration;

use metrics::gauge;
use shared::Result;
use shared::platform::db::{CLOCK, Pool};
use tokio::time::sleep;

use crate::AppState;

/// How often it is compared, once it is known.
const EVERY: Duration = Duration::from_secs(5);
/// And before.
const AT_FIRST: Duration = Duration::from_millis(200);

/// Compares the clocks until the process stops. Times that requests note are corrected by what is found.
pub(crate) async fn watch(state: AppState) {
    let comparing = async {
        loop {
            if let Err(error) = measure(&state.pool).await {
                tracing::debug!(%error, "the clock cannot be compared with the database's");
            }
            gauge!("crm_clock_skew_seconds").set(CLOCK.skew_seconds());
            sleep(if CLOCK.is_known() { EVERY } else { AT_FIRST }).await;
        }
    };
    state.stopping.run_until_cancelled(comparing).await;
}

async fn measure(pool: &Pool) -> Result<()> {
    CLOCK.measure(&mut *pool.acquire().await?).await
}
