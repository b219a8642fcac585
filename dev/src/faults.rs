//! `cargo dev faults`: checks the guarantees while faults are injected.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

mod abandoned;
mod bodies;
mod bulk;
mod citus;
mod connections;
mod database;
mod events;
mod files;
mod full_disk;
mod harness;
mod idempotency;
mod import;
mod mail;
mod memory;
mod orders;
mod sigstop;
mod streams;
mod verify;
mod watch;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    fault: Fault,
    /// Distribute the data by Citus: a coordinator and two nodes.
    #[arg(long = "citus", global = true)]
    on_citus: bool,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// Sends requests of one tenant and disconnects before the responses, while another tenant reads and writes.
    Abandoned(abandoned::Arguments),
    /// Kills workers at random moments while files are imported.
    Import(import::Arguments),
    /// Kills workers at random moments while leads are changed in bulk.
    Bulk(bulk::Arguments),
    /// Runs on a coordinator with nodes: what each of them does, what a missing one stops, and how it grows.
    Citus(citus::Arguments),
    /// Stops PostgreSQL while files are imported, and starts it again.
    Database(database::Arguments),
    /// Follows the feed of events while records are written, and programs are killed.
    Events(events::Arguments),
    /// Makes the database reject leads for minutes, as with a full disk, while files are imported.
    FullDisk(full_disk::Arguments),
    /// Kills crm-api at random moments while concurrent clients send requests with idempotency keys.
    Idempotency(idempotency::Arguments),
    /// Kills workers at random moments while they send emails to a misbehaving server.
    Mail(mail::Arguments),
    /// Opens more connections to crm-api than it allows.
    Connections(connections::Arguments),
    /// Opens lists and exports of large records without reading them.
    Streams(streams::Arguments),
    /// Sends bodies that need more memory than their size, and measures how much.
    Bodies(bodies::Arguments),
    /// Suspends workers until their leases expire while files are imported, and resumes them.
    Sigstop(sigstop::Arguments),
}

/// Runs one of the faults; fails if a guarantee was broken.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.on_citus || matches!(arguments.fault, Fault::Citus(_)) {
        harness::distribute();
    }
    let broken = match arguments.fault {
        Fault::Abandoned(arguments) => abandoned::run(arguments).await?,
        Fault::Import(arguments) => import::run(arguments).await?,
        Fault::Bulk(arguments) => bulk::run(arguments).await?,
        Fault::Citus(arguments) => citus::run(arguments).await?,
        Fault::Database(arguments) => database::run(arguments).await?,
        Fault::Events(arguments) => events::run(arguments).await?,
        Fault::FullDisk(arguments) => full_disk::run(arguments).await?,
        Fault::Idempotency(arguments) => idempotency::run(arguments).await?,
        Fault::Mail(arguments) => mail::run(arguments).await?,
        Fault::Bodies(arguments) => bodies::run(arguments).await?,
        Fault::Sigstop(arguments) => sigstop::run(arguments).await?,
        Fault::Connections(arguments) => connections::run(arguments).await?,
        Fault::Streams(arguments) => streams::run(arguments).await?,
    };
    for guarantee in &broken {
        println!("BROKEN: {guarantee}");
    }
    if broken.is_empty() {
        println!("all guarantees hold");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
