//! `crm-worker`: does the long work.

use mimalloc::MiMalloc;

/// Files are read and jobs are run with many small pieces of memory.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    worker::cli::run().await
}
