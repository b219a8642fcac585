//! Who emails come from, and how their addresses go over the wire.

use dev::testing::smtp::Options;
use shared::mail::{self, NewEmail, Sender};

use super::Post;
use crate::outbox::{WORKSPACE, email};

async fn queue_from(post: &Post, from: &str, to: &str) {
    let sender = Sender { name: Some("Boss".into()), email: from.into(), reply_to: None };
    let mut connection = post.pool().acquire().await.unwrap();
    let mail: NewEmail = email(to, to);
    mail::queue(&mut connection, WORKSPACE, &sender, &[mail]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_from_a_domain_that_is_not_allowed_leaves_from_the_operators_address() {
    let post = Post::start().await;
    mail::senders::allow(&mut post.pool().acquire().await.unwrap(), WORKSPACE, "acme.example").await.unwrap();
    queue_from(&post, "boss@bank.example", "a@example.com").await;
    queue_from(&post, "boss@acme.example", "b@example.com").await;
    queue_from(&post, "boss@example.com", "c@example.com").await;
    let worker = post.worker(&[("CRM_MAIL__SENDER_DOMAINS", "")]);
    for to in ["a@example.com", "b@example.com", "c@example.com"] {
        post.until(to, "sent").await;
    }
    worker.stop().await;
    let taken = post.server.taken();
    let of = |to: &str| taken.iter().find(|taken| taken.to == to).unwrap();
    assert_eq!(of("a@example.com").from, "crm@example.com");
    assert_eq!(of("a@example.com").header("Reply-To"), Some("boss@bank.example"));
    assert_eq!(
        (of("b@example.com").from.as_str(), of("b@example.com").header("Reply-To")),
        ("boss@acme.example", None)
    );
    assert_eq!(of("c@example.com").from, "boss@example.com");
    // What is shown is what was sent.
    let shown: (String, Option<String>) =
        sqlx::query_as("SELECT from_email, reply_to FROM emails WHERE to_email = 'a@example.com'")
            .fetch_one(post.pool())
            .await
            .unwrap();
    assert_eq!(shown, ("crm@example.com".to_owned(), Some("boss@bank.example".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_beyond_ascii_reaches_any_server_and_a_mailbox_beyond_ascii_only_one_that_knows_it() {
    for (smtputf8, state) in [(false, "bounced"), (true, "sent")] {
        let post = Post::with(Options { smtputf8, ..Options::default() }).await;
        post.queue_to(&["ann@bücher.example", "jürgen@bücher.example", "ok@example.com"]).await;
        let worker = post.worker(&[("CRM_MAIL__CONNECTIONS", "1")]);
        post.until("ann@bücher.example", "sent").await;
        post.until("ok@example.com", "sent").await;
        let answer = post.until("jürgen@bücher.example", state).await;
        worker.stop().await;
        let mut to: Vec<String> = post.server.taken().into_iter().map(|taken| taken.to).collect();
        to.sort_unstable();
        if smtputf8 {
            assert_eq!(to, ["ann@xn--bcher-kva.example", "jürgen@xn--bcher-kva.example", "ok@example.com"]);
        } else {
            assert!(answer.contains("SMTPUTF8"), "{answer}");
            assert_eq!(to, ["ann@xn--bcher-kva.example", "ok@example.com"]);
        }
        let suppressed: i64 =
            sqlx::query_scalar("SELECT count(*) FROM suppressions").fetch_one(post.pool()).await.unwrap();
        assert_eq!(suppressed, 0);
    }
}
