//! A circuit breaker for the mail server.
//!
//! While the server is unavailable, emails wait untouched in the outbox, and a single task keeps
//! trying to connect.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use crate::mail::smtp::Refusal;
use crate::queue::leases::lock;

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Closed: emails are sent. Open: the server is unavailable, and emails wait.
pub(crate) struct Circuit {
    open: watch::Sender<bool>,
    state: Mutex<State>,
    /// The number of broken connections in a row that opens the circuit.
    patience: u32,
}

#[derive(Default)]
struct State {
    /// Why the circuit is open; `None` before the first attempt to connect.
    why: Option<Refusal>,
    /// How often the circuit was opened since the server answered for an email.
    openings: u32,
    /// How many connections broke in a row since the server answered for an email.
    troubles: u32,
    /// Whether messages are sent one at a time, according to the database.
    is_held: bool,
}

impl Circuit {
    /// Creates an open circuit, which closes at the first connection to the server.
    pub fn new(patience: usize) -> Self {
        let patience = u32::try_from(patience).unwrap_or(u32::MAX).max(3);
        Self { open: watch::Sender::new(true), state: Mutex::default(), patience }
    }

    /// Why emails wait, if the server cannot be used.
    pub fn trouble(&self) -> Option<Refusal> {
        if *self.open.borrow() { lock(&self.state).why.clone() } else { None }
    }

    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub async fn closed(&self) {
        // The sender is part of `self`.
        let _ = self.open.subscribe().wait_for(|open| !open).await;
    }

    pub async fn opened(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Opens the circuit: the server cannot be reached, or rejects the login.
    pub fn open(&self, why: Refusal) {
        let mut state = lock(&self.state);
        if state.why.as_ref() != Some(&why) {
            tracing::warn!("email is waiting: {}", why.why);
        }
        state.why = Some(why);
        state.openings += 1;
        state.troubles = 0;
        state.is_held = false;
        self.open.send_replace(true);
    }

    /// Opens the circuit for all but one message at a time: the server closes connections after the
    /// final dot.
    pub fn hold(&self) {
        let why = "the mail server closes connections without confirming messages; trying one message at a time";
        let why = Refusal { why: why.into(), settings: false };
        let mut state = lock(&self.state);
        if state.why.as_ref() != Some(&why) {
            tracing::warn!("email is waiting: {}", why.why);
        }
        state.why = Some(why);
        state.is_held = true;
        self.open.send_replace(true);
    }

    /// Closes the circuit: the server was reached. The backoff continues until it answers for an
    /// email.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.is_held = false;
        if state.why.take().is_some() {
            tracing::info!("the mail server is available again");
        }
        self.open.send_replace(false);
    }

    /// Records that the server answered for an email.
    pub fn succeed(&self) {
        let mut state = lock(&self.state);
        state.openings = 0;
        state.troubles = 0;
    }

    /// Records a connection that broke before the server answered for an email.
    pub fn stumble(&self, why: &str) {
        let troubles = {
            let mut state = lock(&self.state);
            state.troubles += 1;
            state.troubles
        };
        if troubles >= self.patience {
            self.open(Refusal { why: format!("the mail server drops connections: {why}"), settings: false });
        }
    }

    /// How long to wait before the next attempt to connect.
    pub fn pause(&self) -> Duration {
        let state = lock(&self.state);
        match state.openings {
            _ if state.is_held => FIRST_PAUSE,
            0 => Duration::ZERO,
            n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(10)).min(LONGEST_PAUSE),
        }
    }
}
