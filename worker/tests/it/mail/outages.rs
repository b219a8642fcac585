//! Servers, connections and workers that go away.

use std::time::{Duration, Instant};

use dev::testing::Process;
use dev::testing::smtp::{Act, Options, Stage};
use shared::mail::{self, NewEmail};
use uuid::Uuid;

use super::Post;
use crate::outbox::{WORKSPACE, email};
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_final_dot_loses_no_mail_and_sends_none_twice() {
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Inside] {
        let post = Post::with(Options { narrow: true, ..Options::default() }).await;
        post.server.act(move |moment| match moment.connection {
            0 if moment.stage == stage => Act::Drop,
            _ => Act::Accept,
        });
        // What the buffers on the way take whole is handed over, so this one is longer.
        let mut long = email("a@example.com", "a@example.com");
        if stage == Stage::Inside {
            long.content.text = "Many words of no importance in many lines.\n".repeat(100_000);
        }
        post.queue(&[long, email("b@example.com", "b@example.com")]).await;
        let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        post.until("b@example.com", "sent").await;
        let started = Instant::now();
        while post.state("a@example.com").await.0 != "sent" {
            assert!(started.elapsed() < PATIENCE, "{stage:?}: {:?}", post.state("a@example.com").await);
            assert_ne!(post.state("a@example.com").await.0, "unknown", "{stage:?}");
            post.hurry().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        worker.stop().await;
        assert_eq!(post.server.count(), 2, "{stage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_final_dot_makes_one_unknown_mail() {
    for act in [Act::Drop, Act::TakeAndDrop] {
        let post = Post::start().await;
        post.server.act(move |moment| {
            if moment.stage == Stage::Dot && moment.to == "a@example.com" && moment.times == 1 {
                act
            } else {
                Act::Accept
            }
        });
        post.queue_to(&["a@example.com", "b@example.com", "c@example.com"]).await;
        let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        post.until("a@example.com", "unknown").await;
        post.until("b@example.com", "sent").await;
        post.until("c@example.com", "sent").await;
        let (_, metrics) = post.ask("/metrics").await;
        assert!(metrics.contains("crm_mails_total{outcome=\"unknown\"} 1"), "{metrics}");

        // An operator who has looked decides to send it again.
        let id: Uuid =
            sqlx::query_scalar("SELECT id FROM emails WHERE state = 'unknown'").fetch_one(post.pool()).await.unwrap();
        let before = post.server.count();
        mail::resend(&mut post.pool().acquire().await.unwrap(), WORKSPACE, id).await.unwrap();
        post.until("a@example.com", "sent").await;
        worker.stop().await;
        assert_eq!(post.server.count(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_sends_makes_one_unknown_for_each_connection() {
    let post = Post::start().await;
    post.server.act(|moment| match moment.stage {
        Stage::Dot if moment.times == 1 => Act::Wait(Duration::from_secs(600)),
        _ => Act::Accept,
    });
    let emails: Vec<NewEmail> = (0..20).map(|n| email(&n.to_string(), &format!("a{n}@example.com"))).collect();
    post.queue(&emails).await;
    let variables = post.variables(&[("CRM_MAIL__CONNECTIONS", "2")]);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .filter(|(name, _)| name != "DATABASE_URL")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut worker = Process::worker_with(&post.database, &[], &variables);
    let started = Instant::now();
    let count = |state: &'static str| {
        let pool = post.pool().clone();
        async move {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM emails WHERE state = $1")
                .bind(state)
                .fetch_one(&pool)
                .await
                .unwrap();
            count
        }
    };
    while count("sending").await < 2 {
        assert!(started.elapsed() < PATIENCE, "{}", worker.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.kill9().await;
    post.server.act(|_| Act::Accept);
    let worker = post.worker(&[]);
    // The lease of what was being sent runs out, and only then is it known that nothing is known of it.
    while count("sent").await < 18 || count("sending").await > 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.stop().await;
    assert_eq!((count("unknown").await, count("sent").await), (2, 18));
    assert_eq!(post.server.count(), 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_no_mail_is_touched_and_then_they_all_arrive() {
    let post = Post::start().await;
    post.server.act(|moment| if moment.stage == Stage::Greeting { Act::Drop } else { Act::Accept });
    post.queue_to(&["a@example.com", "b@example.com"]).await;
    let worker = post.worker(&[]);
    // The server is a passing trouble: the worker is ready for everything else.
    post.until_ready_says(200, "mail waits: ").await;
    let touched: i64 =
        sqlx::query_scalar("SELECT count(*) FROM emails WHERE failures > 0 OR attempt > 0 OR state <> 'queued'")
            .fetch_one(post.pool())
            .await
            .unwrap();
    assert_eq!(touched, 0);
    post.server.act(|_| Act::Accept);
    post.until("a@example.com", "sent").await;
    post.until("b@example.com", "sent").await;
    post.until_ready_says(200, "ok").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_between_delays_mails_and_no_more() {
    let post = Post::start().await;
    post.server.act(|moment| match moment.stage {
        Stage::Mail if moment.connection < 2 => Act::Say("421 4.3.2 Shutting down"),
        _ => Act::Accept,
    });
    post.queue_to(&["a@example.com"]).await;
    let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
    let started = Instant::now();
    while post.state("a@example.com").await.0 != "sent" {
        assert!(started.elapsed() < PATIENCE);
        post.hurry().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.stop().await;
    assert_eq!(post.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_make_mail_wait_and_readiness_says_so() {
    let post = Post::with(Options { login: Some(("crm", "right")), ..Options::default() }).await;
    post.queue_to(&["a@example.com"]).await;
    let wrong = post.worker(&[("CRM_MAIL__USER", "crm"), ("CRM_MAIL__PASSWORD", "wrong")]);
    post.until_ready_says(503, "mail waits: the mail server refuses the credentials: 535 5.7.8").await;
    let (_, metrics) = post.ask("/metrics").await;
    assert!(metrics.contains("crm_mail_waits 1"), "{metrics}");
    wrong.stop().await;
    assert_eq!(post.state("a@example.com").await.0, "queued");

    let none = post.worker(&[]);
    post.until_ready_says(503, "mail waits: the mail server wants other credentials: 530").await;
    none.stop().await;
    assert_eq!(post.state("a@example.com").await.0, "queued");

    let right = post.worker(&[("CRM_MAIL__USER", "crm"), ("CRM_MAIL__PASSWORD", "right")]);
    post.until("a@example.com", "sent").await;
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_server_is_encrypted_and_its_certificate_is_checked() {
    for (options, tls) in [
        (Options { starttls: true, ..Options::default() }, "starttls"),
        (Options { tls: true, ..Options::default() }, "tls"),
    ] {
        let post = Post::with(options).await;
        post.queue_to(&["a@example.com"]).await;
        let stranger = post.worker(&[("CRM_MAIL__TLS", tls)]);
        post.until_ready_says(503, "cannot be encrypted").await;
        stranger.stop().await;
        assert_eq!(post.state("a@example.com").await.0, "queued");

        let certificate = post.server.certificate();
        let trusting =
            post.worker(&[("CRM_MAIL__TLS", tls), ("CRM_MAIL__CERTIFICATES", certificate.to_str().unwrap())]);
        post.until("a@example.com", "sent").await;
        trusting.stop().await;
        std::fs::remove_file(certificate).unwrap();
    }
    // A server that offers no encryption gets nothing.
    let post = Post::start().await;
    post.queue_to(&["a@example.com"]).await;
    let worker = post.worker(&[("CRM_MAIL__TLS", "starttls")]);
    post.until_ready_says(503, "does not offer STARTTLS").await;
    worker.stop().await;
    assert_eq!(post.server.count(), 0);
}
