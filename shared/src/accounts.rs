//! Workspaces with their API keys, users and settings, and idempotency keys.

pub mod api_keys;
pub mod audit;
pub mod idempotency;
pub mod identity;
mod key;
pub(crate) mod nightly;
pub mod rate_limits;
pub mod readable;
pub mod scopes;
pub mod sessions;
pub mod settings;
pub mod users;
pub mod workspaces;

pub use key::{Key, OperatorKey};
