//! Tests of the local stack, with its real processes and its own PostgreSQL server.
#![expect(clippy::unwrap_used, reason = "tests unwrap what they expect")]

mod deploy;
mod stack;
