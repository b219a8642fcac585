//! The domains that a workspace may send from.
//!
//! A sender at `@bank.example` writes in the bank's name, and the recipients' servers hold the
//! operator responsible. So the operator allows domains: for all workspaces with
//! `mail.sender_domains`, for one workspace with `crm-api workspaces allow-sender`. The domain of
//! `mail.from_email` is always allowed.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::Leased;
use crate::error::{Error, Result};
use crate::platform::config;
use crate::values::{Email, Fault, ascii_domain, domain};

/// The domains that a workspace may send from, each in the form of [`ascii_domain`].
#[derive(Debug, Clone, Default)]
pub struct Domains {
    is_any: bool,
    domains: HashSet<String>,
}

impl Domains {
    /// The domains that the settings allow for every workspace.
    pub fn of_operator(mail: &config::Mail) -> Self {
        let from = mail.from_email.rsplit_once('@').map(|(_, domain)| domain);
        let all = mail.sender_domains.iter().map(String::as_str).chain(from);
        Self {
            is_any: mail.sender_domains.iter().any(|domain| domain == config::Mail::ANY_DOMAIN),
            domains: all.map(ascii_domain).collect(),
        }
    }

    /// The domains that one workspace may send from.
    pub async fn of_workspace(connection: &mut PgConnection, workspace_id: Uuid, mail: &config::Mail) -> Result<Self> {
        let mut allowed = Self::of_operator(mail);
        if !allowed.is_any {
            allowed.domains.extend(list(connection, workspace_id).await?);
        }
        Ok(allowed)
    }

    /// Whether the address belongs to an allowed domain. Subdomains are not included.
    pub fn allow(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map(|(_, domain)| ascii_domain(domain));
        self.is_any || domain.is_some_and(|domain| self.domains.contains(&domain))
    }

    /// Rejects a sender's address whose domain is not allowed.
    pub fn check(&self, email: &Email) -> Result<(), Fault> {
        if self.allow(email.as_ref()) {
            return Ok(());
        }
        Err(Fault::new(
            "not_allowed",
            "must be on a domain this workspace may send from; ask the operator to allow the domain",
        ))
    }
}

impl Domains {
    /// The addresses for `From` and `Reply-To`, given those that a workspace has set. A sender that
    /// is not allowed becomes the `Reply-To`, unless one is set.
    pub(crate) fn apply(
        &self,
        email: String,
        reply_to: Option<String>,
        mail: &config::Mail,
    ) -> (String, Option<String>) {
        if self.allow(&email) {
            return (email, reply_to);
        }
        (mail.from_email.clone(), Some(reply_to.unwrap_or(email)))
    }
}

/// Checks the senders of leased emails again: a domain may have been removed since they were
/// queued.
pub async fn apply(connection: &mut PgConnection, emails: &mut [Leased], mail: &config::Mail) -> Result<()> {
    let operator = Domains::of_operator(mail);
    let mut others: Vec<&mut Leased> =
        emails.iter_mut().filter(|email| !operator.allow(&email.content.from_email)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let workspaces: HashSet<Uuid> = others.iter().map(|email| email.workspace_id).collect();
    let allowed: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT workspace_id, domain FROM sender_domains WHERE workspace_id = ANY ($1)")
            .bind(workspaces.into_iter().collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
    let mut domains = HashMap::<Uuid, Domains>::new();
    for (workspace_id, domain) in allowed {
        domains.entry(workspace_id).or_default().domains.insert(domain);
    }
    let none = Domains::default();
    others.retain(|email| !domains.get(&email.workspace_id).unwrap_or(&none).allow(&email.content.from_email));
    for email in &mut others {
        let (from, reply_to) = (email.content.from_email.clone(), email.content.reply_to.take());
        (email.content.from_email, email.content.reply_to) = none.apply(from, reply_to, mail);
    }
    write_senders(connection, &mut others).await
}

/// Saves changed senders, so that the API shows the addresses that are sent.
async fn write_senders(connection: &mut PgConnection, emails: &mut [&mut Leased]) -> Result<()> {
    emails.sort_unstable_by_key(|email| email.lease());
    for emails in emails.chunk_by(|one, other| one.workspace_id == other.workspace_id) {
        sqlx::query(
            "UPDATE emails SET from_email = changed.from_email, reply_to = changed.reply_to
             FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[])
                 AS changed (id, attempt, from_email, reply_to)
             WHERE emails.workspace_id = $1 AND emails.id = changed.id AND emails.attempt = changed.attempt",
        )
        .persistent(false)
        .bind(emails[0].workspace_id)
        .bind(emails.iter().map(|email| email.id).collect::<Vec<_>>())
        .bind(emails.iter().map(|email| email.attempt).collect::<Vec<_>>())
        .bind(emails.iter().map(|email| email.content.from_email.as_str()).collect::<Vec<_>>())
        .bind(emails.iter().map(|email| email.content.reply_to.as_deref()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Lists the domains that are allowed for this workspace alone.
pub async fn list(connection: &mut PgConnection, workspace_id: Uuid) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar("SELECT domain FROM sender_domains WHERE workspace_id = $1 ORDER BY domain")
        .bind(workspace_id)
        .fetch_all(connection)
        .await?)
}

/// Allows a domain for a workspace, and returns its normalized form. Allowing a domain twice is
/// harmless.
pub async fn allow(connection: &mut PgConnection, workspace_id: Uuid, domain: &str) -> Result<String> {
    let domain = parse(domain)?;
    sqlx::query("INSERT INTO sender_domains (workspace_id, domain) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(workspace_id)
        .bind(&domain)
        .execute(connection)
        .await?;
    Ok(domain)
}

/// Removes a domain from those allowed for a workspace.
///
/// # Errors
/// [`Error::NotFound`] if the domain was not allowed for this workspace.
pub async fn remove(connection: &mut PgConnection, workspace_id: Uuid, domain: &str) -> Result<String> {
    let domain = parse(domain)?;
    let removed = sqlx::query("DELETE FROM sender_domains WHERE workspace_id = $1 AND domain = $2")
        .bind(workspace_id)
        .bind(&domain)
        .execute(connection)
        .await?;
    if removed.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(domain) }
}

fn parse(text: &str) -> Result<String> {
    domain(text).ok_or_else(|| Error::invalid("domain", "invalid", "must be a domain such as example.com"))
}
