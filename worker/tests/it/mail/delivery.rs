//! Emails that are delivered.

use std::time::{Duration, Instant};

use shared::mail::{self, Event, NewEmail};
use shared::platform::config::Settings;
use shared::queue::notify::Notifier;
use testing::smtp::Options;
use uuid::Uuid;

use super::Setup;
use crate::outbox::{WORKSPACE, email};
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn an_email_reaches_the_server_unchanged() {
    let setup = Setup::start().await;
    let email = NewEmail { unsubscribe: Some("https://crm.example/u/x".into()), ..email("a", "ann@example.com") };
    setup.queue(std::slice::from_ref(&email)).await;
    let worker = setup.worker(&[]);
    assert_eq!(setup.until("ann@example.com", "sent").await, "250 2.0.0 taken");
    worker.stop().await;

    let taken = setup.server.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].from.as_str(), taken[0].to.as_str()), ("hello@acme.example", "ann@example.com"));
    assert_eq!(taken[0].header("From"), Some("Acme <hello@acme.example>"));
    assert_eq!(taken[0].header("To"), Some("Ann <ann@example.com>"));
    assert_eq!(taken[0].header("Subject"), Some("About a"));
    assert_eq!(taken[0].header("Message-ID"), Some(format!("<{}@acme.example>", email.id).as_str()));
    assert_eq!(taken[0].header("List-Unsubscribe"), Some("<https://crm.example/u/x>"));
    assert_eq!(taken[0].header("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
    assert_eq!(taken[0].header("Auto-Submitted"), Some("auto-generated"));
    assert_eq!(taken[0].header("Precedence"), Some("bulk"));
    let feedback_id = taken[0].header("Feedback-ID").unwrap();
    assert!(feedback_id.contains(&format!(":{WORKSPACE}:nurture:")), "{feedback_id}");
    assert!(taken[0].text.contains("multipart/alternative"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_marked_as_automatic_but_not_as_bulk() {
    let setup = Setup::start().await;
    setup.queue(&[NewEmail { event: Event::Followups, ..email("a", "ann@example.com") }]).await;
    let worker = setup.worker(&[]);
    setup.until("ann@example.com", "sent").await;
    worker.stop().await;

    let digest = setup.server.taken().remove(0);
    assert_eq!(digest.header("Auto-Submitted"), Some("auto-generated"));
    for bulk in ["Precedence", "Feedback-ID", "List-Unsubscribe"] {
        assert_eq!(digest.header(bulk), None, "{bulk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_emails_are_sent_once_each_over_a_few_connections() {
    let setup = Setup::start().await;
    let emails: Vec<NewEmail> = (0..300).map(|n| email(&n.to_string(), &format!("a{n}@example.com"))).collect();
    setup.queue(&emails).await;
    let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "3")]);
    for n in [0, 150, 299] {
        setup.until(&format!("a{n}@example.com"), "sent").await;
    }
    let started = Instant::now();
    while setup.server.count() < 300 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await;
    assert_eq!(setup.server.count(), 300);
    assert_eq!(setup.server.connections(), 3);
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM emails WHERE state <> 'sent' OR lease_until IS NOT NULL")
        .fetch_one(setup.pool())
        .await
        .unwrap();
    assert_eq!(open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_another_script_needs_a_server_with_smtputf8() {
    let setup = Setup::start().await;
    setup.queue_to(&["jürgen@example.com"]).await;
    let worker = setup.worker(&[]);
    setup.until("jürgen@example.com", "sent").await;
    worker.stop().await;

    let setup = Setup::with(Options::default()).await;
    setup.queue_to(&["jürgen@example.com", "ann@example.com"]).await;
    let worker = setup.worker(&[]);
    setup.until("jürgen@example.com", "bounced").await;
    setup.until("ann@example.com", "sent").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_emails_are_written_to_the_directory_or_stay_queued() {
    let setup = Setup::start().await;
    let directory = std::env::temp_dir().join(format!("crm-{}", Uuid::now_v7()));
    let email = email("a", "ann@example.com");
    setup.queue(std::slice::from_ref(&email)).await;
    let nowhere = setup.worker(&[("CRM_MAIL__HOST", "")]);
    setup.until_ready_says(200, "email is waiting: neither mail.host nor mail.directory is set").await;
    nowhere.stop().await;
    assert_eq!(setup.state("ann@example.com").await.0, "queued");

    let worker = setup.worker(&[("CRM_MAIL__HOST", ""), ("CRM_MAIL__DIRECTORY", directory.to_str().unwrap())]);
    setup.until("ann@example.com", "sent").await;
    worker.stop().await;
    let text = std::fs::read_to_string(directory.join(format!("{}.eml", email.id))).unwrap();
    assert!(text.contains("Subject: About a\r\n"), "{text}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_sends_an_email_at_once() {
    let setup = Setup::start().await;
    let worker = setup.worker(&[]);
    setup.queue_to(&["first@example.com"]).await;
    setup.until("first@example.com", "sent").await;
    let settings = Settings::from_layers(None, setup.variables(&[])).unwrap();
    let notifier = Notifier::new(shared::platform::db::pool(&settings.database, "test").unwrap());
    let mut waits = Vec::new();
    for n in 0..20 {
        let queued = Instant::now();
        setup.queue_to(&[&format!("a{n}@example.com")]).await;
        notifier.notify(mail::QUEUE);
        while setup.server.count() < n + 2 {
            assert!(queued.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(queued.elapsed().as_millis());
    }
    waits.sort_unstable();
    println!("from queueing to the server: p50 {} ms, most {} ms", waits[10], waits[19]);
    assert!(waits[10] < 250, "emails wait for {waits:?} ms");
    worker.stop().await;
}
