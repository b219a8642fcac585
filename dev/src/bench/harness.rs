//! A private PostgreSQL server, and the release builds of the programs on it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dev::client::Client;
use serde_json::{Value, json};
use shared::accounts::api_keys::{self, NewKey};
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;
use shared::platform::config::Settings;
use sqlx::PgPool;
use testing::postgres::{self, Cluster, Options};
use testing::server::Server;
use testing::serving::{ANY_PORT, Port, address_in_log};
use testing::supervise::{Ending, Supervised};
use testing::{unprivileged, workspace};
use tokio::process::Command;
use uuid::Uuid;

/// A migrated database on a private server with PostgreSQL's default durability.
pub struct Harness {
    pub dir: PathBuf,
    pub pool: PgPool,
    url: String,
    server: Server,
}

impl Harness {
    /// Runs `work` on a harness, which is deleted afterwards even if the work fails.
    pub async fn with<T>(work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let parent = workspace::data_dir().join("bench");
        tokio::fs::create_dir_all(&parent).await.with_context(|| format!("cannot create {}", parent.display()))?;
        // Deletes the clusters of runs that were killed.
        for entry in std::fs::read_dir(&parent)?.flatten() {
            if !postgres::is_in_use(&entry.path()) {
                remove(&entry.path()).await?;
            }
        }
        let server = Server::find().await?;
        let dir = parent.join(format!("{:016x}", rand::random::<u64>()));
        let cluster = Cluster::start(&server, &dir, &Options::default()).await?;
        let url = cluster.database("crm").await?;
        let pool = PgPool::connect_lazy(&url)?;
        let harness = Self { dir, pool, url, server };
        let done = tokio::select! {
            done = async { shared::migrate::run(&harness.settings()?.database, |_| ()).await?; work(&harness).await } => done,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| bail!("interrupted")),
        };
        harness.pool.close().await;
        cluster.stop().await?;
        remove(&harness.dir).await?;
        done
    }

    /// The settings of a program for this database.
    pub fn settings(&self) -> Result<Settings> {
        let ours = [("DATABASE_URL", self.url.as_str())].into_iter().chain(ANY_PORT);
        Ok(Settings::from_layers(None, ours.map(|(name, value)| (name.to_owned(), value.to_owned())))?)
    }

    /// A description of the machine and the server, for the printed lines.
    pub async fn machine(&self) -> Result<Value> {
        let postgres: String = sqlx::query_scalar("SHOW server_version").fetch_one(&self.pool).await?;
        let cores = std::thread::available_parallelism()?.get();
        Ok(json!({ "cores": cores, "postgres": postgres, "postgres_settings": "default" }))
    }

    /// A psql command for this database.
    pub fn psql(&self, statement: &str) -> Command {
        let mut command = self.program("psql");
        command.args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-d", &self.url, "-c", statement]);
        command
    }

    /// A client program of PostgreSQL.
    pub fn program(&self, name: &str) -> Command {
        let path = self.server.program(name);
        let mut command = Command::new(if path.is_file() { path } else { name.into() });
        command.kill_on_drop(true);
        command
    }

    /// The URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements and then a checkpoint, so that a measurement does not pay for earlier writes.
    pub async fn prepare(&self, statements: &str) -> Result<()> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&self.pool).await?;
        sqlx::raw_sql("CHECKPOINT").execute(&self.pool).await?;
        Ok(())
    }

    /// Creates a workspace with an API key.
    pub async fn workspace(&self, name: &str) -> Result<(Uuid, String)> {
        let mut connection = self.pool.acquire().await?;
        let workspace = workspaces::create(&mut connection, name).await?.id;
        let key = api_keys::create(&mut connection, workspace, &NewKey::of(name, Scopes::ALL, None)?)
            .await?
            .0
            .reveal()
            .to_owned();
        Ok((workspace, key))
    }

    /// Starts `crm-api`, and waits until it is ready.
    pub async fn api(&self) -> Result<Api> {
        self.api_with(&[]).await
    }

    /// Like [`Self::api`], with settings as environment variables.
    pub async fn api_with(&self, settings: &[(&str, &str)]) -> Result<Api> {
        let (workspace, key) = self.workspace("bench").await?;
        let program = Program::start("crm-api", &self.dir, |command| {
            command.envs(settings.iter().copied());
            command.env("DATABASE_URL", &self.url).envs(ANY_PORT);
        })?;
        let address = address_in_log(&self.dir.join("crm-api.log"), Port::Public).await?;
        let url = format!("http://{address}");
        Client::new(&url, "").wait_until_ready().await;
        Ok(Api { program, url: format!("{url}/dev/crm"), key, workspace })
    }

    /// Starts another `crm-api`, with this log. Returns the URL of its simplest operation.
    pub async fn another_api(&self, log: &str) -> Result<(Program, String)> {
        let (program, log) = (workspace::program("crm-api", None)?, self.dir.join(log));
        let program = Program::start_at(&program, &log, |command| {
            command.env("DATABASE_URL", &self.url).envs(ANY_PORT);
        })?;
        let url = format!("http://{}", address_in_log(&log, Port::Public).await?);
        Client::new(&url, "").wait_until_ready().await;
        Ok((program, format!("{url}/dev/crm/me")))
    }

    /// Starts `crm-worker`.
    pub fn worker(&self) -> Result<Program> {
        self.worker_with(&[])
    }

    /// Like [`Self::worker`], with settings as environment variables.
    pub fn worker_with(&self, settings: &[(&str, &str)]) -> Result<Program> {
        Program::start("crm-worker", &self.dir, |command| {
            command.envs(settings.iter().copied());
            command.env("DATABASE_URL", &self.url).envs(ANY_PORT);
        })
    }

    /// Starts `crm-worker` for one queue.
    pub fn worker_of(&self, queue: &str) -> Result<Program> {
        Program::start("crm-worker", &self.dir, |command| {
            command.env("DATABASE_URL", &self.url).envs(ANY_PORT);
            command.args(["--queues", queue]);
        })
    }

    /// Starts this program with arguments, such as a hidden command that serves; returns the address.
    pub async fn this_program(&self, arguments: &[&str]) -> Result<(Program, SocketAddr)> {
        let (program, log) = (std::env::current_exe()?, self.dir.join("bare.log"));
        let program = Program::start_at(&program, &log, |command| {
            command.args(arguments).env("DATABASE_URL", &self.url);
        })?;
        Ok((program, address_in_log(&log, Port::Public).await?))
    }
}

/// A running `crm-api` and an API key.
pub struct Api {
    pub program: Program,
    /// The base URL of the CRM's paths.
    pub url: String,
    pub key: String,
    pub workspace: Uuid,
}

/// A running program.
pub struct Program(Supervised);

impl Program {
    fn start(name: &str, dir: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let program = workspace::program(name, None)?;
        Self::start_at(&program, &dir.join(format!("{name}.log")), prepare)
    }

    fn start_at(program: &Path, log: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = log.try_clone()?;
        let process = Supervised::start(program, Ending::TERMINATE, |command| {
            command.stdout(log).stderr(errors);
            prepare(command);
        })?;
        Ok(Self(process))
    }

    /// The peak of resident memory since the last call, in MiB.
    pub async fn peak_memory(&self) -> Result<f64> {
        let pid = self.0.program_id().context("the program is not running")?;
        let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
        // 5 resets the peak to the present resident memory.
        tokio::fs::write(format!("/proc/{pid}/clear_refs"), "5").await?;
        Ok(kib / 1024.0)
    }

    /// Stops the program and waits until it has ended.
    pub async fn stop(mut self) -> Result<()> {
        self.0.stop().await?;
        Ok(())
    }
}

/// Runs a command, which must succeed; returns its output.
pub async fn succeed(command: &mut Command) -> Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn remove(dir: &Path) -> Result<()> {
    postgres::remove(dir).await?;
    unprivileged::remove(dir).await
}
