//! Running jobs: claiming them, renewing their leases, running their handlers and recording their
//! outcomes.

pub(crate) mod acknowledge;
pub(crate) mod buffer;
pub(crate) mod claim;
pub(crate) mod fairness;
pub mod job;
pub(crate) mod leases;
pub(crate) mod quarantine;
pub(crate) mod run;
