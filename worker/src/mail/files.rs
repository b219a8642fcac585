//! Emails as files, for installations without a mail server. Mail programs can open them.

use std::path::Path;

use anyhow::Context;
use tokio::fs;
use uuid::Uuid;

use crate::mail::smtp::Message;

/// Writes an email to a directory atomically. The file is named by the email's id, so that writing
/// the email again replaces it.
pub(super) async fn write(directory: &Path, id: Uuid, message: &Message) -> anyhow::Result<String> {
    fs::create_dir_all(directory).await.with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("{id}.eml"));
    let partial = directory.join(format!(".{id}.partial"));
    fs::write(&partial, &message.text).await.with_context(|| partial.display().to_string())?;
    fs::rename(&partial, &path).await.with_context(|| path.display().to_string())?;
    Ok(format!("written to {}", path.display()))
}
