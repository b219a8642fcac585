//! The workspace that this program was built from, and the programs built in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The directory of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Where local data lies unless told otherwise.
#[must_use]
pub fn data_dir() -> PathBuf {
    root().join(".dev")
}

/// The cargo that runs this program, set to work on the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // `cargo run` describes this package to this program. Build scripts that look at the same
    // variables would take them for a change, and half the tree would be built anew.
    for (name, _) in std::env::vars_os() {
        let described = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| described.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs [`cargo`] with `arguments` to its end.
///
/// # Errors
/// If it fails; it has said why by then.
pub async fn build(arguments: &[&str]) -> Result<()> {
    let status = cargo().arg("build").args(arguments).kill_on_drop(true).status().await.context("cannot run cargo")?;
    if !status.success() {
        bail!("the build failed");
    }
    Ok(())
}

/// The path of a program of the workspace, in the directory of `profile`, or else that of the
/// present program: `target/debug` for tests and for `cargo dev`.
///
/// # Errors
/// If there is none, since it was not built.
pub fn program(name: &str, profile: Option<&str>) -> Result<PathBuf> {
    let present = std::env::current_exe().context("cannot tell where this program is")?;
    let mut directory = present.parent().context("this program is in no directory")?;
    // Tests, benchmarks and examples are built a directory further down.
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().unwrap_or(directory);
    }
    let program = match profile {
        Some(profile) => directory.with_file_name(profile).join(name),
        None => directory.join(name),
    };
    if !program.is_file() {
        bail!(
            "{} is not built: run `cargo build --workspace --bins`, or the tests through `cargo dev test`",
            program.display()
        );
    }
    Ok(program)
}
