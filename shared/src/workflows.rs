//! Scheduled workflows: nurture, follow-ups, feedback requests and their reminders.

pub mod brake;
mod composer;
pub mod feedback_reminders;
pub mod feedback_requests;
pub mod followups;
pub mod nurture;
pub mod preview;
pub mod run_request;
pub mod set_aside;
mod tally;

pub use tally::{Preview, Skipped};
