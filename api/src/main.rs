//! `crm-api`: the HTTP API and its administration on the command line.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

/// Small requests spend a tenth of their time less with it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match api::cli::Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crm-api: {error}");
            ExitCode::FAILURE
        }
    }
}
