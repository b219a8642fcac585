//! `cargo dev test`

use std::io::{BufRead, BufReader, IsTerminal, PipeReader, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use testing::THOROUGH;
use testing::server::Server;
use testing::temp_cluster::TempCluster;
use testing::workspace;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Compare reports with a second computation over 1,000 random data sets each, not over 100.
    #[arg(long)]
    thorough: bool,
    /// What `cargo test` is told, such as `-- -p api -- imports`.
    #[arg(last = true, value_name = "ARGS")]
    cargo_test: Vec<String>,
}

/// Runs `cargo test` with a server to test against, and exits as it does.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    // A terminal sends its Ctrl-C to cargo and the tests as well. They end by it; then so do we.
    let mut _interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let server = match std::env::var_os("DATABASE_URL") {
        Some(url) if !url.is_empty() => None,
        _ => Some(Server::find().await?),
    };
    // The tests run these as processes.
    workspace::build(&["--workspace", "--bins"]).await?;
    let cluster = match &server {
        Some(server) => Some(TempCluster::start(server).await?),
        None => None,
    };
    let url = cluster.as_ref().map(|cluster| cluster.url("postgres"));
    let outcome = tokio::select! {
        outcome = cargo_test(&arguments, url.as_deref()) => outcome,
        _ = terminate.recv() => Ok((ExitCode::FAILURE, None)),
    };
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    let (code, counts) = outcome?;
    if let Some(Counts { passed, failed, ignored }) = counts {
        // cargo ends with the documentation's tests, often none: this is the sum of all it said.
        let skipped = if ignored > 0 { format!(", {ignored} skipped") } else { String::new() };
        println!("{passed} passed, {failed} failed{skipped}");
    }
    Ok(code)
}

async fn cargo_test(
    Arguments { thorough, cargo_test: arguments }: &Arguments,
    database_url: Option<&str>,
) -> Result<(ExitCode, Option<Counts>)> {
    let mut command = workspace::cargo();
    // All of the workspace, unless the arguments say which part of it.
    command.args(["test", "--no-fail-fast"]).args(arguments.iter().filter(|argument| *argument != "--no-fail-fast"));
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    if *thorough {
        command.env(THOROUGH, "1");
    }
    if std::io::stdout().is_terminal() && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    // Through one pipe, or what cargo says of the next test binary would mix with this one's lines.
    let (output, input) = std::io::pipe()?;
    command.stdout(input.try_clone()?).stderr(input).kill_on_drop(true);
    let mut tests = command.spawn().context("cannot run cargo test")?;
    // The command still holds the pipe open.
    drop(command);
    let counts = tokio::task::spawn_blocking(move || pass_on(output)).await??;
    let status = tests.wait().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from);
    Ok((code, counts))
}

/// What the test runner counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; true if it is one.
    fn add(&mut self, line: &str) -> bool {
        let Some(result) = line.strip_prefix("test result: ") else { return false };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ').map(|(count, what)| (count.parse::<u64>(), what)) {
                Some((Ok(count), "passed")) => self.passed += count,
                Some((Ok(count), "failed")) => self.failed += count,
                Some((Ok(count), "ignored")) => self.ignored += count,
                _ => {}
            }
        }
        true
    }
}

/// Prints the output line by line; returns the sum of its summaries, if there were any.
fn pass_on(output: PipeReader) -> Result<Option<Counts>> {
    let mut output = BufReader::new(output);
    let (mut line, mut counts, mut any) = (Vec::new(), Counts::default(), false);
    while output.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        any |= counts.add(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(any.then_some(counts))
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_are_summed_over_the_runners_lines() {
        let mut counts = Counts::default();
        assert!(
            counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s")
        );
        assert!(
            counts.add(
                "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.25s"
            )
        );
        assert!(!counts.add("test imports::passed ... ok"));
        assert_eq!(counts, Counts { passed: 5, failed: 1, ignored: 1 });
    }
}
