//! The API as its callers and its operators meet it: over HTTP and on the command line, with a real
//! PostgreSQL behind it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod batches;
mod cli;
mod conversion;
mod customer_health;
mod customers;
mod emails;
mod errors;
mod feedback;
mod feedback_page;
mod feedback_reminders;
mod figures;
mod followups;
mod found;
mod health_snapshots;
mod history;
mod idempotency;
mod imports;
mod insight;
mod interactions;
mod isolation;
mod jobs;
mod leads;
mod limits;
mod nurture;
mod openapi;
mod operations;
mod oracle;
mod orders;
mod preconditions;
mod preview;
mod ratings;
mod reports;
mod score_plans;
mod segments;
mod serving;
mod settings;
mod stages;
mod support;
mod suppressions;
mod undo;
mod users;
mod workflows;
