//! `cargo dev bench mail`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use shared::events::Actor;
use shared::mail::templates::Rendered;
use shared::mail::{self, Event, NewEmail, Sender};
use shared::platform::db;
use shared::queue::notify::Notifier;
use shared::values::{Email, Field};
use sqlx::PgConnection;
use testing::smtp::{MailServer, Taken};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::figures::{Bound, Figures, median, quantile};
use super::harness::{Harness, Program, succeed};
use super::records::filled;

/// The least number of emails per second, unless the database commits too slowly for that.
const AT_LEAST: f64 = 1_000.0;
/// The least share of what pgbench commits with the same statement.
const SHARE_OF_PGBENCH: f64 = 0.9;
/// The most milliseconds until another workspace's email is at the server while many are queued (p99).
const BEHIND_MANY_MS: f64 = 1_000.0;
/// The most milliseconds until an email is at the server in an idle system (p50).
const ALONE_MS: f64 = 100.0;
const BUSY: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
/// The timeout of each wait.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of emails to deliver in each round.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    emails: usize,
    /// How often delivery and pgbench are measured, alternately.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// The number of connections to the mail server, and of clients of pgbench.
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// The number of queued emails of the busy workspace.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    queued: usize,
    /// The number of emails, one after another, in an idle system and in a busy one.
    #[arg(long, value_name = "N", default_value_t = 200)]
    samples: usize,
}

/// Measures delivery over SMTP to a server that accepts everything.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { emails, rounds, connections, queued, samples } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "emails": emails, "rounds": rounds,
        "connections": connections, "queued": queued, "samples": samples });
    let mut figures = Figures::new("mail", settings);
    let server = MailServer::start().await;

    let (mut delivered, mut commits) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let per_second = deliver(harness, &server, emails, connections).await?;
        let tps = pgbench(harness, emails, connections).await?;
        figures.sample(json!({ "round": round, "delivered_per_s": per_second, "pgbench_per_s": tps }));
        delivered.push(per_second);
        commits.push(tps);
    }
    let (delivered, commits) = (median(&delivered), median(&commits));
    let share = Bound::AtLeast(SHARE_OF_PGBENCH);
    figures.alone(
        "delivered emails, including the updates of their states",
        delivered,
        "emails/s",
        Bound::AtLeast(AT_LEAST.min(SHARE_OF_PGBENCH * commits)),
    );
    figures.ratio("the same", (delivered, commits), "/s", "pgbench, the same statement for each email", share);

    let worker = worker(harness, &server, connections)?;
    for (figure, busy, share, bound) in [
        ("time until an email is at the server, idle system, p50", 0, 0.5, ALONE_MS),
        ("the same with very many queued emails of another workspace, p99", queued, 0.99, BEHIND_MANY_MS),
    ] {
        queue(harness, BUSY, busy).await?;
        let waited = one_by_one(harness, &server, samples).await?;
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = 'queued'").fetch_one(&harness.pool).await?;
        ensure!(busy == 0 || left > 0, "the long queue was empty before the last sample");
        figures.sample(json!({ "of": figure, "waited_ms": waited, "left": left }));
        figures.alone(figure, quantile(&waited, share), "ms", Bound::AtMost(bound));
        figures.alone("  longest", quantile(&waited, 1.0), "ms", Bound::None);
    }
    worker.stop().await?;
    Ok(figures.table())
}

fn worker(harness: &Harness, server: &MailServer, connections: usize) -> Result<Program> {
    let (port, connections) = (server.address.port().to_string(), connections.to_string());
    harness.worker_with(&[
        ("CRM_MAIL__HOST", "127.0.0.1"),
        ("CRM_MAIL__PORT", &port),
        ("CRM_MAIL__TLS", "none"),
        ("CRM_MAIL__FROM_EMAIL", "hello@acme.example"),
        ("CRM_MAIL__CONNECTIONS", &connections),
    ])
}

/// Delivers queued emails; returns the number per second, from the first to the last.
async fn deliver(harness: &Harness, server: &MailServer, emails: usize, connections: usize) -> Result<f64> {
    queue(harness, BUSY, emails).await?;
    server.forget();
    let worker = worker(harness, server, connections)?;
    let began = Instant::now();
    while server.count() < emails {
        ensure!(began.elapsed() < PATIENCE, "only {} of {emails} emails were delivered", server.count());
        sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await?;
    let unsent: i64 =
        sqlx::query_scalar("SELECT count(*) FROM emails WHERE state <> 'sent'").fetch_one(&harness.pool).await?;
    ensure!(unsent == 0, "{unsent} emails are not marked as sent");
    let taken = server.taken();
    let (first, last) = taken.first().zip(taken.last()).context("no email was delivered")?;
    Ok((taken.len() - 1) as f64 / (last.at - first.at).as_secs_f64())
}

/// Queues emails of the other workspace, each after the delivery of the previous one; returns the time from
/// commit to delivery of each, in milliseconds.
async fn one_by_one(harness: &Harness, server: &MailServer, samples: usize) -> Result<Vec<f64>> {
    let notifier = Notifier::new(db::pool(&harness.settings()?.database, "bench")?);
    let mut connection = harness.pool.acquire().await?;
    let mut waited = Vec::with_capacity(samples);
    for _ in 0..samples {
        server.forget();
        let email = new_email(Uuid::now_v7());
        let to = email.to_email.as_ref().to_owned();
        put(&mut connection, OTHER, &[email]).await?;
        let committed = Instant::now();
        notifier.notify(mail::QUEUE);
        let taken = loop {
            if let Some(taken) = server.taken().into_iter().find(|taken: &Taken| taken.to == to) {
                break taken.at;
            }
            ensure!(committed.elapsed() < PATIENCE, "an email was not delivered");
            sleep(Duration::from_millis(2)).await;
        };
        waited.push((taken - committed.into_std()).as_secs_f64() * 1000.0);
        sleep(Duration::from_millis(20)).await;
    }
    Ok(waited)
}

async fn queue(harness: &Harness, workspace_id: Uuid, emails: usize) -> Result<()> {
    let mut connection = harness.pool.acquire().await?;
    for _ in 0..emails.div_ceil(1_000) {
        let batch: Vec<NewEmail> = (0..1_000).map(|_| new_email(Uuid::now_v7())).collect();
        put(&mut connection, workspace_id, &batch).await?;
    }
    harness.prepare("VACUUM ANALYZE emails").await
}

async fn put(connection: &mut PgConnection, workspace_id: Uuid, emails: &[NewEmail]) -> Result<()> {
    let sender = Sender { name: Some("Acme".into()), email: "hello@acme.example".into(), reply_to: None };
    mail::queue(connection, &Actor::worker(workspace_id), &sender, emails).await?;
    Ok(())
}

/// An email of the size of the shipped sequence.
fn new_email(id: Uuid) -> NewEmail {
    let line = "A line of filler text of usual length, as it occurs in a message to many recipients.\n";
    let (text, html) = (line.repeat(8), format!("<html><body>{}</body></html>", format!("<p>{line}</p>").repeat(16)));
    NewEmail {
        id,
        event: Event::Nurture,
        event_key: format!("nurture:{id}"),
        subject: None,
        to_name: Some("Ada Example".into()),
        to_email: Email::from_text(&format!("{}@example.com", id.simple())).unwrap_or_else(|_| unreachable!()),
        content: Rendered { subject: "Good to have you here".into(), text, html },
        unsubscribe: Some(format!("https://crm.example/unsubscribe/{id}")),
        time_zone: None,
    }
}

/// Marks emails as a sender does, one after the other for each client: the last one as sent and the next one as
/// being sent. Returns the number of commits per second.
async fn pgbench(harness: &Harness, emails: usize, clients: usize) -> Result<f64> {
    let each = emails / clients;
    harness.prepare("TRUNCATE emails").await?;
    let mut connection = harness.pool.acquire().await?;
    let ids = (0..clients).flat_map(|client| (0..=each).map(move |n| (client * EMAILS_OF_A_CLIENT + n + 1) as u128));
    let new: Vec<NewEmail> = ids.map(|id| new_email(Uuid::from_u128(id))).collect();
    for batch in new.chunks(1_000) {
        put(&mut connection, BUSY, batch).await?;
    }
    harness.prepare("VACUUM ANALYZE emails").await?;
    let script = harness.dir.join("mark.sql");
    std::fs::write(&script, marking())?;
    let (clients, each) = (clients.to_string(), each.to_string());
    let mut command = harness.program("pgbench");
    command.args(["--client", &clients, "--jobs", "2", "--transactions", &each, "--define", "n=0"]);
    command.args(["--protocol", "prepared", "--no-vacuum", "--file"]).arg(&script).arg(harness.url());
    let report = succeed(&mut command).await?;
    let sent: i64 =
        sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = 'sent'").fetch_one(&harness.pool).await?;
    ensure!(sent > 0, "pgbench marked no email");
    harness.prepare("TRUNCATE emails").await?;
    let tps = report.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench reports no tps")?;
    Ok(tps.split_whitespace().next().context("pgbench reports no tps")?.parse()?)
}

/// The distance between the first ids of two clients of pgbench.
const EMAILS_OF_A_CLIENT: usize = 1_000_000;

/// The script for pgbench: the statement of a sender, with the ids of the client's emails.
fn marking() -> String {
    let hex = |n: &str| format!("lpad(to_hex(:client_id * {EMAILS_OF_A_CLIENT} + {n}), 32, '0')");
    let (last, next) = (hex(":n"), hex("(:n + 1)"));
    let values = [
        format!("'{BUSY}'::uuid"),
        format!("{last}::uuid"),
        "0".to_owned(),
        "'250 OK'".to_owned(),
        format!("{next}::uuid"),
        "0".to_owned(),
        "15.0".to_owned(),
        format!("{next} || '@example.com'"),
        "NULL::text".to_owned(),
    ];
    format!("\\set n :n + 1\n{};\n", filled(mail::SENT_THEN_SENDING, values))
}
