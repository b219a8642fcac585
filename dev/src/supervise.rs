//! Child processes that end with this one, however it ends.
//!
//! Between this process and each child stands a small shell script. It reads from a pipe whose
//! other end only this process holds; the kernel closes that end even after `kill -9`, and the
//! script then ends the child. Orders to the child, such as `STOP`, take the same way: only the
//! script, whose child it is, can be sure whose process id it signals.

use std::ffi::OsStr;
use std::io::{PipeWriter, Write};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// `sh -c SCRIPT name SIGNAL GRACE PROGRAM ARGS…`
///
/// The watcher writes nowhere, so that whoever reads the child's output sees its end. CONT is for a
/// child that was stopped: it would not see the other signal.
const SCRIPT: &str = r#"
signal=$1 grace=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{
    while read -r order <&3; do kill -s "$order" "$child"; done
    exec 3<&-
    kill -s "$signal" "$child"
    kill -s CONT "$child"
    while [ "$grace" -gt 0 ] && kill -s 0 "$child"; do
        sleep 1
        grace=$((grace - 1))
    done
    kill -s KILL "$child"
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$child" 2>/dev/null
status=$?
kill -s KILL "$watcher" 2>/dev/null
exit "$status"
"#;

/// How a child is asked to end.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The name of the signal, without `SIG`.
    pub signal: &'static str,
    /// The time that the child then has before it is killed.
    pub grace: Duration,
}

impl Ending {
    /// What servers understand: they finish what is under way.
    pub const TERMINATE: Self = Self { signal: "TERM", grace: Duration::from_secs(30) };
    /// At once.
    pub const KILL: Self = Self { signal: "KILL", grace: Duration::ZERO };
}

/// A running child. Dropping it asks the child to end, without waiting for it.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
    /// None once the child was asked to end.
    orders: Option<PipeWriter>,
}

impl Supervised {
    /// Starts `program`, with the arguments, environment, output and user that `prepare` adds.
    ///
    /// # Errors
    /// If the shell cannot be started. A program that does not exist shows as [an end](Self::ended).
    pub fn start(program: impl AsRef<OsStr>, ending: Ending, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let (listener, orders) = std::io::pipe().context("cannot make a pipe")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "supervise", ending.signal]).arg(ending.grace.as_secs().to_string()).arg(program);
        prepare(&mut command);
        // In a group of their own, children do not get the Ctrl-C of the terminal: in which order
        // they end is for this process to say.
        let shell = command.stdin(listener).process_group(0).spawn().context("cannot start /bin/sh")?;
        Ok(Self { shell, orders: Some(orders) })
    }

    /// Hands each line of the child's output, as far as it was piped, to `to`.
    pub fn hand_on_lines(&mut self, to: impl Fn(String) + Clone + Send + 'static) {
        if let Some(stdout) = self.shell.stdout.take() {
            tokio::spawn(hand_on(stdout, to.clone()));
        }
        if let Some(stderr) = self.shell.stderr.take() {
            tokio::spawn(hand_on(stderr, to));
        }
    }

    /// Sends a signal by its name without `SIG`, such as `STOP`. It arrives within milliseconds.
    pub fn signal(&mut self, name: &str) {
        if let Some(orders) = &mut self.orders {
            // Fails only when the child has ended, and then there is nobody to tell.
            let _ = writeln!(orders, "{name}");
        }
    }

    /// The child's process id, on Linux; None when it has ended.
    #[must_use]
    pub fn program_id(&self) -> Option<u32> {
        let shell = self.shell.id()?;
        // The shell starts the child first, and then its watcher.
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Asks the child to end, in the manner it was started with.
    pub fn end(&mut self) {
        self.orders = None;
    }

    /// Waits until the child has ended; safe to be called again, and to be given up.
    ///
    /// # Errors
    /// If the operating system cannot tell.
    pub async fn ended(&mut self) -> Result<End> {
        Ok(End(self.shell.wait().await.context("cannot wait for a child process")?))
    }

    /// Asks the child to end and waits until it has.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub async fn stop(&mut self) -> Result<End> {
        self.end();
        self.ended().await
    }
}

async fn hand_on(output: impl AsyncRead + Unpin, to: impl Fn(String)) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        to(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

/// How a child ended; as text, the second half of a sentence about it.
#[derive(Debug, Clone, Copy)]
pub struct End(ExitStatus);

impl End {
    /// Whether it ended by itself, and said that all was well.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.0.success()
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.code() {
            Some(126 | 127) => write!(f, "could not be started"),
            // This is how a shell says that its child was killed.
            Some(code @ 129..) => write!(f, "was ended by signal {}", code - 128),
            Some(code) => write!(f, "ended with exit status {code}"),
            None => write!(f, "ended: {}", self.0),
        }
    }
}
