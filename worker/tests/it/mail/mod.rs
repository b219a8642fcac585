//! Delivery of emails from the outbox to a mail server with scripted behaviour.

mod breaks;
mod delivery;
mod outages;
mod refusals;
mod senders;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::events::Actor;
use shared::mail::{self, NewEmail};
use shared::platform::config::Settings;
use shared::platform::listen::AdminPort;
use sqlx::PgPool;
use testing::Database;
use testing::smtp::{MailServer, Options};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::outbox::{WORKSPACE, email, sender};
use crate::support::PATIENCE;

/// An outbox and a mail server.
struct Setup {
    server: Arc<MailServer>,
    database: Database,
    /// The address of the last started worker's admin port.
    admin: Mutex<String>,
}

/// A worker in this process that sends emails.
struct Sending {
    stop: CancellationToken,
    worker: JoinHandle<anyhow::Result<()>>,
}

impl Sending {
    async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
    }
}

impl Setup {
    async fn start() -> Self {
        Self::with(Options { smtputf8: true, ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let server = Arc::new(MailServer::with(options).await);
        Self { server, database: Database::create().await, admin: Mutex::default() }
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    fn variables(&self, further: &[(&str, &str)]) -> Vec<(String, String)> {
        let port = self.server.address.port().to_string();
        let own = [
            ("DATABASE_URL", self.database.url()),
            ("CRM_WORKER__LISTEN", "127.0.0.1:0"),
            ("CRM_WORKER__QUEUES", "mail"),
            ("CRM_MAIL__HOST", "localhost"),
            ("CRM_MAIL__PORT", &port),
            ("CRM_MAIL__TLS", "none"),
            ("CRM_MAIL__SENDER_DOMAINS", "acme.example"),
        ];
        own.iter().chain(further).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn worker(&self, further: &[(&str, &str)]) -> Sending {
        let settings = Settings::from_layers(None, self.variables(further)).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        *self.admin.lock().unwrap() = listener.local_addr().unwrap().to_string();
        let admin = AdminPort::Bound(TcpListener::from_std(listener).unwrap());
        let stop = CancellationToken::new();
        let working = worker::run_with(settings, testing::test_jobs::tasks(), admin, stop.clone());
        Sending { stop, worker: tokio::spawn(working) }
    }

    async fn queue(&self, emails: &[NewEmail]) {
        let mut connection = self.pool().acquire().await.unwrap();
        mail::queue(&mut connection, &Actor::worker(WORKSPACE), &sender(), emails).await.unwrap();
    }

    async fn queue_to(&self, to: &[&str]) {
        let emails: Vec<NewEmail> = to.iter().map(|to| email(to, to)).collect();
        self.queue(&emails).await;
    }

    /// The state of the email to an address, with the last answer.
    async fn state(&self, to: &str) -> (String, Option<String>) {
        sqlx::query_as("SELECT state, answer FROM emails WHERE to_email = $1")
            .bind(to)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Waits until the email to an address is in a state, and returns the last answer.
    async fn until(&self, to: &str, state: &str) -> String {
        let started = Instant::now();
        loop {
            let (present, answer) = self.state(to).await;
            if present == state {
                return answer.unwrap_or_default();
            }
            assert!(started.elapsed() < PATIENCE, "the email to {to} is {present} ({answer:?}), not {state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes deferred emails due.
    async fn hurry(&self) {
        self.run("UPDATE emails SET run_at = now() WHERE state = 'deferred'").await;
    }

    async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.pool()).await.unwrap();
    }

    fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin.lock().unwrap())
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(self.admin_url(path)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn until_ready_says(&self, status: u16, what: &str) {
        let started = Instant::now();
        loop {
            let answer = reqwest::get(self.admin_url("/readyz")).await;
            let response = match answer {
                Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
                Err(error) => (0, error.to_string()),
            };
            if response.0 == status && response.1.contains(what) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "/readyz returns {response:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
