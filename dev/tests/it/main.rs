//! Real processes, and a real PostgreSQL server.

mod databases;
mod processes;
