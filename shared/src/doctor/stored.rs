//! Checks of the schema and of stored data.

use sqlx::PgConnection;

use super::Finding;
use super::duplicates::{DuplicateEmail, duplicate_emails};
use crate::accounts::workspaces::{self, Workspace};
use crate::error::Result;
use crate::mail::place;
use crate::operations::workers::{self, WorkerState};
use crate::platform::config::Webhooks;
use crate::platform::db;
use crate::queue::QUEUES;
use crate::webhooks::{self, Sealer};

/// A new database lacks so many migrations that their names say nothing.
const LISTED: usize = 10;

pub(super) async fn schema(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "schema";
    let mut pending = db::pending_migrations(connection).await?;
    if pending.is_empty() {
        return Ok(vec![Finding::ok(CHECK, "All migrations and backfills have run.")]);
    }
    let message = format!("Migrations or backfills that have not run: {}. So no program is ready.", pending.len());
    pending.truncate(LISTED);
    Ok(vec![Finding::fault(CHECK, message, "Run crm-api migrate.").with_details(pending)])
}

pub(super) async fn workers(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "workers";
    let all = workers::list(connection).await?;
    let running: Vec<_> = all.iter().filter(|worker| worker.state == WorkerState::Running).collect();
    let lost = all.iter().filter(|worker| worker.state == WorkerState::Lost).count();
    let idle =
        QUEUES.iter().filter(|queue| !running.iter().any(|worker| worker.queues.iter().any(|name| name == **queue)));
    let idle: Vec<&str> = idle.copied().collect();
    let shown = format!("Running workers: {}, lost: {lost}.", running.len());
    let found = if idle.is_empty() {
        Finding::ok(CHECK, format!("{shown} Each queue has a worker."))
    } else {
        let message = format!("{shown} None works on {}, so what is queued there waits.", idle.join(", "));
        Finding::warning(CHECK, message, "Start crm-worker; crm-api workers list shows who is there.")
    };
    Ok(vec![found])
}

pub(super) async fn hold(connection: &mut PgConnection, public_url: Option<&str>) -> Result<Vec<Finding>> {
    let status = place::status(connection, public_url).await?;
    let found = match status.hold() {
        None => Finding::ok("mail.hold", "Email is not on hold."),
        Some(hold) => Finding::fault(
            "mail.hold",
            format!("No email is sent: {hold}."),
            "Run crm-api mail status, then crm-api mail release.",
        ),
    };
    Ok(vec![found])
}

pub(super) async fn secrets(connection: &mut PgConnection, settings: &Webhooks) -> Result<Vec<Finding>> {
    const CHECK: &str = "webhooks.secrets";
    let sealer = Sealer::new(settings);
    let (mut readable, mut unreadable) = (0, 0);
    for Workspace { id, .. } in workspaces::list(connection).await? {
        let sealed = webhooks::sealed(connection, id, &sealer).await?;
        readable += sealed.readable;
        unreadable += sealed.unreadable;
    }
    let mut found = Vec::new();
    if unreadable > 0 {
        let message = format!(
            "{unreadable} secrets and headers of webhooks cannot be decrypted: webhooks.encryption_key is not their key."
        );
        let action = "Set the key that they were written with, or rotate the secrets and set the headers again.";
        found.push(Finding::fault(CHECK, message, action));
    }
    // Without a key, a warning of the settings says so.
    if readable > 0 && settings.key().is_some() {
        let message = format!("{readable} secrets and headers of webhooks are stored readable.");
        let action = "Rotate the secrets and set the headers again, which encrypts them.";
        found.push(Finding::warning(CHECK, message, action));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "All secrets and headers of webhooks can be read."));
    }
    Ok(found)
}

pub(super) async fn duplicates(connection: &mut PgConnection) -> Result<Vec<Finding>> {
    const CHECK: &str = "records.emails";
    let mut details = Vec::new();
    for Workspace { id, name, .. } in workspaces::list(connection).await? {
        for duplicate in duplicate_emails(connection, id).await? {
            let DuplicateEmail { table, id, email, owner_id, owner_email } = duplicate;
            details.push(format!("{name}  {table}  {id}  {email}  has the email of {owner_id}  {owner_email}"));
        }
    }
    let found = if details.is_empty() {
        Finding::ok(CHECK, "No record has the email of another one.")
    } else {
        let message = format!("{} records have the email of another one.", details.len());
        Finding::fault(CHECK, message, "Change their emails, or delete them.")
    };
    Ok(vec![found.with_details(details)])
}
