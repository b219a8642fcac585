//! Workspaces with their API keys, users and settings, and idempotency keys.

pub mod idempotency;
pub mod identity;
pub(crate) mod nightly;
pub mod scopes;
pub mod settings;
pub mod users;
pub mod workspaces;
