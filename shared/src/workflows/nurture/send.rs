//! Sends due steps: writes the emails, records interactions on their leads, and records the steps
//! as received.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::candidates::{self, Candidate};
use super::sequence::{Sequence, Verdict};
use super::{Nurtured, Reason};
use crate::accounts::settings::Settings;
use crate::crm::interactions::{LeadInteraction, LeadInteractionType};
use crate::crm::leads::{Lead, LeadStatus};
use crate::error::Result;
use crate::mail::action_urls::ActionUrls;
use crate::mail::{self, Event, NewEmail, Queued, Sender};
use crate::queue::Page;
use crate::records::history::Actor;
use crate::records::{self, RecordType};
use crate::values::{CustomFields, Field, Notes, Time};
use crate::workflows::composer::{Composer, Draft};

/// A lead whose step is due, with its email.
struct DraftEmail {
    lead: Lead,
    candidate: Candidate,
    verdict: Verdict,
    step_id: Uuid,
    email: NewEmail,
}

/// Sends the leads in `due` their steps. The leads are locked and read again, so that changes made
/// since they were selected count, and nothing changes before the transaction ends.
pub(super) async fn send(
    page: &mut Page<'_>,
    settings: &Settings,
    due: &[Uuid],
    nurtured: &mut Nurtured,
    now: Time,
) -> Result<()> {
    let (workspace_id, connection) = (page.job.workspace_id, &mut *page.connection);
    let leads: Vec<Lead> = records::lock(connection, workspace_id, due).await?;
    let mut leads: HashMap<Uuid, Lead> = leads.into_iter().map(|lead| (lead.id, lead)).collect();
    let candidates = candidates::by_ids(connection, workspace_id, due).await?;
    let sequence = Sequence::new(&settings.nurture_sequence);
    let mut due = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let verdict = sequence.verdict(&candidate, now);
        match (verdict, leads.remove(&candidate.id)) {
            (Verdict::Send { step, .. }, Some(lead)) => due.push((lead, candidate, verdict, step)),
            _ => nurtured.count(&candidate, &verdict),
        }
    }
    let urls = ActionUrls::new(page.settings, page.signer);
    let composer = Composer::new(connection, workspace_id, urls, settings).await?;
    let emails = composer.compose(due.iter().map(|(lead, .., step_id)| draft(lead, *step_id)).collect()).await?;
    let mut drafts = Vec::with_capacity(due.len());
    for ((lead, candidate, verdict, step_id), email) in due.into_iter().zip(emails) {
        match email {
            Some(email) => drafts.push(DraftEmail { lead, candidate, verdict, step_id, email }),
            None => nurtured.count(&candidate, &Verdict::Skip { step: Some(step_id), reason: Reason::Template }),
        }
    }
    let drafts = take_steps(connection, workspace_id, drafts, nurtured, now).await?;
    let drafts = enqueue_emails(connection, workspace_id, &composer.sender, drafts, nurtured).await?;
    record_interactions(connection, &Actor::job(page.job), drafts, now).await
}

fn draft(lead: &Lead, step_id: Uuid) -> Draft<'_> {
    Draft {
        event: Event::Nurture,
        event_key: format!("nurture:{}:{step_id}", lead.id),
        template: step_id.to_string(),
        recipient: (RecordType::Lead, lead.id),
        name: &lead.name,
        first_name: lead.first_name.as_ref(),
        email: &lead.email,
        company: lead.company.as_ref(),
        time_zone: lead.custom_fields.time_zone(),
        feedback_id: None,
    }
}

/// Records that the leads receive these steps. A lead that already has the step gets no email.
async fn take_steps(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    drafts: Vec<DraftEmail>,
    nurtured: &mut Nurtured,
    now: Time,
) -> Result<Vec<DraftEmail>> {
    let (leads, steps): (Vec<Uuid>, Vec<Uuid>) = drafts.iter().map(|draft| (draft.lead.id, draft.step_id)).unzip();
    let taken: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO nurture_steps (workspace_id, lead_id, step_id, taken_at)
         SELECT $1, lead_id, step_id, $2 FROM unnest($3::uuid[], $4::uuid[]) AS new (lead_id, step_id)
         ON CONFLICT DO NOTHING RETURNING lead_id",
    )
    .bind(workspace_id)
    .bind(now)
    .bind(leads)
    .bind(steps)
    .fetch_all(connection)
    .await?;
    let taken: HashSet<Uuid> = taken.into_iter().collect();
    let (mine, had): (Vec<DraftEmail>, Vec<DraftEmail>) =
        drafts.into_iter().partition(|draft| taken.contains(&draft.lead.id));
    had.iter().for_each(|draft| nurtured.count(&draft.candidate, &waits(draft, now)));
    Ok(mine)
}

/// Writes the emails to the outbox; returns the drafts whose emails were accepted.
async fn enqueue_emails(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    sender: &Sender,
    drafts: Vec<DraftEmail>,
    nurtured: &mut Nurtured,
) -> Result<Vec<DraftEmail>> {
    let emails: Vec<NewEmail> = drafts.iter().map(|draft| draft.email.clone()).collect();
    let queued = mail::queue(connection, workspace_id, sender, &emails).await?;
    let (mut posted, mut suppressed) = (Vec::with_capacity(drafts.len()), Vec::new());
    for (draft, queued) in drafts.into_iter().zip(queued) {
        match queued {
            Queued::New => {
                nurtured.count(&draft.candidate, &draft.verdict);
                posted.push(draft);
            }
            // The address unsubscribed during this transaction.
            Queued::Suppressed => {
                let reason = Reason::Suppressed;
                nurtured.count(&draft.candidate, &Verdict::Skip { step: Some(draft.step_id), reason });
                suppressed.push(draft);
            }
            Queued::Before => nurtured.count(&draft.candidate, &waits(&draft, draft.lead.updated_at)),
        }
    }
    give_back(connection, workspace_id, &suppressed).await?;
    Ok(posted)
}

/// A lead that has already received the step waits for the next one.
fn waits(draft: &DraftEmail, at: Time) -> Verdict {
    Verdict::Wait { step: draft.step_id, at }
}

/// Deletes the records that the leads received their steps.
async fn give_back(connection: &mut PgConnection, workspace_id: Uuid, drafts: &[DraftEmail]) -> Result<()> {
    if drafts.is_empty() {
        return Ok(());
    }
    let (leads, steps): (Vec<Uuid>, Vec<Uuid>) = drafts.iter().map(|draft| (draft.lead.id, draft.step_id)).unzip();
    sqlx::query(
        "DELETE FROM nurture_steps USING unnest($2::uuid[], $3::uuid[]) AS back (lead_id, step_id)
         WHERE workspace_id = $1 AND nurture_steps.lead_id = back.lead_id AND nurture_steps.step_id = back.step_id",
    )
    .bind(workspace_id)
    .bind(leads)
    .bind(steps)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records an interaction for each email, updates when the lead was last contacted, and ends the
/// status `new`.
async fn record_interactions(
    connection: &mut PgConnection,
    actor: &Actor,
    drafts: Vec<DraftEmail>,
    now: Time,
) -> Result<()> {
    let interactions: Vec<LeadInteraction> = drafts.iter().map(|draft| interaction(draft, now)).collect();
    records::insert_all(connection, actor.workspace_id, actor.into(), &interactions).await?;
    let contacted = |DraftEmail { lead: before, .. }| {
        let mut after = Lead { last_contact: Some(now), ..before.clone() };
        if after.status == LeadStatus::New {
            after.status = LeadStatus::Contacted;
        }
        records::mark_changed(&before, &mut after, now);
        (before, after)
    };
    let changed: Vec<(Lead, Lead)> = drafts.into_iter().map(contacted).collect();
    records::update_all(connection, actor, &changed).await
}

fn interaction(draft: &DraftEmail, now: Time) -> LeadInteraction {
    LeadInteraction {
        id: Uuid::now_v7(),
        lead_id: draft.lead.id,
        kind: LeadInteractionType::Email,
        notes: Notes::from_text(draft.email.content.subject.trim()).ok(),
        next_action: None,
        next_action_date: None,
        external_id: None,
        custom_fields: CustomFields::default(),
        followed_up_at: None,
        email_id: Some(draft.email.id),
        created_at: now,
        updated_at: now,
    }
}
