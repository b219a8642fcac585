//! Servers that do not answer, and servers that close connections after the final dot.

use std::time::{Duration, Instant};

use shared::mail::{NewEmail, breaks};
use testing::smtp::{Act, Stage};

use super::Setup;
use crate::outbox::email;
use crate::support::PATIENCE;

async fn count(setup: &Setup, state: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = $1")
        .bind(state)
        .fetch_one(setup.pool())
        .await
        .unwrap()
}

async fn until(setup: &Setup, state: &str, at_least: i64) {
    let started = Instant::now();
    while count(setup, state).await < at_least {
        assert!(started.elapsed() < PATIENCE, "{} emails are {state}, not {at_least}", count(setup, state).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn emails(number: usize) -> Vec<NewEmail> {
    (0..number).map(|n| email(&n.to_string(), &format!("a{n}@example.com"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_connections_after_the_final_dot_gets_one_message_at_a_time() {
    let setup = Setup::start().await;
    setup.server.act(|moment| if moment.stage == Stage::Dot { Act::Drop } else { Act::Accept });
    setup.queue(&emails(100)).await;
    let workers =
        [(); 2].map(|()| setup.worker(&[("CRM_MAIL__CONNECTIONS", "2"), ("CRM_WORKER__LISTEN", "127.0.0.1:0")]));
    until(&setup, "unknown", i64::from(breaks::LIMIT)).await;
    let opened = Instant::now();
    // Each of the four connections was sending one message, and had sent one before at most. Then
    // one message follows after 1, 2 and 4 seconds.
    until(&setup, "unknown", 6).await;
    while opened.elapsed() < Duration::from_secs(8) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (unknown, sending) = (count(&setup, "unknown").await, count(&setup, "sending").await);
    assert!(unknown <= 3 + 4 + 4, "{unknown} are unknown after eight seconds");
    assert!(sending <= 1, "{sending} messages are being sent at once");

    // After one answer, all workers send again.
    setup.server.act(|_| Act::Accept);
    setup.run("UPDATE mail_breaks SET next_at = now()").await;
    let unknown = count(&setup, "unknown").await;
    until(&setup, "sent", 100 - unknown).await;
    assert_eq!(breaks::get(&mut setup.pool().acquire().await.unwrap()).await.unwrap().in_a_row, 0);
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(count(&setup, "unknown").await, unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn breaks_count_only_in_a_row() {
    let setup = Setup::start().await;
    // Every second message of a connection gets no answer.
    setup.server.act(|moment| match moment.stage {
        Stage::Dot if moment.to.contains("odd") => Act::Drop,
        _ => Act::Accept,
    });
    let emails: Vec<NewEmail> = (0..20)
        .map(|n| email(&n.to_string(), &format!("{}{n}@example.com", if n % 2 == 0 { "even" } else { "odd" })))
        .collect();
    setup.queue(&emails).await;
    let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
    until(&setup, "sent", 10).await;
    until(&setup, "unknown", 10).await;
    worker.stop().await;
    let in_a_row = breaks::get(&mut setup.pool().acquire().await.unwrap()).await.unwrap().in_a_row;
    assert!(in_a_row <= 1, "{in_a_row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_worker_sends_one_message_at_a_time_after_others_saw_connections_break() {
    let setup = Setup::start().await;
    setup.run("UPDATE mail_breaks SET in_a_row = 3, probes = 2, next_at = now()").await;
    setup.server.act(|moment| if moment.stage == Stage::Dot { Act::Drop } else { Act::Accept });
    setup.queue(&emails(10)).await;
    let worker = setup.worker(&[]);
    until(&setup, "unknown", 1).await;
    setup.until_ready_says(200, "trying one message at a time").await;
    // The next wait takes eight seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((count(&setup, "unknown").await, count(&setup, "queued").await), (1, 9));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_is_opened_if_the_first_gets_no_greeting() {
    let setup = Setup::start().await;
    // The server never greets the connection that it accepted while it was stuck.
    setup.server.act(|moment| match moment.stage {
        Stage::Greeting if moment.connection == 0 => Act::Wait(Duration::from_secs(3600)),
        _ => Act::Accept,
    });
    setup.queue_to(&["a@example.com"]).await;
    let began = Instant::now();
    let worker = setup.worker(&[]);
    setup.until("a@example.com", "sent").await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    worker.stop().await;
}
