//! Helpers of the tests: a workspace with a job queue, and workers in this process and in processes
//! of their own.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use shared::Result;
use shared::platform::config::{self, Settings};
use shared::platform::db::{self, Pool};
use shared::queue::{self, Claimed, Job, JobStatus, NewJob};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgPool, Postgres};
use testing::Database;
use testing::serving::{ANY_PORT, Port, Serving};
use testing::supervise::{End, Ending, Supervised};
use testing::test_jobs::{self, Chore};
use testing::workspace;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The limit of every wait; long, because many tests share few cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The job queue in a database, from the view of one workspace.
pub struct Ledger {
    pub pool: PgPool,
    pub url: String,
    pub workspace: Uuid,
    _database: Option<Database>,
}

impl Ledger {
    pub async fn create() -> Self {
        let database = Database::create().await;
        Self {
            pool: database.pool().clone(),
            url: database.url().to_owned(),
            workspace: Uuid::now_v7(),
            _database: Some(database),
        }
    }

    /// The queue in an existing database, for a new workspace.
    pub fn at(url: String) -> Self {
        let pool = PgPool::connect_lazy(&url).unwrap();
        Self { pool, url, workspace: Uuid::now_v7(), _database: None }
    }

    pub async fn connection(&self) -> PoolConnection<Postgres> {
        self.pool.acquire().await.unwrap()
    }

    /// A connection of such a pool as the programs use, whose statements fail after 5 s.
    pub async fn hurried(&self, pool: fn(&config::Database, &str) -> Result<Pool>) -> db::PoolConnection {
        let pool = pool(&self.settings(&[]).database, "test").unwrap();
        let mut connection = pool.acquire().await.unwrap();
        sqlx::raw_sql("SET statement_timeout = '5s'").execute(&mut *connection).await.unwrap();
        connection
    }

    pub fn job(&self, chore: &Chore) -> NewJob {
        NewJob::new(self.workspace, chore).unwrap()
    }

    pub async fn enqueue(&self, chore: Chore) -> Uuid {
        queue::enqueue(&mut *self.connection().await, self.job(&chore)).await.unwrap().id
    }

    pub async fn enqueue_many(&self, count: usize) -> Vec<Uuid> {
        let payloads = vec![Chore::Nothing; count];
        queue::enqueue_all(&mut *self.connection().await, self.workspace, &payloads).await.unwrap()
    }

    pub async fn claim(&self, limit: i64) -> Vec<Claimed> {
        queue::claim(&mut *self.connection().await, "chores", limit).await.unwrap()
    }

    pub async fn claim_one(&self) -> Claimed {
        self.claim(1).await.pop().expect("a job is due")
    }

    pub async fn get(&self, id: Uuid) -> Job {
        queue::get(&mut *self.connection().await, self.workspace, id).await.unwrap()
    }

    pub async fn cancel(&self, id: Uuid) -> Job {
        queue::cancel(&mut *self.connection().await, self.workspace, id).await.unwrap()
    }

    /// Expires the leases of all claimed jobs.
    pub async fn expire_leases(&self) {
        self.run("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL").await;
    }

    pub async fn run(&self, statement: &str) {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&self.pool).await.unwrap();
    }

    pub async fn until(&self, id: Uuid, what: &str, holds: impl Fn(&Job) -> bool) -> Job {
        let started = Instant::now();
        loop {
            let job = self.get(id).await;
            if holds(&job) {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "the job is not {what} in time: {job:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn until_running(&self, id: Uuid) -> Job {
        self.until(id, "running", |job| job.status == JobStatus::Running).await
    }

    pub async fn until_finished(&self, id: Uuid) -> Job {
        self.until(id, "finished", |job| job.status.is_finished()).await
    }

    pub async fn count(&self, status: JobStatus) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE status = $1")
            .bind(status.as_str())
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub async fn failures_and_crashes(&self, id: Uuid) -> (i16, i16) {
        sqlx::query_as("SELECT failures, crashes FROM jobs WHERE id = $1").bind(id).fetch_one(&self.pool).await.unwrap()
    }

    /// The attempt that fences writes. It differs from the `attempt` that callers see.
    pub async fn fence(&self, id: Uuid) -> i64 {
        let fence = sqlx::query_scalar("SELECT attempt::bigint FROM jobs WHERE id = $1").bind(id);
        fence.fetch_one(&self.pool).await.unwrap()
    }

    pub fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let fixed = [("DATABASE_URL", self.url.as_str())];
        let all =
            fixed.iter().chain(&ANY_PORT).chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_layers(None, all).unwrap()
    }

    /// Starts a worker in this process.
    pub fn worker(&self, concurrency: usize) -> Worker {
        let stop = CancellationToken::new();
        let mut settings = self.settings(&[]);
        settings.worker.concurrency = concurrency;
        Worker { stop: stop.clone(), task: tokio::spawn(worker::run(settings, test_jobs::tasks(), stop)) }
    }

    /// Starts a worker in a process of its own, with settings as environment variables.
    pub fn worker_process(&self, settings: &[(&str, &str)]) -> WorkerProcess {
        let program = workspace::program("test-worker", None).unwrap();
        let mut process = Supervised::start(program, Ending::KILL, |command| {
            command.env("DATABASE_URL", &self.url).envs(ANY_PORT);
            command.envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        })
        .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let (lines, serving) = (output.clone(), Serving::default());
        let noted = serving.clone();
        process.hand_on_lines(move |line| {
            noted.note(&line);
            lines.lock().unwrap().push(line);
        });
        WorkerProcess { process, output, serving }
    }
}

/// The attempt that committed each step of a [`Chore::Walk`].
pub fn attempts(job: &Job) -> Vec<i64> {
    let steps = job.result.as_ref().and_then(Value::as_array).expect("the result of a walk");
    steps.iter().filter_map(Value::as_i64).collect()
}

/// A worker in this process.
pub struct Worker {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// Stops the worker as SIGTERM does, and returns how long that took.
    pub async fn stop(self) -> Duration {
        let began = Instant::now();
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        began.elapsed()
    }
}

/// A worker in its own process.
pub struct WorkerProcess {
    process: Supervised,
    output: Arc<Mutex<Vec<String>>>,
    serving: Serving,
}

impl WorkerProcess {
    /// The address of the admin port.
    pub async fn admin(&self) -> String {
        self.serving.address(Port::Admin).await.unwrap().to_string()
    }

    /// The output so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().join("\n")
    }

    pub fn signal(&mut self, signal: &str) {
        self.process.signal(signal);
    }

    /// The warnings and errors in the log so far.
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.output.lock().unwrap();
        lines.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).cloned().collect()
    }

    pub async fn ended(&mut self) -> End {
        self.process.ended().await.unwrap()
    }

    pub async fn kill9(mut self) {
        self.signal("KILL");
        self.ended().await;
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the worker printed\n{}\n---", self.output.lock().unwrap().join("\n"));
        }
    }
}
