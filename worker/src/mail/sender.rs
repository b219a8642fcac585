//! One connection: takes mails one by one and brings them to the server.
//!
//! That the last mail ended and that the next one is on its way is one statement, committed before
//! a word is said about the next. So whatever dies, at most one mail of each connection is in doubt.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shared::Error;
use shared::mail::breaks::{self, Breaks};
use shared::mail::{self, Lease, Leased, Next, Outcome, Position};
use uuid::Uuid;

use super::{Delivery, IDLE, Way, files};
use crate::context::{WorkerContext, jittered};
use crate::mail::smtp::{Message, Refusal, SmtpConnection, Trust, Verdict};
use crate::queue::leases::lock;

/// A connection that was not used for this long may be gone without a word.
const STALE: Duration = Duration::from_secs(5);
/// How long a connection waits that cannot be made while others can.
const PAUSE: Duration = Duration::from_secs(2);

/// Brings mails to the server until the process stops.
pub(super) async fn run(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    let mut sender = Sender::new(process, delivery);
    while let Some(mail) = sender.next().await {
        sender.carry(mail).await;
        sender.heed_end().await;
    }
    sender.flush().await;
    sender.hang_up().await;
}

/// Tries one message, since the server ended connections after others; reports what came of it.
pub(super) async fn probe(process: &Arc<WorkerContext>, delivery: &Arc<Delivery>, trust: &Trust) -> Option<End> {
    let mut sender = Sender::new(process.clone(), delivery.clone());
    match SmtpConnection::dial_twice(&delivery.settings, trust).await {
        Ok(line) => sender.put_through(line),
        Err(refusal) => {
            tracing::debug!(why = refusal.why, "no message can be tried");
            return None;
        }
    }
    if let Some(mail) = super::lease_probe(process, delivery).await {
        sender.carry(mail).await;
        sender.flush().await;
    }
    sender.hang_up().await;
    sender.end
}

/// How a message ended whose final dot was out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server has taken it.
    Answered,
    /// The connection ended without an answer.
    Broke,
}

struct Sender {
    process: Arc<WorkerContext>,
    delivery: Arc<Delivery>,
    line: Option<SmtpConnection>,
    /// When the line was last used.
    used: Instant,
    /// What became of the last mail, if that is not written yet.
    last: Option<(Lease, Outcome)>,
    /// How the last message ended, if its final dot was out.
    end: Option<End>,
    /// The place of the last mail, where it waits again if nothing was said about it.
    place: Option<(Uuid, Position)>,
}

impl Sender {
    fn new(process: Arc<WorkerContext>, delivery: Arc<Delivery>) -> Self {
        Self { process, delivery, line: None, used: Instant::now(), last: None, end: None, place: None }
    }

    /// Tells all workers of a message that got no answer, and of the next that gets one.
    async fn heed_end(&mut self) {
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
            Ok(breaks) => self.delivery.heed(breaks),
            Err(error) => tracing::debug!(%error, "what the mail server did cannot be written"),
        }
    }

    /// The next mail; none when the process stops. What became of the last one never waits for it.
    async fn next(&mut self) -> Option<Leased> {
        if self.process.stopping.is_cancelled() {
            return None;
        }
        if !self.delivery.circuit.is_open()
            && let Some(mail) = self.delivery.waiting.take()
        {
            return Some(mail);
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
                mail = &mut next => return Some(mail),
                () = tokio::time::sleep(IDLE) => self.hang_up().await,
            }
        }
    }

    async fn carry(&mut self, mail: Leased) {
        let began = Instant::now();
        if !self.has_line().await {
            // Others may be able to take it, while this one dials.
            self.delivery.waiting.put_back(mail, self.delivery.lines() > 0);
            return self.dial().await;
        }
        let message = match Message::build(mail.id, &mail.content) {
            Ok(message) => message,
            Err(answer) => {
                self.flush().await;
                return self.end(mail.lease(), Outcome::Bounced { answer, suppress: false });
            }
        };
        match self.mark(Some(&mail)).await {
            Some(Next::Sending) => {
                let marked = Instant::now();
                let outcome = self.send(&mail, &message, marked).await;
                self.delivery.waiting.took(began.elapsed());
                self.place = Some((mail.workspace_id, mail.position()));
                self.end(mail.lease(), outcome);
            }
            Some(Next::Suppressed) => {
                self.delivery.counts.suppressed.fetch_add(1, Relaxed);
                self.delivery.held.release(&[mail.lease()]);
            }
            Some(Next::Gone) => self.delivery.held.release(&[mail.lease()]),
            // The process ends without having reached the database.
            None => (),
        }
    }

    /// Whether there is a line that the server still answers on.
    async fn has_line(&mut self) -> bool {
        if !matches!(self.delivery.way, Way::Server(_)) {
            return true;
        }
        let Some(line) = &mut self.line else { return false };
        if self.used.elapsed() < STALE || line.is_alive().await {
            return true;
        }
        self.drop_line();
        false
    }

    /// Makes a line; if there is none to be had, the circuit is told why.
    async fn dial(&mut self) {
        let delivery = self.delivery.clone();
        let Way::Server(trust) = &delivery.way else { return };
        // It may take long, and what is known is written first.
        self.flush().await;
        let spare = lock(&delivery.spare).take();
        if let Some(mut line) = spare
            && line.is_alive().await
        {
            return self.put_through(line);
        }
        let dialled = tokio::select! {
            () = self.process.stopping.cancelled() => return,
            dialled = SmtpConnection::dial(&delivery.settings, trust) => dialled,
        };
        match dialled {
            Ok(line) => self.put_through(line),
            // A server may allow fewer connections than we would like; those that it has serve.
            Err(refusal) if delivery.lines() > 0 && !refusal.settings => {
                tracing::debug!(why = refusal.why, "one more connection cannot be made");
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

    fn put_through(&mut self, line: SmtpConnection) {
        self.delivery.add_line();
        self.used = Instant::now();
        self.line = Some(line);
    }

    fn drop_line(&mut self) -> Option<SmtpConnection> {
        let line = self.line.take();
        if line.is_some() {
            self.delivery.remove_line();
        }
        line
    }

    async fn hang_up(&mut self) {
        if let Some(line) = self.drop_line() {
            line.quit().await;
        }
    }

    /// Sends a mail that is marked as being sent.
    async fn send(&mut self, mail: &Leased, message: &Message, marked: Instant) -> Outcome {
        let delivery = self.delivery.clone();
        if let Way::Files(directory) = &delivery.way {
            return match files::write(directory, mail.id, message).await {
                Ok(answer) => {
                    delivery.circuit.succeed();
                    Outcome::Sent { answer }
                }
                Err(error) => {
                    delivery
                        .circuit
                        .open(Refusal { why: format!("no file can be written: {error:#}"), settings: true });
                    Outcome::Untouched
                }
            };
        }
        let Some(line) = &mut self.line else { return Outcome::Untouched };
        let may_go = || delivery.held.still_has(mail.lease(), marked);
        let verdict = tokio::select! {
            verdict = line.send(message, may_go) => Some(verdict),
            () = self.process.aborting.cancelled() => None,
        };
        self.end = match &verdict {
            Some(Verdict::Taken(_)) => Some(End::Answered),
            Some(Verdict::Lost(_)) => Some(End::Broke),
            _ => None,
        };
        let verdict = verdict.unwrap_or_else(|| line.break_off());
        let proved = line.proved;
        if line.is_dead() || matches!(verdict, Verdict::Broken(_) | Verdict::Lost(_)) {
            self.drop_line();
        }
        self.used = Instant::now();
        self.judge(mail, verdict, proved)
    }

    fn judge(&mut self, mail: &Leased, verdict: Verdict, proved: bool) -> Outcome {
        let circuit = &self.delivery.circuit;
        match verdict {
            Verdict::Taken(answer) => {
                circuit.succeed();
                Outcome::Sent { answer }
            }
            Verdict::Refused { answer, no_recipient } => {
                circuit.succeed();
                Outcome::Bounced { answer, suppress: no_recipient }
            }
            Verdict::PutOff(answer) => {
                circuit.succeed();
                self.put_off(mail, answer)
            }
            // A connection that has brought mails through may break for reasons of its own, such as
            // a limit of mails. One that breaks at its first mail may do so because of this mail.
            Verdict::Broken(_) if proved => Outcome::Untouched,
            Verdict::Broken(why) => {
                circuit.stumble(&why);
                self.put_off(mail, why)
            }
            Verdict::Lost(why) => {
                tracing::warn!(mail = %mail.id, why, "whether the mail was sent is not known");
                Outcome::Unknown { answer: why }
            }
            Verdict::Login(why) => {
                let why = format!("the mail server wants other credentials: {why}");
                circuit.open(Refusal { why, settings: true });
                Outcome::Untouched
            }
        }
    }

    fn put_off(&self, mail: &Leased, answer: String) -> Outcome {
        let hours = self.delivery.settings.give_up_after_hours;
        match mail::backoff(mail.failures, Duration::from_secs(u64::from(hours) * 60 * 60)) {
            Some(delay) => Outcome::Deferred { answer, delay },
            None => Outcome::Bounced { answer: format!("given up: {answer}"), suppress: false },
        }
    }

    fn end(&mut self, lease: Lease, outcome: Outcome) {
        self.delivery.counts.add(&outcome);
        self.last = Some((lease, outcome));
    }

    /// Writes what became of the last mail.
    async fn flush(&mut self) {
        if self.last.is_some() {
            self.mark(None).await;
        }
    }

    /// Writes what became of the last mail, and that the next one is on its way, however long the
    /// database is away. Doing it twice is harmless: the attempt is the fence. None: the process ends.
    async fn mark(&mut self, next: Option<&Leased>) -> Option<Next> {
        loop {
            let last = self.last.as_ref();
            let marked = self.delivery.with(&self.process, async |connection| mail::mark(connection, last, next).await);
            match marked.await {
                Ok(marked) => {
                    if let Some((lease, outcome)) = self.last.take() {
                        self.delivery.held.release(&[lease]);
                        if outcome == Outcome::Untouched {
                            self.delivery.returned(self.place);
                            self.delivery.wake.notify_one();
                        }
                    }
                    return marked;
                }
                // Two statements have waited for each other.
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
