//! `cargo dev faults mail`

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use rand::RngExt;
use shared::events::Actor;
use shared::mail::templates::Rendered;
use shared::mail::{self, Event, NewEmail, Sender};
use shared::values::{Email, Field};
use testing::smtp::{Act, MailServer, Moment, Options, Stage as Point};
use tokio::time::sleep;
use uuid::Uuid;

use super::harness::Harness;

const WORKSPACE: Uuid = Uuid::from_u128(1);
/// How long the remaining emails may take after the last kill.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of emails.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    emails: usize,
    /// How often a worker is killed.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: usize,
    /// The number of workers at any time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// The number of connections of each worker to the mail server.
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
    /// How many seconds the server drops connections after the final dot of every message.
    #[arg(long, value_name = "S", default_value_t = 240)]
    dropping: u64,
    /// Another build of crm-worker for the part with dropped connections.
    #[arg(long, value_name = "PATH")]
    worker: Option<PathBuf>,
}

/// Kills workers while they send emails to a misbehaving server; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let server = MailServer::with(Options { smtputf8: true, ..Options::default() }).await;
    server.act(misbehave);
    let (port, connections) = (server.address.port().to_string(), arguments.connections.to_string());
    let environment = [
        ("CRM_MAIL__HOST", "127.0.0.1"),
        ("CRM_MAIL__PORT", &port),
        ("CRM_MAIL__TLS", "none"),
        ("CRM_MAIL__FROM_EMAIL", "hello@acme.example"),
        ("CRM_MAIL__CONNECTIONS", &connections),
    ];
    let mut harness = Harness::start_with(arguments.workers, !arguments.debug, &environment).await?;
    let queued = send_and_kill(&mut harness, &arguments).await?;
    let mut broken = verify(&harness, &server, &arguments).await?;
    broken.extend(harness.ended().await);
    println!("{queued} emails were queued, {} connections were opened", server.connections());
    if arguments.dropping > 0 {
        broken.extend(drop_after_the_dot(&mut harness, &server, &arguments).await?);
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Runs a server that accepts each message and drops the connection without a reply, and checks the number of
/// `unknown` emails.
async fn drop_after_the_dot(harness: &mut Harness, server: &MailServer, arguments: &Arguments) -> Result<Vec<String>> {
    server.act(|moment| if moment.stage == Point::Dot { Act::TakeAndDrop } else { Act::Accept });
    if let Some(program) = &arguments.worker {
        harness.run_workers_of(program).await?;
    }
    let unknown = async |pool| -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = 'unknown'").fetch_one(pool).await?)
    };
    let before = unknown(&harness.pool).await?;
    queue(harness, 1_000).await?;
    sleep(Duration::from_secs(arguments.dropping)).await;
    let number = unknown(&harness.pool).await? - before;
    // Two until the third consecutive break, when each connection may add one; then one after 1, 2, 4 … 60 s.
    let connections = i64::try_from(arguments.workers * arguments.connections)?;
    let tries = i64::from(arguments.dropping.clamp(1, 63).ilog2()) + 1;
    let bound = connections + 2 + tries + i64::try_from(arguments.dropping.saturating_sub(63) / 60)? + 1;
    println!(
        "dropping connections after the final dot for {} s left {number} unknown emails; at most {bound} are allowed",
        arguments.dropping
    );
    server.act(|_| Act::Accept);
    let began = Instant::now();
    loop {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM emails WHERE state IN ('queued', 'sending')")
            .fetch_one(&harness.pool)
            .await?;
        if open == 0 {
            break;
        }
        if began.elapsed() > PATIENCE {
            bail!("{open} emails were not sent within {PATIENCE:?} after the server worked again");
        }
        sleep(Duration::from_millis(100)).await;
    }
    println!("the other emails were sent {:.1} s after the server worked again", began.elapsed().as_secs_f64());
    let is_broken = number > bound && arguments.worker.is_none();
    Ok(is_broken.then(|| format!("{number} emails are unknown, more than {bound}")).into_iter().collect())
}

/// Typical misbehavior of mail servers, more frequent than usual.
fn misbehave(moment: &Moment<'_>) -> Act {
    let dice = rand::rng().random_range(0..1000);
    // Some addresses do not exist, and some are greylisted.
    let kind = moment.to.bytes().map(u32::from).sum::<u32>() % 100;
    match (moment.stage, dice) {
        (Point::Rcpt, _) if kind < 2 => Act::Say("550 5.1.1 No such user"),
        (Point::Rcpt, _) if kind < 7 && moment.times == 1 => Act::Say("451 4.7.1 Greylisted"),
        (Point::Greeting, 0..20) | (Point::Mail | Point::Rcpt | Point::Data, 0..5) => Act::Drop,
        (Point::Greeting | Point::Mail | Point::Rcpt | Point::Data, 20..25) => Act::Say("421 4.3.2 Going down"),
        (Point::Mail | Point::Rcpt | Point::Data | Point::Dot, 30..35) => Act::Say("451 4.3.0 Later"),
        (Point::Rcpt | Point::Data | Point::Dot, 40..43) => Act::Say("554 5.7.1 No"),
        (Point::Inside, 0..10) => Act::Drop,
        (Point::Dot, 50..55) => Act::Drop,
        (Point::Dot, 60..65) => Act::TakeAndDrop,
        (Point::Mail | Point::Rcpt | Point::Data | Point::Dot, 100..150) => Act::Wait(Duration::from_millis(20)),
        _ => Act::Accept,
    }
}

/// Queues emails in portions, kills a worker after each portion, and waits for the rest. Returns the number of
/// emails.
async fn send_and_kill(harness: &mut Harness, arguments: &Arguments) -> Result<i64> {
    let portion = arguments.emails.div_ceil(arguments.kills + 1);
    let mut left = arguments.emails;
    for kill in 0..=arguments.kills {
        let count = portion.min(left);
        left -= count;
        queue(harness, count).await?;
        hurry(harness).await?;
        let pause = rand::rng().random_range(20..500);
        sleep(Duration::from_millis(pause)).await;
        if kill < arguments.kills {
            harness.kill_worker(rand::rng().random_range(0..arguments.workers)).await?;
        }
    }
    let began = Instant::now();
    loop {
        hurry(harness).await?;
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM emails WHERE state IN ('queued', 'deferred', 'sending')")
                .fetch_one(&harness.pool)
                .await?;
        if open == 0 {
            return Ok(sqlx::query_scalar("SELECT count(*) FROM emails").fetch_one(&harness.pool).await?);
        }
        if began.elapsed() > PATIENCE {
            bail!("{open} emails have no final state after {PATIENCE:?}");
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Makes deferred emails due at once; they would otherwise wait for a minute or longer.
async fn hurry(harness: &Harness) -> Result<()> {
    sqlx::query("UPDATE emails SET run_at = now() WHERE state = 'deferred' AND lease_until IS NULL AND run_at > now()")
        .execute(&harness.pool)
        .await?;
    Ok(())
}

async fn queue(harness: &Harness, count: usize) -> Result<()> {
    let sender = Sender { name: Some("Acme".into()), email: "hello@acme.example".into(), reply_to: None };
    let emails: Result<Vec<NewEmail>> = (0..count).map(|_| new_email()).collect();
    mail::queue(&mut *harness.pool.acquire().await?, &Actor::worker(WORKSPACE), &sender, &emails?).await?;
    Ok(())
}

fn new_email() -> Result<NewEmail> {
    let id = Uuid::now_v7();
    let to = format!("{}@example.com", id.simple());
    let to_email = Email::from_text(&to).map_err(|fault| anyhow::anyhow!("{to} {}", fault.message))?;
    Ok(NewEmail {
        id,
        event: Event::Nurture,
        event_key: format!("nurture:{id}"),
        subject: None,
        to_name: None,
        to_email,
        content: Rendered {
            subject: "Hello".into(),
            text: "Some words.\n".repeat(50),
            html: "<p>Some words.</p>\n".repeat(50),
        },
        unsubscribe: Some(format!("https://crm.example/unsubscribe/{id}")),
        time_zone: None,
    })
}

/// Compares the states of the emails with the messages that the server has accepted.
async fn verify(harness: &Harness, server: &MailServer, arguments: &Arguments) -> Result<Vec<String>> {
    let mut accepted = HashMap::<String, usize>::new();
    for message in server.taken() {
        *accepted.entry(message.header("Message-ID").unwrap_or_default().to_owned()).or_default() += 1;
    }
    let emails: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, state FROM emails").fetch_all(&harness.pool).await?;
    let mut broken = Vec::new();
    let (mut duplicates, mut lost) = (0, 0);
    let mut states = HashMap::<String, [usize; 2]>::new();
    for (id, state) in &emails {
        let copies = accepted.remove(&format!("<{id}@acme.example>")).unwrap_or(0);
        states.entry(state.clone()).or_default()[copies.min(1)] += 1;
        duplicates += usize::from(copies > 1);
        match (state.as_str(), copies) {
            ("sent", 0) => lost += 1,
            ("sent" | "unknown", _) | ("bounced" | "suppressed", 0) => (),
            _ => broken.push(format!("email {id} is {state}, and the server has {copies} copies")),
        }
    }
    println!("duplicates at the server: {duplicates}; sent but not at the server: {lost}");
    for (state, [absent, present]) in &states {
        println!("{state}: {} emails, {present} at the server and {absent} not", absent + present);
    }
    let expected = arguments.emails;
    let guarantees = [
        (emails.len() != expected, format!("the outbox has {} emails instead of {expected}", emails.len())),
        (duplicates > 0, format!("{duplicates} emails are at the server twice")),
        (lost > 0, format!("{lost} emails are marked as sent but are not at the server")),
        (!accepted.is_empty(), format!("{} messages at the server are not in the outbox", accepted.len())),
    ];
    broken.extend(guarantees.into_iter().filter(|(is_broken, _)| *is_broken).map(|(_, guarantee)| guarantee));
    Ok(broken)
}
