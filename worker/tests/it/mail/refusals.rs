//! Emails that the server rejects or defers, and emails that must not be sent any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shared::mail::{self, Cancel, NewEmail};
use shared::records::RecordType;
use testing::smtp::{Act, Stage};
use uuid::Uuid;

use super::Setup;
use crate::outbox::{WORKSPACE, email, suppress};
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_answer_decides_between_deferred_and_bounced() {
    for (stage, name) in [(Stage::Rcpt, "rcpt"), (Stage::Data, "data"), (Stage::Dot, "dot")] {
        let setup = Setup::start().await;
        let answers = [
            ("4xx@example.com", "451 4.3.0 Later"),
            ("5xx@example.com", "554 5.7.1 Spam"),
            ("gone@example.com", "550 5.1.1 No such user"),
        ];
        setup.server.act(move |moment| {
            let answer = answers.iter().find(|(to, _)| moment.stage == stage && moment.to == *to);
            answer.map_or(Act::Accept, |(_, answer)| Act::Say(answer))
        });
        setup.queue_to(&["4xx@example.com", "5xx@example.com", "gone@example.com", "ok@example.com"]).await;
        let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        assert_eq!(setup.until("4xx@example.com", "deferred").await, "451 4.3.0 Later", "{name}");
        assert_eq!(setup.until("5xx@example.com", "bounced").await, "554 5.7.1 Spam", "{name}");
        assert_eq!(setup.until("gone@example.com", "bounced").await, "550 5.1.1 No such user", "{name}");
        setup.until("ok@example.com", "sent").await;
        worker.stop().await;

        // Only an answer to RCPT TO suppresses the recipient's address.
        let suppressed: Vec<(String, String)> =
            sqlx::query_as("SELECT email, reason FROM suppressions").fetch_all(setup.pool()).await.unwrap();
        let expected = [("gone@example.com".to_owned(), "bounced".to_owned())];
        assert_eq!(suppressed, expected[..usize::from(stage == Stage::Rcpt)], "{name}");
        // One connection served them all.
        assert_eq!(setup.server.connections(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_sender_does_not_suppress_the_recipient() {
    let setup = Setup::start().await;
    setup.server.act(|moment| match moment.stage {
        Stage::Mail if moment.times == 1 => Act::Say("450 4.1.8 Later"),
        Stage::Mail if moment.times == 2 => Act::Say("550 5.1.8 Who are you"),
        _ => Act::Accept,
    });
    setup.queue_to(&["ann@example.com"]).await;
    let worker = setup.worker(&[]);
    setup.until("ann@example.com", "deferred").await;
    setup.hurry().await;
    assert_eq!(setup.until("ann@example.com", "bounced").await, "550 5.1.8 Who are you");
    worker.stop().await;
    let suppressed: i64 =
        sqlx::query_scalar("SELECT count(*) FROM suppressions").fetch_one(setup.pool()).await.unwrap();
    assert_eq!(suppressed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greylisted_email_arrives_once() {
    let setup = Setup::start().await;
    setup.server.act(|moment| match moment.stage {
        Stage::Rcpt if moment.times < 3 => Act::Say("451 4.7.1 Greylisted"),
        _ => Act::Accept,
    });
    setup.queue_to(&["ann@example.com"]).await;
    let worker = setup.worker(&[]);
    for failures in 1..3 {
        let started = Instant::now();
        loop {
            let counted: i16 = sqlx::query_scalar("SELECT failures FROM emails").fetch_one(setup.pool()).await.unwrap();
            if counted == failures {
                break;
            }
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The email waits for about one minute, then two.
        let wait: f64 = sqlx::query_scalar("SELECT extract(epoch FROM run_at - updated_at)::float8 FROM emails")
            .fetch_one(setup.pool())
            .await
            .unwrap();
        let expected = f64::from(failures) * 60.0;
        assert!((expected * 0.7..expected * 1.3).contains(&wait), "it waits for {wait} s");
        setup.hurry().await;
    }
    setup.until("ann@example.com", "sent").await;
    worker.stop().await;
    assert_eq!(setup.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_suppressed_before_sending_gets_no_email() {
    let setup = Setup::start().await;
    setup.queue_to(&["ann@example.com", "bob@example.com"]).await;
    suppress(&mut setup.pool().acquire().await.unwrap(), "ANN@example.com").await;
    let worker = setup.worker(&[]);
    setup.until("bob@example.com", "sent").await;
    setup.until("ann@example.com", "suppressed").await;
    worker.stop().await;
    assert_eq!(setup.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_emails_are_not_sent() {
    let setup = Setup::start().await;
    let lead = (RecordType::Lead, Uuid::now_v7());
    setup.queue(&[NewEmail { subject: Some(lead), ..email("a", "ann@example.com") }]).await;
    setup.queue_to(&["bob@example.com"]).await;
    mail::cancel_to(&mut setup.pool().acquire().await.unwrap(), WORKSPACE, lead, Cancel::All).await.unwrap();
    let worker = setup.worker(&[]);
    setup.until("bob@example.com", "sent").await;
    worker.stop().await;
    assert_eq!(setup.state("ann@example.com").await.0, "cancelled");
    assert_eq!(setup.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_the_server_defers_for_days_bounces() {
    let setup = Setup::start().await;
    setup
        .server
        .act(|moment| if moment.stage == Stage::Rcpt { Act::Say("452 4.2.2 Mailbox full") } else { Act::Accept });
    setup.queue_to(&["ann@example.com"]).await;
    setup.run("UPDATE emails SET failures = 200, state = 'deferred'").await;
    let worker = setup.worker(&[]);
    assert_eq!(setup.until("ann@example.com", "bounced").await, "gave up: 452 4.2.2 Mailbox full");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_emails_are_sent_to_an_address_that_does_not_exist() {
    let setup = Setup::start().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    setup.server.act(move |moment| {
        if moment.stage == Stage::Rcpt && moment.to.eq_ignore_ascii_case("gone@example.com") {
            counted.fetch_add(1, Ordering::SeqCst);
            return Act::Say("550 5.1.1 No such user");
        }
        Act::Accept
    });
    let emails = ["a", "b", "c", "d"].map(|key| email(key, "gone@example.com"));
    let later = email("later", "Gone@Example.com");
    setup.queue(&emails).await;
    setup.queue(std::slice::from_ref(&later)).await;
    setup.run("UPDATE emails SET state = 'deferred', failures = 1, run_at = now() + interval '1 hour' WHERE event_key = 'later'")
        .await;
    setup.queue_to(&["ok@example.com"]).await;
    let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
    setup.until("ok@example.com", "sent").await;
    worker.stop().await;

    let states: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, count(*) FROM emails WHERE to_email_key = 'gone@example.com' GROUP BY state ORDER BY state",
    )
    .fetch_all(setup.pool())
    .await
    .unwrap();
    assert_eq!(states, [("bounced".to_owned(), 1), ("suppressed".to_owned(), 4)]);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the server is asked once");
    assert_eq!(
        setup.state("Gone@Example.com").await.0,
        "suppressed",
        "emails that are due later are suppressed as well"
    );
}
