//! All tests of the workspace. Their binaries run side by side, because many tests wait more than they
//! compute.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use serde::Deserialize;
use testing::workspace;
use tokio::process::Command;

use super::runner::{self, Outcome, Show, sum};

/// Builds all tests and runs them with these variables.
pub async fn run(environment: Vec<(&'static str, String)>) -> Result<Outcome> {
    let mut documentation = workspace::cargo();
    documentation.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    let mut runners = vec![("documentation".to_owned(), documentation)];
    runners.extend(binaries().await?.into_iter().map(Binary::runner));

    let mut names = Vec::new();
    let running = runners.into_iter().map(|(name, mut command)| {
        command.envs(environment.iter().cloned());
        names.push(name.clone());
        async move { runner::run(&name, command, Show::RestAtTheEnd).await }
    });
    let outcomes = try_join_all(running).await?;
    for (name, _) in names.iter().zip(&outcomes).filter(|(_, outcome)| !outcome.succeeded) {
        println!("\n{name} failed");
    }
    println!();
    Ok(Outcome {
        succeeded: outcomes.iter().all(|outcome| outcome.succeeded),
        counts: outcomes.into_iter().map(|outcome| outcome.counts).fold(None, sum),
    })
}

/// A test binary, and the directory of its package.
struct Binary {
    name: String,
    program: PathBuf,
    package: PathBuf,
}

impl Binary {
    /// Runs it as `cargo test` does.
    fn runner(self) -> (String, Command) {
        let mut command = Command::new(self.program);
        workspace::remove_package_variables(&mut command);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", self.package);
        (self.name, command)
    }
}

/// What cargo reports of an artifact.
#[derive(Deserialize)]
struct Artifact {
    executable: PathBuf,
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
}

#[derive(Deserialize)]
struct Target {
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the test binaries of the workspace.
async fn binaries() -> Result<Vec<Binary>> {
    let mut build = workspace::cargo();
    build.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let output = build.stderr(Stdio::inherit()).kill_on_drop(true).output().await.context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the build of the tests failed");
    }
    let lines = std::str::from_utf8(&output.stdout).context("cargo's messages are UTF-8")?.lines();
    // Other messages, and artifacts that are not executable, lack some of these fields.
    let artifacts = lines.filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.filter(|artifact| artifact.profile.test).map(Artifact::binary).collect()
}

impl Artifact {
    fn binary(self) -> Result<Binary> {
        let package = self.manifest_path.parent().context("a manifest is in a directory")?.to_owned();
        let source = self.target.src_path.strip_prefix(workspace::root()).unwrap_or(&self.target.src_path);
        Ok(Binary { name: source.display().to_string(), program: self.executable, package })
    }
}
