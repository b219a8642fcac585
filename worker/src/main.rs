//! `crm-worker`: runs the background jobs and sends email.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Reading files and running jobs allocates many small blocks of memory.
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
