//! Scheduled runs, and the nightly run.

pub mod nightly;
pub mod scheduled_runs;
