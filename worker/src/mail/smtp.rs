//! A connection to the mail server.
//!
//! lettre implements the protocol, over a stream of our own that records whether a message's final
//! dot was passed to the network. Before that, the server cannot have accepted the message, and
//! resending it is safe. After that, only the server's answer shows whether it accepted the
//! message. The message and the dot are sent in one write: as two writes, with Nagle's algorithm, a
//! server that delays its acknowledgements accepts only 22 emails a second.

mod encoded;
mod message;
mod stream;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use shared::mail::one_line;
use shared::platform::config::{self, Tls};
use tokio::net::TcpStream;
use tokio::time::timeout;

use stream::{HandedOver, Watched};

pub(crate) use message::Message;
pub(crate) use tls::Trust;

// The timeouts follow RFC 5321, 4.5.3.2. With a shorter one for the final dot, messages that a slow
// server accepts would become unknown.
const DIAL: Duration = Duration::from_secs(30);
// Shorter than in the RFC, because delivery is not in doubt before the final dot, and no email is
// sent while a server accepts connections and does not greet.
const GREETING: Duration = Duration::from_secs(30);
const LOGIN: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(2 * 60);
/// How long a connection waits for its greeting before a second connection is opened.
const SECOND_DIAL: Duration = Duration::from_secs(5);
const DATA: Duration = Duration::from_secs(2 * 60);
const MESSAGE: Duration = Duration::from_secs((3 + 10) * 60);
const PROBE: Duration = Duration::from_secs(5);
const QUIT: Duration = Duration::from_secs(2);

/// The most characters of an answer that are stored.
const MAX_ANSWER: usize = 500;

/// A connection that is ready to send emails.
pub(crate) struct SmtpConnection {
    smtp: AsyncSmtpConnection,
    handed_over: HandedOver,
    /// Whether a message was written last, rather than one of the commands before it.
    in_message: bool,
    dead: bool,
    /// Whether the server has answered for an email on this connection.
    pub proved: bool,
}

/// Why the server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A sentence for operators.
    pub why: String,
    /// Whether waiting cannot help, because the settings here or on the server must change.
    pub settings: bool,
}

/// The result of sending an email.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted(String),
    /// Temporarily rejected (4xx).
    Deferred(String),
    /// Permanently rejected (5xx).
    Rejected {
        /// The server's answer.
        answer: String,
        /// Whether the server reported that the recipient does not exist.
        no_recipient: bool,
    },
    /// The server requires credentials, and did not accept the email.
    Login(String),
    /// The connection broke before the email was handed over.
    Broken(String),
    /// The connection broke after the email was handed over.
    Lost(String),
}

impl SmtpConnection {
    /// Connects, encrypts the connection as configured, and logs in.
    pub async fn dial(settings: &config::Mail, trust: &Trust) -> Result<Self, Refusal> {
        let server = format!("{}:{}", settings.host, settings.port());
        let failed = |error: &dyn std::fmt::Display| Refusal::passing(format!("{server} cannot be reached: {error}"));
        let dialling = timeout(DIAL, TcpStream::connect((settings.host.as_str(), settings.port()))).await;
        let tcp = dialling.map_err(|_| failed(&"no answer"))?.map_err(|error| failed(&error))?;
        // With Nagle's algorithm, a command would wait for the acknowledgement of the last one.
        tcp.set_nodelay(true).map_err(|error| failed(&error))?;
        let peer = tcp.peer_addr().map_err(|error| failed(&error))?;
        let hello = match tcp.local_addr().map_err(|error| failed(&error))?.ip() {
            IpAddr::V4(address) => ClientId::Ipv4(address),
            IpAddr::V6(address) => ClientId::Ipv6(address),
        };
        let handed_over = HandedOver::default();
        let greet = async {
            if settings.tls == Tls::Tls {
                let tls = trust.wrap(&settings.host, tcp).await?;
                let stream = Watched::new(Box::new(tls), peer, handed_over.clone());
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
            } else {
                let stream = Watched::new(tcp, peer, handed_over.clone());
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await
            }
            .map_err(|error| Refusal::passing(format!("{server} sent no greeting: {}", answer(&error))))
        };
        let smtp =
            timeout(GREETING, greet).await.map_err(|_| Refusal::passing(format!("{server} sent no greeting")))??;
        let mut connection = Self { smtp, handed_over, in_message: false, dead: false, proved: false };
        let prepare = connection.prepare(settings, trust, &hello);
        timeout(LOGIN, prepare).await.map_err(|_| Refusal::passing(format!("{server} does not answer")))??;
        Ok(connection)
    }

    /// Connects as [`SmtpConnection::dial`] does, and opens a second connection if the first gets
    /// no greeting for a while. A server that was stuck may never greet the connections that it
    /// accepted meanwhile.
    pub async fn dial_twice(settings: &config::Mail, trust: &Trust) -> Result<Self, Refusal> {
        let mut first = std::pin::pin!(Self::dial(settings, trust));
        if let Ok(dialled) = timeout(SECOND_DIAL, &mut first).await {
            return dialled;
        }
        let mut second = std::pin::pin!(Self::dial(settings, trust));
        tokio::select! {
            dialled = &mut first => match dialled {
                Ok(connection) => Ok(connection),
                Err(_) => second.await,
            },
            dialled = &mut second => match dialled {
                Ok(connection) => Ok(connection),
                Err(_) => first.await,
            },
        }
    }

    async fn prepare(&mut self, settings: &config::Mail, trust: &Trust, hello: &ClientId) -> Result<(), Refusal> {
        if settings.tls == Tls::Starttls {
            if !self.smtp.can_starttls() {
                return Err(Refusal::settings("the mail server does not offer STARTTLS".into()));
            }
            let encrypted = self.smtp.starttls(trust.parameters(&settings.host)?, hello).await;
            encrypted.map_err(|error| Refusal {
                why: format!("the connection to the mail server cannot be encrypted: {error}"),
                settings: error.status().is_none(),
            })?;
        }
        if settings.user.is_empty() {
            return Ok(());
        }
        let credentials = Credentials::new(settings.user.clone(), settings.password.to_string());
        let login = self.smtp.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
        login.map(|_| ()).map_err(|error| Refusal {
            why: format!("the mail server refuses the credentials: {}", answer(&error)),
            settings: error.is_permanent() || error.is_client(),
        })
    }

    /// Whether the server still answers.
    pub async fn is_alive(&mut self) -> bool {
        timeout(PROBE, self.smtp.test_connected()).await.unwrap_or(false)
    }

    pub async fn quit(mut self) {
        let _ = timeout(QUIT, self.smtp.quit()).await;
    }

    /// Sends an email, unless `may_send` returns `false` immediately before the message is written.
    /// After [`Verdict::Broken`], [`Verdict::Lost`] and [`Verdict::Login`] the connection cannot be
    /// used again.
    pub async fn send(&mut self, message: &Message, may_send: impl FnOnce() -> bool) -> Verdict {
        let verdict = match self.transmit(message, may_send).await {
            Ok(answer) => Verdict::Accepted(answer),
            Err(verdict) => verdict,
        };
        self.in_message = false;
        match verdict {
            Verdict::Broken(_) | Verdict::Lost(_) | Verdict::Login(_) => self.dead = true,
            _ => self.proved = true,
        }
        verdict
    }

    async fn transmit(&mut self, message: &Message, may_send: impl FnOnce() -> bool) -> Result<String, Verdict> {
        let mut parameters = Vec::new();
        if message.is_international() {
            if !self.smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
                let answer = "the mail server accepts ASCII addresses only (it does not offer SMTPUTF8)".to_owned();
                return Err(Verdict::Rejected { answer, no_recipient: false });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        self.command(Mail::new(Some(message.from.clone()), parameters), COMMAND, false).await?;
        self.command(Rcpt::new(message.to.clone(), Vec::new()), COMMAND, true).await?;
        self.command(Data, DATA, false).await?;
        if !may_send() {
            return Err(Verdict::Broken("the email's lease has expired".into()));
        }
        self.handed_over.reset();
        self.in_message = true;
        let response = match timeout(MESSAGE, self.smtp.command(message.data())).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.judge_end(&error)),
            Err(_) => return Err(self.broken("the mail server does not answer".into())),
        };
        // A 3xx is not a valid answer to a message.
        match response.code().severity {
            Severity::PositiveCompletion => Ok(text(&response)),
            _ => Err(self.broken(text(&response))),
        }
    }

    /// Sends a command before the message. After a rejection, the connection is ready for the next
    /// email.
    async fn command(
        &mut self,
        command: impl std::fmt::Display,
        patience: Duration,
        to_recipient: bool,
    ) -> Result<(), Verdict> {
        let error = match timeout(patience, self.smtp.command(command)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(Verdict::Broken("the mail server does not answer".into())),
        };
        let verdict = judge(&error, to_recipient);
        if matches!(verdict, Verdict::Deferred(_) | Verdict::Rejected { .. })
            && !matches!(timeout(COMMAND, self.smtp.command(Rset)).await, Ok(Ok(_)))
        {
            self.dead = true;
        }
        Err(verdict)
    }

    /// The verdict on an error after the message. Any status code is an answer; without one, the
    /// verdict depends on whether the final dot was handed over.
    fn judge_end(&self, error: &Error) -> Verdict {
        match error.status() {
            // 421 means that the server is closing the connection and has not accepted the message.
            Some(_) if is_closing(error) => Verdict::Deferred(answer(error)),
            Some(_) => judge(error, false),
            None => self.broken(answer(error)),
        }
    }

    fn broken(&self, why: String) -> Verdict {
        if self.in_message && self.handed_over.is_whole() { Verdict::Lost(why) } else { Verdict::Broken(why) }
    }

    /// The verdict on an email whose sending is aborted now.
    pub fn break_off(&self) -> Verdict {
        self.broken("the worker was stopped while sending this message".into())
    }

    /// Whether the connection cannot be used again.
    pub fn is_dead(&self) -> bool {
        self.dead
    }
}

impl Refusal {
    fn passing(why: String) -> Self {
        Self { why, settings: false }
    }

    fn settings(why: String) -> Self {
        Self { why, settings: true }
    }
}

fn judge(error: &Error, to_recipient: bool) -> Verdict {
    let answer = answer(error);
    match error.status().map(u16::from) {
        None | Some(421) => Verdict::Broken(answer),
        // The server requires credentials, or stronger authentication (RFC 4954).
        Some(530 | 534 | 535 | 538) => Verdict::Login(answer),
        Some(_) if error.is_transient() => Verdict::Deferred(answer),
        Some(_) => Verdict::Rejected { no_recipient: to_recipient && is_about_recipient(&answer), answer },
    }
}

fn is_closing(error: &Error) -> bool {
    error.status().map(u16::from) == Some(421)
}

/// Whether an answer reports that the address does not exist: the enhanced code 5.1.x, except for
/// the two codes about the sender (RFC 3463).
fn is_about_recipient(answer: &str) -> bool {
    let code = answer.split_whitespace().nth(1).unwrap_or_default();
    code.starts_with("5.1.") && !matches!(code, "5.1.7" | "5.1.8")
}

/// The server's answer on one line: its code and its text.
fn answer(error: &Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    shorten(&match error.status() {
        Some(code) => format!("{code} {text}"),
        None => text,
    })
}

fn text(response: &Response) -> String {
    let lines: Vec<&str> = response.message().collect();
    shorten(&format!("{} {}", response.code(), lines.join(" ")))
}

fn shorten(text: &str) -> String {
    one_line(text).chars().take(MAX_ANSWER).collect()
}

#[cfg(test)]
mod tests {
    use super::is_about_recipient;

    #[test]
    fn only_answers_about_the_recipients_address_suppress_it() {
        assert!(is_about_recipient("550 5.1.1 No such user"));
        assert!(is_about_recipient("556 5.1.10 Null MX"));
        assert!(!is_about_recipient("550 5.7.1 Spam"));
        assert!(!is_about_recipient("550 5.1.8 Sender's domain does not exist"));
        assert!(!is_about_recipient("550 no such user 5.1.1"));
    }
}
