//! The guarantees of the outbox, statement by statement.

use shared::events::Actor;
use shared::mail::templates::Rendered;
use shared::mail::{self, Cancel, EmailState, Event, Leased, NewEmail, Next, Outcome, Queued, Sender};
use shared::platform::db;
use shared::queue::{Claimant, Lease};
use shared::records::RecordType;
use shared::values::{Email, Field, email_key};
use sqlx::{Connection, PgConnection};
use testing::Database;
use uuid::Uuid;

use crate::support::Ledger;

pub(crate) const WORKSPACE: Uuid = Uuid::from_u128(1);

pub(crate) fn sender() -> Sender {
    Sender { name: Some("Acme".into()), email: "hello@acme.example".into(), reply_to: None }
}

pub(crate) fn email(key: &str, to: &str) -> NewEmail {
    NewEmail {
        id: Uuid::now_v7(),
        event: Event::Nurture,
        event_key: key.into(),
        subject: None,
        to_name: Some("Ann".into()),
        to_email: Email::from_text(to).unwrap(),
        content: Rendered { subject: format!("About {key}"), text: "Hello".into(), html: "<p>Hello</p>".into() },
        unsubscribe: None,
        time_zone: None,
    }
}

pub(crate) async fn suppress(connection: &mut PgConnection, email: &str) {
    sqlx::query(
        "INSERT INTO suppressions (workspace_id, id, email, email_key, reason, created_at)
         VALUES ($1, $2, $3, $4, 'manual', now())",
    )
    .bind(WORKSPACE)
    .bind(Uuid::now_v7())
    .bind(email)
    .bind(email_key(email))
    .execute(connection)
    .await
    .unwrap();
}

#[tokio::test]
async fn an_event_has_one_email_and_a_suppressed_address_gets_none() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    suppress(connection, "No@Example.com").await;
    let emails = [email("b", "bob@example.com"), email("a", "ann@example.com"), email("c", "no@example.COM")];
    let queued = mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    assert_eq!(queued, [Queued::New, Queued::New, Queued::Suppressed]);

    let again = [email("a", "ann@example.com"), email("d", "dan@example.com"), email("d", "dan@example.com")];
    let queued = mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &again).await.unwrap();
    assert_eq!(queued, [Queued::Before, Queued::New, Queued::Before]);
    // Another workspace has events of its own.
    let queued = mail::queue(connection, &Actor::worker(Uuid::from_u128(2)), &sender(), &again[..1]).await.unwrap();
    assert_eq!(queued, [Queued::New]);
}

#[tokio::test]
async fn an_email_is_rolled_back_with_its_event() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let mut event = connection.begin().await.unwrap();
    mail::queue(&mut event, &Actor::worker(WORKSPACE), &sender(), &[email("a", "ann@example.com")]).await.unwrap();
    event.rollback().await.unwrap();
    let queued =
        mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &[email("a", "ann@example.com")]).await.unwrap();
    assert_eq!(queued, [Queued::New]);
}

#[tokio::test]
async fn the_waiting_emails_to_a_record_can_be_cancelled() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let lead = (RecordType::Lead, Uuid::now_v7());
    let to_lead = |key| NewEmail { subject: Some(lead), ..email(key, "ann@example.com") };
    let emails = [to_lead("a"), to_lead("b"), email("c", "ann@example.com")];
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    assert_eq!(mail::cancel_to(connection, WORKSPACE, (RecordType::Customer, lead.1), Cancel::All).await.unwrap(), 0);
    let other = Cancel::Of(Event::FeedbackRequest);
    assert_eq!(mail::cancel_to(connection, WORKSPACE, lead, other).await.unwrap(), 0);
    assert_eq!(mail::cancel_to(connection, WORKSPACE, lead, Cancel::All).await.unwrap(), 2);
    assert_eq!(mail::cancel_to(connection, WORKSPACE, lead, Cancel::All).await.unwrap(), 0);
}

async fn lease(connection: &mut PgConnection, limit: i64) -> Vec<Leased> {
    mail::lease(connection, limit, &mail::Ranges::default(), &Claimant::default()).await.unwrap()
}

async fn state(connection: &mut PgConnection, id: Uuid) -> String {
    sqlx::query_scalar("SELECT state FROM emails WHERE id = $1").bind(id).fetch_one(connection).await.unwrap()
}

async fn expire_leases(connection: &mut PgConnection) {
    sqlx::query("UPDATE emails SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL")
        .execute(&mut *connection)
        .await
        .unwrap();
}

/// Rescues emails. A server that started just now first gives workers time to renew their leases.
async fn rescue(connection: &mut PgConnection) -> Vec<mail::Rescued> {
    let started = std::time::Instant::now();
    loop {
        let rescued = mail::rescue(connection, &mut mail::Looked::default()).await.unwrap();
        if !rescued.is_empty() {
            return rescued;
        }
        assert!(started.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn only_the_emails_that_a_dead_worker_was_sending_become_unknown() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let emails = [email("a", "a@example.com"), email("b", "b@example.com"), email("c", "c@example.com")];
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    let leased = lease(connection, 2).await;
    assert_eq!(leased.iter().map(|email| email.id).collect::<Vec<_>>(), [emails[0].id, emails[1].id]);
    assert_eq!(mail::mark(connection, None, Some(&leased[0]), None).await.unwrap(), Some(Next::Sending));
    expire_leases(connection).await;
    let mut rescued: Vec<(Uuid, EmailState)> =
        rescue(connection).await.iter().map(|email| (email.id, email.state)).collect();
    rescued.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(rescued, [(emails[0].id, EmailState::Unknown), (emails[1].id, EmailState::Queued)]);

    // If the worker was only late, its outcome changes nothing.
    let sent = Outcome::Sent { answer: "250 ok".into() };
    mail::mark(connection, Some(&(leased[0].lease(), sent)), None, None).await.unwrap();
    assert_eq!(state(connection, emails[0].id).await, "unknown");
    assert_eq!(mail::mark(connection, None, Some(&leased[1]), None).await.unwrap(), Some(Next::Superseded));
    // Another worker sends the other two.
    assert_eq!(lease(connection, 10).await.len(), 2);
}

/// The types of the events of an email.
async fn events(connection: &mut PgConnection, id: Uuid) -> Vec<String> {
    let types = sqlx::query_scalar("SELECT type FROM new_events WHERE subject_id = $1 ORDER BY position");
    types.bind(id).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn an_outcome_that_is_recorded_twice_counts_once() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let emails = [email("a", "a@example.com"), email("b", "b@example.com"), email("c", "c@example.com")];
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    let leased = lease(connection, 10).await;
    mail::mark(connection, None, Some(&leased[0]), None).await.unwrap();
    let sent = (leased[0].lease(), Outcome::Sent { answer: "250 ok".into() });
    for _ in 0..2 {
        let next = mail::mark(connection, Some(&sent), Some(&leased[1]), None).await.unwrap();
        assert_eq!(next, Some(Next::Sending));
    }
    assert_eq!(events(connection, emails[0].id).await, ["email.sent"]);
    let delay = std::time::Duration::from_secs(60);
    let deferred = (leased[1].lease(), Outcome::Deferred { answer: "451 later".into(), delay });
    for _ in 0..2 {
        mail::mark(connection, Some(&deferred), None, None).await.unwrap();
    }
    let failures: i16 = sqlx::query_scalar("SELECT failures FROM emails WHERE id = $1")
        .bind(emails[1].id)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(failures, 1);
}

#[tokio::test]
async fn one_statement_records_an_outcome_and_begins_the_next_email() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let emails = [email("a", "a@example.com"), email("b", "b@example.com"), email("c", "c@example.com")];
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    let leased = lease(connection, 10).await;
    mail::mark(connection, None, Some(&leased[0]), None).await.unwrap();
    let bounced = (leased[0].lease(), Outcome::Bounced { answer: "550 5.1.1 no".into(), suppress: true });
    for _ in 0..2 {
        // The statement may be repeated, since the first answer may have been lost.
        let next = mail::mark(connection, Some(&bounced), Some(&leased[1]), None).await.unwrap();
        assert_eq!(next, Some(Next::Sending));
    }
    assert_eq!(state(connection, emails[0].id).await, "bounced");
    assert_eq!(state(connection, emails[1].id).await, "sending");
    assert_eq!(events(connection, emails[0].id).await, ["email.bounced"]);
    let queued =
        mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &[email("d", "A@example.com")]).await.unwrap();
    assert_eq!(queued, [Queued::Suppressed]);

    suppress(connection, "c@example.com").await;
    let untouched = (leased[1].lease(), Outcome::Untouched);
    assert_eq!(mail::mark(connection, Some(&untouched), Some(&leased[2]), None).await.unwrap(), Some(Next::Suppressed));
    assert_eq!(state(connection, emails[1].id).await, "queued");
    let again = lease(connection, 10).await;
    assert_eq!(again.iter().map(|email| (email.id, email.failures)).collect::<Vec<_>>(), [(emails[1].id, 0)]);
}

#[tokio::test]
async fn a_bounce_suppresses_the_other_emails_to_the_address() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let emails: Vec<NewEmail> = ["a", "b", "c", "d"].map(|key| email(key, "Gone@example.com")).into();
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    let other = email("a", "gone@example.com");
    mail::queue(connection, &Actor::worker(Uuid::from_u128(2)), &sender(), std::slice::from_ref(&other)).await.unwrap();
    let leased: Vec<Leased> =
        lease(connection, 10).await.into_iter().filter(|email| email.workspace_id == WORKSPACE).collect();
    // Another connection holds one email and has not sent it yet; another email was deferred.
    let put_off = (leased[3].lease(), Outcome::Deferred { answer: "451".into(), delay: std::time::Duration::ZERO });
    mail::mark(connection, Some(&put_off), Some(&leased[0]), None).await.unwrap();
    let bounced = (leased[0].lease(), Outcome::Bounced { answer: "550 5.1.1 no".into(), suppress: true });
    for _ in 0..2 {
        let next = mail::mark(connection, Some(&bounced), Some(&leased[1]), None).await.unwrap();
        assert_eq!(next, Some(Next::Superseded));
    }
    assert_eq!(mail::mark(connection, None, Some(&leased[2]), None).await.unwrap(), Some(Next::Superseded));
    assert_eq!(state(connection, leased[0].id).await, "bounced");
    for email in &leased[1..] {
        assert_eq!(state(connection, email.id).await, "suppressed");
    }
    assert_eq!(state(connection, other.id).await, "queued");
    // A worker that has lost the email suppresses nothing.
    let late = Outcome::Bounced { answer: "550 5.1.1 no".into(), suppress: true };
    let before = [email("x", "x@example.com"), email("y", "x@example.com")];
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &before).await.unwrap();
    let mut lost = lease(connection, 10).await.swap_remove(0).lease();
    lost.attempt -= 1;
    mail::mark(connection, Some(&(lost, late)), None, None).await.unwrap();
    assert_eq!(
        (state(connection, before[0].id).await, state(connection, before[1].id).await),
        ("queued".into(), "queued".into())
    );
}

#[tokio::test]
async fn a_workspace_with_many_waiting_emails_does_not_delay_another() {
    let database = Database::create().await;
    let connection = &mut *database.pool().acquire().await.unwrap();
    let many: Vec<NewEmail> = (0..500).map(|n| email(&n.to_string(), "many@example.com")).collect();
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &many).await.unwrap();
    let other = [email("x", "one@example.com")];
    mail::queue(connection, &Actor::worker(Uuid::from_u128(2)), &sender(), &other).await.unwrap();
    let leased = lease(connection, 50).await;
    // The email is among the first, not after the other workspace's share of 25.
    assert!(leased.iter().take(2).any(|email| email.id == other[0].id));
    // A workspace without due emails gets no share.
    sqlx::query("UPDATE emails SET run_at = now() + interval '1 hour', lease_until = NULL WHERE workspace_id = $1")
        .bind(Uuid::from_u128(2))
        .execute(&mut *connection)
        .await
        .unwrap();
    assert_eq!(lease(connection, 50).await.len(), 50);
}

#[tokio::test]
async fn no_email_is_leased_twice() {
    let database = Database::create().await;
    let many: Vec<NewEmail> = (0..400).map(|n| email(&n.to_string(), "many@example.com")).collect();
    mail::queue(&mut database.pool().acquire().await.unwrap(), &Actor::worker(WORKSPACE), &sender(), &many)
        .await
        .unwrap();
    let leasing = (0..4).map(|_| async {
        let mut connection = database.pool().acquire().await.unwrap();
        let mut mine = Vec::new();
        loop {
            match lease(&mut connection, 7).await {
                leased if leased.is_empty() => return mine,
                leased => mine.extend(leased.into_iter().map(|email| email.id)),
            }
        }
    });
    let mut all = futures_util::future::join_all(leasing).await.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 400);
}

#[tokio::test]
async fn rate_limits_hold_over_all_workers_and_a_limited_domain_delays_no_other() {
    let database = Database::create().await;
    let mut limited =
        shared::platform::config::Settings::from_layers(None, [("DATABASE_URL".into(), database.url().into())])
            .unwrap()
            .mail;
    let turn = async |settings: &shared::platform::config::Mail, limit| {
        let mut connection = database.pool().acquire().await.unwrap();
        mail::lease_in_turn(&mut connection, limit, &mail::Ranges::default(), settings, &Claimant::default())
            .await
            .unwrap()
    };
    let connection = &mut *database.pool().acquire().await.unwrap();
    let many: Vec<NewEmail> = (0..50).map(|n| email(&n.to_string(), &format!("a{n}@full.example"))).collect();
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &many).await.unwrap();
    mail::queue(connection, &Actor::worker(WORKSPACE), &sender(), &[email("x", "x@other.example")]).await.unwrap();

    limited.per_domain_per_minute = 30;
    let first = turn(&limited, 20).await;
    // A tenth of a minute's emails may be sent at once; the others are postponed.
    assert_eq!((first.emails.len(), first.put_off), (3, 17));
    let later = turn(&limited, 100).await;
    assert_eq!(later.emails.iter().map(|email| email.to_domain.as_str()).collect::<Vec<_>>(), ["other.example"]);
    assert_eq!(later.put_off, 30);
    let spread: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM max(run_at) - min(run_at))::float8 FROM emails WHERE lease_until IS NULL",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert!((91.0..93.0).contains(&spread), "46 times two seconds, not {spread}");

    limited.per_domain_per_minute = 0;
    limited.per_minute = 40;
    sqlx::query("UPDATE emails SET run_at = now()").execute(&mut *connection).await.unwrap();
    let first = turn(&limited, 20).await;
    assert_eq!(first.emails.len(), 4);
    let none = turn(&limited, 20).await;
    let wait = none.wait.unwrap().as_secs_f64();
    assert!(none.emails.is_empty() && (0.0..=1.5).contains(&wait), "{wait}");
}

#[tokio::test]
async fn leases_of_many_emails_are_renewed_fast_before_any_statistics_know_of_them() {
    let ledger = Ledger::create().await;
    // The pool that delivers: it keeps plans, since each email has statements of its own.
    let mut connection = ledger.hurried(db::pool).await;
    let insert = "INSERT INTO emails (id, workspace_id, event, event_key, from_email, to_email, to_email_key, to_domain,
                      subject, text_body, state)
                  SELECT gen_random_uuid(), $1, 'nurture', gen_random_uuid(), 'a@b.example', 'a@b.example', 'a@b.example',
                      'b.example', '', '', 'queued'
                  FROM generate_series(1, $2)
                  RETURNING workspace_id, id, attempt";
    let insert = async |count: i32| -> Vec<Lease> {
        let insert = sqlx::query_as(insert).bind(WORKSPACE).bind(count);
        insert.fetch_all(&mut *ledger.connection().await).await.unwrap()
    };
    let few = insert(1).await;
    for _ in 0..10 {
        assert_eq!(mail::renew(&mut connection, &few).await.unwrap(), few);
    }
    // With the plan for one email, all of the workspace would be compared with all leases.
    let many = insert(60_000).await;
    assert_eq!(mail::renew(&mut connection, &many[..1_000]).await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn many_emails_are_checked_fast_against_many_suppressions_before_any_statistics_know_of_them() {
    let ledger = Ledger::create().await;
    let mut connection = ledger.hurried(db::batch_pool).await;
    let suppress = "INSERT INTO suppressions (workspace_id, id, email, email_key, reason, created_at)
                    SELECT $1, gen_random_uuid(), to_email, to_email, 'unsubscribed', now()
                    FROM generate_series(500, 60000) AS n, concat(n, '@example.com') AS to_email";
    sqlx::query(suppress).bind(WORKSPACE).execute(&mut *ledger.connection().await).await.unwrap();
    let emails: Vec<NewEmail> = (0..1_000).map(|n| email(&n.to_string(), &format!("{n}@example.com"))).collect();
    let queued = mail::queue(&mut connection, &Actor::worker(WORKSPACE), &sender(), &emails).await.unwrap();
    assert_eq!(queued[..500], [Queued::New; 500]);
    assert_eq!(queued[500..], [Queued::Suppressed; 500]);
}
