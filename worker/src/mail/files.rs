//! Mails as files, where there is no server: one can open them with a mail program.

use std::path::Path;

use anyhow::Context;
use tokio::fs;
use uuid::Uuid;

use crate::mail::smtp::Message;

/// Writes a mail into a directory, whole or not at all. The name is that of the mail, so that it is
/// there once, however often it is written.
pub(super) async fn write(directory: &Path, id: Uuid, message: &Message) -> anyhow::Result<String> {
    fs::create_dir_all(directory).await.with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("{id}.eml"));
    let partial = directory.join(format!(".{id}.partial"));
    fs::write(&partial, &message.text).await.with_context(|| partial.display().to_string())?;
    fs::rename(&partial, &path).await.with_context(|| path.display().to_string())?;
    Ok(format!("written to {}", path.display()))
}
