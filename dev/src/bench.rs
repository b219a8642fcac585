//! `cargo dev bench`: how fast the product is, beside what it is compared to in the same run.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use dev::workspace;
use tokio::process::Command;

mod export;
mod fairness;
mod figures;
mod harness;
mod hostile_files;
mod http;
mod import;
mod insight;
mod lead_step;
mod load;
mod mail;
mod notify;
mod nurture;
mod old_transaction;
mod queue;
mod records;
mod slots;
mod templates;
mod themes;

/// Each benchmark but `queue` runs on a private PostgreSQL server, and prints its samples and
/// figures as lines of JSON and then a table of the figures. It exits with success if each figure
/// is what it must be.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Imports of leads, beside `psql \\copy`.
    Import(import::Arguments),
    /// Files made to take long, for the time that a byte of the worst one takes.
    HostileFiles(hostile_files::Arguments),
    /// Exports and lists of leads, beside COPY.
    Export(export::Arguments),
    /// Reading one lead, beside a bare handler for the same row.
    Http(http::Arguments),
    /// Creating, updating and listing leads, beside the same statements in pgbench.
    Records(records::Arguments),
    /// Nurture of many leads: rows, interactions, outbox and history.
    Nurture(nurture::Arguments),
    /// Reports of a large workspace while others write.
    Insight(insight::Arguments),
    /// Enqueueing from many clients at once, beside the same without the notifier.
    Notify(notify::Arguments),
    /// How soon a workspace's job starts behind a million of another workspace.
    Fairness(fairness::Arguments),
    /// How soon a workspace's import starts behind long imports of another that hold every slot.
    Slots(slots::Arguments),
    /// The queue behind a transaction that stays open while very many jobs are done.
    OldTransaction(old_transaction::Arguments),
    /// Mails on their way to a server, beside pgbench's commits.
    Mail(mail::Arguments),
    /// Templates that were written to hurt, beside what one may cost.
    Templates(templates::Arguments),
    /// What people talk about in many comments, beside what it must cost.
    Themes(themes::Arguments),
    /// The queue, for a driver that measures several queues side by side.
    #[command(subcommand)]
    Queue(queue::Verb),
    /// The handler to which `http` compares the API.
    #[command(hide = true)]
    BareServer(http::Bare),
}

/// Runs one of the benchmarks; fails if a figure is not what it must be.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        return run_optimized().await;
    }
    match arguments.bench {
        Bench::Import(arguments) => return import::run(arguments).await,
        Bench::HostileFiles(arguments) => return hostile_files::run(&arguments),
        Bench::Export(arguments) => return export::run(arguments).await,
        Bench::Http(arguments) => return http::run(arguments).await,
        Bench::Records(arguments) => return records::run(arguments).await,
        Bench::Nurture(arguments) => return nurture::run(arguments).await,
        Bench::Insight(arguments) => return insight::run(arguments).await,
        Bench::Notify(arguments) => return notify::run(arguments).await,
        Bench::Fairness(arguments) => return fairness::run(arguments).await,
        Bench::Slots(arguments) => return slots::run(arguments).await,
        Bench::OldTransaction(arguments) => return old_transaction::run(arguments).await,
        Bench::Mail(arguments) => return mail::run(arguments).await,
        Bench::Templates(arguments) => return templates::run(&arguments),
        Bench::Themes(arguments) => return themes::run(arguments).await,
        Bench::Queue(verb) => queue::run(verb).await?,
        Bench::BareServer(arguments) => http::serve_bare(arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds this program and those that it measures as they are released, and has that one do the same.
async fn run_optimized() -> Result<ExitCode> {
    workspace::build(&["--release", "--bins", "--workspace"]).await?;
    let mut optimized = Command::new(workspace::program("dev", Some("release"))?);
    let status = optimized.args(std::env::args_os().skip(1)).status().await.context("cannot run it")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
