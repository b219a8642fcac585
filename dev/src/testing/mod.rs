//! What integration tests run against: databases of their own, and the real programs.
//!
//! ```no_run
//! # async fn test() {
//! use dev::testing::{Database, Process};
//!
//! let database = Database::create().await;
//! let key = database.key("acme").await;
//! let api = Process::api(&database).await;
//! let mut worker = Process::worker(&database, &["--concurrency", "2"]);
//! worker.kill9().await;
//! # }
//! ```
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod database;
mod process;
pub mod proxy;
pub mod smtp;

pub use database::Database;
pub use process::Process;

/// The variable by which [`data_sets`] are many.
pub const THOROUGH: &str = "CRM_TEST_THOROUGH";

/// How many random data sets a test compares with a second computation.
pub fn data_sets() -> u64 {
    if std::env::var_os(THOROUGH).is_some() { 1_000 } else { 100 }
}
