//! A restored backup or a copy sends nothing until an operator releases it.

mod copies;
mod holding;
mod release;

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;
use testing::smtp::MailServer;
use testing::{Database, Process};
use tokio::process::Command;

use crate::cli::program;
use crate::nurture::many_leads;
use crate::support::Api;
use crate::workflows::run;

pub(crate) const NURTURE: &str = "/dev/crm/leads/nurture/start";
const PATIENCE: Duration = Duration::from_secs(90);

/// A worker that runs jobs and sends no email.
fn writing(database: &Database, settings: &[(&str, &str)]) -> Process {
    let all: Vec<_> = settings.iter().copied().chain([("CRM_WORKER__SCHEDULE", "false")]).collect();
    Process::worker_with(database, &["--queues", "imports,workflows"], &all)
}

/// A worker that runs jobs and sends email to this server.
pub(crate) fn sending(database: &Database, server: &MailServer, settings: &[(&str, &str)]) -> Process {
    let port = server.address.port().to_string();
    let own = [("CRM_MAIL__HOST", "localhost"), ("CRM_MAIL__PORT", port.as_str()), ("CRM_MAIL__TLS", "none")];
    let all: Vec<_> = own.into_iter().chain(settings.iter().copied()).collect();
    Process::worker_with(database, &[], &all)
}

/// Leads with an email in the outbox each.
pub(crate) async fn queue_emails(api: &Api, count: i32, settings: &[(&str, &str)]) {
    let mut worker = writing(&api.database, settings);
    many_leads(api, count).await;
    let job = run(api, NURTURE).await;
    assert_eq!(job["result"]["sent"], count, "{job}");
    worker.terminate().await;
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a worker reports that email is on hold, and that it is ready all the same.
async fn until_on_hold(worker: &Process) {
    let url = worker.admin_url().await;
    let metric = async || {
        let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
        metrics.contains("\ncrm_email_on_hold 1\n")
    };
    until("the worker finds email on hold", metric).await;
    let ready = reqwest::get(format!("{url}/readyz")).await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    let ready = ready.text().await.unwrap();
    assert!(ready.contains("\nemail is on hold: "), "{ready}");
}

/// The number of emails in a state.
async fn emails(database: &Database, state: &str) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = $1").bind(state);
    count.fetch_one(database.pool()).await.unwrap()
}

/// Waits until all emails that waited were sent.
async fn until_sent(database: &Database, count: i64) {
    until("the emails are sent", async || emails(database, "sent").await == count).await;
}

/// `crm-api mail` with these arguments and settings.
fn command(database: &Database, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let arguments: Vec<&str> = ["mail"].into_iter().chain(arguments.iter().copied()).collect();
    let mut command = program(database, &arguments);
    command.envs(settings.iter().copied());
    command
}

/// The output of a `crm-api mail` that must succeed.
pub(crate) async fn mail(database: &Database, arguments: &[&str]) -> String {
    let output = command(database, arguments, &[]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn status(database: &Database) -> Value {
    serde_json::from_str(&mail(database, &["status", "--json"]).await).unwrap()
}
