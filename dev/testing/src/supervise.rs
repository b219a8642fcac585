//! Child processes that end when this process ends, even if it is killed.
//!
//! Each child is run by a small shell script, which reads from a pipe whose other end only this process
//! holds. The kernel closes that end even after `kill -9`, and the script then ends the child. Signals to the
//! child, such as `STOP`, are sent through the same pipe: only the script, the child's parent, can be sure
//! that the process id still belongs to the child.

use std::ffi::OsStr;
use std::io::{PipeWriter, Write};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// `sh -c SCRIPT name SIGNAL GRACE PROGRAM ARGS…`
///
/// The watcher closes its output, so that readers of the child's output see its end. CONT wakes a stopped
/// child, which otherwise would not receive the other signal.
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

/// How a child is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The name of the signal, without `SIG`.
    pub signal: &'static str,
    /// The time between the signal and killing the child.
    pub grace: Duration,
}

impl Ending {
    /// A graceful shutdown.
    pub const TERMINATE: Self = Self { signal: "TERM", grace: Duration::from_secs(30) };
    /// Kills the child at once.
    pub const KILL: Self = Self { signal: "KILL", grace: Duration::ZERO };
}

/// A running child. Dropping it stops the child without waiting.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
    /// `None` after the child was asked to stop.
    orders: Option<PipeWriter>,
}

impl Supervised {
    /// Starts `program`, with the arguments, environment, output and user that `prepare` adds.
    ///
    /// # Errors
    /// If the shell cannot be started. A missing program is reported by [`Self::ended`].
    pub fn start(program: impl AsRef<OsStr>, ending: Ending, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let (listener, orders) = std::io::pipe().context("cannot create a pipe")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "supervise", ending.signal]).arg(ending.grace.as_secs().to_string()).arg(program);
        prepare(&mut command);
        // A separate process group does not receive the terminal's Ctrl-C: this process decides the order in
        // which children end.
        let shell = command.stdin(listener).process_group(0).spawn().context("cannot start /bin/sh")?;
        Ok(Self { shell, orders: Some(orders) })
    }

    /// Passes each line of the child's piped output to `to`.
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
            // Fails only if the child has ended.
            let _ = writeln!(orders, "{name}");
        }
    }

    /// The child's process id on Linux; `None` after it has ended.
    #[must_use]
    pub fn program_id(&self) -> Option<u32> {
        let shell = self.shell.id()?;
        // The shell starts the child before the watcher.
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Asks the child to stop, as set by its [`Ending`].
    pub fn end(&mut self) {
        self.orders = None;
    }

    /// Waits until the child has ended. Can be called repeatedly and cancelled.
    ///
    /// # Errors
    /// If waiting for the process fails.
    pub async fn ended(&mut self) -> Result<End> {
        Ok(End(self.shell.wait().await.context("cannot wait for a child process")?))
    }

    /// Asks the child to stop and waits until it has ended.
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

/// How a child ended. `Display` writes a predicate such as `ended with exit status 1`.
#[derive(Debug, Clone, Copy)]
pub struct End(ExitStatus);

impl End {
    /// Whether the child ended with exit status 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.0.success()
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.code() {
            Some(126 | 127) => write!(f, "could not be started"),
            // A shell reports a killed child this way.
            Some(code @ 129..) => write!(f, "was ended by signal {}", code - 128),
            Some(code) => write!(f, "ended with exit status {code}"),
            None => write!(f, "ended: {}", self.0),
        }
    }
}
