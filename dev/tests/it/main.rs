//! Real processes, and a real PostgreSQL server.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod databases;
mod processes;
mod stack;
