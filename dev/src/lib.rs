//! Tools for developing the CRM: a private PostgreSQL server, the programs of the workspace as child
//! processes, sample data, and databases for tests.
//!
//! The program of this package, `cargo dev`, and the tests of the other packages use this library.

pub mod client;
pub mod console;
pub mod data;
pub mod demo;
pub mod postgres;
pub mod sample;
pub mod server;
pub mod serving;
pub mod stack;
pub mod supervise;
pub mod temp_cluster;
pub mod test_jobs;
pub mod testing;
pub mod unprivileged;
pub mod workspace;
