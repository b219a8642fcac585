//! `crm-api config`: checks and shows the settings of both programs, without a database.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use shared::platform::config::{Entry, Fault, Report, Settings, Source};
use shared::queue::QUEUES;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// List everything that prevents the start of crm-api or crm-worker, and what is probably not wanted;
    /// fails if something prevents it.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show every setting with its value and where the value comes from. Secrets are masked.
    Show {
        /// Show only settings that differ from their defaults.
        #[arg(long)]
        changed: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(self, file: Option<&Path>) -> Result<ExitCode> {
        let mut report = Report::load(file);
        let further = report.settings().map(further_faults).unwrap_or_default();
        report.faults.extend(further);
        let code = if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        match self {
            Self::Check { json: true } => {
                let shown = json!({ "faults": report.faults, "warnings": report.warnings });
                println!("{}", serde_json::to_string_pretty(&shown)?);
            }
            Self::Check { json: false } => print_check(&report),
            Self::Show { changed, json } => show(report, changed, json)?,
        }
        Ok(code)
    }
}

fn print_check(report: &Report) {
    for fault in &report.faults {
        println!("fault    {}", fault.message);
    }
    for warning in &report.warnings {
        println!("warning  {}: {}", warning.name, warning.message);
    }
    println!("{}", counted(report.faults.len(), report.warnings.len()));
}

/// How many faults and warnings there are, as the last line of a report.
pub(super) fn counted(faults: usize, warnings: usize) -> String {
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    format!("{faults} fault{}, {warnings} warning{}.", plural(faults), plural(warnings))
}

fn show(report: Report, changed: bool, as_json: bool) -> Result<()> {
    let entries = report.entries.into_iter().filter(|entry| !changed || entry.source != Source::BuiltIn);
    let entries: Vec<Entry> = entries.collect();
    if as_json {
        println!("{}", serde_json::to_string_pretty(&json!({ "settings": entries, "faults": report.faults }))?);
        return Ok(());
    }
    let width = entries.iter().map(|entry| line(entry).chars().count()).filter(|width| *width <= 60).max();
    let width = width.unwrap_or_default();
    for entry in &entries {
        println!("{:width$}  # {}", line(entry), entry.source.short());
    }
    for fault in report.faults {
        eprintln!("crm-api: {}", fault.message);
    }
    Ok(())
}

fn line(entry: &Entry) -> String {
    format!("{} = {}", entry.name, entry.value)
}

/// What prevents the start besides the values themselves.
pub(super) fn further_faults(settings: &Settings) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |name: &str, message: String| faults.push(Fault { name: Some(name.to_owned()), message });
    for queue in settings.worker.queues.iter().filter(|queue| !QUEUES.contains(&queue.as_str())) {
        let available = QUEUES.join(", ");
        fault("worker.queues", format!("worker.queues: unknown queue {queue:?}; available: {available}"));
    }
    let certificates = &settings.mail.certificates;
    if !certificates.as_os_str().is_empty()
        && let Err(error) = std::fs::read(certificates)
    {
        fault("mail.certificates", format!("mail.certificates: cannot read {}: {error}", certificates.display()));
    }
    let temporary = &settings.imports.temp_dir;
    if !temporary.is_empty() && !Path::new(temporary).is_dir() {
        fault("imports.temp_dir", format!("imports.temp_dir: {temporary} is not a directory"));
    }
    faults
}
