//! `crm-api mail`: holds email, releases it, and shows whether it is on hold.

use std::io::{self, Write};

use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::json;
use shared::accounts::workspaces::Workspace;
use shared::mail::place::{self, ON_HOLD, Status};
use shared::platform::config::Settings;
use shared::platform::db;
use shared::release::{self, Released};
use shared::workflows::set_aside::SetAside;
use shared::{Error, mail, queue};
use sqlx::PgConnection;

use super::act::audited;
use super::sentence;
use super::show::print_json;
use super::table::time;

#[derive(Debug, Subcommand)]
pub(super) enum MailCommand {
    /// Hold email: workers send nothing and begin no run that writes emails, until it is released.
    Hold {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Release email that is on hold, and remember the present place of the database.
    Release {
        /// Send nothing that another database may have sent since this time: emails that wait become
        /// unknown, and what fell due is listed and marked as done. If interrupted, run it again.
        #[arg(long, value_name = "TIMESTAMP", value_parser = parse_timestamp)]
        lost_since: Option<DateTime<Utc>>,
        /// Print JSON, one object on each line; the last one is the summary.
        #[arg(long)]
        json: bool,
    },
    /// Show whether email is on hold, why, and what waits.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

fn parse_timestamp(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text.trim());
    time.map(|time| time.to_utc()).map_err(|_| "must be a timestamp such as 2026-11-30T02:00:00Z".to_owned())
}

impl MailCommand {
    pub(super) async fn run(self, connection: &mut PgConnection, settings: &Settings) -> Result<()> {
        let public_url = settings.own_url();
        match self {
            Self::Hold { json } => {
                let hold = async |connection: &mut PgConnection, _| place::hold(connection).await;
                audited(connection, "mail.hold", json!({}), hold).await.map_err(sentence)?;
                show(connection, public_url, json).await
            }
            Self::Release { lost_since: None, json } => {
                let release = async |connection: &mut PgConnection, _| release::release(connection, public_url).await;
                let released = audited(connection, "mail.release", json!({}), release).await;
                summarize(&released.map_err(sentence)?, json)
            }
            Self::Release { lost_since: Some(lost_since), json } => {
                if lost_since > db::database_now(connection).await.map_err(sentence)? {
                    bail!("--lost-since must be in the past");
                }
                let list = |workspace: &Workspace, email: &SetAside| print_email(workspace, email, json);
                let release = async |connection: &mut PgConnection, _| {
                    release::release_after_loss(connection, public_url, lost_since, list).await
                };
                let arguments = json!({ "lost_since": lost_since });
                let released = audited(connection, "mail.release", arguments, release).await;
                summarize(&released.map_err(sentence)?, json)
            }
            Self::Status { json } => show(connection, public_url, json).await,
        }
    }
}

fn print_email(workspace: &Workspace, email: &SetAside, json: bool) -> shared::Result<()> {
    let SetAside { event, record_type, record_id, email: address, due_at } = email;
    let mut out = io::stdout().lock();
    let printed = if json {
        let line = json!({
            "workspace": workspace.name, "event": event, "record_type": record_type, "record_id": record_id,
            "email": address, "due_at": due_at,
        });
        writeln!(out, "{line}")
    } else {
        let (event, kind, due) = (event.as_str(), record_type.as_str(), time(Some(*due_at)));
        writeln!(out, "{}  {event}  {kind} {record_id}  {}  due {due}", workspace.name, address.as_ref())
    };
    // Nothing is marked as done that was not listed.
    printed.map_err(|error| Error::internal(format!("cannot list what is set aside: {error}")))
}

fn summarize(released: &Released, json: bool) -> Result<()> {
    if json {
        return print_json(released);
    }
    let Released { unknown, set_aside, scheduled_runs, jobs } = released;
    println!(
        "Email is released. {unknown} emails are unknown now, {set_aside} emails that fell due are marked as done, \
         {scheduled_runs} scheduled runs count as done, and {jobs} jobs that waited are due."
    );
    Ok(())
}

async fn show(connection: &mut PgConnection, public_url: Option<&str>, json: bool) -> Result<()> {
    let status = place::status(connection, public_url).await.map_err(sentence)?;
    let outbox = mail::depth(connection).await.map_err(sentence)?;
    let waiting = queue::waiting(connection).await.map_err(sentence)?;
    let jobs: i64 = waiting.iter().filter(|job| job.error.starts_with(ON_HOLD)).map(|job| job.jobs).sum();
    let emails = outbox.queued + outbox.deferred;
    if json {
        let Status { place, remembered, held_since, lost_since } = &status;
        let reason = status.hold().map(|hold| hold.to_string());
        let shown = json!({
            "on_hold": reason.is_some(), "reason": reason, "held_since": held_since, "lost_since": lost_since,
            "place": place, "remembered": remembered, "emails_waiting": emails, "jobs_waiting": jobs,
        });
        return print_json(&shown);
    }
    println!("{}", describe(&status));
    println!("{emails} emails wait in the outbox, and {jobs} jobs wait for a release.");
    Ok(())
}

/// The hold, and the two places if they are the reason.
pub(super) fn describe(status: &Status) -> String {
    let Some(hold) = status.hold() else { return "Email is not on hold.".to_owned() };
    let since = status.held_since.map(|at| format!("  held since     {}\n", time(Some(at)))).unwrap_or_default();
    let lost = status.lost_since.map(|at| format!("  --lost-since   {}\n", time(Some(at)))).unwrap_or_default();
    let remembered = status.remembered.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    format!("{hold}\n{since}{lost}  remembered     {remembered}\n  present place  {}", status.place)
}
