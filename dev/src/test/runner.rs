//! One test runner, its output and its counts.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use testing::SKIPPED;
use tokio::process::Command;

/// When output is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// As it comes.
    AsItComes,
    /// The line of each test as it comes, and the rest at the end, so that runners side by side do not mix.
    RestAtTheEnd,
}

/// How a runner ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Whether all tests passed.
    pub succeeded: bool,
    /// The sum of its summaries; None if it printed none.
    pub counts: Option<Counts>,
}

/// Runs a command that runs tests.
///
/// # Errors
/// If it cannot be started.
pub async fn run(name: &str, mut command: Command, show: Show) -> Result<Outcome> {
    // One pipe for both, which keeps the order of the lines.
    let (output, input) = io::pipe()?;
    command.stdout(input.try_clone()?).stderr(input).kill_on_drop(true);
    let mut tests = command.spawn().with_context(|| format!("cannot run {name}"))?;
    // The command still holds the pipe open.
    drop(command);
    let (rest, counts) = tokio::task::spawn_blocking(move || pass_on(output, show)).await??;
    let status = tests.wait().await?;
    if show == Show::RestAtTheEnd {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "\n== {name}")?;
        stdout.write_all(&rest)?;
        // A runner that fails prints the reason, unless a signal ends it.
        if status.code().is_none() {
            writeln!(stdout, "{name} was ended: {status}")?;
        }
    }
    Ok(Outcome { succeeded: status.success(), counts })
}

/// Prints output line by line; returns the rest, which is not printed yet, and the sum of the summaries.
fn pass_on(output: PipeReader, show: Show) -> Result<(Vec<u8>, Option<Counts>)> {
    let mut output = BufReader::new(output);
    let (mut line, mut rest, mut counts, mut reasons) = (Vec::new(), Vec::new(), None, Reasons::default());
    while output.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let counted = Counts::of(text.trim_end()).map(|counts| reasons.count(counts));
        if reasons.is_repeated(text.trim_end()) {
            line.clear();
            continue;
        }
        let is_test = line.starts_with(b"test ") && counted.is_none();
        if show == Show::AsItComes || is_test {
            io::stdout().write_all(&line)?;
        } else {
            rest.extend_from_slice(&line);
        }
        counts = sum(counts, counted);
        line.clear();
    }
    Ok((rest, counts))
}

/// The reasons that were printed.
static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Why tests of a runner skipped themselves.
#[derive(Debug, Default)]
struct Reasons {
    /// The tests that the next summary counts as passed.
    skipped: u64,
}

impl Reasons {
    /// Reads a line; whether it repeats a reason, of whichever runner.
    fn is_repeated(&mut self, line: &str) -> bool {
        // A single thread prints the name of the test before its reason.
        let Some((before, reason)) = line.split_once(SKIPPED) else { return false };
        let is_test = before.starts_with("test ") && before.ends_with(" ... ");
        if !(before.is_empty() || is_test) {
            return false;
        }
        self.skipped += 1;
        before.is_empty() && !SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(reason.to_owned())
    }

    /// Corrects a summary, which knows nothing of them.
    fn count(&mut self, counts: Counts) -> Counts {
        let skipped = std::mem::take(&mut self.skipped);
        Counts { passed: counts.passed.saturating_sub(skipped), ignored: counts.ignored + skipped, ..counts }
    }
}

/// Adds the counts of two runners.
pub fn sum(one: Option<Counts>, other: Option<Counts>) -> Option<Counts> {
    let (Some(one), Some(other)) = (&one, &other) else { return one.or(other) };
    Some(Counts {
        passed: one.passed + other.passed,
        failed: one.failed + other.failed,
        ignored: one.ignored + other.ignored,
    })
}

/// The counts of a test runner.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Reads a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of(line: &str) -> Option<Self> {
        let mut counts = Self::default();
        for part in line.strip_prefix("test result: ")?.split(['.', ';']) {
            match part.trim().split_once(' ').map(|(count, what)| (count.parse::<u64>(), what)) {
                Some((Ok(count), "passed")) => counts.passed = count,
                Some((Ok(count), "failed")) => counts.failed = count,
                Some((Ok(count), "ignored")) => counts.ignored = count,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} skipped", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Reasons, sum};

    #[test]
    fn counts_are_summed_over_the_runners_lines() {
        let lines = [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test imports::passed ... ok",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.25s",
        ];
        let counts = lines.into_iter().map(Counts::of).fold(None, sum).unwrap();
        assert_eq!(counts, Counts { passed: 5, failed: 1, ignored: 1 });
        assert_eq!(counts.to_string(), "5 passed, 1 failed, 1 skipped");
        assert_eq!(sum(None, Counts::of("running 3 tests")), None);
    }

    #[test]
    fn tests_that_skip_themselves_have_not_passed() {
        let mut reasons = Reasons::default();
        let lines =
            ["skipped: no Chromium", "test a ... ok", "skipped: no Chromium", "test b ... skipped: no Chromium", "ok"];
        assert_eq!(lines.map(|line| reasons.is_repeated(line)), [false, false, true, false, false]);
        let counts = Counts::of("test result: ok. 4 passed; 0 failed; 1 ignored").unwrap();
        assert_eq!(reasons.count(counts), Counts { passed: 1, failed: 0, ignored: 4 });
    }
}
