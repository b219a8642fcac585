//! Writes what a run does: enrols leads, lets them leave, and sends due steps with their emails and interactions.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::candidates::{self, Candidate};
use super::sequence::{Decision, Sequence, Verdict};
use super::{Nurtured, Reason};
use crate::accounts::settings::Settings;
use crate::crm::interactions::{LeadInteraction, LeadInteractionType};
use crate::crm::leads::{Lead, LeadStatus};
use crate::error::{Error, Result};
use crate::mail::action_urls::ActionUrls;
use crate::mail::{self, Event, NewEmail, Queued, Sender};
use crate::queue::Page;
use crate::records::history::Actor;
use crate::records::{self, RecordType};
use crate::values::{CustomFields, Field, Notes, Time};
use crate::workflows::composer::{Composer, Draft};

/// The locked leads, each before and after the run, in the order of their ids.
type Leads = BTreeMap<Uuid, (Lead, Lead)>;

/// A lead whose step is due.
struct Due {
    candidate: Candidate,
    decision: Decision,
    step_id: Uuid,
}

/// A lead whose step is due, with its email.
struct DraftEmail {
    due: Due,
    email: NewEmail,
}

impl Due {
    /// Counts the lead with another verdict than that its step is sent.
    fn count(&self, verdict: Verdict, nurtured: &mut Nurtured) {
        nurtured.count(&self.candidate, &self.decision.with(verdict));
    }

    fn count_skipped(&self, reason: Reason, nurtured: &mut Nurtured) {
        self.count(Verdict::Skip { step: Some(self.step_id), reason }, nurtured);
    }

    /// A lead that already has the step waits for the next one.
    fn count_waiting(&self, at: Time, nurtured: &mut Nurtured) {
        self.count(Verdict::Wait { step: self.step_id, at }, nurtured);
    }
}

/// What a page may write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// Whether leads that are not enrolled are among its leads.
    pub all: bool,
    /// How many emails the run may still write.
    pub left: i64,
    /// The time of the page.
    pub now: Time,
}

/// Writes what the run does with these leads. They are locked and read again, so that changes made since they were selected count, and nothing changes before the transaction ends.
pub(super) async fn write(
    page: &mut Page<'_>,
    settings: &Settings,
    ids: &[Uuid],
    Scope { all, mut left, now }: Scope,
    nurtured: &mut Nurtured,
) -> Result<()> {
    let (workspace_id, actor) = (page.job.workspace_id, page.job.actor());
    let connection = &mut *page.connection;
    let locked: Vec<Lead> = records::lock(connection, workspace_id, ids).await?;
    let mut leads: Leads = locked.into_iter().map(|lead| (lead.id, (lead.clone(), lead))).collect();
    let sequence = Sequence::new(&settings.nurture_sequence);
    let mut due = Vec::new();
    for candidate in candidates::by_ids(connection, workspace_id, ids, all).await? {
        let decision = sequence.decide(&candidate, now);
        let Some((_, lead)) = leads.get_mut(&candidate.id) else { continue };
        decision.apply(lead, now);
        match decision.verdict {
            Verdict::Send { step, .. } if left > 0 => {
                left -= 1;
                due.push(Due { candidate, decision, step_id: step });
            }
            Verdict::Send { step, .. } => {
                let limited = Verdict::Skip { step: Some(step), reason: Reason::Limit };
                nurtured.count(&candidate, &decision.with(limited));
            }
            _ => nurtured.count(&candidate, &decision),
        }
    }
    if !due.is_empty() {
        let urls = ActionUrls::new(page.settings, page.signer);
        let composer = Composer::new(connection, workspace_id, urls, settings).await?;
        let drafts = compose(&composer, &leads, due, nurtured).await?;
        let drafts = take_steps(connection, workspace_id, drafts, (now, nurtured)).await?;
        let posted = enqueue_emails(connection, &actor, &composer.sender, drafts, (now, nurtured)).await?;
        record_interactions(connection, &actor, &posted, &mut leads, now).await?;
        page.notify = Some(mail::QUEUE);
    }
    let changed = leads.into_values().filter(|(before, after)| before != after).map(|(before, mut after)| {
        records::mark_changed(&before, &mut after, now);
        (before, after)
    });
    records::update_all(page.connection, &actor, &changed.collect::<Vec<_>>()).await
}

/// Writes the emails of due steps; a lead for which the template cannot be rendered gets none.
async fn compose(
    composer: &Composer<'_>,
    leads: &Leads,
    due: Vec<Due>,
    nurtured: &mut Nurtured,
) -> Result<Vec<DraftEmail>> {
    let mut texts = Vec::with_capacity(due.len());
    for Due { candidate, step_id, .. } in &due {
        let (_, lead) = leads.get(&candidate.id).ok_or_else(|| Error::internal("a due lead is not locked"))?;
        texts.push(draft(lead, *step_id));
    }
    let mut drafts = Vec::with_capacity(due.len());
    for (due, email) in due.into_iter().zip(composer.compose(texts).await?) {
        match email {
            Some(email) => drafts.push(DraftEmail { due, email }),
            None => due.count_skipped(Reason::Template, nurtured),
        }
    }
    Ok(drafts)
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
    (now, nurtured): (Time, &mut Nurtured),
) -> Result<Vec<DraftEmail>> {
    let (leads, steps) = steps_of(&drafts);
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
        drafts.into_iter().partition(|draft| taken.contains(&draft.due.candidate.id));
    had.iter().for_each(|draft| draft.due.count_waiting(now, nurtured));
    Ok(mine)
}

fn steps_of(drafts: &[DraftEmail]) -> (Vec<Uuid>, Vec<Uuid>) {
    drafts.iter().map(|draft| (draft.due.candidate.id, draft.due.step_id)).unzip()
}

/// Writes the emails to the outbox; returns the drafts whose emails were accepted.
async fn enqueue_emails(
    connection: &mut PgConnection,
    actor: &Actor,
    sender: &Sender,
    drafts: Vec<DraftEmail>,
    (now, nurtured): (Time, &mut Nurtured),
) -> Result<Vec<DraftEmail>> {
    let emails: Vec<NewEmail> = drafts.iter().map(|draft| draft.email.clone()).collect();
    let queued = mail::queue(connection, actor, sender, &emails).await?;
    let (mut posted, mut suppressed) = (Vec::with_capacity(drafts.len()), Vec::new());
    for (draft, queued) in drafts.into_iter().zip(queued) {
        match queued {
            Queued::New => {
                nurtured.count(&draft.due.candidate, &draft.due.decision);
                posted.push(draft);
            }
            // The address unsubscribed during this transaction.
            Queued::Suppressed => {
                draft.due.count_skipped(Reason::Suppressed, nurtured);
                suppressed.push(draft);
            }
            Queued::Before => draft.due.count_waiting(now, nurtured),
        }
    }
    give_back(connection, actor.workspace_id, &suppressed).await?;
    Ok(posted)
}

/// Deletes the records that the leads received their steps.
async fn give_back(connection: &mut PgConnection, workspace_id: Uuid, drafts: &[DraftEmail]) -> Result<()> {
    if drafts.is_empty() {
        return Ok(());
    }
    let (leads, steps) = steps_of(drafts);
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
    posted: &[DraftEmail],
    leads: &mut Leads,
    now: Time,
) -> Result<()> {
    let interactions: Vec<LeadInteraction> = posted.iter().map(|draft| interaction(draft, now)).collect();
    records::insert_all(connection, actor.workspace_id, actor.into(), &interactions).await?;
    for draft in posted {
        let Some((_, lead)) = leads.get_mut(&draft.due.candidate.id) else { continue };
        lead.last_contact = Some(now);
        if lead.status == LeadStatus::New {
            lead.status = LeadStatus::Contacted;
        }
    }
    Ok(())
}

fn interaction(draft: &DraftEmail, now: Time) -> LeadInteraction {
    LeadInteraction {
        id: Uuid::now_v7(),
        lead_id: draft.due.candidate.id,
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
