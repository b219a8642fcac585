//! Gathers the interactions that are due, with their recipients.

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::{FollowedUp, PAGE, Reason};
use crate::accounts::settings::Settings;
use crate::crm::interactions::Interaction;
use crate::error::{Error, Result};
use crate::records::history::Actor;
use crate::values::{Email, Time};

/// A position in the order of due dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueCursor {
    pub(super) date: Time,
    pub(super) id: Uuid,
}

/// What to gather: the interactions whose next action was due at this time.
pub(super) struct Gathering<'a> {
    pub actor: &'a Actor,
    pub settings: &'a Settings,
    pub by: Time,
}

/// A page of gathered interactions.
#[derive(FromRow)]
struct Gathered {
    found: i64,
    without_recipient: i64,
    last_date: Option<Time>,
    last_id: Option<Uuid>,
}

impl Gathering<'_> {
    /// Gathers the next page; returns its end, or `None` if nothing follows `after`.
    pub async fn page<I: Interaction>(
        &self,
        connection: &mut PgConnection,
        after: Option<DueCursor>,
        run: &mut FollowedUp,
    ) -> Result<Option<DueCursor>> {
        let parent = I::PARENT.ok_or_else(|| Error::internal("an interaction has no parent"))?;
        let (table, column, parents, kind) = (I::TABLE, parent.column, parent.table, I::TYPE.as_str());
        // The owner is a user of the workspace, or unknown.
        let sql = format!(
            "WITH due AS (
                 SELECT id, {column} AS parent_id, next_action_date FROM {table}
                 WHERE workspace_id = $1 AND next_action_date IS NOT NULL AND followed_up_at IS NULL
                     AND next_action_date <= $2
                     AND ($3::timestamptz IS NULL OR (next_action_date, id) > ($3, $4))
                 ORDER BY next_action_date, id LIMIT $5
             ), owned AS (
                 SELECT due.id, due.next_action_date, coalesce(users.email_key, $6) AS recipient
                 FROM due
                 JOIN {parents} AS parent ON parent.workspace_id = $1 AND parent.id = due.parent_id
                 LEFT JOIN users ON users.workspace_id = $1 AND users.id = parent.assigned_to
             ), gathered AS (
                 INSERT INTO followups (workspace_id, job_id, recipient, next_action_date, interaction_id, interaction_type)
                 SELECT followed.workspace_id, $7, recipient, owned.next_action_date, owned.id, '{kind}'
                 FROM owned JOIN {table} AS followed ON followed.workspace_id = $1 AND followed.id = owned.id
                 WHERE recipient IS NOT NULL
             )
             SELECT count(*) AS found, count(*) FILTER (WHERE recipient IS NULL) AS without_recipient,
                 (SELECT next_action_date FROM due ORDER BY next_action_date DESC, id DESC LIMIT 1) AS last_date,
                 (SELECT id FROM due ORDER BY next_action_date DESC, id DESC LIMIT 1) AS last_id
             FROM owned"
        );
        let page: Gathered = sqlx::query_as(AssertSqlSafe(sql))
            .bind(self.actor.workspace_id)
            .bind(self.by)
            .bind(after.map(|after| after.date))
            .bind(after.map(|after| after.id))
            .bind(PAGE)
            .bind(self.settings.notification_email.as_ref().map(Email::key))
            .bind(self.actor.id)
            .fetch_one(connection)
            .await?;
        run.interactions += page.found;
        run.skipped.add(Reason::NoRecipient, page.without_recipient);
        Ok(page.last_date.zip(page.last_id).map(|(date, id)| DueCursor { date, id }))
    }
}

/// Deletes what a run has gathered.
pub(super) async fn forget(connection: &mut PgConnection, actor: &Actor) -> Result<()> {
    sqlx::query("DELETE FROM followups WHERE workspace_id = $1 AND job_id = $2")
        .bind(actor.workspace_id)
        .bind(actor.id)
        .execute(connection)
        .await?;
    Ok(())
}
