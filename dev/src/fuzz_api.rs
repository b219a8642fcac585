//! `cargo dev fuzz-api`

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use dev::client::Client;
use dev::console::Console;
use dev::stack::{Stack, ask};
use testing::server::Server;
use testing::serving::{ANY_PORT, Port, QUIET};
use testing::temp_cluster::TempCluster;
use testing::workspace;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Generates requests from an OpenAPI document, and finds responses that do not match it.
const PACKAGE: &str = "schemathesis==4.32.5";
/// The configuration file of schemathesis.
const SETTINGS: &str = "dev/schemathesis.toml";
const WORKSPACE: &str = "fuzz";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The most requests for each operation and each kind.
    #[arg(long, value_name = "N", default_value_t = 200)]
    examples: u32,
    /// Further arguments for schemathesis, such as `-- --include-operation-id createLead`.
    #[arg(last = true, value_name = "ARGS")]
    schemathesis: Vec<String>,
}

/// Runs schemathesis against a private stack, and exits with its status. If schemathesis cannot be
/// installed, the run is skipped with a message.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let schemathesis = match installed().await {
        Ok(program) => program,
        Err(error) => {
            eprintln!("skipped: schemathesis cannot be installed: {error:#}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let server = Server::find().await?;
    workspace::build(&["--workspace", "--bins"]).await?;
    let cluster = TempCluster::start(&server).await?;
    let mut stack = Stack::default();
    let outcome = tokio::select! {
        outcome = fuzz(&arguments, &schemathesis, &cluster, &mut stack) => outcome,
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
    };
    stack.stop().await?;
    cluster.stop().await?;
    outcome
}

async fn fuzz(
    arguments: &Arguments,
    schemathesis: &Path,
    cluster: &TempCluster,
    stack: &mut Stack,
) -> Result<ExitCode> {
    let database_url = cluster.database("crm").await?;
    let (api, worker) = (workspace::program("crm-api", None)?, workspace::program("crm-worker", None)?);
    ask(&api, &["migrate"], &database_url).await?;
    ask(&api, &["workspaces", "create", WORKSPACE], &database_url).await?;
    let key = ask(&api, &["keys", "create", "--workspace", WORKSPACE, "--name", "fuzz"], &database_url).await?;
    let console = Console::default();
    // Invalid requests are expected; only internal errors are worth a log line.
    let quiet = [("DATABASE_URL", database_url.as_str()), ("CRM_LOG__LEVEL", QUIET), ("CRM_LOG__FORMAT", "text")];
    let serving = stack.start("api".to_owned(), &api, &console, |command| {
        command.envs(quiet).envs(ANY_PORT);
    })?;
    stack.start("worker".to_owned(), &worker, &console, |command| {
        command.envs(quiet).envs(ANY_PORT);
    })?;
    let fuzzing = async {
        let url = format!("http://{}", serving.address(Port::Public).await?);
        Client::new(&url, "").wait_until_ready().await;
        let mut command = Command::new(schemathesis);
        command.current_dir(workspace::root()).kill_on_drop(true).stdin(Stdio::null());
        command.args(["--config-file", SETTINGS, "run", &format!("{url}/openapi.json")]);
        command.args(["--max-examples", &arguments.examples.to_string()]).args(&arguments.schemathesis);
        command.env("CRM_API_KEY", &key);
        let status = command.status().await.context("cannot run schemathesis")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    };
    stack.run(fuzzing).await
}

/// The path of schemathesis, which is installed with pip on first use.
async fn installed() -> Result<PathBuf> {
    let dir = workspace::data_dir().join(PACKAGE);
    let program = dir.join("bin/schemathesis");
    if !program.is_file() {
        eprintln!("installing {PACKAGE}, once …");
        let partial = dir.join("bin/python");
        python(Path::new("python3"), &["-m", "venv", "--clear"], Some(&dir)).await?;
        python(&partial, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE], None).await?;
    }
    Ok(program)
}

async fn python(program: &Path, arguments: &[&str], dir: Option<&Path>) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).args(dir).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} {} failed: {}",
            program.display(),
            arguments.join(" "),
            reason.trim().lines().last().unwrap_or_default()
        );
    }
    Ok(())
}
