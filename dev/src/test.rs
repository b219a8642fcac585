//! `cargo dev test`

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use testing::postgres::Cluster;
use testing::server::Server;
use testing::temp_cluster::TempCluster;
use testing::{SKIPPED, THOROUGH, citus, workspace};
use tokio::signal::unix::{SignalKind, signal};

mod runner;
mod suite;

use runner::{Outcome, Show};

/// How many tests of one binary run at once on each core: most wait for a database, a lease or a process.
const TESTS_PER_CORE: usize = 2;
/// The variable by which a test binary knows how many.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Compare reports with a second computation over 1,000 random data sets each, not over 100, and
    /// examine lists of 1,000,000 records, not of 100,000.
    #[arg(long)]
    thorough: bool,
    /// Run on a PostgreSQL whose tables are distributed by Citus, where it is installed.
    #[arg(long)]
    citus: bool,
    /// Run some of the tests: the arguments of `cargo test`, such as `-- -p api -- imports`.
    #[arg(last = true, value_name = "ARGS")]
    cargo_test: Vec<String>,
}

/// Starts a PostgreSQL server and runs the tests on it; fails if a test fails.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    // A terminal sends Ctrl-C to cargo and the tests as well: they end, and then this program does.
    let mut _interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let server = match std::env::var_os("DATABASE_URL") {
        Some(url) if !url.is_empty() => None,
        _ => Some(Server::find().await?),
    };
    if arguments.citus && !server.as_ref().is_none_or(citus::is_installed) {
        println!("{SKIPPED}{}", citus::MISSING);
        return Ok(ExitCode::SUCCESS);
    }
    // The tests run these as processes.
    workspace::build(&["--workspace", "--bins"]).await?;
    let cluster = match &server {
        Some(server) if arguments.citus => Some(TempCluster::citus(server).await?),
        Some(server) => Some(TempCluster::start(server).await?),
        None => None,
    };
    let environment = environment(&arguments, cluster.as_deref());
    let outcome = tokio::select! {
        outcome = tests(&arguments.cargo_test, environment) => outcome,
        _ = terminate.recv() => Ok(Outcome::default()),
    };
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    let outcome = outcome?;
    if let Some(counts) = &outcome.counts {
        println!("{counts}");
    }
    Ok(if outcome.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The variables with which all tests run.
fn environment(arguments: &Arguments, cluster: Option<&Cluster>) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if let Some(cluster) = cluster {
        variables.push(("DATABASE_URL", cluster.url("postgres")));
    }
    if arguments.thorough {
        variables.push((THOROUGH, "1".to_owned()));
    }
    if arguments.citus {
        variables.push((citus::TESTS, "1".to_owned()));
    }
    if std::env::var_os(TEST_THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        variables.push((TEST_THREADS, (TESTS_PER_CORE * cores).to_string()));
    }
    variables
}

async fn tests(cargo_test: &[String], environment: Vec<(&'static str, String)>) -> Result<Outcome> {
    if cargo_test.is_empty() {
        return suite::run(environment).await;
    }
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]).args(cargo_test.iter().filter(|argument| *argument != "--no-fail-fast"));
    command.envs(environment);
    if std::io::stdout().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    runner::run("cargo test", command, Show::AsItComes).await
}
