//! `cargo dev faults citus`: what must hold on a coordinator with nodes.

use anyhow::Result;
use clap::{Args, Subcommand};

mod crashes;
mod divided;
mod growing;
mod load;
mod missing_node;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    run: Run,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long, global = true)]
    debug: bool,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// Counts the statements and transactions of each node while all kinds of work are done in 64 workspaces.
    Divided(divided::Arguments),
    /// Stops a node while requests are sent and files are imported, and starts it again.
    MissingNode(missing_node::Arguments),
    /// Kills programs, the connections of a node and the coordinator while files are imported.
    Crashes(crashes::Arguments),
    /// Adds a node, moves shards to it and isolates a workspace, while requests are sent.
    Growing(growing::Arguments),
}

/// Returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    match arguments.run {
        Run::Divided(run) => divided::run(run, !arguments.debug).await,
        Run::MissingNode(run) => missing_node::run(run, !arguments.debug).await,
        Run::Crashes(run) => crashes::run(run, !arguments.debug).await,
        Run::Growing(run) => growing::run(run, !arguments.debug).await,
    }
}
