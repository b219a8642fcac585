//! Copies of databases, as operators make them: clones, restored dumps, copied servers and standbys.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::sleep;

use crate::Database;
use crate::server::Server;

/// How long other programs may stay connected to a database that is cloned.
const PATIENCE: Duration = Duration::from_secs(30);

/// A dump of a database, which is deleted when this value is dropped.
#[derive(Debug)]
pub struct Dump(PathBuf);

impl Dump {
    /// Dumps a database with `pg_dump`.
    ///
    /// # Errors
    /// If PostgreSQL's programs are missing or fail.
    pub async fn of(database: &Database) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("crm-{:016x}.dump", rand::random::<u64>()));
        let dump = Self(path);
        client("pg_dump", database.url(), &["--format=custom", "--file"], &dump.0).await?;
        Ok(dump)
    }

    /// Restores the dump into a new database with `pg_restore`.
    ///
    /// # Errors
    /// If PostgreSQL's programs are missing or fail.
    pub async fn restore(&self) -> Result<Database> {
        let database = Database::empty().await;
        client("pg_restore", database.url(), &["--exit-on-error"], &self.0).await?;
        Ok(database)
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn client(program: &str, url: &str, arguments: &[&str], file: &Path) -> Result<()> {
    // The parameters of the URL are those of sqlx.
    let url = url.split('?').next().unwrap_or(url);
    let mut command = Command::new(Server::find().await?.program(program));
    run(command.args(["--dbname", url]).args(arguments).arg(file)).await
}

/// Clones a database with `CREATE DATABASE … TEMPLATE`. No program may use it meanwhile.
///
/// # Errors
/// If a program stays connected to the database.
pub async fn clone(database: &Database) -> Result<Database> {
    let started = Instant::now();
    loop {
        match database.try_clone().await {
            Ok(clone) => return Ok(clone),
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Runs a program of PostgreSQL to its end.
pub(crate) async fn run(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
