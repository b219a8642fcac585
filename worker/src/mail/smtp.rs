//! A connection to the mail server, command by command.
//!
//! lettre speaks the protocol; the stream under it is our own. So it is known of every mail whether
//! its final dot was handed to the network: before, the server cannot have taken the mail, and it is
//! safe to send it again; after, only its answer tells. The message and the dot leave in one write:
//! apart, with Nagle's algorithm between them, a server that delays its acknowledgements takes 22
//! mails a second.

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

// How long a server may take, after RFC 5321, 4.5.3.2. A shorter time for the final dot would make
// mails unknown that a slow server takes after all.
const DIAL: Duration = Duration::from_secs(30);
// Shorter than the RFC's, since nothing is in doubt before the final dot, and while a server accepts
// connections and says nothing, no email leaves.
const GREETING: Duration = Duration::from_secs(30);
const LOGIN: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(2 * 60);
/// How long one connection waits for its greeting before another is tried beside it.
const BESIDE: Duration = Duration::from_secs(5);
const DATA: Duration = Duration::from_secs(2 * 60);
const MESSAGE: Duration = Duration::from_secs((3 + 10) * 60);
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
const PARTING: Duration = Duration::from_secs(2);

/// How much of an answer is kept.
const MAX_ANSWER: usize = 500;

/// A connection that is ready for mails.
pub(crate) struct SmtpConnection {
    smtp: AsyncSmtpConnection,
    handed_over: HandedOver,
    /// A message, and not one of the commands before it, is what was written last.
    in_message: bool,
    dead: bool,
    /// Whether the server has answered for a mail on it.
    pub proved: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A sentence for operators.
    pub why: String,
    /// Waiting will not help: the settings, or the server's, must change.
    pub settings: bool,
}

/// What came of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server has taken it.
    Taken(String),
    /// Not now.
    PutOff(String),
    /// Never.
    Refused {
        /// The server's answer.
        answer: String,
        /// It said that there is no such recipient.
        no_recipient: bool,
    },
    /// The server wants credentials, or others. The mail was not taken.
    Login(String),
    /// The connection is gone, and the mail was not taken.
    Broken(String),
    /// The connection is gone after the mail was handed over.
    Lost(String),
}

impl SmtpConnection {
    /// Connects, encrypts as the settings say, and logs in.
    pub async fn dial(settings: &config::Mail, trust: &Trust) -> Result<Self, Refusal> {
        let server = format!("{}:{}", settings.host, settings.port());
        let failed = |error: &dyn std::fmt::Display| Refusal::passing(format!("{server} cannot be reached: {error}"));
        let dialling = timeout(DIAL, TcpStream::connect((settings.host.as_str(), settings.port()))).await;
        let tcp = dialling.map_err(|_| failed(&"no answer"))?.map_err(|error| failed(&error))?;
        // A command must not wait for the acknowledgement of the last one.
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
            .map_err(|error| Refusal::passing(format!("{server} does not greet: {}", answer(&error))))
        };
        let smtp =
            timeout(GREETING, greet).await.map_err(|_| Refusal::passing(format!("{server} does not greet")))??;
        let mut line = Self { smtp, handed_over, in_message: false, dead: false, proved: false };
        let prepare = line.prepare(settings, trust, &hello);
        timeout(LOGIN, prepare).await.map_err(|_| Refusal::passing(format!("{server} does not answer")))??;
        Ok(line)
    }

    /// As [`SmtpConnection::dial`]; while the server says nothing, a second connection is tried beside the first. What a
    /// server accepted while it was stuck, it may never greet.
    pub async fn dial_twice(settings: &config::Mail, trust: &Trust) -> Result<Self, Refusal> {
        let mut first = std::pin::pin!(Self::dial(settings, trust));
        if let Ok(dialled) = timeout(BESIDE, &mut first).await {
            return dialled;
        }
        let mut second = std::pin::pin!(Self::dial(settings, trust));
        tokio::select! {
            dialled = &mut first => match dialled {
                Ok(line) => Ok(line),
                Err(_) => second.await,
            },
            dialled = &mut second => match dialled {
                Ok(line) => Ok(line),
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
        timeout(SIGN_OF_LIFE, self.smtp.test_connected()).await.unwrap_or(false)
    }

    /// Says goodbye.
    pub async fn quit(mut self) {
        let _ = timeout(PARTING, self.smtp.quit()).await;
    }

    /// Sends a mail, unless `may_go` says no at the last moment at which it can be kept back.
    /// After [`Verdict::Broken`], [`Verdict::Lost`] and [`Verdict::Login`] the line is of no use.
    pub async fn send(&mut self, message: &Message, may_go: impl FnOnce() -> bool) -> Verdict {
        let verdict = match self.talk(message, may_go).await {
            Ok(answer) => Verdict::Taken(answer),
            Err(verdict) => verdict,
        };
        self.in_message = false;
        match verdict {
            Verdict::Broken(_) | Verdict::Lost(_) | Verdict::Login(_) => self.dead = true,
            _ => self.proved = true,
        }
        verdict
    }

    async fn talk(&mut self, message: &Message, may_go: impl FnOnce() -> bool) -> Result<String, Verdict> {
        let mut parameters = Vec::new();
        if message.is_international() {
            if !self.smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
                let answer = "the mail server accepts ASCII addresses only (it does not offer SMTPUTF8)".to_owned();
                return Err(Verdict::Refused { answer, no_recipient: false });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        self.command(Mail::new(Some(message.from.clone()), parameters), COMMAND, false).await?;
        self.command(Rcpt::new(message.to.clone(), Vec::new()), COMMAND, true).await?;
        self.command(Data, DATA, false).await?;
        if !may_go() {
            return Err(Verdict::Broken("the lease of the mail has run out".into()));
        }
        self.handed_over.reset();
        self.in_message = true;
        let response = match timeout(MESSAGE, self.smtp.command(message.data())).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.judge_end(&error)),
            Err(_) => return Err(self.gone("the mail server does not answer".into())),
        };
        // A 3xx is no answer to a message.
        match response.code().severity {
            Severity::PositiveCompletion => Ok(text(&response)),
            _ => Err(self.gone(text(&response))),
        }
    }

    /// One command before the message. A refusal leaves the connection ready for the next mail.
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
        if matches!(verdict, Verdict::PutOff(_) | Verdict::Refused { .. })
            && !matches!(timeout(COMMAND, self.smtp.command(Rset)).await, Ok(Ok(_)))
        {
            self.dead = true;
        }
        Err(verdict)
    }

    /// The answer to the message itself. Any code is one; without one, it depends on whether the
    /// final dot was handed over.
    fn judge_end(&self, error: &Error) -> Verdict {
        match error.status() {
            // 421 says that the server goes, and so that it has not taken the mail.
            Some(_) if is_closing(error) => Verdict::PutOff(answer(error)),
            Some(_) => judge(error, false),
            None => self.gone(answer(error)),
        }
    }

    fn gone(&self, why: String) -> Verdict {
        if self.in_message && self.handed_over.is_whole() { Verdict::Lost(why) } else { Verdict::Broken(why) }
    }

    /// What can be said of a mail whose sending is broken off now.
    pub fn break_off(&self) -> Verdict {
        self.gone("the worker was stopped while it sent this mail".into())
    }

    /// Whether it takes no further mail.
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
    let said = answer(error);
    match error.status().map(u16::from) {
        None | Some(421) => Verdict::Broken(said),
        // Credentials are wanted, or stronger ones (RFC 4954).
        Some(530 | 534 | 535 | 538) => Verdict::Login(said),
        Some(_) if error.is_transient() => Verdict::PutOff(said),
        Some(_) => Verdict::Refused { no_recipient: to_recipient && is_about_recipient(&said), answer: said },
    }
}

fn is_closing(error: &Error) -> bool {
    error.status().map(u16::from) == Some(421)
}

/// Whether an answer says that there is no such address: the enhanced code 5.1.x, save for the two
/// that are about the sender's (RFC 3463).
fn is_about_recipient(answer: &str) -> bool {
    let code = answer.split_whitespace().nth(1).unwrap_or_default();
    code.starts_with("5.1.") && !matches!(code, "5.1.7" | "5.1.8")
}

/// What the server said: its code and its words on one line.
fn answer(error: &Error) -> String {
    let words = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    shorten(&match error.status() {
        Some(code) => format!("{code} {words}"),
        None => words,
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
    fn only_answers_about_the_recipients_address_say_that_there_is_none() {
        assert!(is_about_recipient("550 5.1.1 No such user"));
        assert!(is_about_recipient("556 5.1.10 Null MX"));
        assert!(!is_about_recipient("550 5.7.1 Spam"));
        assert!(!is_about_recipient("550 5.1.8 Sender's domain does not exist"));
        assert!(!is_about_recipient("550 no such user 5.1.1"));
    }
}
