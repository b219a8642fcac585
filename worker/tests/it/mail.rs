//! Mails on their way from the outbox to a server, which does what mail servers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dev::testing::smtp::{Act, MailServer, Options, Stage};
use dev::testing::{Database, Process};
use shared::config::Settings;
use shared::doorbell::Doorbell;
use shared::mail::{self, NewEmail};
use shared::records::RecordType;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::outbox::{WORKSPACE, email, sender, suppress};
use crate::support::{PATIENCE, free_address};

/// An outbox, and a server that takes its mails.
struct Post {
    server: Arc<MailServer>,
    database: Database,
    metrics: String,
}

/// A worker in this process that sends mails.
struct Sending {
    stop: CancellationToken,
    worker: JoinHandle<anyhow::Result<()>>,
}

impl Sending {
    async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
    }
}

impl Post {
    async fn start() -> Self {
        Self::with(Options { smtputf8: true, ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let server = Arc::new(MailServer::with(options).await);
        Self { server, database: Database::create().await, metrics: free_address() }
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    fn variables(&self, further: &[(&str, &str)]) -> Vec<(String, String)> {
        let port = self.server.address.port().to_string();
        let own = [
            ("DATABASE_URL", self.database.url()),
            ("CRM_WORKER__LISTEN", &self.metrics),
            ("CRM_WORKER__QUEUES", "mail"),
            ("CRM_MAIL__HOST", "localhost"),
            ("CRM_MAIL__PORT", &port),
            ("CRM_MAIL__TLS", "none"),
        ];
        own.iter().chain(further).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn worker(&self, further: &[(&str, &str)]) -> Sending {
        let settings = Settings::from_layers(None, self.variables(further)).unwrap();
        let stop = CancellationToken::new();
        Sending { stop: stop.clone(), worker: tokio::spawn(worker::run(settings, dev::chores::tasks(), stop)) }
    }

    async fn queue(&self, emails: &[NewEmail]) {
        let mut connection = self.pool().acquire().await.unwrap();
        mail::queue(&mut connection, WORKSPACE, &sender(), emails).await.unwrap();
    }

    async fn queue_to(&self, to: &[&str]) {
        let emails: Vec<NewEmail> = to.iter().map(|to| email(to, to)).collect();
        self.queue(&emails).await;
    }

    /// The state of the mail to an address, with the last answer.
    async fn state(&self, to: &str) -> (String, Option<String>) {
        sqlx::query_as("SELECT state, answer FROM emails WHERE to_email = $1")
            .bind(to)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Waits until the mail to an address is in a state, and returns the last answer.
    async fn until(&self, to: &str, state: &str) -> String {
        let started = Instant::now();
        loop {
            let (present, answer) = self.state(to).await;
            if present == state {
                return answer.unwrap_or_default();
            }
            assert!(started.elapsed() < PATIENCE, "the mail to {to} is {present} ({answer:?}), not {state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes mails that were put off due.
    async fn hurry(&self) {
        self.run("UPDATE emails SET run_at = now() WHERE state = 'deferred'").await;
    }

    async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.pool()).await.unwrap();
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.metrics)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn until_ready_says(&self, status: u16, what: &str) {
        let started = Instant::now();
        loop {
            let answer = reqwest::get(format!("http://{}/readyz", self.metrics)).await;
            let said = match answer {
                Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
                Err(error) => (0, error.to_string()),
            };
            if said.0 == status && said.1.contains(what) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "/readyz says {said:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

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
    while count("sent").await < 18 {
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
    mail::cancel_to(&mut post.pool().acquire().await.unwrap(), WORKSPACE, lead).await.unwrap();
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
    let doorbell = Doorbell::new(shared::db::pool(&settings.database, "test").unwrap());
    let mut waits = Vec::new();
    for n in 0..20 {
        let rung = Instant::now();
        post.queue_to(&[&format!("a{n}@example.com")]).await;
        doorbell.ring(mail::QUEUE);
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
