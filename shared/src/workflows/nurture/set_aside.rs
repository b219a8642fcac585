//! Sets aside the steps that fell due.

use sqlx::PgConnection;
use uuid::Uuid;

use super::PAGE;
use super::candidates::{self, Candidate, Walk};
use super::sequence::{Sequence, Verdict};
use crate::accounts::settings;
use crate::error::Result;
use crate::mail::Event;
use crate::platform::db;
use crate::records::RecordType;
use crate::values::Time;
use crate::workflows::set_aside::SetAside;

/// Records that the enrolled leads of a page received every step that fell due by `now`, one after the
/// other, each at the time at which it fell due.
pub async fn set_aside(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    cursor: Option<Uuid>,
    now: Time,
) -> Result<(Vec<SetAside>, Option<Uuid>)> {
    db::plan_afresh(connection).await?;
    let after = cursor.unwrap_or(Uuid::nil());
    let Some((ids, last)) = Walk::Enrolled.next(connection, workspace_id, after, PAGE).await? else {
        return Ok((Vec::new(), None));
    };
    let settings = settings::get(connection, workspace_id).await?;
    let sequence = Sequence::new(&settings.nurture_sequence);
    let (mut steps, mut set_aside) = (Vec::new(), Vec::new());
    for candidate in candidates::by_ids(connection, workspace_id, &ids, false).await? {
        let due = due_steps(&sequence, candidate.clone(), now);
        set_aside.extend(due.iter().map(|(_, at)| SetAside {
            event: Event::Nurture,
            record_type: RecordType::Lead,
            record_id: candidate.id,
            email: candidate.email.clone(),
            due_at: *at,
        }));
        steps.extend(due.into_iter().map(|(step, at)| (candidate.id, step, at)));
    }
    take_steps(connection, workspace_id, &steps).await?;
    Ok((set_aside, Some(last)))
}

/// The steps that a lead would have received by `now` if each was sent when it fell due.
fn due_steps(sequence: &Sequence<'_>, mut lead: Candidate, now: Time) -> Vec<(Uuid, Time)> {
    let mut due = Vec::new();
    while let Verdict::Send { step, at } = sequence.verdict(&lead, now) {
        due.push((step, at));
        lead.taken.push(step);
        lead.last_taken_at = Some(at);
    }
    due
}

async fn take_steps(connection: &mut PgConnection, workspace_id: Uuid, steps: &[(Uuid, Uuid, Time)]) -> Result<()> {
    sqlx::query(
        "INSERT INTO nurture_steps (workspace_id, lead_id, step_id, taken_at)
         SELECT $1, lead_id, step_id, taken_at
         FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) AS new (lead_id, step_id, taken_at)
         ON CONFLICT DO NOTHING",
    )
    .bind(workspace_id)
    .bind(steps.iter().map(|(lead, ..)| *lead).collect::<Vec<_>>())
    .bind(steps.iter().map(|(_, step, _)| *step).collect::<Vec<_>>())
    .bind(steps.iter().map(|(.., at)| *at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
