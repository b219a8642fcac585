//! What integration tests run against: databases of their own, the real programs as processes, a
//! mail server and a proxy that misbehave on demand, and test jobs.
//!
//! `cargo dev` starts its PostgreSQL servers and its programs with the same code.
//!
//! ```no_run
//! # async fn test() {
//! use testing::{Database, Process};
//!
//! let database = Database::create().await;
//! let key = database.key("acme").await;
//! let api = Process::api(&database).await;
//! let mut worker = Process::worker(&database, &["--concurrency", "2"]);
//! worker.kill9().await;
//! # }
//! ```
#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up has failed")]

#[cfg(feature = "browser")]
pub mod browser;
pub mod citus;
pub mod collector;
pub mod copies;
mod database;
mod left_jobs;
pub mod plan;
pub mod postgres;
mod process;
pub mod proxy;
pub mod receiver;
pub mod server;
pub mod serving;
pub mod smtp;
pub mod supervise;
pub mod temp_cluster;
pub mod test_jobs;
pub mod unprivileged;
pub mod workbook;
pub mod workspace;

pub use database::{Database, create_trigger, drop_trigger};
pub use process::Process;

/// The variable by which [`data_sets`] are many, and tables large. Its name is no setting of the programs that tests
/// start.
pub const THOROUGH: &str = "THOROUGH_TESTS";

/// Whether tests take the time that large amounts of data need.
pub fn is_thorough() -> bool {
    std::env::var_os(THOROUGH).is_some()
}

/// How many random data sets a test compares with a second computation.
pub fn data_sets() -> u64 {
    if is_thorough() { 1_000 } else { 100 }
}

/// The assignment that moves a column of times into the past, by an interval such as `2 days`. The difference of a time
/// and an interval depends on the time zone of the session, so a distributed database refuses it in an update.
#[must_use]
pub fn earlier(column: &str, by: &str) -> String {
    format!("{column} = ({column} AT TIME ZONE 'UTC' - interval '{by}') AT TIME ZONE 'UTC'")
}

/// Says that the present test is skipped, for a reason. The runner of `cargo dev test` counts these lines, and prints
/// each reason once; libtest knows no such outcome.
pub fn skipped(reason: &str) {
    say(&format!("{SKIPPED}{reason}"));
}

/// The beginning of a line that says why a test is skipped.
pub const SKIPPED: &str = "skipped: ";

/// Prints a line, although libtest hides what successful tests print by macros.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
