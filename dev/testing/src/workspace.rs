//! The Cargo workspace that this program was built from, and its programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The directory of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}

/// The default directory of local data.
#[must_use]
pub fn data_dir() -> PathBuf {
    root().join(".dev")
}

/// The target directory that this program was built in.
///
/// # Errors
/// If the path of this program is not known.
pub fn target() -> Result<PathBuf> {
    Ok(built_in()?.parent().context("this program is in no target directory")?.to_owned())
}

/// A command that runs the present cargo in the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    remove_package_variables(&mut command);
    command
}

/// Removes the variables that describe the package of the present program.
pub fn remove_package_variables(command: &mut Command) {
    // `cargo run` sets variables about this package. Build scripts that read the same variables would see a
    // change and rebuild half of the dependencies.
    for (name, _) in std::env::vars_os() {
        let described = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| described.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// Runs `cargo build` with `arguments`.
///
/// # Errors
/// If the build fails; cargo has printed the reason.
pub async fn build(arguments: &[&str]) -> Result<()> {
    let status = cargo().arg("build").args(arguments).kill_on_drop(true).status().await.context("cannot run cargo")?;
    if !status.success() {
        bail!("the build failed");
    }
    Ok(())
}

/// The path of a program of the workspace: in the directory of `profile`, or in that of the present program,
/// which is `target/debug` for tests and for `cargo dev`.
///
/// # Errors
/// If the program was not built.
pub fn program(name: &str, profile: Option<&str>) -> Result<PathBuf> {
    let directory = built_in()?;
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

/// The directory of the programs of the present profile.
fn built_in() -> Result<PathBuf> {
    let present = std::env::current_exe().context("cannot find the path of this program")?;
    let mut directory = present.parent().context("this program has no directory")?;
    // Tests, benchmarks and examples are built in a subdirectory.
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().unwrap_or(directory);
    }
    Ok(directory.to_owned())
}
