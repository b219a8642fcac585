//! `cargo dev`

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use dev::client::Client;
use dev::console::Console;
use dev::data::{CITUS, DataDir};
use dev::demo::Demo;
use dev::stack::{Stack, ask};
use dev::{demo, sample};
use serde_json::Value;
use testing::citus::Servers;
use testing::postgres::{Cluster, Options};
use testing::server::Server;
use testing::serving::{ANY_PORT, Port};
use testing::workspace;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

const WORKSPACE: &str = "dev";
const SAMPLE_ROWS: usize = 10_000;
const SAMPLE_FILE: &str = "sample-leads.csv";

#[derive(Debug, Args)]
pub struct Arguments {
    /// The port of the API.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The data directory of the stack.
    #[arg(long, value_name = "DIR", default_value = ".dev")]
    data_dir: PathBuf,
    /// Do not import sample data.
    #[arg(long)]
    empty: bool,
    /// The number of crm-worker processes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// Distribute the data by Citus: a coordinator and this many nodes.
    #[arg(long, value_name = "NODES", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u8).range(1..))]
    citus: Option<u8>,
    /// Build with optimizations.
    #[arg(long)]
    release: bool,
}

/// Runs the stack until a signal arrives, or one of its processes ends.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let console = Console::default();
    let mut stack = Stack::default();
    let outcome = tokio::select! {
        outcome = up(&arguments, &console, &mut stack) => outcome,
        () = signals.wait() => Ok(()),
    };
    tokio::select! {
        stopped = stack.stop() => stopped?,
        // After a second signal this process no longer waits: its children end by themselves.
        () = signals.wait() => {}
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn up(arguments: &Arguments, console: &Console, stack: &mut Stack) -> Result<()> {
    let data = DataDir::open(&arguments.data_dir).await?;
    wait_until_free(arguments.port).await?;
    let server = match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Err(url),
        _ => Ok(Server::find().await?),
    };
    let profile = arguments.release.then_some("release");
    workspace::build(match profile {
        Some(_) => &["--package", "api", "--package", "worker", "--bins", "--release"],
        // The same build as for the tests, so that neither compiles again what the other has compiled.
        None => &["--workspace", "--bins"],
    })
    .await?;
    let (api, worker) = (workspace::program("crm-api", profile)?, workspace::program("crm-worker", profile)?);

    let database_url = match server {
        Ok(server) => start_database(&server, &data, arguments.citus, stack).await?,
        Err(url) => url,
    };
    stack.run(async { ask(&api, &["migrate"], &database_url).await.context("migrating the database failed") }).await?;

    let mail_directory = data.path().join("mail");
    let serving = stack.start("api".to_owned(), &api, console, |command| {
        // Several stacks may run on this machine.
        command.envs(ANY_PORT).env("CRM_API__LISTEN", format!("127.0.0.1:{}", arguments.port));
        if arguments.port > 0 {
            command.env("CRM_PUBLIC_URL", format!("http://127.0.0.1:{}", arguments.port));
        }
        command.env("DATABASE_URL", &database_url).env("CRM_LOG__FORMAT", "text");
    })?;
    let address = stack.run(async { serving.address(Port::Public).await }).await?;
    let url = format!("http://{address}");
    for number in 1..=arguments.workers {
        let name = if arguments.workers == 1 { "worker".to_owned() } else { format!("worker {number}") };
        stack.start(name, &worker, console, |command| {
            command.envs(ANY_PORT).env("CRM_PUBLIC_URL", &url);
            command.env("DATABASE_URL", &database_url).env("CRM_LOG__FORMAT", "text");
            // Emails are written to files, unless the environment sets a mail server.
            command.env("CRM_MAIL__DIRECTORY", &mail_directory);
        })?;
    }

    let client = Client::new(&url, "");
    let ready = async {
        client.wait_until_ready().await;
        let key = key(&data, &client, &api, &database_url).await?;
        for (name, content) in [("database-url", &database_url), ("api-key", &key), ("url", &url)] {
            data.write(name, content)?;
        }
        let sample = data.path().join(SAMPLE_FILE);
        let mut demo = Demo::default();
        if !arguments.empty {
            let client = client.with_key(&key);
            import_sample(console, &client, &sample).await?;
            demo = fill(console, &client).await?;
        }
        let link = sign_in_link(&client.with_key(&key), &url, &api, &database_url).await?;
        console.line(&greeting(&url, &link, &key, &database_url, &sample, &mail_directory, &demo));
        std::future::pending().await
    };
    stack.run(ready).await
}

/// Starts PostgreSQL, or the servers of Citus, and returns the URL of the database.
async fn start_database(server: &Server, data: &DataDir, nodes: Option<u8>, stack: &mut Stack) -> Result<String> {
    let Some(nodes) = nodes else {
        let cluster = Cluster::start(server, data.path(), &Options::default()).await?;
        let url = cluster.database("crm").await?;
        stack.add_cluster(cluster);
        return Ok(url);
    };
    let servers = Servers::start(server, &data.path().join(CITUS), nodes.into(), &Options::default()).await?;
    let url = servers.url().to_owned();
    servers.into_clusters().for_each(|cluster| stack.add_cluster(cluster));
    Ok(url)
}

/// The signals that ask this process to stop.
struct StopSignals([tokio::signal::unix::Signal; 3]);

impl StopSignals {
    fn new() -> Result<Self> {
        // A terminal sends SIGHUP when it is closed.
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Fails early if the port is taken. Port 0 is always free, since the system then chooses a port.
async fn wait_until_free(port: u16) -> Result<()> {
    let asked = Instant::now();
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(()),
            // The API of a killed stack takes a moment to end.
            Err(_) if asked.elapsed() < Duration::from_secs(2) => sleep(Duration::from_millis(100)).await,
            Err(error) => {
                bail!("port {port} cannot be used ({error}): stop the program that uses it, or pass another --port")
            }
        }
    }
}

/// The API key of the last start if it is still valid, or a new one.
async fn key(data: &DataDir, client: &Client, api: &Path, database_url: &str) -> Result<String> {
    if let Some(key) = data.read("api-key").await
        && client.with_key(&key).opens().await?
    {
        return Ok(key);
    }
    let create = ["keys", "create", "--workspace", WORKSPACE, "--name", "dev"];
    match ask(api, &create, database_url).await {
        Ok(key) => Ok(key),
        // On the first start there is no workspace either.
        Err(_) => {
            ask(api, &["workspaces", "create", WORKSPACE], database_url).await.context("cannot create a workspace")?;
            ask(api, &create, database_url).await.context("cannot create an API key")
        }
    }
}

/// A link that signs in to the console once.
pub(crate) async fn sign_in_link(client: &Client, url: &str, api: &Path, database_url: &str) -> Result<String> {
    let caller = client.get("me").await?;
    let key_id = caller["key"]["id"].as_str().context("the key has no id")?;
    let link = ask(api, &["sign-in-link", key_id], database_url).await.context("cannot make a link to sign in")?;
    // The command knows the public URL of the settings, which may have another port.
    let (_, query) = link.split_once('?').context("the link has no token")?;
    Ok(format!("{url}/console/sign-in?{query}"))
}

/// Imports the sample leads into an empty workspace, or waits for an import that is still running.
async fn import_sample(console: &Console, client: &Client, file: &Path) -> Result<()> {
    let job = match client.latest_import().await? {
        Some(job) if job["finished_at"].is_null() => job,
        Some(_) => return Ok(()),
        None if client.has_leads().await? => return Ok(()),
        None => {
            let leads = sample::leads(SAMPLE_ROWS, 1);
            tokio::fs::write(file, &leads).await.with_context(|| format!("cannot write {}", file.display()))?;
            client.import("leads", leads).await?
        }
    };
    let started = Instant::now();
    let id = job["id"].as_str().context("the job has no id")?;
    let bar = console.progress("importing sample leads");
    let job = loop {
        let job = client.job(id).await?;
        if let Some(total) = job["progress"]["total"].as_u64() {
            bar.set_length(total);
        }
        bar.set_position(job["progress"]["done"].as_u64().unwrap_or(0));
        if !job["finished_at"].is_null() {
            break job;
        }
        sleep(Duration::from_millis(500)).await;
    };
    bar.finish_and_clear();
    console.line(&outcome(&job, started.elapsed()));
    Ok(())
}

/// Creates the demo data and prints a line about each run.
async fn fill(console: &Console, client: &Client) -> Result<Demo> {
    let bar = console.progress("checking the sample data");
    let demo = demo::fill(client, |what| {
        bar.set_message(what);
    });
    let demo = demo.await.context("creating the sample data failed")?;
    bar.finish_and_clear();
    demo.lines.iter().for_each(|line| console.line(line));
    Ok(demo)
}

fn outcome(job: &Value, took: Duration) -> String {
    let count = |name: &str| job["result"][name].as_u64().unwrap_or(0);
    match job["status"].as_str() {
        Some("succeeded") => format!(
            "imported {} sample leads in {:.1} s: {} created, {} skipped, {} failed, {} warnings",
            count("rows"),
            took.as_secs_f64(),
            count("created"),
            count("skipped"),
            count("failed"),
            count("warnings"),
        ),
        status => {
            format!("the import of sample leads ended {}: {}", status.unwrap_or("without a status"), job["error"])
        }
    }
}

fn greeting(
    url: &str,
    link: &str,
    key: &str,
    database_url: &str,
    sample: &Path,
    mail_directory: &Path,
    demo: &Demo,
) -> String {
    let page = demo.feedback_page.as_ref().map(|page| format!("\n  feedback  {page}")).unwrap_or_default();
    let emails = mail_directory.display();
    let authorization = format!("-H 'Authorization: Bearer {key}'");
    let import = if sample.is_file() { sample.display().to_string() } else { "leads.csv".to_owned() };
    format!(
        "
The CRM is running. Press Ctrl-C to stop it; its data is kept.

  console   {link}
            (signs in once, within 10 minutes)
  URL       {url}
  API key   {key}
  database  {database_url}
  emails    {emails} (as .eml files){page}

Try
  curl {authorization} '{url}/dev/crm/leads?limit=3'
  curl {authorization} -H 'Content-Type: application/json' -d '{{\"name\":\"Ada Lovelace\",\"email\":\"ada@example.com\"}}' {url}/dev/crm/leads
  curl {authorization} -F 'file=@{import}' {url}/dev/crm/leads/import
  curl {authorization} '{url}/dev/crm/customers/segments'
  curl {authorization} '{url}/dev/crm/feedback/themes'
"
    )
}
