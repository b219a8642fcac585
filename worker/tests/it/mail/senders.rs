//! The senders of emails, and addresses with other scripts.

use shared::events::Actor;
use shared::mail::{self, NewEmail, Sender};
use testing::smtp::Options;

use super::Setup;
use crate::outbox::{WORKSPACE, email};

async fn queue_from(setup: &Setup, from: &str, to: &str) {
    let sender = Sender { name: Some("Boss".into()), email: from.into(), reply_to: None };
    let mut connection = setup.pool().acquire().await.unwrap();
    let email: NewEmail = email(to, to);
    mail::queue(&mut connection, &Actor::worker(WORKSPACE), &sender, &[email]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_emails_from_a_domain_that_is_not_allowed_are_sent_from_the_operators_address() {
    let setup = Setup::start().await;
    mail::senders::allow(&mut setup.pool().acquire().await.unwrap(), WORKSPACE, "acme.example").await.unwrap();
    queue_from(&setup, "boss@bank.example", "a@example.com").await;
    queue_from(&setup, "boss@acme.example", "b@example.com").await;
    queue_from(&setup, "boss@example.com", "c@example.com").await;
    let worker = setup.worker(&[("CRM_MAIL__SENDER_DOMAINS", "")]);
    for to in ["a@example.com", "b@example.com", "c@example.com"] {
        setup.until(to, "sent").await;
    }
    worker.stop().await;
    let taken = setup.server.taken();
    let of = |to: &str| taken.iter().find(|taken| taken.to == to).unwrap();
    assert_eq!(of("a@example.com").from, "crm@example.com");
    assert_eq!(of("a@example.com").header("Reply-To"), Some("boss@bank.example"));
    assert_eq!(
        (of("b@example.com").from.as_str(), of("b@example.com").header("Reply-To")),
        ("boss@acme.example", None)
    );
    assert_eq!(of("c@example.com").from, "boss@example.com");
    // The outbox shows the addresses that were sent.
    let shown: (String, Option<String>) =
        sqlx::query_as("SELECT from_email, reply_to FROM emails WHERE to_email = 'a@example.com'")
            .fetch_one(setup.pool())
            .await
            .unwrap();
    assert_eq!(shown, ("crm@example.com".to_owned(), Some("boss@bank.example".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn non_ascii_domains_work_with_any_server_and_non_ascii_mailboxes_need_smtputf8() {
    for (smtputf8, state) in [(false, "bounced"), (true, "sent")] {
        let setup = Setup::with(Options { smtputf8, ..Options::default() }).await;
        setup.queue_to(&["ann@bücher.example", "jürgen@bücher.example", "ok@example.com"]).await;
        let worker = setup.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        setup.until("ann@bücher.example", "sent").await;
        setup.until("ok@example.com", "sent").await;
        let answer = setup.until("jürgen@bücher.example", state).await;
        worker.stop().await;
        let mut to: Vec<String> = setup.server.taken().into_iter().map(|taken| taken.to).collect();
        to.sort_unstable();
        if smtputf8 {
            assert_eq!(to, ["ann@xn--bcher-kva.example", "jürgen@xn--bcher-kva.example", "ok@example.com"]);
        } else {
            assert!(answer.contains("SMTPUTF8"), "{answer}");
            assert_eq!(to, ["ann@xn--bcher-kva.example", "ok@example.com"]);
        }
        let suppressed: i64 =
            sqlx::query_scalar("SELECT count(*) FROM suppressions").fetch_one(setup.pool()).await.unwrap();
        assert_eq!(suppressed, 0);
    }
}
