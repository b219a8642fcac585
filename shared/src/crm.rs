//! The record types of the CRM, one file each, with its fields, rules and SQL.

pub mod customers;
pub mod feedback;
pub mod interactions;
pub mod leads;
mod names;
pub mod orders;
