//! Schedules, which start jobs at their times, and their runs.
//!
//! A schedule runs at its slots: the times of its cron expression, of its interval, or its one time. What is due
//! follows from its row and the database's time alone: the slots after `passed_until`. A worker deals with them in
//! one transaction, under the row's lock: it writes the row of each run, unique by its slot, enqueues its job, and
//! moves `passed_until` on. So it does not matter how many workers look, how late, or how often they die.

mod change;
mod draft;
mod due;
mod model;
pub mod nightly;
mod run_now;
mod runs;
mod schema;
mod timing;
mod work;

pub use change::{create, delete, pause, resume, update};
pub use due::{DUE, Started, due, postpone, set_aside, start};
pub use model::{COLUMNS, CatchUp, LIST, Overlap, Schedule, ScheduleStatus, get, list};
pub use run_now::run_now;
pub use runs::{RunStatus, ScheduledRun, last_runs, list_runs};
pub use schema::{create_schema, update_schema};
