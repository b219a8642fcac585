//! `cargo dev fuzz-api`

use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use testing::workspace;
use tokio::process::Command;

use crate::private_api::{PrivateApi, with_private_api};
use dev::tools;

/// Generates requests from an OpenAPI document, and finds responses that do not match it.
const PACKAGE: &str = "schemathesis==4.32.5";
/// The configuration file of schemathesis.
const SETTINGS: &str = "dev/schemathesis.toml";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The most requests for each operation and each kind.
    #[arg(long, value_name = "N", default_value_t = 200)]
    examples: u32,
    /// Further arguments for schemathesis, such as `-- --include-operation-id leads.create`.
    #[arg(last = true, value_name = "ARGS")]
    schemathesis: Vec<String>,
}

/// Runs schemathesis against a private API, and exits with its status. If schemathesis cannot be
/// installed, the run is skipped with a message.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    match tools::python("schemathesis", &[PACKAGE]).await {
        Ok(programs) => with_private_api(async |api| fuzz(&arguments, &programs, &api).await).await,
        Err(error) => {
            eprintln!("skipped: schemathesis cannot be installed: {error:#}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn fuzz(arguments: &Arguments, programs: &Path, api: &PrivateApi) -> Result<ExitCode> {
    let mut command = Command::new(programs.join("schemathesis"));
    command.current_dir(workspace::root()).kill_on_drop(true).stdin(Stdio::null());
    command.args(["--config-file", SETTINGS, "run"]).arg(format!("{}/openapi.json", api.url)).args(["--url", &api.url]);
    command.args(["--max-examples", &arguments.examples.to_string()]).args(&arguments.schemathesis);
    command.env("CRM_API_KEY", &api.key);
    let status = command.status().await.context("cannot run schemathesis")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
