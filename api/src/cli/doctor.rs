//! `crm-api doctor`: checks everything that the programs need, and reports what to do.

mod disk;
mod links;
mod mail;

use std::io::{self, Write};
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use shared::doctor::{self, Finding, Level};
use shared::platform::config::Report;

use super::config::{counted, further_faults};

/// Check the settings, the database, the mail server, links and stored data, and report what to do; fails if
/// something does not work. Sends no email and changes nothing.
#[derive(Debug, Args)]
pub(super) struct DoctorCommand {
    /// How long each check may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_s: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl DoctorCommand {
    /// Runs all checks and ends the process.
    pub(super) async fn run(self, file: Option<&Path>) -> Result<()> {
        let report = Report::load(file);
        let mut findings = settings(&report);
        // With a fault in them, the other checks would examine something else than what the programs use.
        if let Ok(settings) = report.into_settings() {
            let limit = Duration::from_secs(self.timeout_s);
            let (database, mail, links) = tokio::join!(
                doctor::examine(&settings, limit),
                mail::check(&settings.mail, limit),
                links::check(&settings, limit),
            );
            findings.extend(database);
            findings.push(disk::check(&settings.imports));
            findings.extend(mail);
            findings.extend(links);
        }
        let printed = if self.json { print_json(&findings) } else { print(&findings) };
        printed.and_then(|()| io::stdout().flush())?;
        // A lookup of a name that does not end keeps a thread, for which the runtime would wait.
        exit(i32::from(findings.iter().any(|finding| finding.level == Level::Fault)));
    }
}

fn settings(report: &Report) -> Vec<Finding> {
    const CHECK: &str = "settings";
    let further = report.settings().map(further_faults).unwrap_or_default();
    let faults = report.faults.iter().chain(&further);
    let mut findings: Vec<Finding> = faults
        .map(|fault| {
            Finding::fault(CHECK, fault.message.clone(), "Correct it: crm-api config show lists all settings.")
        })
        .collect();
    for warning in &report.warnings {
        // The first sentence says what it causes, and the second what to do.
        let (message, action) = warning.message.split_once(". ").unwrap_or((&warning.message, ""));
        findings.push(Finding::warning(CHECK, format!("{}: {message}.", warning.name), action));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "All settings are valid."));
    }
    findings
}

/// One line for each finding, and one for each of its records.
fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for Finding { check, level, message, action, details } in findings {
        let action = action.as_ref().map(|action| format!(" {action}")).unwrap_or_default();
        writeln!(out, "{:<8} {check:<21} {message}{action}", level.as_str())?;
        for detail in details {
            writeln!(out, "           {detail}")?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    match (count(Level::Fault), count(Level::Warning)) {
        (0, 0) => writeln!(out, "No problems found."),
        (faults, warnings) => writeln!(out, "{}", counted(faults, warnings)),
    }
}

fn print_json(findings: &[Finding]) -> io::Result<()> {
    let is_healthy = findings.iter().all(|finding| finding.level != Level::Fault);
    let shown = serde_json::to_string_pretty(&json!({ "healthy": is_healthy, "findings": findings }))?;
    writeln!(io::stdout().lock(), "{shown}")
}

/// The result of a check within its time.
async fn within(check: &'static str, limit: Duration, examined: impl Future<Output = Finding>) -> Finding {
    let silent = || {
        let message = format!("No answer within {} s.", limit.as_secs());
        Finding::fault(check, message, "Check the address and the firewall.")
    };
    tokio::time::timeout(limit, examined).await.unwrap_or_else(|_| silent())
}
