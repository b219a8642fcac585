//! The opt-outs of a file: people who get no email any more, because another system says so.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::Import;
use super::rows::OptOut;
use crate::error::Result;
use crate::mail::suppressions::{self, FromFile, Reason};

/// Suppresses the addresses, in the transaction of their rows. Returns how many were not suppressed before.
pub(super) async fn keep(connection: &mut PgConnection, import: &Import, opt_outs: &[OptOut]) -> Result<i64> {
    let mut by_key: HashMap<String, &OptOut> = HashMap::new();
    for opt_out in opt_outs {
        let first = by_key.entry(opt_out.email.key()).or_insert(opt_out);
        if opt_out.reason == Reason::Bounced && first.reason != Reason::Bounced {
            *first = opt_out;
        }
    }
    if by_key.is_empty() {
        return Ok(0);
    }
    if import.plan.dry_run {
        return count(connection, import, by_key.into_keys().collect()).await;
    }
    let mut new: Vec<FromFile> = by_key
        .into_values()
        .map(|OptOut { email, reason, line }| FromFile { email: email.clone(), reason: *reason, line: *line })
        .collect();
    // The fixed order prevents deadlocks with other imports.
    new.sort_by_cached_key(|new| new.email.key());
    suppressions::add_from_file(connection, import.workspace_id, import.id, &new).await
}

/// Counts the addresses that are neither suppressed nor occurred in an earlier chunk of this dry run.
async fn count(connection: &mut PgConnection, import: &Import, keys: Vec<String>) -> Result<i64> {
    let suppressed = suppressions::suppressed(connection, import.workspace_id, &keys).await?;
    let new: Vec<String> = keys.into_iter().filter(|key| !suppressed.contains(key)).collect();
    let added = sqlx::query(
        "INSERT INTO import_seen_suppressions (workspace_id, import_id, email_key)
         SELECT $1, $2, key FROM unnest($3::text[]) AS new (key) ON CONFLICT DO NOTHING",
    );
    let added = added.bind(import.workspace_id).bind(import.id).bind(new).execute(connection).await?;
    Ok(i64::try_from(added.rows_affected()).unwrap_or(i64::MAX))
}
