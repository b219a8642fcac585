//! The domain of the CRM: its nouns, their parsing and their SQL.
//!
//! One noun, one file: its types, how they are parsed, and every statement about them. Functions
//! take a connection, so that the caller owns the transaction. This crate knows nothing of HTTP,
//! of the queue's runner or of SMTP, and only this crate writes SQL.

pub mod clock;
pub mod config;
pub mod copy;
pub mod customers;
pub mod db;
pub mod doorbell;
mod enums;
pub mod error;
pub mod etag;
pub mod exports;
pub mod feedback;
pub mod fields;
pub mod finishing;
pub mod followups;
pub mod health;
pub mod history;
pub mod idempotency;
pub mod imports;
pub mod interactions;
pub mod jobs;
pub mod json;
pub mod leads;
pub mod links;
pub mod listen;
pub mod lists;
pub mod mail;
pub mod nightly;
pub mod nurture;
pub mod object;
pub mod orders;
pub mod parameters;
pub mod patch;
pub mod period;
pub mod rates;
pub mod ratings;
pub mod records;
pub mod reports;
pub mod schema;
pub mod scores;
pub mod segments;
pub mod settings;
pub mod signed;
pub mod suppressions;
pub mod telemetry;
pub mod templates;
pub mod themes;
pub mod users;
pub mod words;
pub mod workspaces;

pub use error::{Error, Result};
