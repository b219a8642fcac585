//! The connection to Chromium: commands with their responses, and the events of each session.
//!
//! Commands are typed. Responses and events are read as JSON: a newer Chromium adds values to them, and an
//! event that was dropped for that reason would hide a fault of a page.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use chromiumoxide::types::{CallId, EventMessage, Message, MethodId, Response};
use chromiumoxide::{Command, Connection, Method};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Generous, since many tests share few cores.
const RESPONSE_LIMIT: Duration = Duration::from_secs(60);

/// What Chromium reports by itself.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub method: String,
    #[serde(rename = "sessionId")]
    session: Option<String>,
    #[serde(default)]
    pub params: Value,
}

impl Method for Event {
    fn identifier(&self) -> MethodId {
        self.method.clone().into()
    }
}

impl EventMessage for Event {
    fn session_id(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

/// Receives the events of a session, in their order, and each before the responses that follow it.
pub(super) type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// A command that waits to be sent.
struct Call {
    method: MethodId,
    session: Option<String>,
    params: Value,
    answer: oneshot::Sender<Result<Value>>,
}

/// The commands of Chromium. Clones share the connection.
#[derive(Clone)]
pub(super) struct Protocol {
    calls: mpsc::UnboundedSender<Call>,
    listeners: Arc<Mutex<HashMap<String, Listener>>>,
}

impl Protocol {
    /// Connects to Chromium. The connection lives in the present runtime.
    pub async fn connect(address: &str) -> Result<Self> {
        let connection = Connection::connect(address).await.context("cannot connect to Chromium")?;
        let (calls, received) = mpsc::unbounded_channel();
        let protocol = Self { calls, listeners: Arc::default() };
        tokio::spawn(drive(connection, received, protocol.listeners.clone()));
        Ok(protocol)
    }

    /// Hands the events of a session to a listener, until [`Self::forget`].
    pub fn listen(&self, session: &str, listener: Listener) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).insert(session.to_owned(), listener);
    }

    pub fn forget(&self, session: &str) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
    }

    /// Sends a command, to a session or to the browser, and returns its response.
    pub async fn run<C: Command>(&self, session: Option<&str>, command: C) -> Result<Value> {
        let method = command.identifier();
        let answer = self.send(session, command)?;
        let answered = timeout(RESPONSE_LIMIT, answer).await.with_context(|| format!("{method} took too long"))?;
        answered.context("Chromium has ended")?.with_context(|| method.into_owned())
    }

    /// Sends a command without waiting for its response.
    pub fn send<C: Command>(&self, session: Option<&str>, command: C) -> Result<oneshot::Receiver<Result<Value>>> {
        let (answer, answered) = oneshot::channel();
        let params = serde_json::to_value(&command)?;
        let call = Call { method: command.identifier(), session: session.map(str::to_owned), params, answer };
        self.calls.send(call).ok().context("Chromium has ended")?;
        Ok(answered)
    }
}

/// Sends commands and hands on what Chromium sends, until either side ends.
async fn drive(
    mut connection: Connection<Event>,
    mut calls: mpsc::UnboundedReceiver<Call>,
    listeners: Arc<Mutex<HashMap<String, Listener>>>,
) {
    let mut waiting: HashMap<CallId, oneshot::Sender<Result<Value>>> = HashMap::new();
    loop {
        tokio::select! {
            call = calls.recv() => {
                let Some(Call { method, session, params, answer }) = call else { return };
                // The connection sends it when it is read the next time.
                match connection.submit_command(method, session.map(Into::into), params) {
                    Ok(id) => drop(waiting.insert(id, answer)),
                    Err(error) => drop(answer.send(Err(error.into()))),
                }
            }
            message = connection.next() => match message {
                Some(Ok(Message::Response(response))) => {
                    if let Some(answer) = waiting.remove(&response.id) {
                        let _ = answer.send(result(response));
                    }
                }
                Some(Ok(Message::Event(event))) => {
                    let session = event.session.as_deref().unwrap_or_default();
                    let listener = listeners.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
                    if let Some(listener) = listener {
                        listener(&event);
                    }
                }
                Some(Err(error)) => eprintln!("Chromium's message is lost: {error}"),
                None => return,
            },
        }
    }
}

fn result(response: Response) -> Result<Value> {
    match response.error {
        Some(error) => Err(anyhow!("{}", error.message)),
        None => Ok(response.result.unwrap_or_default()),
    }
}
