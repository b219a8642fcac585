//! Measures the skew between this machine's clock and the database's.

use std::time::Duration;

use metrics::gauge;
use shared::Result;
use shared::platform::db::{CLOCK, Pool};
use tokio::time::sleep;

use crate::AppState;

/// How often the skew is measured, once it is known.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often the skew is measured before it is known.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);

/// Measures the skew until the process stops. Times that requests record are corrected by it.
pub(crate) async fn watch(state: AppState) {
    let measuring = async {
        loop {
            if let Err(error) = measure(&state.pool).await {
                tracing::debug!(%error, "the clock skew could not be measured");
            }
            gauge!("crm_clock_skew_seconds").set(CLOCK.skew_seconds());
            sleep(if CLOCK.is_known() { INTERVAL } else { FIRST_INTERVAL }).await;
        }
    };
    state.stopping.run_until_cancelled(measuring).await;
}

async fn measure(pool: &Pool) -> Result<()> {
    CLOCK.measure(&mut *pool.acquire().await?).await
}
