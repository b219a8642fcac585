//! The domain of the CRM: its nouns, their parsing and their SQL.
//!
//! One noun, one file: its types, how they are parsed, and every statement about them. Functions
//! take a connection, so that the caller owns the transaction. This crate knows nothing of HTTP,
//! of the queue's runner or of SMTP, and only this crate writes SQL.

pub mod accounts;
pub mod bulk;
pub mod crm;
pub mod doctor;
pub mod error;
pub mod events;
pub mod imports;
pub mod insight;
pub mod jobs;
pub mod mail;
pub mod migrate;
pub mod operations;
pub mod platform;
pub mod query;
pub mod queue;
pub mod records;
pub mod release;
pub mod schedule;
pub mod values;
pub mod webhooks;
pub mod workflows;

pub use error::{Error, Result};
