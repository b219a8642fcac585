//! `crm-api keys map`: the map by which HAProxy finds the cell of an API key, and that of a link in an email.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use shared::accounts::api_keys::authentication;
use shared::accounts::workspaces;
use sqlx::PgConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::sentence;

/// The entries that one command hands over: it must fit into a buffer of HAProxy, by default 16 KiB.
const BATCH: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Map {
    /// The backend of HAProxy that serves this database.
    #[arg(long, value_name = "BACKEND", value_parser = parse_backend)]
    cell: String,
    /// Where the map is written; without it, it is printed.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The socket of a running HAProxy, whose map is replaced when it has changed.
    #[arg(long, value_name = "PATH", requires = "file")]
    socket: Option<PathBuf>,
    /// Repeat this, and end only on a signal.
    #[arg(long, value_name = "SECONDS", requires = "file", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
}

fn parse_backend(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if text.is_empty() || !text.chars().all(is_name) {
        return Err("must be the name of a backend".to_owned());
    }
    Ok(text.to_owned())
}

impl Map {
    /// Writes the map once, or again and again.
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        let mut handed_over = None;
        loop {
            let map = self.read(connection).await?;
            let Some(file) = &self.file else {
                print!("{map}");
                return Ok(());
            };
            if handed_over.as_ref() != Some(&map) {
                replace(file, &map).await.with_context(|| format!("cannot write {}", file.display()))?;
                if let Some(socket) = &self.socket {
                    hand_over(socket, file, &map).await?;
                }
                eprintln!("{} keys and workspaces lead to {}", map.lines().count(), self.cell);
                handed_over = Some(map);
            }
            let Some(every) = self.every else { return Ok(()) };
            tokio::time::sleep(Duration::from_secs(every)).await;
        }
    }

    /// A line for each hash of a valid key and for the id of each workspace, in an order that does not change.
    async fn read(&self, connection: &mut PgConnection) -> Result<String> {
        let mut map = String::new();
        for hash in authentication::hashes(connection).await.map_err(sentence)? {
            for byte in hash {
                write!(map, "{byte:02x}")?;
            }
            writeln!(map, " {}", self.cell)?;
        }
        for id in workspaces::ids(connection).await.map_err(sentence)? {
            writeln!(map, "{} {}", id.simple(), self.cell)?;
        }
        Ok(map)
    }
}

/// Writes a file at once, so that an HAProxy that starts reads the old one or the new one.
async fn replace(file: &Path, content: &str) -> std::io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    tokio::fs::write(&new, content).await?;
    tokio::fs::rename(&new, file).await
}

/// Replaces the map of a running HAProxy at once.
async fn hand_over(socket: &Path, file: &Path, map: &str) -> Result<()> {
    let file = file.display();
    let prepared = command(socket, &format!("prepare map {file}")).await?;
    let Some(version) = prepared.strip_prefix("New version created: ") else {
        bail!("HAProxy has no map {file}: {prepared}");
    };
    let lines: Vec<&str> = map.lines().collect();
    for lines in lines.chunks(BATCH) {
        let answer = command(socket, &format!("add map @{version} {file} <<\n{}\n", lines.join("\n"))).await?;
        if !answer.is_empty() {
            bail!("HAProxy refuses entries of the map: {answer}");
        }
    }
    let answer = command(socket, &format!("commit map @{version} {file}")).await?;
    if !answer.is_empty() {
        bail!("HAProxy refuses the map: {answer}");
    }
    Ok(())
}

/// The answer to a command; HAProxy closes the connection after it.
async fn command(socket: &Path, command: &str) -> Result<String> {
    let answer = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.trim().to_owned())
    };
    answer.await.with_context(|| format!("HAProxy does not answer at {}", socket.display()))
}
