//! Tests of the worker and the job queue on a real PostgreSQL server. Run them with `cargo dev
//! test`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by unwrapping it")]

mod clock;
mod connections;
mod crashes;
mod errors;
mod fairness;
mod health;
mod job_lifecycle;
mod ledger;
mod low_water;
mod mail;
mod nurture_plans;
mod outages;
mod outbox;
mod payloads;
mod plans;
mod retries;
mod statistics;
mod steering;
mod support;
mod themes;
