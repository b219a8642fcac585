//! The programs of the workspace, as processes.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::supervise::{End, Ending, Supervised};
use crate::testing::Database;
use crate::workspace;

/// Generous, since many tests share few cores.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running program. It is killed when this value is dropped, and when the test's process ends.
#[derive(Debug)]
pub struct Process {
    /// Where it serves HTTP, such as `http://127.0.0.1:41234`; for a worker, its metrics.
    pub url: String,
    name: &'static str,
    process: Supervised,
    output: Arc<Mutex<Vec<String>>>,
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
        // The port is free when we look; by the time the program looks it may be another's.
        for _ in 0..3 {
            let (address, url) = free_address();
            let mut process = Self::start("crm-api", url, database, &[], |command| {
                command.env("CRM_API__LISTEN", address).envs(settings.iter().copied());
            });
            if process.is_ready().await {
                return process;
            }
        }
        panic!("crm-api does not get ready");
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
        let (address, url) = free_address();
        Self::start("crm-worker", url, database, arguments, |command| {
            command.env("CRM_WORKER__LISTEN", address).envs(settings.iter().copied());
        })
    }

    fn start(
        name: &'static str,
        url: String,
        database: &Database,
        arguments: &[&str],
        prepare: impl FnOnce(&mut tokio::process::Command),
    ) -> Self {
        let program = workspace::program(name, None).unwrap_or_else(|error| panic!("{error:#}"));
        let mut process = Supervised::start(program, Ending::KILL, |command| {
            command.args(arguments).env("DATABASE_URL", database.url()).env("CRM_PUBLIC_URL", &url);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            prepare(command);
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let lines = output.clone();
        process.hand_on_lines(move |line| lines.lock().unwrap_or_else(PoisonError::into_inner).push(line));
        Self { url, name, process, output }
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
    /// If the operating system cannot tell.
    pub async fn kill9(&mut self) -> End {
        self.process.signal("KILL");
        self.ended().await
    }

    /// Asks it to stop, as an operator's SIGTERM does, and waits until it has.
    ///
    /// # Panics
    /// If the operating system cannot tell.
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
    /// If the operating system cannot tell.
    pub async fn ended(&mut self) -> End {
        self.process.ended().await.expect("the end of a process can be seen")
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} printed\n{}\n---", self.name, self.output());
        }
    }
}

fn free_address() -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("the port has a number").to_string();
    let url = format!("http://{address}");
    (address, url)
}
