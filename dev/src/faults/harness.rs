//! A private stack into which faults are injected.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dev::client::Client;
use dev::stack::ask;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use sqlx::PgPool;
use testing::citus::{self, Servers};
use testing::postgres::{self, Cluster, Options};
use testing::server::Server;
use testing::serving::{ANY_PORT, Port, address_in_log};
use testing::supervise::{Ending, Supervised};
use testing::{unprivileged, workspace};
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

use super::files;
use super::watch::Lease;
use crate::formats::Format;

const WORKSPACE: &str = "faults";
/// The nodes of Citus.
const NODES: usize = 2;

/// Whether the data is distributed.
static IS_DISTRIBUTED: AtomicBool = AtomicBool::new(false);

/// Distributes the data of the harnesses of this process by Citus.
pub fn distribute() {
    IS_DISTRIBUTED.store(true, Relaxed);
}

/// PostgreSQL.
enum Database {
    Stopped,
    Single(Box<Cluster>),
    Citus(Box<Servers>),
}

impl Database {
    async fn start(server: &Server, dir: &Path) -> Result<(Self, String)> {
        if IS_DISTRIBUTED.load(Relaxed) {
            let servers = Servers::start(server, &dir.join("citus"), NODES, &Options::default()).await?;
            let url = servers.url().to_owned();
            return Ok((Self::Citus(Box::new(servers)), url));
        }
        let cluster = Cluster::start(server, dir, &Options::default()).await?;
        let url = cluster.database("crm").await?;
        Ok((Self::Single(Box::new(cluster)), url))
    }

    async fn stop(&mut self) -> Result<()> {
        match std::mem::replace(self, Self::Stopped) {
            Self::Stopped => Ok(()),
            Self::Single(cluster) => cluster.stop().await,
            Self::Citus(servers) => servers.stop().await,
        }
    }
}

/// A `crm-worker` process.
pub struct Worker {
    pub process: Supervised,
    log: PathBuf,
}

/// PostgreSQL, one `crm-api` and some `crm-worker` processes.
pub struct Harness {
    server: Server,
    dir: PathBuf,
    database: Database,
    database_url: String,
    pub pool: PgPool,
    api: Supervised,
    api_program: PathBuf,
    api_address: SocketAddr,
    api_url: String,
    key: String,
    worker_program: PathBuf,
    pub workers: Vec<Worker>,
    started: usize,
    /// The settings of the programs, as environment variables.
    environment: Vec<(String, String)>,
}

/// Starts the API with settings as environment variables.
async fn start_api(
    program: &Path,
    dir: &Path,
    database_url: &str,
    settings: &[(&str, &str)],
) -> Result<(Supervised, SocketAddr)> {
    let log = dir.join("api.log");
    let api = start(program, &log, |command| {
        command.env("DATABASE_URL", database_url).envs(settings.iter().copied());
    })?;
    Ok((api, address_in_log(&log, Port::Public).await?))
}

impl Harness {
    /// Builds the programs and starts them all.
    pub async fn start(workers: usize, release: bool) -> Result<Self> {
        Self::start_with(workers, release, &[]).await
    }

    /// Like [`Self::start`], with settings of the programs as environment variables.
    pub async fn start_with(workers: usize, release: bool, environment: &[(&str, &str)]) -> Result<Self> {
        let profile = release.then_some("release");
        workspace::build(match profile {
            Some(_) => &["--workspace", "--bins", "--release"],
            None => &["--workspace", "--bins"],
        })
        .await?;
        let programs = (workspace::program("crm-api", profile)?, workspace::program("crm-worker", profile)?);
        Self::start_those(workers, programs, environment, &ANY_PORT).await
    }

    /// Like [`Self::start`], with the programs of a directory, such as those of another version.
    pub async fn start_programs(workers: usize, directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory)?;
        let programs = (directory.join("crm-api"), directory.join("crm-worker"));
        Self::start_those(workers, programs, &[], &ANY_PORT).await
    }

    /// Starts a harness with an existing `crm-api` and without workers.
    pub async fn of_api(program: PathBuf) -> Result<Self> {
        // An earlier version may not have an admin port.
        Self::start_those(0, (program, PathBuf::new()), &[], &ANY_PORT[..1]).await
    }

    async fn start_those(
        workers: usize,
        (api_program, worker_program): (PathBuf, PathBuf),
        environment: &[(&str, &str)],
        ports: &[(&str, &str)],
    ) -> Result<Self> {
        let server = Server::find().await?;
        let dir = workspace::data_dir().join("faults").join(format!("{:016x}", rand::random::<u64>()));
        let (database, database_url) = Database::start(&server, &dir).await?;
        ask(&api_program, &["migrate"], &database_url).await?;
        ask(&api_program, &["workspaces", "create", WORKSPACE], &database_url).await?;
        let create_key = ["keys", "create", "--workspace", WORKSPACE, "--name", "faults"];
        let key = ask(&api_program, &create_key, &database_url).await?;

        let (api, address) = start_api(&api_program, &dir, &database_url, &[ports, environment].concat()).await?;
        let api_url = format!("http://{address}");
        Client::new(&api_url, "").wait_until_ready().await;
        let mut harness = Self {
            pool: PgPool::connect_lazy(&database_url)?,
            server,
            dir,
            database,
            database_url,
            api,
            api_program,
            api_address: address,
            api_url,
            key,
            worker_program,
            workers: Vec::new(),
            started: 0,
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        for _ in 0..workers {
            let worker = harness.start_worker()?;
            harness.workers.push(worker);
        }
        println!("running PostgreSQL, crm-api and {workers} crm-worker in {}", harness.dir.display());
        Ok(harness)
    }

    fn start_worker(&mut self) -> Result<Worker> {
        self.started += 1;
        let log = self.dir.join(format!("worker-{}.log", self.started));
        let process = start(&self.worker_program, &log, |command| {
            command.env("DATABASE_URL", &self.database_url).envs(ANY_PORT);
            command.envs(self.environment.iter().map(|(name, value)| (name, value)));
            // The log then contains the claimed jobs.
            command.env("CRM_LOG__LEVEL", "info,worker=debug");
        })?;
        Ok(Worker { process, log })
    }

    /// Stops the workers, and starts as many of another build.
    pub async fn run_workers_of(&mut self, program: &Path) -> Result<()> {
        program.clone_into(&mut self.worker_program);
        for index in 0..self.workers.len() {
            let successor = self.start_worker()?;
            let mut worker = std::mem::replace(&mut self.workers[index], successor);
            worker.process.stop().await?;
        }
        Ok(())
    }

    /// The base URL of the API.
    pub fn api_url(&self) -> &str {
        &self.api_url
    }

    /// Creates another workspace; returns its id and an API key.
    pub async fn new_workspace(&self, name: &str) -> Result<(Uuid, String)> {
        let id = ask(&self.api_program, &["workspaces", "create", name], &self.database_url).await?;
        let create_key = ["keys", "create", "--workspace", name, "--name", "faults"];
        Ok((id.parse()?, ask(&self.api_program, &create_key, &self.database_url).await?))
    }

    /// The log of crm-api.
    pub fn api_log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.join("api.log"))?)
    }

    /// Waits until the API has had no active statement for two seconds.
    pub async fn wait_until_quiet(&self) -> Result<()> {
        let mut quiet = 0;
        while quiet < 20 {
            let busy: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'crm-api' AND state <> 'idle'",
            )
            .fetch_one(&self.pool)
            .await?;
            quiet = if busy == 0 { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The API key of the workspace.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Kills crm-api with SIGKILL, and starts it again.
    pub async fn kill_api(&mut self) -> Result<()> {
        self.api.signal("KILL");
        self.api.ended().await?;
        let address = self.api_address.to_string();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let settings = [&ANY_PORT[..], &environment, &[("CRM_API__LISTEN", &address)]].concat();
        (self.api, _) = start_api(&self.api_program, &self.dir, &self.database_url, &settings).await?;
        Client::new(&self.api_url, "").wait_until_ready().await;
        Ok(())
    }

    /// Stops crm-api, and starts it or another program with settings as environment variables.
    pub async fn replace_api(&mut self, program: Option<&Path>, settings: &[(&str, &str)]) -> Result<()> {
        self.api.stop().await?;
        // An earlier version may not have an admin port.
        let ports = if program.is_some() { &ANY_PORT[..1] } else { &ANY_PORT };
        let settings = [ports, settings].concat();
        let program = program.unwrap_or(&self.api_program);
        let (api, address) = start_api(program, &self.dir, &self.database_url, &settings).await?;
        (self.api, self.api_address, self.api_url) = (api, address, format!("http://{address}"));
        Client::new(&self.api_url, "").wait_until_ready().await;
        Ok(())
    }

    /// The process id of crm-api.
    pub fn api_id(&self) -> Result<u32> {
        self.api.program_id().context("crm-api is not running")
    }

    /// Kills a worker with SIGKILL, and starts another one; returns all jobs that the killed worker had ever
    /// claimed.
    pub async fn kill_worker(&mut self, victim: usize) -> Result<Vec<Lease>> {
        let successor = self.start_worker()?;
        let mut worker = std::mem::replace(&mut self.workers[victim], successor);
        worker.process.signal("KILL");
        worker.process.ended().await?;
        let log = std::fs::read_to_string(&worker.log)?;
        Ok(log.lines().filter(|line| line.contains("job claimed")).filter_map(lease_in).collect())
    }

    /// Starts the nightly run of the workspace.
    pub async fn start_nightly(&self) -> Result<()> {
        ask(&self.worker_program, &["run", "nightly", "--workspace", WORKSPACE], &self.database_url).await?;
        Ok(())
    }

    /// Uploads a file through the public endpoint; returns the id of its job.
    pub async fn upload(&self, file: &files::File) -> Result<Uuid> {
        self.upload_as(file, Format::Csv).await
    }

    /// Uploads a file in this format.
    pub async fn upload_as(&self, file: &files::File, format: Format) -> Result<Uuid> {
        let path = format!("leads/import?on_conflict={}", file.on_conflict.as_str());
        self.upload_to(&path, format.of_text(&file.csv)?).await
    }

    /// Uploads a file to an import of `/dev/crm`; returns the id of its job.
    pub async fn upload_to(&self, path: &str, file: Vec<u8>) -> Result<Uuid> {
        let part = Part::bytes(file).file_name("file");
        let url = format!("{}/dev/crm/{path}", self.api_url);
        let request = reqwest::Client::new().post(url).bearer_auth(&self.key);
        let response =
            request.multipart(Form::new().part("file", part)).send().await.context("crm-api does not respond")?;
        let (status, body) = (response.status(), response.text().await?);
        ensure!(status == 202, "an upload returned {status}: {body}");
        let job: Value = serde_json::from_str(&body)?;
        Ok(job["id"].as_str().context("the job has no id")?.parse()?)
    }

    /// Waits until the jobs have finished. Fails after the limit, with the number of unfinished jobs.
    pub async fn wait_for(&self, jobs: &[Uuid], limit: Duration) -> Result<()> {
        let unfinished = || {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM jobs WHERE id = ANY ($1) AND finished_at IS NULL")
                .bind(jobs)
                .fetch_one(&self.pool)
        };
        let finished = timeout(limit, async {
            while unfinished().await? > 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        });
        match finished.await {
            Ok(finished) => finished,
            Err(_) => {
                bail!("{} jobs have not finished after {limit:?}; logs: {}", unfinished().await?, self.dir.display())
            }
        }
    }

    /// Stops all servers as an operator does for a restart: clients are disconnected.
    pub async fn stop_database(&mut self) -> Result<()> {
        self.database.stop().await
    }

    /// Starts the servers again at the same addresses.
    pub async fn start_database(&mut self) -> Result<()> {
        let (database, url) = Database::start(&self.server, &self.dir).await?;
        self.database = database;
        ensure!(url == self.database_url, "another program has taken the server's port");
        Ok(())
    }

    /// The coordinator and the nodes.
    pub fn servers(&mut self) -> Result<&mut Servers> {
        match &mut self.database {
            Database::Citus(servers) => Ok(servers),
            _ => bail!("the data is not distributed"),
        }
    }

    /// The URL of the database.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The names of the programs that have ended unexpectedly.
    pub async fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        let programs = [("crm-api", &mut self.api)].into_iter();
        for (name, process) in programs.chain(self.workers.iter_mut().map(|worker| ("crm-worker", &mut worker.process)))
        {
            if let Ok(Ok(end)) = timeout(Duration::from_millis(1), process.ended()).await {
                ended.push(format!("{name} {end}"));
            }
        }
        ended
    }

    /// Stops everything. Keeps the logs if `keep` is set.
    pub async fn end(mut self, keep: bool) -> Result<()> {
        self.pool.close().await;
        for process in self.workers.iter_mut().map(|worker| &mut worker.process).chain([&mut self.api]) {
            process.stop().await?;
        }
        self.database.stop().await?;
        citus::remove(&self.dir.join("citus")).await?;
        postgres::remove(&self.dir).await?;
        if keep {
            println!("the logs are in {}", self.dir.display());
            return Ok(());
        }
        unprivileged::remove(&self.dir).await
    }
}

/// Parses `job_id=… attempt=…`.
fn lease_in(line: &str) -> Option<Lease> {
    let value = |name: &str| line.split_once(name)?.1.split_whitespace().next();
    Some((value("job_id=")?.parse().ok()?, value("attempt=")?.parse().ok()?))
}

fn start(program: &Path, log: &Path, prepare: impl FnOnce(&mut Command)) -> Result<Supervised> {
    let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = log.try_clone()?;
    Supervised::start(program, Ending::TERMINATE, |command| {
        command.stdout(log).stderr(errors).env("CRM_LOG__FORMAT", "text");
        prepare(command);
    })
}
