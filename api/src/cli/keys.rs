//! Commands for API keys.

use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::{Value, json};
use shared::accounts::api_keys::rotation::{self, OVERLAP_HOURS, OverlapHours};
use shared::accounts::api_keys::{self, ApiKey, NewKey};
use shared::accounts::scopes::Scopes;
use shared::events::EventType;
use shared::operations::actions::actor;
use shared::values::Field;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::act::audited;
use super::cells::Map;
use super::{day, find_workspace, or_missing, sentence};

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Create a key and print it; it cannot be shown again.
    Create {
        /// The workspace that the key gives access to.
        #[arg(long, value_name = "NAME_OR_ID")]
        workspace: String,
        /// What the key is for.
        #[arg(long)]
        name: String,
        /// What the key may do, separated by commas, such as records:read,exports; * is everything.
        #[arg(long, default_value = "*")]
        scopes: Scopes,
        /// When the key expires: 2030-12-31 or 2030-12-31T12:00:00Z.
        #[arg(long, value_name = "DATE_OR_TIMESTAMP", value_parser = parse_time)]
        expires: Option<DateTime<Utc>>,
    },
    /// List the keys of a workspace.
    List {
        /// The workspace.
        #[arg(long, value_name = "NAME_OR_ID")]
        workspace: String,
    },
    /// Replace a key by a new one with the same scopes and expiry, and print it.
    Rotate {
        /// The key's id, as `keys list` prints it.
        key_id: Uuid,
        /// How many hours the old key works.
        #[arg(long, value_name = "HOURS", default_value_t = OVERLAP_HOURS, value_parser = parse_overlap)]
        overlap_hours: u32,
    },
    /// Revoke a key; it is refused within a second.
    Revoke {
        /// The key's id, as `keys list` prints it.
        key_id: Uuid,
    },
    /// Write the map by which HAProxy finds the cell of a key by its hash, and of a link by its workspace.
    Map(Map),
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::from_text(text.trim()).map_err(|fault| fault.message.into_owned())
}

fn parse_overlap(text: &str) -> Result<u32, String> {
    let hours = text.parse().map_err(|_| "must be a whole number of hours".to_owned())?;
    OverlapHours::try_from(hours).map(|_| hours)
}

impl KeyCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::Create { workspace, name, scopes, expires } => {
                if expires.is_some_and(|at| at <= Utc::now()) {
                    bail!("the expiry must be in the future");
                }
                let workspace = find_workspace(connection, &workspace).await?;
                let new = NewKey::of(&name, scopes, expires).map_err(sentence)?;
                let arguments = json!({
                    "workspace": workspace.id, "name": name, "scopes": scopes.to_string(), "expires_at": expires,
                });
                let created = async |transaction: &mut PgConnection, action_id| {
                    let (key, stored) = api_keys::create(transaction, workspace.id, &new).await?;
                    let actor = actor(workspace.id, action_id);
                    api_keys::report(transaction, &actor, EventType::ApiKeyCreated, &stored).await?;
                    Ok((key, stored))
                };
                let (key, stored) =
                    in_transaction(connection, "keys.create", arguments, created).await.map_err(sentence)?;
                println!("{}", key.reveal());
                eprintln!(
                    "Created the key {} for the workspace {:?}. The key is shown only once.",
                    stored.id, workspace.name
                );
            }
            Self::List { workspace } => {
                let workspace = find_workspace(connection, &workspace).await?;
                for key in api_keys::list(connection, workspace.id).await.map_err(sentence)? {
                    println!("{}", describe(&key));
                }
            }
            Self::Rotate { key_id, overlap_hours } => {
                let overlap = OverlapHours::try_from(overlap_hours).map_err(|message| anyhow!(message))?;
                let workspace_id = workspace_of(connection, key_id).await?;
                let arguments = json!({ "key_id": key_id, "overlap_hours": overlap_hours });
                let rotated = async |transaction: &mut PgConnection, action_id| {
                    let (key, stored) = rotation::rotate(transaction, workspace_id, key_id, overlap).await?;
                    let actor = actor(workspace_id, action_id);
                    api_keys::report(transaction, &actor, EventType::ApiKeyUpdated, &stored).await?;
                    Ok(key)
                };
                let key = in_transaction(connection, "keys.rotate", arguments, rotated)
                    .await
                    .map_err(or_missing(format!("the key {key_id} was revoked")))?;
                println!("{}", key.reveal());
                eprintln!("The old key works for {overlap_hours} hours. The new one is shown only once.");
            }
            Self::Revoke { key_id } => {
                let workspace_id = workspace_of(connection, key_id).await?;
                let revoked = async |transaction: &mut PgConnection, action_id| {
                    let key = api_keys::revoke_any(transaction, workspace_id, key_id).await?;
                    let actor = actor(workspace_id, action_id);
                    api_keys::report(transaction, &actor, EventType::ApiKeyRevoked, &key).await?;
                    Ok(key)
                };
                let key = in_transaction(connection, "keys.revoke", json!({ "key_id": key_id }), revoked)
                    .await
                    .map_err(sentence)?;
                println!("{}", describe(&key));
            }
            Self::Map(map) => map.run(connection).await?,
        }
        Ok(())
    }
}

/// Runs a command in a transaction, together with its event, and records it in the audit of operators.
async fn in_transaction<T>(
    connection: &mut PgConnection,
    action: &str,
    arguments: Value,
    command: impl AsyncFnOnce(&mut PgConnection, Uuid) -> shared::Result<T>,
) -> shared::Result<T> {
    let whole = async |connection: &mut PgConnection, action_id| {
        let mut transaction = connection.begin().await?;
        let done = command(&mut transaction, action_id).await?;
        transaction.commit().await?;
        Ok(done)
    };
    audited(connection, action, arguments, whole).await
}

async fn workspace_of(connection: &mut PgConnection, key_id: Uuid) -> Result<Uuid> {
    let found = api_keys::workspace_of(connection, key_id).await;
    found.map_err(or_missing(format!("no key has the id {key_id}")))
}

/// Whether a key, of the API or of an operator, is valid, and until when.
pub(super) fn state(revoked_at: Option<DateTime<Utc>>, expires_at: Option<DateTime<Utc>>) -> String {
    match (revoked_at, expires_at) {
        (Some(at), _) => format!("revoked {}", day(at)),
        (None, Some(at)) if at <= Utc::now() => format!("expired {}", day(at)),
        (None, Some(at)) => format!("expires {}", day(at)),
        (None, None) => "valid".to_owned(),
    }
}

fn describe(key: &ApiKey) -> String {
    let used = key.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("last used {}", day(at)));
    let state = state(key.revoked_at, key.expires_at);
    let ApiKey { id, prefix, scopes, name, .. } = key;
    format!("{id}  {prefix}…  created {}  {used}  {state}  {scopes}  {name}", day(key.created_at))
}
