//! Which process logs and traces.

use crate::platform::host;

/// A process, as logs and traces name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program's name.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The name of the machine.
    pub host: String,
    /// The id of the process.
    pub pid: u32,
}

impl Program {
    /// The present process, of the program with this name.
    pub fn this(service: &'static str) -> Self {
        let host = host::name();
        Self { service, version: env!("CARGO_PKG_VERSION"), host, pid: std::process::id() }
    }
}
