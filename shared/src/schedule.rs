//! Work that begins at a time of day: scheduled runs and the nightly run.

pub mod nightly;
pub mod scheduled_runs;
