//! Buffered writing of log lines to the standard error stream.
//!
//! A server writes a line for each request. A system call per line, for which the threads wait for each
//! other, takes a tenth of the time of a small read. So lines are gathered for a moment. Warnings and
//! errors are written at once, after the lines that were gathered before them.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::error::{Error, Result};

/// How long a line waits for others. A killed process loses the lines of this time.
const MOMENT: Duration = Duration::from_millis(50);
/// The number of bytes that are written without waiting.
const MUCH: usize = 64 * 1024;

static GATHERED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static BEGUN: Condvar = Condvar::new();

/// Starts the thread that writes the gathered lines until the process ends.
///
/// # Errors
/// [`Error::Internal`] if the thread cannot be started.
pub(super) fn start() -> Result<Lines> {
    let started = thread::Builder::new().name("log".to_owned()).spawn(|| {
        loop {
            drop(BEGUN.wait_while(gathered(), |lines| lines.is_empty()));
            thread::sleep(MOMENT);
            write();
        }
    });
    started.map_err(|error| Error::Internal(error.into()))?;
    Ok(Lines)
}

/// Writes the gathered lines.
pub(super) fn write() {
    write_all(&mut gathered());
}

fn write_all(lines: &mut Vec<u8>) {
    // A closed error stream cannot be reported anywhere.
    let _ = io::stderr().write_all(lines);
    lines.clear();
}

// Ignores poisoning: lines stay whole even if a thread panicked while it held the lock.
fn gathered() -> MutexGuard<'static, Vec<u8>> {
    GATHERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates the writer of each event's line.
#[derive(Debug)]
pub(super) struct Lines;

/// Writes one line.
#[derive(Debug)]
pub(super) struct Line {
    urgent: bool,
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { urgent: true }
    }

    fn make_writer_for(&self, meta: &Metadata<'_>) -> Line {
        Line { urgent: *meta.level() <= Level::WARN }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = gathered();
        let first = lines.is_empty();
        lines.extend_from_slice(line);
        if self.urgent || lines.len() >= MUCH {
            write_all(&mut lines);
        } else if first {
            BEGUN.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
