//! `cargo dev reset`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use dev::data::{CITUS, DataDir};
use testing::{citus, postgres, unprivileged};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The data directory of the stack.
    #[arg(long, value_name = "DIR", default_value = ".dev")]
    data_dir: PathBuf,
}

/// Deletes the files that a stack has created in its data directory, and no others: the path may be mistyped.
/// A downloaded PostgreSQL server stays.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let data = DataDir::open(&arguments.data_dir).await?;
    postgres::remove(data.path()).await?;
    citus::remove(&data.path().join(CITUS)).await?;
    for name in ["api-key", "database-url", "mail", "sample-leads.csv", "url", "lock"] {
        unprivileged::remove(&data.path().join(name)).await?;
    }
    // Fails if the directory has other files, and then the directory stays.
    let _ = std::fs::remove_dir(data.path());
    Ok(ExitCode::SUCCESS)
}
