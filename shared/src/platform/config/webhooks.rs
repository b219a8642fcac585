//! Settings of webhooks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Receiver, Secret};

/// Where webhooks may go, and how their secrets are stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Whether receivers may have URLs without TLS.
    pub allow_http: bool,
    /// The key that encrypts secrets and header values: 32 bytes in base64; empty means that they are stored
    /// readable.
    pub encryption_key: Secret,
    /// The receivers that may have addresses and ports other than public ones.
    pub internal_receivers: Vec<Receiver>,
}

impl Webhooks {
    /// The encryption key, if one is set.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 32]> {
        STANDARD.decode(self.encryption_key.trim()).ok()?.try_into().ok()
    }

    /// Checks what the types cannot express.
    pub(super) fn check(&self) -> Option<(&'static str, String)> {
        if self.encryption_key.is_empty() || self.key().is_some() {
            return None;
        }
        Some((
            "webhooks.encryption_key",
            "it must be 32 bytes in base64, such as from `openssl rand -base64 32`".into(),
        ))
    }
}
