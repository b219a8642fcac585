//! Outages of the mail server, broken connections, and workers that die.

use std::time::{Duration, Instant};

use shared::events::Actor;
use shared::mail::{self, NewEmail};
use testing::Process;
use testing::smtp::{Act, Options, Stage};
use uuid::Uuid;

use super::Setup;
use crate::outbox::{WORKSPACE, email};
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_final_dot_neither_loses_nor_duplicates_emails() {
    for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Inside] {
        let setup = Setup::with(Options { narrow: true, ..Options::default() }).await;
        setup.server.act(move |moment| match moment.connection {
            0 if moment.stage == stage => Act::Drop,
            _ => Act::Accept,
        });
        // A message that fits into the network's buffers is handed over whole, so this one is
        // longer.
        let mut long = email("a@example.com", "a@example.com");
        if stage == Stage::Inside {
            long.content.text = "Many words of no importance in many lines.\n".repeat(100_000);
        }
        setup.queue(&[long, email("b@example.com", "b@example.com")]).await;
        let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        setup.until("b@example.com", "sent").await;
        let started = Instant::now();
        while setup.state("a@example.com").await.0 != "sent" {
            assert!(started.elapsed() < PATIENCE, "{stage:?}: {:?}", setup.state("a@example.com").await);
            assert_ne!(setup.state("a@example.com").await.0, "unknown", "{stage:?}");
            setup.hurry().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        worker.stop().await;
        assert_eq!(setup.server.count(), 2, "{stage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_final_dot_leaves_one_unknown_email() {
    for act in [Act::Drop, Act::TakeAndDrop] {
        let setup = Setup::start().await;
        setup.server.act(move |moment| {
            if moment.stage == Stage::Dot && moment.to == "a@example.com" && moment.times == 1 {
                act
            } else {
                Act::Accept
            }
        });
        setup.queue_to(&["a@example.com", "b@example.com", "c@example.com"]).await;
        let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        setup.until("a@example.com", "unknown").await;
        setup.until("b@example.com", "sent").await;
        setup.until("c@example.com", "sent").await;
        let (_, metrics) = setup.ask("/metrics").await;
        assert!(metrics.contains("crm_emails_total{outcome=\"unknown\"} 1"), "{metrics}");

        // An operator decides to resend it.
        let id: Uuid =
            sqlx::query_scalar("SELECT id FROM emails WHERE state = 'unknown'").fetch_one(setup.pool()).await.unwrap();
        let before = setup.server.count();
        mail::resend(&mut setup.pool().acquire().await.unwrap(), &Actor::worker(WORKSPACE), id).await.unwrap();
        setup.until("a@example.com", "sent").await;
        worker.stop().await;
        assert_eq!(setup.server.count(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_sending_leaves_one_unknown_email_for_each_connection() {
    let setup = Setup::start().await;
    setup.server.act(|moment| match moment.stage {
        Stage::Dot if moment.times == 1 => Act::Wait(Duration::from_secs(600)),
        _ => Act::Accept,
    });
    let emails: Vec<NewEmail> = (0..20).map(|n| email(&n.to_string(), &format!("a{n}@example.com"))).collect();
    setup.queue(&emails).await;
    let variables = setup.variables(&[("CRM_MAIL__CONNECTIONS", "2")]);
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .filter(|(name, _)| name != "DATABASE_URL")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut worker = Process::worker_with(&setup.database, &[], &variables);
    let started = Instant::now();
    let count = |state: &'static str| {
        let pool = setup.pool().clone();
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
    setup.server.act(|_| Act::Accept);
    let worker = setup.worker(&[]);
    // The emails that were being sent become unknown when their leases expire.
    while count("sent").await < 18 || count("sending").await > 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.stop().await;
    assert_eq!((count("unknown").await, count("sent").await), (2, 18));
    assert_eq!(setup.server.count(), 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn emails_wait_untouched_while_the_server_is_unavailable_and_arrive_afterwards() {
    let setup = Setup::start().await;
    setup.server.act(|moment| if moment.stage == Stage::Greeting { Act::Drop } else { Act::Accept });
    setup.queue_to(&["a@example.com", "b@example.com"]).await;
    let worker = setup.worker(&[]);
    // An unavailable mail server is temporary, so the worker stays ready.
    setup.until_ready_says(200, "email is waiting: ").await;
    let touched: i64 =
        sqlx::query_scalar("SELECT count(*) FROM emails WHERE failures > 0 OR attempt > 0 OR state <> 'queued'")
            .fetch_one(setup.pool())
            .await
            .unwrap();
    assert_eq!(touched, 0);
    setup.server.act(|_| Act::Accept);
    setup.until("a@example.com", "sent").await;
    setup.until("b@example.com", "sent").await;
    setup.until_ready_says(200, "ok").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shuts_down_only_delays_emails() {
    let setup = Setup::start().await;
    setup.server.act(|moment| match moment.stage {
        Stage::Mail if moment.connection < 2 => Act::Say("421 4.3.2 Shutting down"),
        _ => Act::Accept,
    });
    setup.queue_to(&["a@example.com"]).await;
    let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
    let started = Instant::now();
    while setup.state("a@example.com").await.0 != "sent" {
        assert!(started.elapsed() < PATIENCE);
        setup.hurry().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.stop().await;
    assert_eq!(setup.server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_wrong_credentials_email_waits_and_readiness_fails() {
    let setup = Setup::with(Options { login: Some(("crm", "right")), ..Options::default() }).await;
    setup.queue_to(&["a@example.com"]).await;
    let wrong = setup.worker(&[("CRM_MAIL__USER", "crm"), ("CRM_MAIL__PASSWORD", "wrong")]);
    setup.until_ready_says(503, "email is waiting: the mail server refuses the credentials: 535 5.7.8").await;
    let (_, metrics) = setup.ask("/metrics").await;
    assert!(metrics.contains("crm_email_blocked 1"), "{metrics}");
    wrong.stop().await;
    assert_eq!(setup.state("a@example.com").await.0, "queued");

    let none = setup.worker(&[]);
    setup.until_ready_says(503, "email is waiting: the mail server requires valid credentials: 530").await;
    none.stop().await;
    assert_eq!(setup.state("a@example.com").await.0, "queued");

    let right = setup.worker(&[("CRM_MAIL__USER", "crm"), ("CRM_MAIL__PASSWORD", "right")]);
    setup.until("a@example.com", "sent").await;
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_is_encrypted_and_the_certificate_is_verified() {
    for (options, tls) in [
        (Options { starttls: true, ..Options::default() }, "starttls"),
        (Options { tls: true, ..Options::default() }, "tls"),
    ] {
        let setup = Setup::with(options).await;
        setup.queue_to(&["a@example.com"]).await;
        let stranger = setup.worker(&[("CRM_MAIL__TLS", tls)]);
        setup.until_ready_says(503, "cannot be encrypted").await;
        stranger.stop().await;
        assert_eq!(setup.state("a@example.com").await.0, "queued");

        let certificate = setup.server.certificate();
        let trusting =
            setup.worker(&[("CRM_MAIL__TLS", tls), ("CRM_MAIL__CERTIFICATES", certificate.to_str().unwrap())]);
        setup.until("a@example.com", "sent").await;
        trusting.stop().await;
        std::fs::remove_file(certificate).unwrap();
    }
    // No email is sent to a server that does not offer encryption.
    let setup = Setup::start().await;
    setup.queue_to(&["a@example.com"]).await;
    let worker = setup.worker(&[("CRM_MAIL__TLS", "starttls")]);
    setup.until_ready_says(503, "does not offer STARTTLS").await;
    worker.stop().await;
    assert_eq!(setup.server.count(), 0);
}
