use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dev::client::Client;
use testing::postgres;
use testing::supervise::{End, Ending, Supervised};
use tokio::time::sleep;

/// `cargo dev` with a private data directory.
struct Stack {
    dev: Supervised,
    dir: PathBuf,
    output: Arc<Mutex<String>>,
}

impl Stack {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_on("0", dir, arguments)
    }

    fn start_on(port: &str, dir: &Path, arguments: &[&str]) -> Self {
        let mut dev = Supervised::start(env!("CARGO_BIN_EXE_dev"), Ending::TERMINATE, |command| {
            command.args(["--port", port, "--data-dir"]).arg(dir).args(arguments);
            // The programs are already built, and the stack starts its own server.
            command.env("CARGO", "true").env_remove("DATABASE_URL");
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })
        .unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let lines = output.clone();
        dev.hand_on_lines(move |line| *lines.lock().unwrap() += &format!("{line}\n"));
        Self { dev, dir: dir.to_owned(), output }
    }

    /// Waits until the stack is ready, and returns a client with the API key that it wrote.
    async fn client(&mut self) -> Client {
        while !self.output().contains("The CRM is running") {
            tokio::select! {
                end = self.dev.ended() => panic!("cargo dev {}: {}", end.unwrap(), self.output()),
                () = sleep(Duration::from_millis(50)) => {}
            }
        }
        Client::new(&self.file("url"), &self.file("api-key"))
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap().trim().to_owned()
    }

    fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    async fn end_by(mut self, signal: &str) -> (End, String) {
        self.dev.signal(signal);
        let end = self.dev.ended().await.unwrap();
        (end, self.output())
    }
}

fn new_dir() -> PathBuf {
    std::env::temp_dir().join(format!("crm dev {:016x}", rand::random::<u64>()))
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn all_processes_end_with_the_stack_and_its_data_is_kept() {
    let dir = new_dir();
    let mut stack = Stack::start(&dir, &[]);
    let client = stack.client().await;
    assert!(stack.output().contains("10000 created"), "{}", stack.output());
    assert!(client.has_leads().await.unwrap());
    let key = stack.file("api-key");

    stack.end_by("KILL").await;
    eventually("PostgreSQL ends", async || !postgres::is_in_use(&dir)).await;
    eventually("the API ends", async || client.has_leads().await.is_err()).await;

    let mut again = Stack::start(&dir, &["--workers", "2"]);
    let client = again.client().await;
    assert_eq!(again.file("api-key"), key);
    assert!(client.has_leads().await.unwrap());
    assert!(!again.output().contains("imported"), "{}", again.output());
    let (end, output) = again.end_by("INT").await;
    assert!(end.is_success(), "{end}: {output}");
    assert!(!postgres::is_in_use(&dir));

    let reset = tokio::process::Command::new(env!("CARGO_BIN_EXE_dev"))
        .args(["reset", "--data-dir"])
        .arg(&dir)
        .status()
        .await
        .unwrap();
    assert!(reset.success());
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_stack_reports_why_it_cannot_start_or_continue() {
    let dir = new_dir();
    let mut stack = Stack::start(&dir, &["--empty"]);
    stack.client().await;
    assert!(!stack.output().contains("imported"));

    let mut second = Stack::start(&dir, &["--empty"]);
    assert_eq!(second.dev.ended().await.unwrap().to_string(), "ended with exit status 1");
    eventually("it reports the other stack", async || second.output().contains("a stack is running on")).await;

    let port = stack.file("url").rsplit(':').next().unwrap().to_owned();
    let elsewhere = new_dir();
    let mut third = Stack::start_on(&port, &elsewhere, &["--empty"]);
    third.dev.ended().await.unwrap();
    eventually("it reports the port", async || third.output().contains(&format!("port {port} cannot be used"))).await;
    // It has not started anything.
    assert!(!elsewhere.join("postgres").exists());
    std::fs::remove_dir_all(&elsewhere).unwrap();

    // The first line is the server's process id.
    let pid = std::fs::read_to_string(dir.join("postgres/data/postmaster.pid")).unwrap();
    let kill = tokio::process::Command::new("kill").args(["-9", pid.lines().next().unwrap()]).status().await.unwrap();
    assert!(kill.success());
    assert_eq!(stack.dev.ended().await.unwrap().to_string(), "ended with exit status 1");
    let reason = "error: PostgreSQL was ended by signal 9";
    eventually("it reports the server's end", async || stack.output().contains(reason)).await;
    std::fs::remove_dir_all(&dir).unwrap();
}
