//! `cargo dev bench templates`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use shared::mail::templates::hostile;

use super::figures::{Bound, Figures};

/// The most CPU time, in milliseconds, for saving and rendering a template once.
const WORST: f64 = 100.0;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How often each template is run; the mean counts, since the kernel measures a thread's time in ticks.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: usize,
}

/// Runs every hostile template of the corpus, and reports the worst.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let corpus = hostile::corpus();
    let mut figures = Figures::new("templates", json!({ "templates": corpus.len(), "rounds": arguments.rounds }));
    let mut worst = ("", 0.0);
    for hostile in &corpus {
        let rounds = arguments.rounds.max(1);
        let before = cpu_time()?;
        for _ in 0..rounds {
            hostile.run();
        }
        let mean = (cpu_time()? - before).as_secs_f64() * 1000.0 / rounds as f64;
        figures.sample(json!({ "template": hostile.name, "cpu_ms": mean }));
        if mean > worst.1 {
            worst = (hostile.name, mean);
        }
    }
    figures.alone(&format!("the worst template ({})", worst.0), worst.1, "ms of CPU", Bound::AtMost(WORST));
    Ok(figures.table())
}

/// The CPU time of this thread so far.
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").context("this benchmark needs Linux")?;
    let nanoseconds = stat.split_whitespace().next().context("the thread's CPU time is missing")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}
