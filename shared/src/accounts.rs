//! Who uses the product: workspaces, their API keys, users and settings, and the requests they repeat.

pub mod idempotency;
pub mod settings;
pub mod users;
pub mod workspaces;
