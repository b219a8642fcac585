//! Tools from PyPI and npm, in exact versions, installed once into the target directory.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use testing::workspace;
use tokio::fs;
use tokio::process::Command;

/// Lists what is installed in a directory.
const INSTALLED: &str = "installed.txt";

/// The directory `name` in the target directory.
///
/// # Errors
/// If the path of this program is not known.
pub fn dir(name: &str) -> Result<PathBuf> {
    Ok(workspace::target()?.join(name))
}

/// Installs packages of PyPI, and returns the directory of their programs.
///
/// # Errors
/// If Python or PyPI is not available.
pub async fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let dir = dir(name)?;
    if !is_installed(&dir, packages).await {
        eprintln!("installing {} …", packages.join(", "));
        fs::create_dir_all(&dir).await?;
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir)).await?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(dir.join("bin/python")).args(pip).args(packages)).await?;
        fs::write(dir.join(INSTALLED), packages.join("\n")).await?;
    }
    Ok(dir.join("bin"))
}

/// Installs packages of npm, and returns the directory that has their `node_modules`.
///
/// # Errors
/// If Node.js or npm is not available.
pub async fn node(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let dir = dir(name)?;
    if !is_installed(&dir, packages).await {
        eprintln!("installing {} …", packages.join(", "));
        fs::create_dir_all(&dir).await?;
        fs::write(dir.join("package.json"), r#"{"private":true,"type":"module"}"#).await?;
        let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"];
        run(Command::new("npm").current_dir(&dir).args(npm).args(packages)).await?;
        fs::write(dir.join(INSTALLED), packages.join("\n")).await?;
    }
    Ok(dir)
}

async fn is_installed(dir: &Path, packages: &[&str]) -> bool {
    fs::read_to_string(dir.join(INSTALLED)).await.is_ok_and(|installed| installed == packages.join("\n"))
}

/// Runs a program to its end, and returns its output.
///
/// # Errors
/// If it fails, with its output.
pub async fn run(command: &mut Command) -> Result<String> {
    let name = format!("{:?}", command.as_std());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot run {name}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{name} failed: {}\n{stdout}{stderr}", output.status);
    }
    Ok(stdout.into_owned())
}
