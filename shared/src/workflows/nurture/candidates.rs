//! The leads of a page, with the facts that decide what to send them.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{NURTURED, Reason};
use crate::crm::leads::LeadStatus;
use crate::error::Result;
use crate::values::{Email, Time};

/// A lead that is nurtured.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Candidate {
    pub id: Uuid,
    pub email: Email,
    pub created_at: Time,
    /// The steps that it has received.
    pub taken: Vec<Uuid>,
    /// When it received the last step.
    pub last_taken_at: Option<Time>,
    /// Why its address is suppressed.
    suppression: Option<String>,
    /// Whether an email to its address bounced.
    bounced: bool,
    /// Whether a caller has recorded a call, a meeting or an email since the last step.
    interaction: bool,
}

impl Candidate {
    /// Why the lead leaves the sequence.
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

// Binds the workspace and the statuses; a condition on the leads follows. `LIMIT 1` makes
// PostgreSQL look up suppressions and bounces for each lead; without it, every page would read all
// of them.
macro_rules! candidates {
    () => {
        "
    SELECT lead.id, lead.email, lead.created_at, had.taken, had.last_taken_at, suppression.reason AS suppression,
        bounce.yes IS NOT NULL AS bounced,
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
    LEFT JOIN LATERAL (
        SELECT reason FROM suppressions
        WHERE suppressions.workspace_id = $1 AND suppressions.email_key IN (
                lead.email_key, 'sha256:' || encode(sha256(convert_to(lead.email_key, 'UTF8')), 'hex')
            )
        LIMIT 1
    ) AS suppression ON true
    LEFT JOIN LATERAL (
        SELECT true AS yes FROM emails
        WHERE emails.workspace_id = $1 AND emails.state = 'bounced'
            AND emails.to_email_key = lead.email_key
        LIMIT 1
    ) AS bounce ON true
    WHERE lead.workspace_id = $1 AND lead.status = ANY ($2)"
    };
}

/// Selects a page of leads between two ids. Its plan is tested.
pub const BETWEEN: &str = concat!(candidates!(), " AND lead.id > $3 AND lead.id <= $4 ORDER BY lead.id");
/// Reads leads with due steps again, by id. Its plan is tested.
pub const AMONG: &str = concat!(candidates!(), " AND lead.id = ANY ($3) ORDER BY lead.id");

/// Returns the leads with ids after `after`, up to `last`.
pub(super) async fn page(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    after: Uuid,
    last: Uuid,
) -> Result<Vec<Candidate>> {
    Ok(sqlx::query_as(BETWEEN)
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .bind(after)
        .bind(last)
        .fetch_all(connection)
        .await?)
}

/// Returns those of these leads that are still nurtured.
pub(super) async fn by_ids(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Candidate>> {
    Ok(sqlx::query_as(AMONG)
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .bind(ids)
        .fetch_all(connection)
        .await?)
}
