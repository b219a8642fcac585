//! axe-core, which checks the accessibility of pages. It is downloaded once into the target directory.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::tab::Tab;
use crate::workspace;

const VERSION: &str = "4.14.1";
/// The rules of WCAG 2 at the levels A and AA, and those of common sense. `target-size` is off by default.
const RUN: &str = "axe.run(document, {
    iframes: false,
    resultTypes: ['violations'],
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    rules: { 'target-size': { enabled: true } },
}).then(({ violations }) => violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, target, failureSummary }) => `${id}: ${help}\\n  ${target.join(' ')}: ${html}\\n  ${failureSummary}`)))";

static SOURCE: OnceCell<Option<String>> = OnceCell::const_new();

/// What axe-core finds on the present page; none if it cannot be downloaded.
pub(super) async fn violations(tab: &Tab) -> Result<Option<Vec<String>>> {
    let Some(source) = SOURCE.get_or_init(source).await else { return Ok(None) };
    // Its timers need scripts. Those of the page, which was loaded without, do not run then either.
    tab.allow_scripts(true).await?;
    tab.evaluate(&format!("{source};0")).await?;
    let found = tab.evaluate(RUN).await?;
    tab.allow_scripts(tab.look.scripts).await?;
    let found = found.as_array().context("axe-core returns a list")?;
    Ok(Some(found.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
}

/// The source of axe-core; none, with a line about it, if it cannot be downloaded.
async fn source() -> Option<String> {
    match read().await {
        Ok(source) => Some(source),
        Err(error) => {
            crate::say(&format!("the accessibility of pages is not checked: axe-core cannot be downloaded: {error:#}"));
            None
        }
    }
}

async fn read() -> Result<String> {
    let directory = workspace::target()?.join(format!("axe-core-{VERSION}"));
    let file = directory.join("package/axe.min.js");
    if !file.is_file() {
        // Other processes may download it at the same time.
        let partial = directory.with_extension(format!("{:016x}", rand::random::<u64>()));
        let downloaded = download(&partial).await;
        if downloaded.is_ok() {
            let _ = tokio::fs::rename(&partial, &directory).await;
        }
        let _ = tokio::fs::remove_dir_all(&partial).await;
        downloaded?;
    }
    tokio::fs::read_to_string(&file).await.with_context(|| format!("cannot read {}", file.display()))
}

/// Downloads the package with npm, which checks it, or else with curl.
async fn download(directory: &Path) -> Result<()> {
    tokio::fs::create_dir_all(directory).await?;
    let archive = directory.join(format!("axe-core-{VERSION}.tgz"));
    let package = format!("axe-core@{VERSION}");
    let npm = run(Command::new("npm").args(["pack", "--silent", &package]).current_dir(directory)).await;
    if let Err(npm) = npm {
        let url = format!("https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz");
        let curl = run(Command::new("curl").args(["-sSfL", "--max-time", "60", &url, "-o"]).arg(&archive)).await;
        curl.with_context(|| format!("{npm:#}"))?;
    }
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(directory)).await
}

async fn run(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
