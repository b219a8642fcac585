//! `cargo dev`: the local stack, tests, fault runs and benchmarks.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod clients;
mod faults;
mod formats;
mod fuzz_api;
mod private_api;
mod reset;
mod screenshots;
mod test;
mod up;

/// Runs the CRM on this machine: PostgreSQL, crm-api, crm-worker and sample data.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo dev", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: up::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the stack; the default command.
    Up(up::Arguments),
    /// Runs all tests against a private PostgreSQL server.
    Test(test::Arguments),
    /// Injects faults while jobs run, and checks every guarantee.
    Faults(faults::Arguments),
    /// Sends valid and invalid requests, and checks each response against the OpenAPI document.
    FuzzApi(fuzz_api::Arguments),
    /// Generates clients from the OpenAPI document, compiles them, and uses them.
    Clients(clients::Arguments),
    /// Measures performance, and compares it with alternatives.
    Bench(bench::Arguments),
    /// Takes the pictures of the documentation.
    Screenshots(screenshots::Arguments),
    /// Deletes the data of a local stack.
    Reset(reset::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(arguments) => up::run(arguments).await,
        Command::Test(arguments) => test::run(arguments).await,
        Command::Faults(arguments) => faults::run(arguments).await,
        Command::FuzzApi(arguments) => fuzz_api::run(arguments).await,
        Command::Clients(arguments) => clients::run(arguments).await,
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::Screenshots(arguments) => screenshots::run(arguments).await,
        Command::Reset(arguments) => reset::run(arguments).await,
    }
}
