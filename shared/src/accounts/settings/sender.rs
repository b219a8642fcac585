//! The sender of a workspace's emails.

use sqlx::PgConnection;
use uuid::Uuid;

use super::Settings;
use crate::error::Result;
use crate::mail::Sender;
use crate::mail::senders::Domains;
use crate::platform::config;

/// The sender of a workspace's emails: the address in its settings if the domain is allowed, else the
/// operator's address. Replies go to the workspace's address in both cases.
pub async fn sender(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    settings: &Settings,
    mail: &config::Mail,
) -> Result<Sender> {
    let name = settings.sender_name.as_ref().map_or(mail.from_name.as_str(), AsRef::as_ref);
    let mut sender = Sender {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        email: mail.from_email.clone(),
        reply_to: settings.reply_to.as_ref().map(|email| email.as_ref().to_owned()),
    };
    if let Some(email) = &settings.sender_email {
        sender.email = email.as_ref().to_owned();
        let domains = Domains::of_workspace(connection, workspace_id, mail).await?;
        (sender.email, sender.reply_to) = domains.apply(sender.email, sender.reply_to, mail);
    }
    Ok(sender)
}
