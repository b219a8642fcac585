//! The leads of a page, with the facts that decide what to send them.

use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use super::Reason;
use crate::crm::leads::{Lead, LeadStatus, NurtureExit};
use crate::error::Result;
use crate::query::List;
use crate::records;
use crate::values::{Email, Time};

/// A lead that may be nurtured.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Candidate {
    pub id: Uuid,
    pub email: Email,
    /// When it was enrolled, if it is or was.
    pub nurture_enrolled_at: Option<Time>,
    /// Why it left the sequence.
    pub nurture_left: Option<NurtureExit>,
    /// The steps that it has received.
    pub taken: Vec<Uuid>,
    /// When it received the last step.
    pub last_taken_at: Option<Time>,
    /// Why its address is suppressed.
    suppression: Option<String>,
    /// Whether an email to its address bounced since it was enrolled, or at any time if it is not enrolled.
    bounced: bool,
    /// Whether a caller has recorded a call, a meeting or an email since the last step.
    interaction: bool,
}

impl Candidate {
    /// Whether it is enrolled.
    pub fn is_enrolled(&self) -> bool {
        self.nurture_enrolled_at.is_some() && self.nurture_left.is_none()
    }

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

/// The condition that a lead is enrolled, as the index of enrolled leads has it.
macro_rules! is_enrolled {
    () => {
        "nurture_enrolled_at IS NOT NULL AND nurture_left_at IS NULL"
    };
}

/// The leads that a run walks.
#[derive(Debug)]
pub(super) enum Walk {
    /// The enrolled leads.
    Enrolled,
    /// The leads of a list.
    Matching(Box<List>),
}

/// Selects the next enrolled leads. Its plan is tested.
pub const ENROLLED: &str =
    concat!("SELECT id FROM leads WHERE workspace_id = $1 AND id > $2 AND ", is_enrolled!(), " ORDER BY id LIMIT $3");

impl Walk {
    /// How many leads a run has to examine.
    pub async fn total(&self, connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM leads WHERE workspace_id = ");
        sql.push_bind(workspace_id).push(" AND status = ANY (");
        sql.push_bind(LeadStatus::NURTURED.map(LeadStatus::as_str)).push(")");
        self.push(&mut sql);
        Ok(sql.build_query_scalar().fetch_one(connection).await?)
    }

    /// The next leads with ids after `after`, and the id after which the walk continues.
    pub async fn next(
        &self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
        limit: i64,
    ) -> Result<Option<(Vec<Uuid>, Uuid)>> {
        if matches!(self, Self::Enrolled) {
            let ids = sqlx::query_scalar(ENROLLED).bind(workspace_id).bind(after).bind(limit);
            let ids: Vec<Uuid> = ids.fetch_all(connection).await?;
            return Ok(ids.last().copied().map(|last| (ids, last)));
        }
        // A filter may match few leads, so a page is bounded by the leads that it reads.
        let Some(last) = records::page_end::<Lead>(connection, workspace_id, after, limit).await? else {
            return Ok(None);
        };
        let mut sql = QueryBuilder::new("SELECT id FROM leads WHERE workspace_id = ");
        sql.push_bind(workspace_id).push(" AND id > ").push_bind(after).push(" AND id <= ").push_bind(last);
        self.push(&mut sql);
        Ok(Some((sql.build_query_scalar().fetch_all(connection).await?, last)))
    }

    fn push(&self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Enrolled => {
                sql.push(concat!(" AND ", is_enrolled!()));
            }
            Self::Matching(list) => list.push_conditions(sql),
        }
    }
}

/// Reads leads with the facts about them. Binds the workspace, the statuses, the ids, whether leads that are not
/// enrolled are among them, and the first and the last id: without these bounds, PostgreSQL may read all leads of a
/// workspace to find many of them. Its plan is tested. `LIMIT 1` makes PostgreSQL look up suppressions and bounces for each
/// lead; without it, every page would read all of them.
pub const AMONG: &str = "
    SELECT lead.id, lead.email, lead.nurture_enrolled_at, lead.nurture_left, had.taken, had.last_taken_at,
        suppression.reason AS suppression, bounce.yes IS NOT NULL AS bounced,
        had.last_taken_at IS NOT NULL AND EXISTS (
            SELECT FROM lead_interactions AS interaction
            WHERE interaction.workspace_id = $1 AND interaction.lead_id = lead.id
                AND interaction.created_at > greatest(had.last_taken_at, lead.nurture_enrolled_at)
                AND interaction.email_id IS NULL AND interaction.type IN ('call', 'meeting', 'email')
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
            AND (lead.nurture_enrolled_at IS NULL OR emails.updated_at >= lead.nurture_enrolled_at)
        LIMIT 1
    ) AS bounce ON true
    WHERE lead.workspace_id = $1 AND lead.status = ANY ($2) AND lead.id = ANY ($3)
        AND lead.id BETWEEN $5 AND $6 AND ($4 OR lead.nurture_enrolled_at IS NOT NULL AND lead.nurture_left_at IS NULL)
    ORDER BY lead.id";

/// Returns those of these leads that may be nurtured: the enrolled ones, or `all`.
pub(super) async fn by_ids(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
    all: bool,
) -> Result<Vec<Candidate>> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(Vec::new()) };
    Ok(sqlx::query_as(AMONG)
        .bind(workspace_id)
        .bind(LeadStatus::NURTURED.map(LeadStatus::as_str))
        .bind(ids)
        .bind(all)
        .bind(first)
        .bind(last)
        .fetch_all(connection)
        .await?)
}
