//! The admin port answers whatever the database does.

use std::time::{Duration, Instant};

use reqwest::Client;
use testing::proxy::{Mode, Proxy};
use testing::server::Server;
use testing::temp_cluster::TempCluster;
use testing::{Database, Process};
use tokio::process::Command;

use super::{Page, cluster, text};
use crate::support;

/// How long a page of metrics may take, by the median of several, since the machine may be busy.
const PAGE: Duration = Duration::from_millis(100);
/// How long a check of readiness may take.
const READINESS: Duration = Duration::from_millis(2_300);

/// Programs, and how they are reached.
struct Stack {
    api: Process,
    worker: Process,
    key: String,
    admins: [String; 2],
}

impl Stack {
    /// Starts both programs, with their own URL of the database, and waits until they have read the gauges.
    async fn start(database: &Database, url: &str, settings: &[(&str, &str)]) -> Self {
        let key = database.key("acme").await;
        let settings: Vec<_> = settings.iter().copied().chain([("DATABASE_URL", url)]).collect();
        let api = Process::api_with(database, &settings).await;
        let worker = Process::worker_with(database, &[], &settings);
        let admins = [api.admin_url().await, worker.admin_url().await];
        for admin in &admins {
            cluster(admin, "read", |page| page.value(JOBS).is_some()).await;
        }
        Self { api, worker, key, admins }
    }

    /// Both programs answer in time, and show the last known values.
    async fn answers(&self, what: &str) {
        for admin in &self.admins {
            for path in ["/metrics", "/metrics/cluster", "/healthz"] {
                let mut times = Vec::new();
                for _ in 0..7 {
                    let began = Instant::now();
                    let answer = reqwest::get(format!("{admin}{path}")).await.unwrap();
                    assert!(answer.status().is_success());
                    answer.text().await.unwrap();
                    times.push(began.elapsed());
                }
                times.sort();
                assert!(times[3] < PAGE, "{path} with a database {what}: {times:?}");
            }
            let began = Instant::now();
            reqwest::get(format!("{admin}/readyz")).await.unwrap();
            assert!(began.elapsed() < READINESS, "/readyz with a database {what}: {:?}", began.elapsed());
            let page = Page::parse(&text(admin, "/metrics/cluster").await);
            assert_eq!(page.value(JOBS), Some(0.0), "{what}");
        }
    }

    /// Requests that wait for the database.
    fn request(&self, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
        let request = || Client::new().get(format!("{}/dev/crm/jobs", self.api.url)).bearer_auth(&self.key).send();
        (0..count).map(|_| request()).map(|it| tokio::spawn(async move { drop(it.await) })).collect()
    }
}

const JOBS: &str = r#"crm_jobs{queue="workflows",kind="process_followups",state="due"}"#;
const SUCCESS: &str = r#"crm_cluster_sample_success{part="jobs"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn pages_do_not_wait_for_a_database_that_cannot_be_reached() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.url(), Mode::Forward).await;
    let stack = Stack::start(&database, &proxy.url(database.url()), &[]).await;
    for mode in [Mode::Silence, Mode::Close, Mode::Garbage] {
        proxy.set(mode);
        let requests = stack.request(5);
        stack.answers(&format!("behind a proxy: {mode:?}")).await;
        requests.iter().for_each(tokio::task::JoinHandle::abort);
    }
    for admin in &stack.admins {
        let page = cluster(admin, "failed", |page| page.value(SUCCESS) == Some(0.0)).await;
        let age = page.value(r#"crm_cluster_sample_age_seconds{part="jobs"}"#).unwrap();
        assert!(age > 1.0, "{age}");
    }
    proxy.set(Mode::Forward);
    for admin in &stack.admins {
        cluster(admin, "read again", |page| page.value(SUCCESS) == Some(1.0)).await;
    }
    let _ = &stack.worker;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_do_not_wait_for_locks_or_connections() {
    let database = Database::create().await;
    let limits = [("CRM_DATABASE__MAX_CONNECTIONS", "2"), ("CRM_DATABASE__ACQUIRE_TIMEOUT_S", "20")];
    let stack = Stack::start(&database, database.url(), &limits).await;
    let mut connection = support::connect(database.url()).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE jobs, emails, workspaces").execute(&mut connection).await.unwrap();
    let requests = stack.request(10);
    let page = async || Page::parse(&text(&stack.admins[0], "/metrics").await);
    let waiting = |page: &Page| page.value(r#"crm_db_pool_waiting{pool="requests"}"#).unwrap();
    let used = |page: &Page| page.value(r#"crm_db_pool_connections{pool="requests",state="used"}"#).unwrap();
    let (began, mut waits) = (Instant::now(), page().await);
    while waiting(&waits) < 8.0 || used(&waits) < 2.0 {
        assert!(began.elapsed() < super::PATIENCE, "the requests do not wait for connections");
        waits = page().await;
    }
    assert_eq!(waits.value("crm_database_up"), Some(1.0));
    stack.answers("that is locked, and all connections in use").await;
    for admin in &stack.admins {
        cluster(admin, "failed", |page| page.value(SUCCESS) == Some(0.0)).await;
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
    for request in requests {
        request.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_do_not_wait_for_a_server_that_is_stopped() {
    let server = TempCluster::start(&Server::find().await.unwrap()).await.unwrap();
    let url = server.database("crm").await.unwrap();
    let database = Database::on(&server, "crm");
    shared::migrate::run(&support::settings(&url).database, |_| ()).await.unwrap();
    let stack = Stack::start(&database, &url, &[]).await;
    let processes = processes(&database).await;
    signal("-STOP", &processes).await;
    let requests = stack.request(5);
    stack.answers("that is stopped").await;
    for admin in &stack.admins {
        cluster(admin, "failed", |page| page.value(SUCCESS) == Some(0.0)).await;
        until_down(admin).await;
    }
    signal("-CONT", &processes).await;
    for admin in &stack.admins {
        cluster(admin, "read again", |page| page.value(SUCCESS) == Some(1.0)).await;
    }
    for request in requests {
        request.abort();
    }
    drop(stack);
    database.pool().close().await;
    server.stop().await.unwrap();
}

/// Waits until a program reports that the database does not answer.
async fn until_down(admin: &str) {
    let began = Instant::now();
    while Page::parse(&text(admin, "/metrics").await).value("crm_database_up") != Some(0.0) {
        assert!(began.elapsed() < super::PATIENCE, "crm_database_up stays 1");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All processes of the server.
async fn processes(database: &Database) -> Vec<String> {
    let mut ids: Vec<i32> =
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity").fetch_all(database.pool()).await.unwrap();
    let file: String =
        sqlx::query_scalar("SELECT pg_read_file('postmaster.pid')").fetch_one(database.pool()).await.unwrap();
    ids.push(file.lines().next().unwrap().parse().unwrap());
    ids.iter().map(i32::to_string).collect()
}

/// Sends a signal to the processes that are still there.
async fn signal(name: &str, processes: &[String]) {
    for process in processes {
        Command::new("kill").arg(name).arg(process).output().await.unwrap();
    }
}
