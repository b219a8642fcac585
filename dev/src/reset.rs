//! `cargo dev reset`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use dev::data::DataDir;
use dev::{postgres, unprivileged};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the stack keeps its data.
    #[arg(long, value_name = "DIR", default_value = ".dev")]
    data_dir: PathBuf,
}

/// Deletes what a stack made in its data directory, and nothing else: the path may be mistyped. A
/// server that was fetched stays.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let data = DataDir::open(&arguments.data_dir).await?;
    postgres::remove(data.path()).await?;
    for name in ["api-key", "database-url", "mail", "sample-leads.csv", "url", "lock"] {
        unprivileged::remove(&data.path().join(name)).await?;
    }
    // It goes when nothing else is in it.
    let _ = std::fs::remove_dir(data.path());
    Ok(ExitCode::SUCCESS)
}
