//! One session of the mail server.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::{Act, Stage, State, Taken};

/// Talks to a client until one of the two has enough.
pub(super) async fn run(stream: TcpStream, state: Arc<State>, connection: usize) {
    // Whatever breaks the connection concerns its client only.
    let _ = serve(stream, &state, connection).await;
}

async fn serve(stream: TcpStream, state: &State, connection: usize) -> io::Result<()> {
    let plain = Session { state, connection, encrypted: false, logged_in: state.options.login.is_none() };
    if state.options.tls {
        let stream = state.tls.accept(stream).await?;
        return Session { encrypted: true, ..plain }.talk(stream, true).await.map(|_| ());
    }
    match plain.talk(stream, true).await? {
        Some(stream) => {
            let stream = state.tls.accept(stream).await?;
            Session { encrypted: true, ..plain }.talk(stream, false).await.map(|_| ())
        }
        None => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Session<'a> {
    state: &'a State,
    connection: usize,
    encrypted: bool,
    logged_in: bool,
}

/// What the client has said of the next message.
#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Option<String>,
}

/// The server ends the connection.
fn hung_up() -> io::Error {
    io::Error::other("the server hangs up")
}

impl Session<'_> {
    /// Gives the stream back when the client wants to encrypt it.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut self, stream: S, greet: bool) -> io::Result<Option<S>> {
        let mut stream = BufStream::new(stream);
        if greet {
            self.react(&mut stream, Stage::Greeting, "", "220 test ready").await?;
        }
        let mut envelope = Envelope::default();
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let command = line.trim_end();
            let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "HELO" => say(&mut stream, &self.abilities()).await?,
                "STARTTLS" if self.state.options.starttls && !self.encrypted => {
                    say(&mut stream, "220 go ahead").await?;
                    return Ok(Some(stream.into_inner()));
                }
                "AUTH" => self.log_in(&mut stream, command).await?,
                "NOOP" => say(&mut stream, "250 OK").await?,
                "QUIT" => {
                    say(&mut stream, "221 bye").await?;
                    return Ok(None);
                }
                "RSET" => {
                    envelope = Envelope::default();
                    say(&mut stream, "250 OK").await?;
                }
                _ if !self.logged_in => say(&mut stream, "530 5.7.0 Authentication required").await?,
                "MAIL" => {
                    if self.react(&mut stream, Stage::Mail, "", "250 OK").await? {
                        envelope.from = Some(address(command));
                    }
                }
                "RCPT" => {
                    let to = address(command);
                    if self.react(&mut stream, Stage::Rcpt, &to, "250 OK").await? {
                        envelope.to = Some(to);
                    }
                }
                "DATA" => self.receive(&mut stream, std::mem::take(&mut envelope)).await?,
                _ => say(&mut stream, "500 unknown command").await?,
            }
        }
    }

    fn abilities(&self) -> String {
        let options = &self.state.options;
        let mut lines = vec!["test", "8BITMIME", "ENHANCEDSTATUSCODES"];
        lines.extend(options.smtputf8.then_some("SMTPUTF8"));
        lines.extend((options.starttls && !self.encrypted).then_some("STARTTLS"));
        lines.extend(options.login.map(|_| "AUTH PLAIN LOGIN"));
        let last = lines.len() - 1;
        let lines = lines.iter().enumerate();
        lines
            .map(|(i, line)| format!("250{}{line}", if i == last { ' ' } else { '-' }))
            .collect::<Vec<_>>()
            .join("\r\n")
    }

    async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufStream<S>,
        command: &str,
    ) -> io::Result<()> {
        let given = command.strip_prefix("AUTH PLAIN ").and_then(|given| STANDARD.decode(given).ok());
        let right = self.state.options.login.map(|(user, password)| format!("\0{user}\0{password}").into_bytes());
        if given.is_some() && given == right {
            self.logged_in = self.react(stream, Stage::Auth, "", "235 2.7.0 welcome").await?;
            Ok(())
        } else {
            say(stream, "535 5.7.8 Authentication credentials invalid").await
        }
    }

    async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        envelope: Envelope,
    ) -> io::Result<()> {
        let (Some(from), Some(to)) = (envelope.from, envelope.to) else {
            return say(stream, "503 5.5.1 bad sequence").await;
        };
        if !self.react(stream, Stage::Data, &to, "354 go ahead").await? {
            return Ok(());
        }
        let mut text = String::new();
        let mut line = String::new();
        let mut first = true;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err(hung_up());
            }
            if std::mem::take(&mut first) && self.state.decide(Stage::Inside, self.connection, &to) == Act::Drop {
                return Err(hung_up());
            }
            if line == ".\r\n" {
                break;
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
        let act = self.state.decide(Stage::Dot, self.connection, &to);
        let take = || {
            let (at, connection) = (Instant::now(), self.connection);
            self.state.take(Taken { at, connection, from: from.clone(), to: to.clone(), text: text.clone() });
        };
        match act {
            Act::Accept => take(),
            Act::Wait(time) => {
                tokio::time::sleep(time).await;
                take();
            }
            Act::Say(answer) => return say(stream, answer).await,
            Act::Drop => return Err(hung_up()),
            Act::TakeAndDrop => {
                take();
                return Err(hung_up());
            }
        }
        say(stream, "250 2.0.0 taken").await
    }

    /// Does what the script says; returns whether that was to accept.
    async fn react<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        stage: Stage,
        to: &str,
        usual: &str,
    ) -> io::Result<bool> {
        match self.state.decide(stage, self.connection, to) {
            Act::Accept => say(stream, usual).await?,
            Act::Wait(time) => {
                tokio::time::sleep(time).await;
                say(stream, usual).await?;
            }
            Act::Say(answer) => {
                say(stream, answer).await?;
                // So says a server that goes.
                return if answer.starts_with("421") { Err(hung_up()) } else { Ok(false) };
            }
            Act::Drop | Act::TakeAndDrop => return Err(hung_up()),
        }
        Ok(true)
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>, answer: &str) -> io::Result<()> {
    stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    stream.flush().await
}

/// What stands between the angle brackets.
fn address(command: &str) -> String {
    let inside = command.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(address, _)| address.to_owned())
}
