//! The API as its callers and its operators meet it: over HTTP and on the command line, with a real
//! PostgreSQL behind it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod cli;
mod errors;
mod imports;
mod jobs;
mod leads;
mod operations;
mod serving;
mod support;
