//! Layers around every request: connections, logs and metrics, keys, rate limits, conditional
//! requests.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod arrival;
pub mod auth;
pub(crate) mod callbacks;
pub(crate) mod clock;
pub(crate) mod compression;
pub mod conditional;
pub(crate) mod cors;
pub(crate) mod feeds;
pub mod headers;
pub mod metrics;
pub mod observe;
pub mod peer;
pub mod rate_limit;
pub mod server;
pub mod waits;
