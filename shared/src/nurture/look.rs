//! The leads of a page, with all that decides what becomes of them.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::{NURTURED, Reason};
use crate::error::Result;
use crate::fields::{Email, Time};
use crate::leads::LeadStatus;

/// A lead that is nurtured.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Candidate {
    pub id: Uuid,
    pub email: Email,
    pub created_at: Time,
    /// The steps that it has had.
    pub taken: Vec<Uuid>,
    /// When it had the last one.
    pub last_taken_at: Option<Time>,
    /// Why its address is suppressed.
    suppression: Option<String>,
    /// Whether a mail to its address came back.
    bounced: bool,
    /// Whether a caller has recorded since the last step that somebody called, met or wrote to it.
    interaction: bool,
}

impl Candidate {
    #[cfg(test)]
    pub fn fresh(id: Uuid, email: Email, created_at: Time) -> Self {
        let taken = Vec::new();
        Self {
            id,
            email,
            created_at,
            taken,
            last_taken_at: None,
            suppression: None,
            bounced: false,
            interaction: false,
        }
    }

    /// Why it leaves the sequence.
    pub fn objection(&self) -> Option<Reason> {
        match &self.suppression {
            Some(reason) if reason == "bounced" => Some(Reason::Bounced),
            Some(_) => Some(Reason::Suppressed),
            None if self.bounced => Some(Reason::Bounced),
            None if self.interaction => Some(Reason::Interaction),
            None => None,
        }
    }
}

/// Takes the workspace and the statuses; a condition on the leads follows.
const CANDIDATES: &str = "
    SELECT lead.id, lead.email, lead.created_at, had.taken, had.last_taken_at, suppression.reason AS suppression,
        EXISTS (
            SELECT FROM emails
            WHERE emails.workspace_id = $1 AND emails.state = 'bounced'
                AND lower(emails.to_email COLLATE \"C\") = lower(lead.email COLLATE \"C\")
        ) AS bounced,
        had.last_taken_at IS NOT NULL AND EXISTS (
            SELECT FROM lead_interactions AS interaction
            WHERE interaction.workspace_id = $1 AND interaction.lead_id = lead.id
                AND interaction.created_at > had.last_taken_at AND interaction.email_id IS NULL
                AND interaction.type IN ('call', 'meeting', 'email')
        ) AS interaction
    FROM leads AS lead
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(step_id), '{}') AS taken, max(taken_at) AS last_taken_at FROM nurture_steps
        WHERE nurture_steps.workspace_id = $1 AND nurture_steps.lead_id = lead.id
    ) AS had
    LEFT JOIN suppressions AS suppression ON suppression.workspace_id = $1
        AND lower(suppression.email COLLATE \"C\") = lower(lead.email COLLATE \"C\")
    WHERE lead.workspace_id = $1 AND lead.status = ANY ($2)";

/// Those with ids behind `after`, up to `last`.
pub(super) async fn between(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Uuid,
    last: Uuid,
) -> Result<Vec<Candidate>> {
    let sql = format!("{CANDIDATES} AND lead.id > $3 AND lead.id <= $4 ORDER BY lead.id");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .bind(after)
        .bind(last)
        .fetch_all(connection)
        .await?)
}

/// Those of these leads that still are.
pub(super) async fn among(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Candidate>> {
    let sql = format!("{CANDIDATES} AND lead.id = ANY ($3) ORDER BY lead.id");
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .bind(ids)
        .fetch_all(connection)
        .await?)
}
