//! Servers that say nothing, and servers that end connections after the final dot.

use std::time::{Duration, Instant};

use dev::testing::smtp::{Act, Stage};
use shared::mail::{NewEmail, breaks};

use super::Post;
use crate::outbox::email;
use crate::support::PATIENCE;

async fn count(post: &Post, state: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = $1").bind(state).fetch_one(post.pool()).await.unwrap()
}

async fn until(post: &Post, state: &str, at_least: i64) {
    let started = Instant::now();
    while count(post, state).await < at_least {
        assert!(started.elapsed() < PATIENCE, "{} emails are {state}, not {at_least}", count(post, state).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn emails(number: usize) -> Vec<NewEmail> {
    (0..number).map(|n| email(&n.to_string(), &format!("a{n}@example.com"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_connections_after_the_dot_gets_one_message_at_a_time() {
    let post = Post::start().await;
    post.server.act(|moment| if moment.stage == Stage::Dot { Act::Drop } else { Act::Accept });
    post.queue(&emails(100)).await;
    let workers =
        [(); 2].map(|()| post.worker(&[("CRM_MAIL__CONNECTIONS", "2"), ("CRM_WORKER__LISTEN", "127.0.0.1:0")]));
    until(&post, "unknown", i64::from(breaks::LIMIT)).await;
    let opened = Instant::now();
    // Each of the four connections had one message on its way, and one before that at most; then there is
    // one after 1, 2, 4 seconds.
    until(&post, "unknown", 6).await;
    while opened.elapsed() < Duration::from_secs(8) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (unknown, sending) = (count(&post, "unknown").await, count(&post, "sending").await);
    assert!(unknown <= 3 + 4 + 4, "{unknown} are unknown after eight seconds");
    assert!(sending <= 1, "{sending} messages are tried at once");

    // One answer opens the way for all.
    post.server.act(|_| Act::Accept);
    post.run("UPDATE mail_breaks SET next_at = now()").await;
    let unknown = count(&post, "unknown").await;
    until(&post, "sent", 100 - unknown).await;
    assert_eq!(breaks::get(&mut post.pool().acquire().await.unwrap()).await.unwrap().in_a_row, 0);
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(count(&post, "unknown").await, unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn breaks_count_only_in_a_row() {
    let post = Post::start().await;
    // Every second message of a connection's gets no answer.
    post.server.act(|moment| match moment.stage {
        Stage::Dot if moment.to.contains("odd") => Act::Drop,
        _ => Act::Accept,
    });
    let emails: Vec<NewEmail> = (0..20)
        .map(|n| email(&n.to_string(), &format!("{}{n}@example.com", if n % 2 == 0 { "even" } else { "odd" })))
        .collect();
    post.queue(&emails).await;
    let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
    until(&post, "sent", 10).await;
    until(&post, "unknown", 10).await;
    worker.stop().await;
    let in_a_row = breaks::get(&mut post.pool().acquire().await.unwrap()).await.unwrap().in_a_row;
    assert!(in_a_row <= 1, "{in_a_row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_tries_one_message_first_while_others_broke() {
    let post = Post::start().await;
    post.run("UPDATE mail_breaks SET in_a_row = 3, probes = 2, next_at = now()").await;
    post.server.act(|moment| if moment.stage == Stage::Dot { Act::Drop } else { Act::Accept });
    post.queue(&emails(10)).await;
    let worker = post.worker(&[]);
    until(&post, "unknown", 1).await;
    post.until_ready_says(200, "one message at a time is tried").await;
    // The next wait is of eight seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((count(&post, "unknown").await, count(&post, "queued").await), (1, 9));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_says_nothing_is_tried_over_a_second_connection() {
    let post = Post::start().await;
    // What it accepted while it was stuck, it never greets.
    post.server.act(|moment| match moment.stage {
        Stage::Greeting if moment.connection == 0 => Act::Wait(Duration::from_secs(3600)),
        _ => Act::Accept,
    });
    post.queue_to(&["a@example.com"]).await;
    let began = Instant::now();
    let worker = post.worker(&[]);
    post.until("a@example.com", "sent").await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    worker.stop().await;
}
