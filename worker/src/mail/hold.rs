//! Whether email is on hold, as this process last found. [`shared::mail::place`] decides it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::Result;
use shared::mail::place::{self, Hold, Status};
use sqlx::PgConnection;

use crate::context::{WorkerContext, jittered};
use crate::queue::leases::lock;

/// How often an idle process checks.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The last known hold.
#[derive(Default)]
pub(crate) struct HoldState(Mutex<Option<Hold>>);

impl HoldState {
    /// Why email is on hold, if it is.
    pub fn present(&self) -> Option<Hold> {
        *lock(&self.0)
    }

    /// Records what a check found, and logs changes.
    fn record(&self, status: &Status) -> Option<Hold> {
        let hold = status.hold();
        let before = std::mem::replace(&mut *lock(&self.0), hold);
        match hold {
            Some(hold) if before != Some(hold) => {
                let remembered = status.remembered.as_ref().map(ToString::to_string);
                tracing::warn!(remembered, place = %status.place, "{hold}; see crm-api mail status");
            }
            None if before.is_some() => tracing::info!("email is no longer on hold"),
            _ => (),
        }
        hold
    }
}

impl WorkerContext {
    /// Checks whether email is on hold, over a connection of the caller.
    pub async fn check_hold(&self, connection: &mut PgConnection) -> Result<Option<Hold>> {
        let status = place::check(connection, self.settings.own_url()).await?;
        Ok(self.hold.record(&status))
    }
}

/// Keeps checking, so that an idle process reports a hold as well.
pub(crate) async fn watch(process: Arc<WorkerContext>) {
    loop {
        if let Err(error) = process.upkeep(async |connection| process.check_hold(connection).await).await {
            tracing::debug!(%error, "cannot check whether email is on hold");
        }
        tokio::time::sleep(jittered(CHECK_EVERY)).await;
    }
}
