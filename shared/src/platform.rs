//! Infrastructure of every program, independent of the CRM: settings, logs, metrics, the database, signed links.

pub mod backfill;
pub mod config;
pub mod db;
pub mod distribute;
pub mod email_keys;
pub mod finishing;
pub mod host;
pub mod listen;
pub mod metrics;
pub mod signed_links;
pub mod statistics;
pub mod telemetry;
pub mod trace;
