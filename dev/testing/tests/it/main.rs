//! Tests with real processes and a real PostgreSQL server.
#![expect(clippy::unwrap_used, reason = "tests unwrap what they expect")]

#[cfg(feature = "browser")]
mod browser;
mod databases;
mod left_jobs;
mod processes;
