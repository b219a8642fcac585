//! `cargo dev`: the local stack, and the tests.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod reset;
mod test;

/// Runs the CRM on this machine: PostgreSQL, crm-api, crm-worker and sample data.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo dev", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all tests against a PostgreSQL server of their own.
    Test(test::Arguments),
    /// Deletes the data of a local stack.
    Reset(reset::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Test(arguments) => test::run(arguments).await,
        Command::Reset(arguments) => reset::run(arguments).await,
    }
}
