//! Reading the cells of other systems: dates, numbers, email addresses.
//!
//! A cell that allows two readings is ambiguous: it is never read on a guess. The cells of a column settle how
//! its ambiguous ones are read.

pub mod dates;
pub mod emails;
pub mod numbers;
pub mod ratings;

use crate::values::Fault;

/// The fault of a cell that allows two readings.
pub fn ambiguous(message: &'static str) -> Fault {
    Fault::new("ambiguous", message)
}
