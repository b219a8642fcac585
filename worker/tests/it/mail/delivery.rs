//! Mails that arrive, whatever way they take.

use std::time::{Duration, Instant};

use dev::testing::smtp::Options;
use shared::mail::{self, NewEmail};
use shared::platform::config::Settings;
use shared::queue::notify::Notifier;
use uuid::Uuid;

use super::Post;
use crate::outbox::email;
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_reaches_the_server_as_it_was_written() {
    let post = Post::start().await;
    let mail = NewEmail { unsubscribe: Some("https://crm.example/u/x".into()), ..email("a", "ann@example.com") };
    post.queue(std::slice::from_ref(&mail)).await;
    let worker = post.worker(&[]);
    assert_eq!(post.until("ann@example.com", "sent").await, "250 2.0.0 taken");
    worker.stop().await;

    let taken = post.server.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].from.as_str(), taken[0].to.as_str()), ("hello@acme.example", "ann@example.com"));
    assert_eq!(taken[0].header("From"), Some("Acme <hello@acme.example>"));
    assert_eq!(taken[0].header("To"), Some("Ann <ann@example.com>"));
    assert_eq!(taken[0].header("Subject"), Some("About a"));
    assert_eq!(taken[0].header("Message-ID"), Some(format!("<{}@acme.example>", mail.id).as_str()));
    assert_eq!(taken[0].header("List-Unsubscribe"), Some("<https://crm.example/u/x>"));
    assert_eq!(taken[0].header("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
    assert!(taken[0].text.contains("multipart/alternative"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_mails_go_over_a_few_connections_each_once() {
    let post = Post::start().await;
    let emails: Vec<NewEmail> = (0..300).map(|n| email(&n.to_string(), &format!("a{n}@example.com"))).collect();
    post.queue(&emails).await;
    let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "3")]);
    for n in [0, 150, 299] {
        post.until(&format!("a{n}@example.com"), "sent").await;
    }
    let started = Instant::now();
    while post.server.count() < 300 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await;
    assert_eq!(post.server.count(), 300);
    assert_eq!(post.server.connections(), 3);
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM emails WHERE state <> 'sent' OR lease_until IS NOT NULL")
        .fetch_one(post.pool())
        .await
        .unwrap();
    assert_eq!(open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_another_script_needs_a_server_that_knows_it() {
    let post = Post::start().await;
    post.queue_to(&["jürgen@example.com"]).await;
    let worker = post.worker(&[]);
    post.until("jürgen@example.com", "sent").await;
    worker.stop().await;

    let post = Post::with(Options::default()).await;
    post.queue_to(&["jürgen@example.com", "ann@example.com"]).await;
    let worker = post.worker(&[]);
    post.until("jürgen@example.com", "bounced").await;
    post.until("ann@example.com", "sent").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_mails_are_files_and_without_a_directory_they_wait() {
    let post = Post::start().await;
    let directory = std::env::temp_dir().join(format!("crm-{}", Uuid::now_v7()));
    let mail = email("a", "ann@example.com");
    post.queue(std::slice::from_ref(&mail)).await;
    let nowhere = post.worker(&[("CRM_MAIL__HOST", "")]);
    post.until_ready_says(200, "mail waits: there is neither a mail server nor a directory").await;
    nowhere.stop().await;
    assert_eq!(post.state("ann@example.com").await.0, "queued");

    let worker = post.worker(&[("CRM_MAIL__HOST", ""), ("CRM_MAIL__DIRECTORY", directory.to_str().unwrap())]);
    post.until("ann@example.com", "sent").await;
    worker.stop().await;
    let text = std::fs::read_to_string(directory.join(format!("{}.eml", mail.id))).unwrap();
    assert!(text.contains("Subject: About a\r\n"), "{text}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bell_brings_a_mail_to_the_server_at_once() {
    let post = Post::start().await;
    let worker = post.worker(&[]);
    post.queue_to(&["first@example.com"]).await;
    post.until("first@example.com", "sent").await;
    let settings = Settings::from_layers(None, post.variables(&[])).unwrap();
    let notifier = Notifier::new(shared::platform::db::pool(&settings.database, "test").unwrap());
    let mut waits = Vec::new();
    for n in 0..20 {
        let rung = Instant::now();
        post.queue_to(&[&format!("a{n}@example.com")]).await;
        notifier.notify(mail::QUEUE);
        while post.server.count() < n + 2 {
            assert!(rung.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(rung.elapsed().as_millis());
    }
    waits.sort_unstable();
    println!("from queueing to the server: p50 {} ms, most {} ms", waits[10], waits[19]);
    assert!(waits[10] < 250, "mails wait for {waits:?} ms");
    worker.stop().await;
}
