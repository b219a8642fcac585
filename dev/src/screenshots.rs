//! `cargo dev screenshots`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

#[cfg(feature = "browser")]
mod pictures;

#[derive(Debug, Args)]
pub struct Arguments {
    /// With a preference for dark colors.
    #[arg(long)]
    dark: bool,
}

/// Takes the pictures of the documentation.
#[cfg(feature = "browser")]
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    pictures::run(arguments.dark).await
}

/// Builds this program with a browser, whose protocol takes too long to compile for all other commands, and runs it.
#[cfg(not(feature = "browser"))]
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut command = testing::workspace::cargo();
    command.args(["run", "--quiet", "--package", "dev", "--features", "browser", "--", "screenshots"]);
    if arguments.dark {
        command.arg("--dark");
    }
    let ended = command.status().await?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
