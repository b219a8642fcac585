//! Mails that a server refuses or puts off, and those that are not to be sent any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dev::testing::smtp::{Act, Stage};
use shared::mail::{self, Cancel, NewEmail};
use shared::records::RecordType;
use uuid::Uuid;

use super::Post;
use crate::outbox::{WORKSPACE, email, suppress};
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_put_off_or_bounced_by_its_answer() {
    for (stage, name) in [(Stage::Rcpt, "rcpt"), (Stage::Data, "data"), (Stage::Dot, "dot")] {
        let post = Post::start().await;
        let answers = [
            ("4xx@example.com", "451 4.3.0 Later"),
            ("5xx@example.com", "554 5.7.1 Spam"),
            ("gone@example.com", "550 5.1.1 No such user"),
        ];
        post.server.act(move |moment| {
            let answer = answers.iter().find(|(to, _)| moment.stage == stage && moment.to == *to);
            answer.map_or(Act::Accept, |(_, answer)| Act::Say(answer))
        });
        post.queue_to(&["4xx@example.com", "5xx@example.com", "gone@example.com", "ok@example.com"]).await;
        let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        assert_eq!(post.until("4xx@example.com", "deferred").await, "451 4.3.0 Later", "{name}");
        assert_eq!(post.until("5xx@example.com", "bounced").await, "554 5.7.1 Spam", "{name}");
        assert_eq!(post.until("gone@example.com", "bounced").await, "550 5.1.1 No such user", "{name}");
        post.until("ok@example.com", "sent").await;
        worker.stop().await;

        // Only an answer to the recipient's address itself says anything about it.
        let suppressed: Vec<(String, String)> =
            sqlx::query_as("SELECT email, reason FROM suppressions").fetch_all(post.pool()).await.unwrap();
        let expected = [("gone@example.com".to_owned(), "bounced".to_owned())];
        assert_eq!(suppressed, expected[..usize::from(stage == Stage::Rcpt)], "{name}");
        // One connection served them all.
        assert_eq!(post.server.connections(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_refused_says_nothing_about_the_recipient() {
    let post = Post::start().await;
    post.server.act(|moment| match moment.stage {
        Stage::Mail if moment.times == 1 => Act::Say("450 4.1.8 Later"),
        Stage::Mail if moment.times == 2 => Act::Say("550 5.1.8 Who are you"),
        _ => Act::Accept,
    });
    post.queue_to(&["ann@example.com"]).await;
    let worker = post.worker(&[]);
    post.until("ann@example.com", "deferred").await;
    post.hurry().await;
    assert_eq!(post.until("ann@example.com", "bounced").await, "550 5.1.8 Who are you");
    worker.stop().await;
    let suppressed: i64 = sqlx::query_scalar("SELECT count(*) FROM suppressions").fetch_one(post.pool()).await.unwrap();
    assert_eq!(suppressed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greylisted_mail_arrives_in_the_end_and_once() {
    let post = Post::start().await;
    post.server.act(|moment| match moment.stage {
        Stage::Rcpt if moment.times < 3 => Act::Say("451 4.7.1 Greylisted"),
        _ => Act::Accept,
    });
    post.queue_to(&["ann@example.com"]).await;
    let worker = post.worker(&[]);
    for failures in 1..3 {
        let started = Instant::now();
        loop {
            let counted: i16 = sqlx::query_scalar("SELECT failures FROM emails").fetch_one(post.pool()).await.unwrap();
            if counted == failures {
                break;
            }
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It waits for about a minute, then two.
        let wait: f64 = sqlx::query_scalar("SELECT extract(epoch FROM run_at - updated_at)::float8 FROM emails")
            .fetch_one(post.pool())
            .await
            .unwrap();
        let expected = f64::from(failures) * 60.0;
        assert!((expected * 0.7..expected * 1.3).contains(&wait), "it waits for {wait} s");
        post.hurry().await;
    }
    post.until("ann@example.com", "sent").await;
    worker.stop().await;
    assert_eq!(post.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_unsubscribes_before_the_server_is_dialled_gets_nothing() {
    let post = Post::start().await;
    post.queue_to(&["ann@example.com", "bob@example.com"]).await;
    suppress(&mut post.pool().acquire().await.unwrap(), "ANN@example.com").await;
    let worker = post.worker(&[]);
    post.until("bob@example.com", "sent").await;
    post.until("ann@example.com", "suppressed").await;
    worker.stop().await;
    assert_eq!(post.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_is_not_sent() {
    let post = Post::start().await;
    let lead = (RecordType::Lead, Uuid::now_v7());
    post.queue(&[NewEmail { subject: Some(lead), ..email("a", "ann@example.com") }]).await;
    post.queue_to(&["bob@example.com"]).await;
    mail::cancel_to(&mut post.pool().acquire().await.unwrap(), WORKSPACE, lead, Cancel::All).await.unwrap();
    let worker = post.worker(&[]);
    post.until("bob@example.com", "sent").await;
    worker.stop().await;
    assert_eq!(post.state("ann@example.com").await.0, "cancelled");
    assert_eq!(post.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_the_server_puts_off_for_days_is_given_up() {
    let post = Post::start().await;
    post.server
        .act(|moment| if moment.stage == Stage::Rcpt { Act::Say("452 4.2.2 Mailbox full") } else { Act::Accept });
    post.queue_to(&["ann@example.com"]).await;
    post.run("UPDATE emails SET failures = 200, state = 'deferred'").await;
    let worker = post.worker(&[]);
    assert_eq!(post.until("ann@example.com", "bounced").await, "given up: 452 4.2.2 Mailbox full");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_an_address_that_is_none_nothing_else_is_sent() {
    let post = Post::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    post.server.act(move |moment| {
        if moment.stage == Stage::Rcpt && moment.to.eq_ignore_ascii_case("gone@example.com") {
            counted.fetch_add(1, Ordering::SeqCst);
            return Act::Say("550 5.1.1 No such user");
        }
        Act::Accept
    });
    let emails = ["a", "b", "c", "d"].map(|key| email(key, "gone@example.com"));
    let later = email("later", "Gone@Example.com");
    post.queue(&emails).await;
    post.queue(std::slice::from_ref(&later)).await;
    post.run("UPDATE emails SET state = 'deferred', failures = 1, run_at = now() + interval '1 hour' WHERE event_key = 'later'")
        .await;
    post.queue_to(&["ok@example.com"]).await;
    let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
    post.until("ok@example.com", "sent").await;
    worker.stop().await;

    let states: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, count(*) FROM emails WHERE lower(to_email) = 'gone@example.com' GROUP BY state ORDER BY state",
    )
    .fetch_all(post.pool())
    .await
    .unwrap();
    assert_eq!(states, [("bounced".to_owned(), 1), ("suppressed".to_owned(), 4)]);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the server was asked once");
    assert_eq!(post.state("Gone@Example.com").await.0, "suppressed", "also what waits for another hour");
}
