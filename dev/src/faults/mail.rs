//! `cargo dev faults mail`

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use dev::testing::smtp::{Act, MailServer, Moment, Options, Stage as Point};
use rand::RngExt;
use shared::mail::templates::Rendered;
use shared::mail::{self, Event, NewEmail, Sender};
use shared::values::{Email, Field};
use tokio::time::sleep;
use uuid::Uuid;

use super::harness::Harness;

const WORKSPACE: Uuid = Uuid::from_u128(1);
/// How long the rest may take when nothing is killed any more.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct Arguments {
    /// How many mails there are.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    mails: usize,
    /// How often a worker is killed.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: usize,
    /// How many workers run at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// Connections of each worker to the mail server.
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Build the programs without optimizations, which is sooner done but not what is deployed.
    #[arg(long)]
    debug: bool,
    /// How many seconds a server ends connections after the final dot of every message.
    #[arg(long, value_name = "S", default_value_t = 240)]
    dropping: u64,
    /// Another build of crm-worker, for the part with that server.
    #[arg(long, value_name = "PATH")]
    worker: Option<PathBuf>,
}

/// Kills workers while they send mails to a server that misbehaves; returns the broken promises.
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
    let kept = send_and_kill(&mut harness, &arguments).await?;
    let mut broken = verify(&harness, &server, &arguments).await?;
    broken.extend(harness.ended().await);
    println!("{kept} mails were put into the outbox, {} connections were made", server.connections());
    if arguments.dropping > 0 {
        broken.extend(drop_after_the_dot(&mut harness, &server, &arguments).await?);
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// A server that takes each message and ends the connection without an answer: how many are in doubt.
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
    // One for each connection when the third in a row broke, two before that; then after 1, 2, 4 … 60 seconds.
    let connections = i64::try_from(arguments.workers * arguments.connections)?;
    let tries = i64::from(arguments.dropping.clamp(1, 63).ilog2()) + 1;
    let bound = connections + 2 + tries + i64::try_from(arguments.dropping.saturating_sub(63) / 60)? + 1;
    println!(
        "a server that ended connections after the final dot for {} s made {number} unknown mails, at most {bound} are allowed",
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
            bail!("{open} mails have not left {PATIENCE:?} after the server was well again");
        }
        sleep(Duration::from_millis(100)).await;
    }
    println!("the others had left {:.1} s after it was well again", began.elapsed().as_secs_f64());
    let is_broken = number > bound && arguments.worker.is_none();
    Ok(is_broken.then(|| format!("{number} mails are unknown, not {bound} at most")).into_iter().collect())
}

/// What mail servers do, all of it more often than usual.
fn misbehave(moment: &Moment<'_>) -> Act {
    let dice = rand::rng().random_range(0..1000);
    // Of some addresses there are none, and some servers let nobody in at the first time.
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

/// Puts mails into the outbox bit by bit, kills a worker after each bit, and waits for the rest.
async fn send_and_kill(harness: &mut Harness, arguments: &Arguments) -> Result<i64> {
    let bit = arguments.mails.div_ceil(arguments.kills + 1);
    let mut left = arguments.mails;
    for kill in 0..=arguments.kills {
        let count = bit.min(left);
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
            bail!("{open} mails have not come to an end after {PATIENCE:?}");
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// A mail that was put off waits for a minute or longer; here it does not.
async fn hurry(harness: &Harness) -> Result<()> {
    sqlx::query("UPDATE emails SET run_at = now() WHERE state = 'deferred' AND lease_until IS NULL AND run_at > now()")
        .execute(&harness.pool)
        .await?;
    Ok(())
}

async fn queue(harness: &Harness, count: usize) -> Result<()> {
    let sender = Sender { name: Some("Acme".into()), email: "hello@acme.example".into(), reply_to: None };
    let mails: Result<Vec<NewEmail>> = (0..count).map(|_| new_mail()).collect();
    mail::queue(&mut *harness.pool.acquire().await?, WORKSPACE, &sender, &mails?).await?;
    Ok(())
}

fn new_mail() -> Result<NewEmail> {
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
    })
}

/// Compares what the outbox says with what the server has.
async fn verify(harness: &Harness, server: &MailServer, arguments: &Arguments) -> Result<Vec<String>> {
    let mut taken = HashMap::<String, usize>::new();
    for mail in server.taken() {
        *taken.entry(mail.header("Message-ID").unwrap_or_default().to_owned()).or_default() += 1;
    }
    let mails: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, state FROM emails").fetch_all(&harness.pool).await?;
    let mut broken = Vec::new();
    let (mut twice, mut lost) = (0, 0);
    let mut states = HashMap::<String, [usize; 2]>::new();
    for (id, state) in &mails {
        let copies = taken.remove(&format!("<{id}@acme.example>")).unwrap_or(0);
        states.entry(state.clone()).or_default()[copies.min(1)] += 1;
        twice += usize::from(copies > 1);
        match (state.as_str(), copies) {
            ("sent", 0) => lost += 1,
            ("sent" | "unknown", _) | ("bounced" | "suppressed", 0) => (),
            _ => broken.push(format!("mail {id} is {state}, and {copies} times at the server")),
        }
    }
    println!("at the server twice: {twice}; said to be sent and not there: {lost}");
    for (state, [absent, present]) in &states {
        println!("{state}: {} mails, of which {present} are at the server and {absent} are not", absent + present);
    }
    let expected = arguments.mails;
    let promises = [
        (mails.len() != expected, format!("{} mails are in the outbox, not {expected}", mails.len())),
        (twice > 0, format!("{twice} mails are at the server twice")),
        (lost > 0, format!("{lost} mails are said to be sent and are not at the server")),
        (!taken.is_empty(), format!("{} messages at the server are no mails of the outbox", taken.len())),
    ];
    broken.extend(promises.into_iter().filter(|(is_broken, _)| *is_broken).map(|(_, promise)| promise));
    Ok(broken)
}
