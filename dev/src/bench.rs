//! `cargo dev bench`: performance of the product, compared with alternatives in the same run.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use testing::workspace;
use tokio::process::Command;

mod bulk;
mod export;
mod fairness;
mod figures;
mod harness;
mod hostile_files;
mod http;
mod import;
mod insight;
mod lead_step;
mod lists;
mod load;
mod mail;
mod notify;
mod nurture;
mod old_transaction;
mod queue;
mod rate_limits;
mod records;
mod slots;
mod templates;
mod themes;
mod webhooks;

/// Each benchmark except `queue` runs on a private PostgreSQL server, and prints its samples and figures as
/// lines of JSON, and then a table of the figures. It succeeds if all figures meet their bounds.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Imports of leads, compared with `psql \\copy`.
    Import(import::Arguments),
    /// Importing hostile files: the time per byte of the worst file.
    HostileFiles(hostile_files::Arguments),
    /// A bulk update of leads, compared with one SQL statement that writes the same history.
    Bulk(bulk::Arguments),
    /// Exports and lists of leads, compared with COPY.
    Export(export::Arguments),
    /// Reading a lead and a page of leads, compared with minimal handlers for the same rows.
    Http(http::Arguments),
    /// Pages of a large list, with and without an index.
    Lists(lists::Arguments),
    /// Creating, updating and listing leads, compared with the same statements in pgbench.
    Records(records::Arguments),
    /// Nurturing many leads: rows, interactions, outbox and history.
    Nurture(nurture::Arguments),
    /// Reports of a large workspace during writes.
    Insight(insight::Arguments),
    /// Enqueueing from many clients at once, with and without the notifier.
    Notify(notify::Arguments),
    /// How soon a workspace's job starts while another workspace has a million queued jobs.
    Fairness(fairness::Arguments),
    /// How soon a workspace's import starts while long imports of another workspace use every slot.
    Slots(slots::Arguments),
    /// The queue while a transaction stays open during very many jobs.
    OldTransaction(old_transaction::Arguments),
    /// Delivery of emails to a server, compared with pgbench's commits.
    Mail(mail::Arguments),
    /// Hostile templates: the CPU time of the worst one.
    Templates(templates::Arguments),
    /// The error of a rate limit that several processes share, and its cost.
    RateLimits(rate_limits::Arguments),
    /// Finding the themes of many comments.
    Themes(themes::Arguments),
    /// Delivery of webhooks to a receiver that answers in 5 ms.
    Webhooks(webhooks::Arguments),
    /// The queue, for a driver that compares several queues.
    #[command(subcommand)]
    Queue(queue::Verb),
    /// The handler that `http` compares the API with.
    #[command(hide = true)]
    BareServer(http::Bare),
}

/// Runs one of the benchmarks; fails if a figure misses its bound.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        return run_optimized().await;
    }
    match arguments.bench {
        Bench::Import(arguments) => return import::run(arguments).await,
        Bench::HostileFiles(arguments) => return hostile_files::run(&arguments),
        Bench::Bulk(arguments) => return bulk::run(arguments).await,
        Bench::Export(arguments) => return export::run(arguments).await,
        Bench::Http(arguments) => return http::run(arguments).await,
        Bench::Lists(arguments) => return lists::run(arguments).await,
        Bench::Records(arguments) => return records::run(arguments).await,
        Bench::Nurture(arguments) => return nurture::run(arguments).await,
        Bench::Insight(arguments) => return insight::run(arguments).await,
        Bench::Notify(arguments) => return notify::run(arguments).await,
        Bench::Fairness(arguments) => return fairness::run(arguments).await,
        Bench::Slots(arguments) => return slots::run(arguments).await,
        Bench::OldTransaction(arguments) => return old_transaction::run(arguments).await,
        Bench::Mail(arguments) => return mail::run(arguments).await,
        Bench::Templates(arguments) => return templates::run(&arguments),
        Bench::RateLimits(arguments) => return rate_limits::run(arguments).await,
        Bench::Themes(arguments) => return themes::run(arguments).await,
        Bench::Webhooks(arguments) => return webhooks::run(arguments).await,
        Bench::Queue(verb) => queue::run(verb).await?,
        Bench::BareServer(arguments) => http::serve_bare(arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the release profile of this program and of the programs to measure, and runs it with the same
/// arguments.
async fn run_optimized() -> Result<ExitCode> {
    workspace::build(&["--release", "--bins", "--workspace"]).await?;
    let mut optimized = Command::new(workspace::program("dev", Some("release"))?);
    let status = optimized.args(std::env::args_os().skip(1)).status().await.context("cannot run the release build")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
