//! `crm-worker`: does the long work.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Files are read and jobs are run with many small pieces of memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match worker::cli::run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crm-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
