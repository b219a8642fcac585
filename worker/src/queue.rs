//! Runs jobs: claims them from the ledger, keeps their leases, runs their handlers and writes how they ended.

pub(crate) mod acknowledge;
pub(crate) mod buffer;
pub(crate) mod claim;
pub(crate) mod fairness;
pub mod job;
pub(crate) mod leases;
pub(crate) mod quarantine;
pub(crate) mod run;
