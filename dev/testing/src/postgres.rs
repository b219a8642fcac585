//! A private PostgreSQL server that ends with this program.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::fs;
use tokio::process::Command;
use tokio::time::sleep;

use crate::citus;
use crate::copies;
use crate::server::Server;
use crate::supervise::{End, Ending, Supervised};
use crate::unprivileged::{self, User};

/// The names of the cluster's files in its directory.
const FILES: &str = "postgres";
/// The name of the log in the directory of a cluster.
pub(crate) const LOG: &str = "postgres.log";

/// A fast shutdown: clients are disconnected, and everything is written to disk.
const ENDING: Ending = Ending { signal: "INT", grace: Duration::from_secs(60) };
/// Ports below those that systems assign.
const UNASSIGNED: std::ops::Range<u16> = 20_000..32_000;
/// The number of ports to try.
const PORTS: u32 = 5;
/// After a crash, the server may first have to replay its write-ahead log.
const START_LIMIT: Duration = Duration::from_secs(300);

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether commits survive a crash of the machine, which is PostgreSQL's default. Temporary data does not
    /// need this.
    pub durable: bool,
    /// The most connections at once.
    pub max_connections: u32,
    /// Whether the server loads [Citus](crate::citus).
    pub citus: bool,
    /// The superuser's password; a random one by default.
    pub password: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { durable: true, max_connections: 100, citus: false, password: None }
    }
}

/// A running server with the data in one directory.
///
/// The server listens on a port of 127.0.0.1, with a password that only its owner can read. A Unix socket
/// would need no password, but its path is limited to 107 bytes, and not every client supports sockets.
#[derive(Debug)]
pub struct Cluster {
    process: Supervised,
    log: PathBuf,
    port: u16,
    password: String,
}

impl Cluster {
    /// Starts a server with the data in `dir`, which is initialized on first use.
    ///
    /// # Errors
    /// If the server does not start, with the end of its log.
    pub async fn start(server: &Server, dir: &Path, options: &Options) -> Result<Self> {
        let dir = &std::path::absolute(dir)?;
        fs::create_dir_all(dir).await.with_context(|| format!("cannot create {}", dir.display()))?;
        let log = lock_log(dir).await?;
        let user = server.user.or_owner_of(&dir.join(FILES));
        let files = user.directory(dir, FILES).await?;
        let data = files.join("data");
        if !data.is_dir() {
            initialize(server, user, &files, options).await?;
        }
        // The process that this file names has ended, since the log is locked. Another process may have its
        // id by now, and PostgreSQL would then refuse to start.
        unprivileged::remove(&data.join("postmaster.pid")).await?;
        let password = fs::read_to_string(files.join("password")).await.context("the cluster's password is missing")?;
        for attempt in 1.. {
            let port = free_port(&files).await?;
            let (out, err) = (log.try_clone()?, log.try_clone()?);
            let process = Supervised::start(server.program("postgres"), ENDING, |command| {
                prepare(command, user);
                command.arg("-D").arg(&data).args(settings(port, options)).stdout(out).stderr(err);
            })?;
            let mut cluster = Self { process, log: dir.join(LOG), port, password: password.clone() };
            match cluster.wait_until_ready().await {
                // The server holds the lock from here on.
                Ok(()) => return Ok(cluster),
                // PostgreSQL cannot choose a free port, and another program took this one before the server.
                Err(error) if attempt < PORTS && error.to_string().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("no free port was found")
    }

    /// The URL of a database for the superuser. The database `postgres` always exists.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database, which is created if it does not exist.
    ///
    /// # Errors
    /// If the database cannot be created.
    pub async fn database(&self, name: &str) -> Result<String> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            let statement = format!(r#"CREATE DATABASE "{name}""#);
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(self.url(name))
    }

    /// Copies the data of the running server into another directory, from which [`Self::start`] starts a
    /// server: a copy that goes its own way, or a standby of this one.
    ///
    /// # Errors
    /// If the data cannot be copied.
    pub async fn copy(&self, server: &Server, dir: &Path, standby: bool) -> Result<()> {
        fs::create_dir_all(dir).await?;
        let log = lock_log(dir).await?;
        let files = server.user.directory(dir, FILES).await?;
        let password = files.join("password");
        fs::write(&password, &self.password).await?;
        server.user.own(&password).await?;
        let mut backup = Command::new(server.program("pg_basebackup"));
        prepare(&mut backup, server.user);
        backup.args(["--checkpoint=fast", "--dbname", &self.url("postgres"), "--pgdata"]).arg(files.join("data"));
        if standby {
            backup.arg("--write-recovery-conf");
        }
        copies::run(&mut backup).await?;
        drop(log);
        Ok(())
    }

    /// Waits until the server ends unexpectedly, and returns the reason.
    ///
    /// # Errors
    /// If waiting for the process fails.
    pub async fn ended(&mut self) -> Result<String> {
        let end = self.process.ended().await?;
        Ok(self.report(end))
    }

    /// Stops the server after it has written everything to disk.
    ///
    /// # Errors
    /// If waiting for the process fails.
    pub async fn stop(mut self) -> Result<()> {
        self.process.stop().await?;
        Ok(())
    }

    /// Ends the server as a crash does: nothing is written, and it recovers at the next start.
    ///
    /// # Errors
    /// If waiting for the process fails.
    pub async fn crash(mut self) -> Result<()> {
        self.process.signal("QUIT");
        self.process.ended().await?;
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let url = self.url("postgres");
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            tokio::select! {
                end = self.process.ended() => bail!("{}", self.report(end?)),
                () = sleep(Duration::from_millis(50)) => {}
            }
            if let Ok(connection) = PgConnection::connect(&url).await {
                connection.close().await?;
                return Ok(());
            }
        }
        bail!("PostgreSQL was not ready within {START_LIMIT:?}: see {}", self.log.display())
    }

    fn report(&self, end: End) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n  ");
        format!("PostgreSQL {end}; its last log lines:\n  {last}")
    }
}

/// Deletes the data of the cluster in `dir`, including data that is stored outside.
///
/// # Errors
/// If a server is still using the data, or it cannot be deleted.
pub async fn remove(dir: &Path) -> Result<()> {
    let log = lock_log(dir).await?;
    unprivileged::remove_directory(dir, FILES).await?;
    unprivileged::remove(&dir.join(LOG)).await?;
    drop(log);
    Ok(())
}

/// Whether a server is running on the data in `dir`.
#[must_use]
pub fn is_in_use(dir: &Path) -> bool {
    File::open(dir.join(LOG)).is_ok_and(|log| matches!(log.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Opens the server's log and locks it.
///
/// All processes of the server keep the log open and so share the lock: as long as one of them runs, no
/// other program can get the lock, even if the program that started the server was killed.
async fn lock_log(dir: &Path) -> Result<File> {
    let path = dir.join(LOG);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let asked = Instant::now();
    loop {
        match log.try_lock() {
            Ok(()) => break,
            // The server of a killed program is still shutting down.
            Err(TryLockError::WouldBlock) if asked.elapsed() < ENDING.grace => sleep(Duration::from_millis(50)).await,
            Err(TryLockError::WouldBlock) => bail!("a PostgreSQL server is still using {}", dir.display()),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock PostgreSQL's log"),
        }
    }
    log.set_len(0)?;
    Ok(log)
}

/// Creates the files of a new cluster, all or none.
async fn initialize(server: &Server, user: User, files: &Path, options: &Options) -> Result<()> {
    let (partial, password) = (files.join("partial"), files.join("password"));
    let secret = options.password.clone().unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    fs::write(&password, secret).await?;
    user.own(&password).await?;
    // The password of a temporary server crosses the loopback interface only, and SCRAM costs a debug build
    // 60 ms of CPU for each connection.
    let auth = if options.durable { "--auth=scram-sha-256" } else { "--auth=password" };
    let mut reason = String::new();
    // Not every system has the locale C.UTF-8.
    for locale in ["--locale=C.UTF-8", "--no-locale"] {
        unprivileged::remove(&partial).await?;
        let mut initdb = Command::new(server.program("initdb"));
        prepare(&mut initdb, user);
        initdb.args(["--encoding=UTF8", locale, "--username=postgres", auth, "--no-instructions"]);
        initdb.arg("--pwfile").arg(&password).arg("-D").arg(&partial);
        if !options.durable {
            initdb.arg("--no-sync");
        }
        let output = initdb.kill_on_drop(true).output().await.context("cannot run initdb")?;
        if output.status.success() {
            fs::rename(&partial, files.join("data")).await?;
            return Ok(());
        }
        reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    bail!("PostgreSQL's initdb failed: {reason}")
}

/// Prepares a program of PostgreSQL: sets its user, and removes the caller's settings from its environment.
fn prepare(command: &mut Command, user: User) {
    user.take_on(command);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG") || name.starts_with("LC_")) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
}

fn settings(port: u16, options: &Options) -> Vec<String> {
    let mut settings = vec![
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={}", options.max_connections),
    ];
    if !options.durable {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(str::to_owned));
    }
    if options.citus {
        settings.extend(citus::SETTINGS.map(str::to_owned));
        settings.push(format!("max_prepared_transactions={}", options.max_connections));
        if !options.durable {
            // Each test has a copy of all shards.
            settings.push("citus.shard_count=2".to_owned());
        }
    }
    settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// The port that the cluster used the last time, or another one if that is taken, so that the URL usually
/// stays the same: a new port is one that systems give to nobody who asks for any, so that no other program
/// gets it while the server is stopped.
async fn free_port(files: &Path) -> Result<u16> {
    let note = files.join("port");
    let last = fs::read_to_string(&note).await.ok().and_then(|port| port.parse().ok());
    let last = last.unwrap_or_else(|| rand::random_range(UNASSIGNED));
    let listener = TcpListener::bind(("127.0.0.1", last)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    let port = listener.and_then(|listener| listener.local_addr()).context("no free port was found")?.port();
    fs::write(&note, port.to_string()).await?;
    Ok(port)
}
