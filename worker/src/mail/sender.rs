//! A sender: takes emails one by one and sends them over its connection.
//!
//! One statement records the outcome of the last email and that the next one is being sent. It is
//! committed before anything about the next email is sent. So after a crash, at most one email of
//! each connection is in doubt.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shared::Error;
use shared::mail::breaks::{self, Breaks};
use shared::mail::{self, Lease, Leased, Next, Outcome, Position};
use shared::platform::db;
use tracing::Instrument;
use uuid::Uuid;

use super::observe::Observed;
use super::{Delivery, IDLE, Transport, files};
use crate::context::{WorkerContext, jittered};
use crate::mail::smtp::{Message, Refusal, SmtpConnection, Trust, Verdict};
use crate::queue::leases::lock;

/// A connection that was idle for this long is checked before it is used.
const STALE: Duration = Duration::from_secs(5);
/// How long a sender waits when it cannot connect while others are connected.
const PAUSE: Duration = Duration::from_secs(2);

/// Sends emails until the process stops.
pub(super) async fn run(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    let mut sender = Sender::new(process, delivery);
    while let Some(email) = sender.next().await {
        sender.deliver(email).await;
        sender.share_result().await;
    }
    sender.flush().await;
    sender.disconnect().await;
}

/// Sends one message to probe a server that closed connections after others, and returns how it
/// ended.
pub(super) async fn probe(process: &Arc<WorkerContext>, delivery: &Arc<Delivery>, trust: &Trust) -> Option<End> {
    let mut sender = Sender::new(process.clone(), delivery.clone());
    match SmtpConnection::dial_twice(&delivery.settings, trust).await {
        Ok(connection) => sender.use_connection(connection),
        Err(refusal) => {
            tracing::debug!(why = refusal.why, "cannot probe the mail server");
            return None;
        }
    }
    if let Some(email) = super::lease_probe(process, delivery).await {
        sender.deliver(email).await;
        sender.flush().await;
    }
    sender.disconnect().await;
    sender.end
}

/// How the attempt ended for a message whose final dot was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server accepted the message.
    Answered,
    /// The connection broke without an answer.
    Broke,
}

struct Sender {
    process: Arc<WorkerContext>,
    delivery: Arc<Delivery>,
    connection: Option<SmtpConnection>,
    /// When the connection was last used.
    used: Instant,
    /// The outcome of the last email, if it is not recorded yet.
    last: Option<(Lease, Outcome)>,
    /// How the last message ended, if its final dot was sent.
    end: Option<End>,
    /// The position of the last email, where it waits again if the attempt does not count.
    position: Option<(Uuid, Position)>,
}

impl Sender {
    fn new(process: Arc<WorkerContext>, delivery: Arc<Delivery>) -> Self {
        Self { process, delivery, connection: None, used: Instant::now(), last: None, end: None, position: None }
    }

    /// Shares with all workers that the server did not answer a message, or answered one again.
    async fn share_result(&mut self) {
        let breaks = match self.end.take() {
            Some(End::Broke) => {
                self.flush().await;
                self.delivery.with(&self.process, async |connection| breaks::record(connection).await).await
            }
            Some(End::Answered) if self.delivery.breaks.load(Relaxed) > 0 => {
                self.flush().await;
                self.delivery.breaks.store(0, Relaxed);
                let cleared = self.delivery.with(&self.process, async |connection| breaks::clear(connection).await);
                cleared.await.map(|()| Breaks { in_a_row: 0 })
            }
            _ => return,
        };
        match breaks {
            Ok(breaks) => self.delivery.apply_breaks(breaks),
            Err(error) => tracing::debug!(%error, "cannot record the state of the mail server"),
        }
    }

    /// Waits for the next email; `None` when the process stops. The last outcome is recorded before
    /// waiting.
    async fn next(&mut self) -> Option<Leased> {
        if self.process.stopping.is_cancelled() {
            return None;
        }
        if !self.delivery.circuit.is_open()
            && let Some(email) = self.delivery.waiting.take()
        {
            return Some(email);
        }
        self.flush().await;
        let delivery = self.delivery.clone();
        let next = async {
            delivery.circuit.closed().await;
            delivery.waiting.next().await
        };
        let mut next = std::pin::pin!(next);
        loop {
            tokio::select! {
                () = self.process.stopping.cancelled() => return None,
                email = &mut next => return Some(email),
                () = tokio::time::sleep(IDLE) => self.disconnect().await,
            }
        }
    }

    async fn deliver(&mut self, email: Leased) {
        let began = Instant::now();
        if !email.may_leave(db::now()) {
            return self.delivery.wait_for_window(&self.process, &email).await;
        }
        if !self.is_connected().await {
            // Another sender may send the email while this one connects.
            self.delivery.waiting.put_back(email, self.delivery.connections() > 0);
            return self.dial().await;
        }
        let message = match Message::build(email.id, &email.content) {
            Ok(message) => message,
            Err(answer) => {
                self.flush().await;
                return self.end(&email, Outcome::Bounced { answer, suppress: false });
            }
        };
        match self.mark(Some(&email)).await {
            Some(Next::Sending) => {
                let outcome = self.send_and_log(&email, &message).await;
                self.delivery.waiting.took(began.elapsed());
                self.position = Some((email.workspace_id, email.position()));
                self.end(&email, outcome);
            }
            Some(Next::Suppressed) => {
                if let Some(metrics) = &self.process.metrics.email {
                    metrics.count("suppressed");
                }
                self.delivery.held.release(&[email.lease()]);
            }
            Some(Next::Superseded) => self.delivery.held.release(&[email.lease()]),
            Some(Next::OnHold) => {
                let waiting = self.delivery.waiting.take_all();
                self.delivery.hand_back(&self.process, waiting.into_iter().chain([email])).await;
            }
            // The process is ending and the database is unavailable.
            None => (),
        }
    }

    /// Whether there is a connection on which the server still answers.
    async fn is_connected(&mut self) -> bool {
        if !matches!(self.delivery.transport, Transport::Server(_)) {
            return true;
        }
        let Some(connection) = &mut self.connection else { return false };
        if self.used.elapsed() < STALE || connection.is_alive().await {
            return true;
        }
        self.drop_connection();
        false
    }

    /// Connects to the server. Opens the circuit if no sender can connect.
    async fn dial(&mut self) {
        let delivery = self.delivery.clone();
        let Transport::Server(trust) = &delivery.transport else { return };
        // Recorded first, because connecting may take long.
        self.flush().await;
        let spare = lock(&delivery.spare).take();
        if let Some(mut connection) = spare
            && connection.is_alive().await
        {
            return self.use_connection(connection);
        }
        let dialled = tokio::select! {
            () = self.process.stopping.cancelled() => return,
            dialled = SmtpConnection::dial(&delivery.settings, trust) => dialled,
        };
        match dialled {
            Ok(connection) => self.use_connection(connection),
            // The server may limit connections, so the open ones are used.
            Err(refusal) if delivery.connections() > 0 && !refusal.settings => {
                tracing::debug!(why = refusal.why, "cannot open another connection");
                tokio::select! {
                    () = self.process.stopping.cancelled() => (),
                    () = tokio::time::sleep(jittered(PAUSE)) => (),
                }
            }
            Err(refusal) => {
                delivery.circuit.open(refusal);
                delivery.hand_back(&self.process, delivery.waiting.take_all()).await;
            }
        }
    }

    fn use_connection(&mut self, connection: SmtpConnection) {
        self.delivery.add_connection();
        self.used = Instant::now();
        self.connection = Some(connection);
    }

    fn drop_connection(&mut self) -> Option<SmtpConnection> {
        let connection = self.connection.take();
        if connection.is_some() {
            self.delivery.remove_connection();
        }
        connection
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.drop_connection() {
            connection.quit().await;
        }
    }

    /// Sends an email that is marked as `sending`, with a line in the log and a span.
    async fn send_and_log(&mut self, email: &Leased, message: &Message) -> Outcome {
        let marked = Instant::now();
        let host = matches!(self.delivery.transport, Transport::Server(_)).then_some(&*self.delivery.settings.host);
        let observed = Observed::begin(email, host);
        let outcome = self.send(email, message, marked).instrument(observed.span().clone()).await;
        observed.end(&email.to_domain, &outcome, marked.elapsed());
        outcome
    }

    /// Sends an email that is marked as `sending`.
    async fn send(&mut self, email: &Leased, message: &Message, marked: Instant) -> Outcome {
        let delivery = self.delivery.clone();
        if let Transport::Files(directory) = &delivery.transport {
            return match files::write(directory, email.id, message).await {
                Ok(answer) => {
                    delivery.circuit.succeed();
                    Outcome::Sent { answer }
                }
                Err(error) => {
                    delivery.circuit.open(Refusal { why: format!("cannot write a file: {error:#}"), settings: true });
                    Outcome::Untouched
                }
            };
        }
        let Some(connection) = &mut self.connection else { return Outcome::Untouched };
        let may_send = || delivery.held.still_has(email.lease(), marked);
        let verdict = tokio::select! {
            verdict = connection.send(message, may_send) => Some(verdict),
            () = self.process.aborting.cancelled() => None,
        };
        self.end = match &verdict {
            Some(Verdict::Accepted(_)) => Some(End::Answered),
            Some(Verdict::Lost(_)) => Some(End::Broke),
            _ => None,
        };
        let verdict = verdict.unwrap_or_else(|| connection.break_off());
        let proved = connection.proved;
        if connection.is_dead() || matches!(verdict, Verdict::Broken(_) | Verdict::Lost(_)) {
            self.drop_connection();
        }
        self.used = Instant::now();
        self.judge(email, verdict, proved)
    }

    fn judge(&mut self, email: &Leased, verdict: Verdict, proved: bool) -> Outcome {
        let circuit = &self.delivery.circuit;
        match verdict {
            Verdict::Accepted(answer) => {
                circuit.succeed();
                Outcome::Sent { answer }
            }
            Verdict::Rejected { answer, no_recipient } => {
                circuit.succeed();
                Outcome::Bounced { answer, suppress: no_recipient }
            }
            Verdict::Deferred(answer) => {
                circuit.succeed();
                self.put_off(email, answer)
            }
            // After the server has answered for an email, the connection may break for other
            // reasons, such as a limit of emails. If it breaks at its first email, that email may
            // be the reason.
            Verdict::Broken(_) if proved => Outcome::Untouched,
            Verdict::Broken(why) => {
                circuit.stumble(&why);
                self.put_off(email, why)
            }
            Verdict::Lost(why) => {
                tracing::warn!(why, "delivery unknown: the server did not confirm the email");
                Outcome::Unknown { answer: why }
            }
            Verdict::Login(why) => {
                let why = format!("the mail server requires valid credentials: {why}");
                circuit.open(Refusal { why, settings: true });
                Outcome::Untouched
            }
        }
    }

    fn put_off(&self, email: &Leased, answer: String) -> Outcome {
        let hours = self.delivery.settings.give_up_after_hours;
        match mail::backoff(email.failures, Duration::from_secs(u64::from(hours) * 60 * 60)) {
            Some(delay) => {
                let now = db::now();
                let opens_in = email.next_opening(now + delay) - now;
                Outcome::Deferred { answer, delay: opens_in.to_std().unwrap_or(delay) }
            }
            None => Outcome::Bounced { answer: format!("gave up: {answer}"), suppress: false },
        }
    }

    fn end(&mut self, email: &Leased, outcome: Outcome) {
        if let Some(metrics) = &self.process.metrics.email {
            match &outcome {
                Outcome::Sent { .. } => metrics.sent((db::now() - email.run_at).to_std().unwrap_or_default()),
                Outcome::Deferred { .. } => metrics.count("deferred"),
                Outcome::Bounced { .. } => metrics.count("bounced"),
                Outcome::Unknown { .. } => metrics.count("unknown"),
                Outcome::Untouched => metrics.count("untouched"),
            }
        }
        self.last = Some((email.lease(), outcome));
    }

    /// Records the outcome of the last email.
    async fn flush(&mut self) {
        if self.last.is_some() {
            self.mark(None).await;
        }
    }

    /// Records the outcome of the last email and that the next one is being sent. Retries for as
    /// long as the database is unavailable, which is harmless, because the attempt is the fence.
    /// Returns `None` when the process ends.
    async fn mark(&mut self, next: Option<&Leased>) -> Option<Next> {
        loop {
            let (last, public_url) = (self.last.as_ref(), self.process.settings.own_url());
            let marked = self
                .delivery
                .with(&self.process, async |connection| mail::mark(connection, last, next, public_url).await);
            match marked.await {
                Ok(marked) => {
                    if let Some((lease, outcome)) = self.last.take() {
                        self.delivery.held.release(&[lease]);
                        if outcome == Outcome::Untouched {
                            self.delivery.returned(self.position);
                            self.delivery.wake.notify_one();
                        }
                    }
                    return marked;
                }
                // A deadlock: another statement locked the same rows.
                Err(Error::Repeat(_)) => continue,
                Err(error) => {
                    let pause = self.process.services.outbox.failed(&error);
                    tokio::select! {
                        () = self.process.aborting.cancelled() => return None,
                        () = async {
                            tokio::time::sleep(pause).await;
                            self.process.wait_for_database().await;
                        } => (),
                    }
                }
            }
        }
    }
}
