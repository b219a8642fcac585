//! What every program needs before it knows a CRM: settings, logs, the database, signed links.

pub mod config;
pub mod db;
pub mod finishing;
pub mod listen;
pub mod signed_links;
pub mod telemetry;
