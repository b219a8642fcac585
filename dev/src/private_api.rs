//! A private API for checks of its document: PostgreSQL, crm-api, crm-worker, a workspace and a key.

use std::process::ExitCode;

use anyhow::Result;
use dev::client::Client;
use dev::console::Console;
use dev::stack::{Stack, ask};
use testing::server::Server;
use testing::serving::{ANY_PORT, Port, QUIET};
use testing::temp_cluster::TempCluster;
use testing::workspace;
use tokio::signal::unix::{SignalKind, signal};

const WORKSPACE: &str = "acme";

/// A running API.
#[derive(Debug)]
pub struct PrivateApi {
    /// Its address.
    pub url: String,
    /// A key of its only workspace.
    pub key: String,
}

/// Runs a check against a private API, until the check ends or a signal arrives.
///
/// # Errors
/// Those of the check, and of starting the programs.
pub async fn with_private_api(check: impl AsyncFnOnce(PrivateApi) -> Result<ExitCode>) -> Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = Server::find().await?;
    workspace::build(&["--workspace", "--bins"]).await?;
    let cluster = TempCluster::start(&server).await?;
    let mut stack = Stack::default();
    let outcome = tokio::select! {
        outcome = serve(&cluster, &mut stack, check) => outcome,
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
    };
    stack.stop().await?;
    cluster.stop().await?;
    outcome
}

async fn serve(
    cluster: &TempCluster,
    stack: &mut Stack,
    check: impl AsyncFnOnce(PrivateApi) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let database_url = cluster.database("crm").await?;
    let (api, worker) = (workspace::program("crm-api", None)?, workspace::program("crm-worker", None)?);
    ask(&api, &["migrate"], &database_url).await?;
    ask(&api, &["workspaces", "create", WORKSPACE], &database_url).await?;
    let key = ask(&api, &["keys", "create", "--workspace", WORKSPACE, "--name", "team"], &database_url).await?;
    let console = Console::default();
    // Invalid requests are expected; only internal errors are worth a log line.
    let quiet = [("DATABASE_URL", database_url.as_str()), ("CRM_LOG__LEVEL", QUIET), ("CRM_LOG__FORMAT", "text")];
    let serving = stack.start("api".to_owned(), &api, &console, |command| {
        command.envs(quiet).envs(ANY_PORT);
    })?;
    stack.start("worker".to_owned(), &worker, &console, |command| {
        command.envs(quiet).envs(ANY_PORT);
    })?;
    let checking = async {
        let url = format!("http://{}", serving.address(Port::Public).await?);
        Client::new(&url, "").wait_until_ready().await;
        check(PrivateApi { url, key }).await
    };
    stack.run(checking).await
}
