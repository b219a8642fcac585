//! Sets aside the next actions that fell due.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::PAGE;
use super::digest::followed_up;
use super::gather::DueCursor;
use crate::accounts::settings;
use crate::crm::interactions::{CustomerInteraction, Interaction, LeadInteraction};
use crate::error::{Error, Result};
use crate::mail::Event;
use crate::platform::db;
use crate::records;
use crate::records::history::Actor;
use crate::values::{Email, Time};
use crate::workflows::set_aside::SetAside;

/// Where the next page starts.
#[derive(Debug, Clone, Copy)]
pub enum Next {
    /// Interactions with leads, after this one.
    Leads(DueCursor),
    /// Interactions with customers, after this one.
    Customers(Option<DueCursor>),
}

/// Records that the next actions of a page that were due by `now`, and that have a recipient, were
/// followed up.
pub async fn set_aside(
    connection: &mut PgConnection,
    actor: &Actor,
    cursor: Option<Next>,
    now: Time,
) -> Result<(Vec<SetAside>, Option<Next>)> {
    db::plan_afresh(connection).await?;
    match cursor {
        None => leads(connection, actor, None, now).await,
        Some(Next::Leads(after)) => leads(connection, actor, Some(after), now).await,
        Some(Next::Customers(after)) => {
            let (set_aside, last) = page::<CustomerInteraction>(connection, actor, after, now).await?;
            Ok((set_aside, last.map(|last| Next::Customers(Some(last)))))
        }
    }
}

async fn leads(
    connection: &mut PgConnection,
    actor: &Actor,
    after: Option<DueCursor>,
    now: Time,
) -> Result<(Vec<SetAside>, Option<Next>)> {
    let (set_aside, last) = page::<LeadInteraction>(connection, actor, after, now).await?;
    Ok((set_aside, Some(last.map_or(Next::Customers(None), Next::Leads))))
}

#[derive(FromRow)]
struct DueAction {
    id: Uuid,
    next_action_date: Time,
    recipient: Option<Email>,
}

async fn page<I: Interaction>(
    connection: &mut PgConnection,
    actor: &Actor,
    after: Option<DueCursor>,
    now: Time,
) -> Result<(Vec<SetAside>, Option<DueCursor>)> {
    let due = due_actions::<I>(connection, actor.workspace_id, after, now).await?;
    let last = due.last().map(|due| DueCursor { date: due.next_action_date, id: due.id });
    let mut recipients: HashMap<Uuid, Email> =
        due.into_iter().filter_map(|due| Some((due.id, due.recipient?))).collect();
    let ids: Vec<Uuid> = recipients.keys().copied().collect();
    let (mut set_aside, mut changed) = (Vec::new(), Vec::new());
    for interaction in records::lock::<I>(connection, actor.workspace_id, &ids).await? {
        let (Some(email), (_, Some(due_at))) = (recipients.remove(&interaction.id()), interaction.next()) else {
            continue;
        };
        if interaction.is_due(now) {
            let (record_type, record_id) = (I::TYPE, interaction.id());
            set_aside.push(SetAside { event: Event::Followups, record_type, record_id, email, due_at });
            changed.push(followed_up(interaction, now));
        }
    }
    records::update_all(connection, actor, &changed).await?;
    Ok((set_aside, last))
}

/// Returns the next actions that are due, with the addresses of those who would get a digest.
async fn due_actions<I: Interaction>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Option<DueCursor>,
    now: Time,
) -> Result<Vec<DueAction>> {
    let parent = I::PARENT.ok_or_else(|| Error::internal("an interaction has no parent"))?;
    let (table, column, parents) = (I::TABLE, parent.column, parent.table);
    let notified = settings::get(connection, workspace_id).await?.notification_email;
    let sql = format!(
        "WITH due AS (
             SELECT id, {column} AS parent_id, next_action_date FROM {table}
             WHERE workspace_id = $1 AND next_action_date IS NOT NULL AND followed_up_at IS NULL
                 AND next_action_date <= $2
                 AND ($3::timestamptz IS NULL OR (next_action_date, id) > ($3, $4))
             ORDER BY next_action_date, id LIMIT $5
         )
         SELECT due.id, due.next_action_date, coalesce(users.email, $6) AS recipient FROM due
         LEFT JOIN {parents} AS parent ON parent.workspace_id = $1 AND parent.id = due.parent_id
         LEFT JOIN users ON users.workspace_id = $1 AND users.id = parent.assigned_to
         ORDER BY due.next_action_date, due.id"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(now)
        .bind(after.map(|after| after.date))
        .bind(after.map(|after| after.id))
        .bind(PAGE)
        .bind(notified)
        .fetch_all(connection)
        .await?)
}
