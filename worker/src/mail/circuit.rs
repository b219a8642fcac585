//! Whether the mail server is there.
//!
//! While it is not, no mail is touched: mails wait in the ledger, and one task dials now and then.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use crate::mail::smtp::Refusal;
use crate::queue::leases::lock;

/// The longest pause between two attempts to reach the server.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Closed: mails flow. Open: the server is away, and they wait.
pub(crate) struct Circuit {
    open: watch::Sender<bool>,
    state: Mutex<State>,
    /// Troubles in a row that open it.
    patience: u32,
}

#[derive(Default)]
struct State {
    /// Why it is open; none before the first attempt to reach the server.
    why: Option<Refusal>,
    /// Times it was opened since a mail came through.
    openings: u32,
    /// Connections that broke in a row since a mail came through.
    troubles: u32,
    /// Messages are tried one at a time, when the database says so.
    is_held: bool,
}

impl Circuit {
    /// Open, until the server is reached for the first time.
    pub fn new(patience: usize) -> Self {
        let patience = u32::try_from(patience).unwrap_or(u32::MAX).max(3);
        Self { open: watch::Sender::new(true), state: Mutex::default(), patience }
    }

    /// Why mails wait, if the server could not be reached.
    pub fn trouble(&self) -> Option<Refusal> {
        if *self.open.borrow() { lock(&self.state).why.clone() } else { None }
    }

    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until mails may flow.
    pub async fn closed(&self) {
        // The sender is part of `self`.
        let _ = self.open.subscribe().wait_for(|open| !open).await;
    }

    /// Waits until they may not.
    pub async fn opened(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// The server cannot be reached, or lets nobody in.
    pub fn open(&self, why: Refusal) {
        let mut state = lock(&self.state);
        if state.why.as_ref() != Some(&why) {
            tracing::warn!("mail waits: {}", why.why);
        }
        state.why = Some(why);
        state.openings += 1;
        state.troubles = 0;
        state.is_held = false;
        self.open.send_replace(true);
    }

    /// Messages are tried one at a time: the server ends connections after the final dot.
    pub fn hold(&self) {
        let why = "the mail server ends connections after messages without an answer; one message at a time is tried";
        let why = Refusal { why: why.into(), settings: false };
        let mut state = lock(&self.state);
        if state.why.as_ref() != Some(&why) {
            tracing::warn!("mail waits: {}", why.why);
        }
        state.why = Some(why);
        state.is_held = true;
        self.open.send_replace(true);
    }

    /// The server was reached. Only a mail that comes through shows that it is well.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.is_held = false;
        if state.why.take().is_some() {
            tracing::info!("the mail server is there again");
        }
        self.open.send_replace(false);
    }

    /// The server has answered for a mail.
    pub fn succeed(&self) {
        let mut state = lock(&self.state);
        state.openings = 0;
        state.troubles = 0;
    }

    /// A connection broke before it had brought any mail through.
    pub fn stumble(&self, why: &str) {
        let troubles = {
            let mut state = lock(&self.state);
            state.troubles += 1;
            state.troubles
        };
        if troubles >= self.patience {
            self.open(Refusal { why: format!("the mail server breaks connections: {why}"), settings: false });
        }
    }

    /// How long to wait before the server is tried again.
    pub fn pause(&self) -> Duration {
        let state = lock(&self.state);
        match state.openings {
            _ if state.is_held => FIRST_PAUSE,
            0 => Duration::ZERO,
            n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(10)).min(LONGEST_PAUSE),
        }
    }
}
