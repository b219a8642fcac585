//! The secrets that sign requests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::{Error, Result};

/// How long a secret signs after it was replaced.
pub(super) const OVERLAP: TimeDelta = TimeDelta::hours(24);
/// The field of a sealed secret, which may move from `secret` to `previous_secret`.
pub(super) const FIELD: &str = "secret";

/// Generates a secret with 256 bits from the operating system's random source.
pub(super) fn generate() -> Result<String> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| Error::Internal(error.into()))?;
    Ok(format!("whsec_{}", STANDARD.encode(bytes)))
}
