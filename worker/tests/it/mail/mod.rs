//! Mails on their way from the outbox to a server, which does what mail servers do.

mod delivery;
mod outages;
mod refusals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dev::testing::Database;
use dev::testing::smtp::{MailServer, Options};
use shared::config::Settings;
use shared::mail::{self, NewEmail};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::outbox::{WORKSPACE, email, sender};
use crate::support::{PATIENCE, free_address};

/// An outbox, and a server that takes its mails.
struct Post {
    server: Arc<MailServer>,
    database: Database,
    metrics: String,
}

/// A worker in this process that sends mails.
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

impl Post {
    async fn start() -> Self {
        Self::with(Options { smtputf8: true, ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let server = Arc::new(MailServer::with(options).await);
        Self { server, database: Database::create().await, metrics: free_address() }
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    fn variables(&self, further: &[(&str, &str)]) -> Vec<(String, String)> {
        let port = self.server.address.port().to_string();
        let own = [
            ("DATABASE_URL", self.database.url()),
            ("CRM_WORKER__LISTEN", &self.metrics),
            ("CRM_WORKER__QUEUES", "mail"),
            ("CRM_MAIL__HOST", "localhost"),
            ("CRM_MAIL__PORT", &port),
            ("CRM_MAIL__TLS", "none"),
        ];
        own.iter().chain(further).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn worker(&self, further: &[(&str, &str)]) -> Sending {
        let settings = Settings::from_layers(None, self.variables(further)).unwrap();
        let stop = CancellationToken::new();
        Sending { stop: stop.clone(), worker: tokio::spawn(worker::run(settings, dev::chores::tasks(), stop)) }
    }

    async fn queue(&self, emails: &[NewEmail]) {
        let mut connection = self.pool().acquire().await.unwrap();
        mail::queue(&mut connection, WORKSPACE, &sender(), emails).await.unwrap();
    }

    async fn queue_to(&self, to: &[&str]) {
        let emails: Vec<NewEmail> = to.iter().map(|to| email(to, to)).collect();
        self.queue(&emails).await;
    }

    /// The state of the mail to an address, with the last answer.
    async fn state(&self, to: &str) -> (String, Option<String>) {
        sqlx::query_as("SELECT state, answer FROM emails WHERE to_email = $1")
            .bind(to)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Waits until the mail to an address is in a state, and returns the last answer.
    async fn until(&self, to: &str, state: &str) -> String {
        let started = Instant::now();
        loop {
            let (present, answer) = self.state(to).await;
            if present == state {
                return answer.unwrap_or_default();
            }
            assert!(started.elapsed() < PATIENCE, "the mail to {to} is {present} ({answer:?}), not {state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes mails that were put off due.
    async fn hurry(&self) {
        self.run("UPDATE emails SET run_at = now() WHERE state = 'deferred'").await;
    }

    async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.pool()).await.unwrap();
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.metrics)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn until_ready_says(&self, status: u16, what: &str) {
        let started = Instant::now();
        loop {
            let answer = reqwest::get(format!("http://{}/readyz", self.metrics)).await;
            let said = match answer {
                Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
                Err(error) => (0, error.to_string()),
            };
            if said.0 == status && said.1.contains(what) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "/readyz says {said:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
