//! The nouns of the CRM: one file each, with its types, its parsing and its SQL.

pub mod customers;
pub mod feedback;
pub mod interactions;
pub mod leads;
pub mod orders;
