//! The processes of a local stack, which start one by one and end together.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use futures_util::future::{join_all, select_all};
use tokio::process::Command;

use crate::console::Console;
use testing::postgres::Cluster;
use testing::serving::Serving;
use testing::supervise::{Ending, Supervised};

/// The number of last lines that are reported when a process ends.
const LAST_LINES: usize = 10;

/// PostgreSQL, unless an external server is used, and the programs that use it. Citus has several servers.
#[derive(Debug, Default)]
pub struct Stack {
    clusters: Vec<Cluster>,
    programs: Vec<Program>,
}

#[derive(Debug)]
struct Program {
    name: String,
    process: Supervised,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

impl Stack {
    /// Adds a server, which is stopped after all programs.
    pub fn add_cluster(&mut self, cluster: Cluster) {
        self.clusters.push(cluster);
    }

    /// Starts a program, and prints its lines with the prefix `name`. Returns its addresses.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(
        &mut self,
        name: String,
        program: &Path,
        console: &Console,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Serving> {
        let mut process = Supervised::start(program, Ending::TERMINATE, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            prepare(command);
        })?;
        let serving = Serving::default();
        let noted = serving.clone();
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        let (console, number, prefix, kept) = (console.clone(), self.programs.len(), name.clone(), last_lines.clone());
        process.hand_on_lines(move |line| {
            noted.note(&line);
            console.line_of(&prefix, number, &line);
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > LAST_LINES {
                kept.pop_front();
            }
        });
        self.programs.push(Program { name, process, last_lines });
        Ok(serving)
    }

    /// Runs `work` as long as all processes run.
    ///
    /// # Errors
    /// The error of the work, or the reason why a process ended.
    pub async fn run<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            reason = self.first_end() => bail!("{}", reason?),
        }
    }

    /// Stops all programs, and then the servers.
    ///
    /// # Errors
    /// If waiting for a process fails.
    pub async fn stop(&mut self) -> Result<()> {
        let ends = join_all(self.programs.iter_mut().map(|program| program.process.stop())).await;
        for cluster in self.clusters.drain(..) {
            cluster.stop().await?;
        }
        ends.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(())
    }

    /// Waits for the first process that ends, and returns the reason.
    async fn first_end(&mut self) -> Result<String> {
        let cluster = async {
            if self.clusters.is_empty() {
                std::future::pending::<()>().await;
            }
            let (reason, ..) = select_all(self.clusters.iter_mut().map(|cluster| Box::pin(cluster.ended()))).await;
            reason
        };
        let programs = async {
            if self.programs.is_empty() {
                std::future::pending::<()>().await;
            }
            let (reason, ..) = select_all(self.programs.iter_mut().map(|program| Box::pin(program.ended()))).await;
            reason
        };
        tokio::select! {
            // The programs may end because the server did.
            biased;
            reason = cluster => reason,
            reason = programs => reason,
        }
    }
}

impl Program {
    async fn ended(&mut self) -> Result<String> {
        let end = self.process.ended().await?;
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = lines.iter().map(|line| format!("\n  {line}")).collect();
        let intro = if lines.is_empty() { "" } else { "; its last lines:" };
        Ok(format!("{} {end}{intro}{}", self.name, lines.concat()))
    }
}

/// Runs a program of the workspace until it ends; returns the first line of its output.
///
/// # Errors
/// If the program fails, with its error output.
pub async fn ask(program: &Path, arguments: &[&str], database_url: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("DATABASE_URL", database_url).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let output = String::from_utf8_lossy(&output.stdout);
    Ok(output.lines().next().unwrap_or_default().trim().to_owned())
}
