//! The leads of a page, with all that decides what becomes of them.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{NURTURED, Reason};
use crate::crm::leads::LeadStatus;
use crate::error::Result;
use crate::values::{Email, Time, email_key};

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

// Takes the workspace and the statuses; a condition on the leads follows. What belongs to a lead is looked up for each,
// which `LIMIT 1` makes sure of: otherwise all suppressions and all mails that came back would be read for each page.
macro_rules! candidates {
    () => {
        concat!(
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
        WHERE suppressions.workspace_id = $1 AND ",
            email_key!("suppressions.email"),
            " = ",
            email_key!("lead.email"),
            "
        LIMIT 1
    ) AS suppression ON true
    LEFT JOIN LATERAL (
        SELECT true AS yes FROM emails
        WHERE emails.workspace_id = $1 AND emails.state = 'bounced'
            AND ",
            email_key!("emails.to_email"),
            " = ",
            email_key!("lead.email"),
            "
        LIMIT 1
    ) AS bounce ON true
    WHERE lead.workspace_id = $1 AND lead.status = ANY ($2)"
        )
    };
}

/// The statement by which a run finds the leads of a page, between two ids; its plan is tested.
pub const BETWEEN: &str = concat!(candidates!(), " AND lead.id > $3 AND lead.id <= $4 ORDER BY lead.id");
/// The statement by which it looks at those of them again whose step is due; its plan is tested.
pub const AMONG: &str = concat!(candidates!(), " AND lead.id = ANY ($3) ORDER BY lead.id");

/// Those with ids behind `after`, up to `last`.
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

/// Those of these leads that still are.
pub(super) async fn by_ids(connection: &mut PgConnection, workspace_id: Uuid, ids: &[Uuid]) -> Result<Vec<Candidate>> {
    Ok(sqlx::query_as(AMONG)
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .bind(ids)
        .fetch_all(connection)
        .await?)
}
