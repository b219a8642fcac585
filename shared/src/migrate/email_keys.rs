//! Storing the normal forms of emails that older versions wrote. Records get theirs by
//! [`Rederive`](crate::records::Rederive).

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde_json::json;
use sqlx::{PgConnection, SqlSafeStr, SqlStr};
use uuid::Uuid;

use crate::error::Result;
use crate::platform::backfill::{BATCH, Backfill, Batch};
use crate::platform::email_keys::{self, Keyed};
use crate::values::{email_key, key_domain};

/// The suppressions.
pub(super) struct Suppressions;
/// The outbox, with the domains of the recipients.
pub(super) struct Emails;
/// The deleted leads and customers, whose rows are in the history.
pub(super) struct History;
/// The recipients of follow-ups that a run has gathered.
pub(super) struct Followups;

impl Backfill for Suppressions {
    fn name(&self) -> &'static str {
        "suppressions"
    }

    fn count(&self) -> SqlStr {
        "SELECT count(*) FROM suppressions WHERE workspace_id = $1".into_sql_str()
    }

    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let page: Vec<(Uuid, DateTime<Utc>, String)> = sqlx::query_as(
                "SELECT id, created_at, email FROM suppressions
                 WHERE workspace_id = $1 AND id > $2 AND email IS NOT NULL ORDER BY id LIMIT $3 FOR UPDATE",
            )
            .bind(workspace_id)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
            let keys: Vec<String> = page.iter().map(|(.., email)| email_key(email)).collect();
            let keyed =
                page.iter().zip(&keys).map(|((id, created_at, _), key)| Keyed::new(*id, *created_at, key.clone()));
            let keyed: Vec<Keyed> = keyed.collect();
            let numbers = email_keys::assign(connection, workspace_id, "suppressions", &keyed).await?;
            let ids: Vec<Uuid> = page.iter().map(|(id, ..)| *id).collect();
            sqlx::query(
                "UPDATE suppressions SET email_key = new.email_key, email_duplicate = new.email_duplicate,
                     updated_at = suppressions.created_at
                 FROM unnest($2::uuid[], $3::text[], $4::integer[]) AS new (id, email_key, email_duplicate)
                 WHERE suppressions.workspace_id = $1 AND suppressions.id = new.id
                     AND suppressions.email_key IS DISTINCT FROM new.email_key",
            )
            .bind(workspace_id)
            .bind(&ids)
            .bind(keys)
            .bind(numbers)
            .execute(connection)
            .await?;
            Ok(Batch::of(&ids))
        })
    }
}

impl Backfill for Emails {
    fn name(&self) -> &'static str {
        "emails"
    }

    fn count(&self) -> SqlStr {
        "SELECT count(*) FROM emails WHERE workspace_id = $1".into_sql_str()
    }

    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let page: Vec<(Uuid, String)> = sqlx::query_as(
                "SELECT id, to_email FROM emails WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE",
            )
            .bind(workspace_id)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
            let keys: Vec<String> = page.iter().map(|(_, email)| email_key(email)).collect();
            let ids: Vec<Uuid> = page.iter().map(|(id, _)| *id).collect();
            sqlx::query(
                "UPDATE emails SET to_email_key = new.key, to_domain = new.domain
                 FROM unnest($2::uuid[], $3::text[], $4::text[]) AS new (id, key, domain)
                 WHERE emails.workspace_id = $1 AND emails.id = new.id
                     AND emails.to_email_key IS DISTINCT FROM new.key",
            )
            .bind(workspace_id)
            .bind(&ids)
            .bind(&keys)
            .bind(keys.iter().map(|key| key_domain(key)).collect::<Vec<_>>())
            .execute(connection)
            .await?;
            Ok(Batch::of(&ids))
        })
    }
}

/// The entries with the rows of deleted leads and customers.
macro_rules! deleted {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM history WHERE workspace_id = $1 AND record_type IN ('lead', 'customer')
                 AND action = 'deleted' AND cause_id IS NULL AND former ? 'email'"
        )
    };
}

impl Backfill for History {
    fn name(&self) -> &'static str {
        "history"
    }

    fn count(&self) -> SqlStr {
        deleted!("count(*)").into_sql_str()
    }

    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let page: Vec<(Uuid, Uuid, String)> = sqlx::query_as(concat!(
                deleted!("id, record_id, former ->> 'email'"),
                " AND id > $2 ORDER BY id LIMIT $3"
            ))
            .bind(workspace_id)
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
            let ids: Vec<Uuid> = page.iter().map(|(id, ..)| *id).collect();
            sqlx::query(
                "UPDATE history SET former = history.former || new.patch
                 FROM unnest($2::uuid[], $3::uuid[], $4::jsonb[]) AS new (id, record_id, patch)
                 WHERE history.workspace_id = $1 AND history.record_id = new.record_id AND history.id = new.id",
            )
            .bind(workspace_id)
            .bind(&ids)
            .bind(page.iter().map(|(_, record_id, _)| *record_id).collect::<Vec<_>>())
            .bind(page.iter().map(|(.., email)| json!({ "email_key": email_key(email) })).collect::<Vec<_>>())
            .execute(connection)
            .await?;
            Ok(Batch::of(&ids))
        })
    }
}

impl Backfill for Followups {
    fn name(&self) -> &'static str {
        "followups"
    }

    fn count(&self) -> SqlStr {
        "SELECT count(*) FROM followups WHERE workspace_id = $1".into_sql_str()
    }

    /// Rewrites all of them at once: they are the recipients of a few runs, who are users.
    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        _after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(async move {
            let recipients = "SELECT DISTINCT recipient FROM followups WHERE workspace_id = $1";
            let recipients: Vec<String> =
                sqlx::query_scalar(recipients).bind(workspace_id).fetch_all(&mut *connection).await?;
            sqlx::query(
                "UPDATE followups SET recipient = new.key FROM unnest($2::text[], $3::text[]) AS new (recipient, key)
                 WHERE followups.workspace_id = $1 AND followups.recipient = new.recipient
                     AND followups.recipient <> new.key",
            )
            .bind(workspace_id)
            .bind(&recipients)
            .bind(recipients.iter().map(|recipient| email_key(recipient)).collect::<Vec<_>>())
            .execute(connection)
            .await?;
            Ok(None)
        })
    }
}
