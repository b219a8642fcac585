//! The programs of the workspace, as processes.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Database;
use crate::left_jobs::LeftJobs;
use crate::serving::{ANY_PORT, Port, Serving};
use crate::supervise::{End, Ending, Supervised};
use crate::workspace;

/// Generous, since many tests share few cores.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running program. It is killed when this value is dropped, and when the test's process ends.
///
/// If [jobs must be finished](Database::must_finish_jobs), a worker first runs those that are due soon.
#[derive(Debug)]
pub struct Process {
    /// Where `crm-api` serves, such as `http://127.0.0.1:41234`; empty for a worker.
    pub url: String,
    serving: Serving,
    name: &'static str,
    process: Supervised,
    output: Arc<Mutex<Vec<String>>>,
    /// The jobs that a worker runs.
    jobs: Weak<LeftJobs>,
}

impl Process {
    /// Starts `crm-api` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    pub async fn api(database: &Database) -> Self {
        Self::api_with(database, &[]).await
    }

    /// As [`Self::api`], with settings in the manner of environment variables.
    ///
    /// # Panics
    /// If it does not get ready.
    pub async fn api_with(database: &Database, settings: &[(&str, &str)]) -> Self {
        let mut process = Self::start("crm-api", database, &[], settings);
        let address = process.serving.address(Port::Public).await.unwrap_or_else(|error| panic!("{error:#}"));
        process.url = format!("http://{address}");
        assert!(process.is_ready().await, "crm-api does not get ready");
        process
    }

    /// Starts `crm-worker`, with arguments.
    ///
    /// # Panics
    /// If it is not built.
    #[must_use]
    pub fn worker(database: &Database, arguments: &[&str]) -> Self {
        Self::worker_with(database, arguments, &[])
    }

    /// As [`Self::worker`], with settings in the manner of environment variables.
    ///
    /// # Panics
    /// If it is not built.
    #[must_use]
    pub fn worker_with(database: &Database, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut process = Self::start("crm-worker", database, arguments, settings);
        process.jobs = Arc::downgrade(&database.jobs);
        process
    }

    fn start(name: &'static str, database: &Database, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = workspace::program(name, None).unwrap_or_else(|error| panic!("{error:#}"));
        let mut process = Supervised::start(program, Ending::KILL, |command| {
            command.args(arguments).env("DATABASE_URL", database.url()).envs(ANY_PORT);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).envs(settings.iter().copied());
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let (lines, serving) = (output.clone(), Serving::default());
        let noted = serving.clone();
        process.hand_on_lines(move |line| {
            noted.note(&line);
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        });
        Self { url: String::new(), serving, name, process, output, jobs: Weak::new() }
    }

    /// Where it answers operators, such as `http://127.0.0.1:41235`.
    ///
    /// # Panics
    /// If it does not say so.
    pub async fn admin_url(&self) -> String {
        let address = self.serving.address(Port::Admin).await.unwrap_or_else(|error| panic!("{error:#}"));
        format!("http://{address}")
    }

    /// Whether `/readyz` says so in time; false if the program has ended.
    async fn is_ready(&mut self) -> bool {
        let url = format!("{}/readyz", self.url);
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            tokio::select! {
                _ = self.process.ended() => return false,
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
        false
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// If the operating system does not report it.
    pub async fn kill9(&mut self) -> End {
        self.process.signal("KILL");
        self.ended().await
    }

    /// Asks it to stop, as an operator's SIGTERM does, and waits until it has.
    ///
    /// # Panics
    /// If the operating system does not report it.
    pub async fn terminate(&mut self) -> End {
        self.process.signal("TERM");
        self.ended().await
    }

    /// Stops it in its tracks (SIGSTOP), as a machine does that hangs.
    pub fn stop(&mut self) {
        self.process.signal("STOP");
    }

    /// Lets it go on after [`Self::stop`].
    pub fn cont(&mut self) {
        self.process.signal("CONT");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If the operating system does not report it.
    pub async fn ended(&mut self) -> End {
        self.process.ended().await.expect("the end of a process can be seen")
    }

    /// Its number, by which the operating system knows it.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn program_id(&self) -> u32 {
        self.process.program_id().expect("the process runs")
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.upgrade()
            && self.process.program_id().is_some()
        {
            jobs.wait_for_worker();
        }
        if std::thread::panicking() {
            eprintln!("--- {} printed\n{}\n---", self.name, self.output());
        }
    }
}
