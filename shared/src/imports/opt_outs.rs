//! The opt-outs of a file: people who get no email any more, because another system says so.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::Import;
use super::rows::OptOut;
use crate::error::Result;
use crate::mail::suppressions::{self, NewSuppression};

/// Suppresses the addresses, in the transaction of their rows. Returns how many were not suppressed before.
pub(super) async fn keep(connection: &mut PgConnection, import: &Import, opt_outs: &[OptOut]) -> Result<i64> {
    let mut by_key: HashMap<String, &OptOut> = HashMap::new();
    for opt_out in opt_outs {
        let widest = by_key.entry(opt_out.email.key()).or_insert(opt_out);
        if opt_out.reason.scope() > widest.reason.scope() {
            *widest = opt_out;
        }
    }
    if by_key.is_empty() {
        return Ok(0);
    }
    if import.plan.dry_run {
        return count(connection, import, by_key.into_keys().collect()).await;
    }
    let suppression = |opt_out: &OptOut| NewSuppression {
        proof: Some((import.id, opt_out.line)),
        ..NewSuppression::new(&opt_out.email, opt_out.reason)
    };
    let mut new: Vec<NewSuppression> = by_key.into_values().map(suppression).collect();
    // The fixed order prevents deadlocks with other imports.
    new.sort_by_cached_key(NewSuppression::key);
    let added = suppressions::add_all(connection, import.workspace_id, &new).await?;
    Ok(i64::try_from(added.new).unwrap_or(i64::MAX))
}

/// Counts the addresses that are neither suppressed nor occurred in an earlier chunk of this dry run.
async fn count(connection: &mut PgConnection, import: &Import, keys: Vec<String>) -> Result<i64> {
    let (suppressed, _) = suppressions::taken(connection, import.workspace_id, (&keys, &[])).await?;
    remember(connection, import, keys.into_iter().filter(|key| !suppressed.contains(key)).collect()).await
}

/// Returns which of the addresses earlier chunks of this dry run would have suppressed.
pub(super) async fn seen(connection: &mut PgConnection, import: &Import, keys: &[String]) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "SELECT email_key FROM import_seen_suppressions
         WHERE workspace_id = $1 AND import_id = $2 AND email_key = ANY ($3)",
    )
    .bind(import.workspace_id)
    .bind(import.id)
    .bind(keys)
    .fetch_all(connection)
    .await?)
}

/// Stores the addresses that this dry run would suppress. Returns the number of new ones.
pub(super) async fn remember(connection: &mut PgConnection, import: &Import, new: Vec<String>) -> Result<i64> {
    let added = sqlx::query(
        "INSERT INTO import_seen_suppressions (workspace_id, import_id, email_key)
         SELECT $1, $2, key FROM unnest($3::text[]) AS new (key) ON CONFLICT DO NOTHING",
    );
    let added = added.bind(import.workspace_id).bind(import.id).bind(new).execute(connection).await?;
    Ok(i64::try_from(added.rows_affected()).unwrap_or(i64::MAX))
}
