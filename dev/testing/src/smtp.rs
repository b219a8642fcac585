//! A mail server that follows the script of a test, and remembers every message it accepted.
//!
//! ```no_run
//! # async fn test() {
//! use testing::smtp::{Act, MailServer, Stage};
//!
//! let server = MailServer::start().await;
//! server.act(|moment| match moment.stage {
//!     Stage::Rcpt if moment.to == "gone@example.com" => Act::Say("550 5.1.1 No such user"),
//!     _ => Act::Accept,
//! });
//! # }
//! ```

mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Where a session is when the server decides what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A client has connected.
    Greeting,
    /// It has logged in with the right credentials, or with wrong ones.
    Auth,
    /// It has said who the message is from.
    Mail,
    /// And whom it is to.
    Rcpt,
    /// It wants to send the message.
    Data,
    /// The first line of the message is here.
    Inside,
    /// The final dot is here.
    Dot,
}

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// What a server does when all is well. At [`Stage::Dot`] it takes the message.
    Accept,
    /// Says this instead, and takes no message.
    Say(&'static str),
    /// Accepts, after a while.
    Wait(Duration),
    /// Ends the connection without a word, and takes no message.
    Drop,
    /// At [`Stage::Dot`]: takes the message, and ends the connection without a word.
    TakeAndDrop,
}

/// A moment at which the server decides.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Where the session is.
    pub stage: Stage,
    /// Which connection it is, from 0.
    pub connection: usize,
    /// The recipient, from [`Stage::Rcpt`] on; empty before.
    pub to: &'a str,
    /// How often this stage was reached for this recipient, this time included.
    pub times: usize,
}

/// A message that the server has taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// When.
    pub at: Instant,
    /// Over which connection.
    pub connection: usize,
    /// The sender of the envelope.
    pub from: String,
    /// Its recipient.
    pub to: String,
    /// The head and the body, as they were sent.
    pub text: String,
}

impl Taken {
    /// The value of a line of the head that was not folded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines()
            .find_map(|line| line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value)
    }
}

/// How the server protects itself.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who must log in, and with which password.
    pub login: Option<(&'static str, &'static str)>,
    /// Whether it offers STARTTLS.
    pub starttls: bool,
    /// Whether it speaks TLS from the beginning.
    pub tls: bool,
    /// Whether it takes addresses beyond ASCII.
    pub smtputf8: bool,
    /// Whether its side of a connection holds little that it has not read yet, so that a client still
    /// writes a message of which the server has seen the beginning.
    pub narrow: bool,
}

type Script = Arc<dyn Fn(&Moment<'_>) -> Act + Send + Sync>;

/// A running server. It ends, with its connections, when this value is dropped.
#[derive(Debug)]
pub struct MailServer {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
    certificate: String,
}

struct State {
    options: Options,
    tls: TlsAcceptor,
    script: Mutex<Script>,
    times: Mutex<HashMap<(String, Stage), usize>>,
    taken: Mutex<Vec<Taken>>,
    connections: AtomicUsize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("options", &self.options).finish_non_exhaustive()
    }
}

impl MailServer {
    /// A server that takes everything from everybody.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        Self::with(Options { smtputf8: true, ..Options::default() }).await
    }

    /// A server with these options.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn with(options: Options) -> Self {
        let (tls, certificate) = tls();
        let socket = TcpSocket::new_v4().expect("there are sockets");
        if options.narrow {
            socket.set_recv_buffer_size(8 * 1024).expect("a buffer can be small");
        }
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there is a free port");
        let listener = socket.listen(1024).expect("the port is free");
        let address = listener.local_addr().expect("the port has a number");
        let state = Arc::new(State {
            options,
            tls,
            script: Mutex::new(Arc::new(|_| Act::Accept)),
            times: Mutex::default(),
            taken: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, accepting, certificate }
    }

    /// What it does from now on.
    pub fn act(&self, script: impl Fn(&Moment<'_>) -> Act + Send + Sync + 'static) {
        *lock(&self.state.script) = Arc::new(script);
    }

    /// Every message it has taken, in their order.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        lock(&self.state.taken).clone()
    }

    /// How many messages it has taken.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.state.taken).len()
    }

    /// Forgets the messages it has taken.
    pub fn forget(&self) {
        lock(&self.state.taken).clear();
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Relaxed)
    }

    /// A file with the certificate by which clients can trust it; the caller deletes it.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        let path = std::env::temp_dir().join(format!("crm-{}.pem", uuid::Uuid::now_v7()));
        std::fs::write(&path, &self.certificate).expect("a file can be written");
        path
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    fn decide(&self, stage: Stage, connection: usize, to: &str) -> Act {
        let times = {
            let mut times = lock(&self.times);
            let times = times.entry((to.to_owned(), stage)).or_default();
            *times += 1;
            *times
        };
        let script = lock(&self.script).clone();
        script(&Moment { stage, connection, to, times })
    }

    fn take(&self, taken: Taken) {
        lock(&self.taken).push(taken);
    }
}

/// Sessions end with the task that accepts them.
async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = state.connections.fetch_add(1, Relaxed);
                    sessions.spawn(session::run(stream, state.clone(), connection));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// A certificate for `localhost` that nobody trusts, and its key, in PEM.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn certificate_with_key() -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())
}

/// A certificate for `localhost` that nobody but a test trusts.
fn tls() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("the key is one");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the certificate fits its key");
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// What is behind these locks is whole even if a thread died while it held one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
