//! Sending the steps that are due: the mails, what they leave on their leads, and that they were had.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::candidates::{self, Candidate};
use super::sequence::{Sequence, Verdict};
use super::{Nurtured, Reason};
use crate::accounts::settings::{self, Settings};
use crate::crm::interactions::{LeadInteraction, LeadInteractionType};
use crate::crm::leads::{Lead, LeadStatus};
use crate::error::{Error, Result};
use crate::mail::action_urls::{Action, ActionUrls};
use crate::mail::templates::{Rendered, Renderer};
use crate::mail::{self, Event, NewEmail, Queued, Sender};
use crate::records::history::Actor;
use crate::records::{self, RecordType};
use crate::values::{Field, Notes, Time};

/// A lead whose step is due, with its mail.
struct DraftEmail {
    lead: Lead,
    candidate: Candidate,
    verdict: Verdict,
    step_id: Uuid,
    email: NewEmail,
}

/// Sends the leads `due` their steps. They are locked, and looked at once more, so that what changed
/// since they were found counts, and nothing changes before the end.
pub(super) async fn send(
    connection: &mut PgConnection,
    actor: &Actor,
    (urls, settings): (&ActionUrls<'_>, &Settings),
    due: &[Uuid],
    nurtured: &mut Nurtured,
    now: Time,
) -> Result<()> {
    if due.is_empty() {
        return Ok(());
    }
    let workspace_id = actor.workspace_id;
    let leads: Vec<Lead> = records::lock(connection, workspace_id, due).await?;
    let mut leads: HashMap<Uuid, Lead> = leads.into_iter().map(|lead| (lead.id, lead)).collect();
    let candidates = candidates::by_ids(connection, workspace_id, due).await?;
    let sequence = Sequence::new(&settings.nurture_sequence);
    let composer = Composer::new(connection, workspace_id, urls, settings).await?;
    let mut unfilled = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let verdict = sequence.verdict(&candidate, now);
        match (verdict, leads.remove(&candidate.id)) {
            (Verdict::Send { step, .. }, Some(lead)) => {
                let draft = composer.draft(&lead);
                unfilled.push((lead, candidate, verdict, step, draft));
            }
            _ => nurtured.count(&candidate, &verdict),
        }
    }
    let contexts = unfilled.iter_mut().map(|(.., step, draft)| (step.to_string(), draft.context.take())).collect();
    let contents = composer.renderer.render_all(contexts).await?;
    let mut drafts = Vec::with_capacity(unfilled.len());
    for ((lead, candidate, verdict, step_id, draft), content) in unfilled.into_iter().zip(contents) {
        match content {
            Ok(content) => {
                let email = draft.email(&lead, step_id, content);
                drafts.push(DraftEmail { lead, candidate, verdict, step_id, email });
            }
            Err(error) => {
                tracing::warn!(%error, lead_id = %lead.id, %step_id, "a step of the sequence cannot be filled in");
                nurtured.count(&candidate, &Verdict::Skip { step: Some(step_id), reason: Reason::Template });
            }
        }
    }
    let drafts = take_steps(connection, workspace_id, drafts, nurtured, now).await?;
    let drafts = enqueue_emails(connection, workspace_id, &composer.sender, drafts, nurtured).await?;
    record_interactions(connection, actor, drafts, now).await
}

/// Fills in the steps of one workspace.
struct Composer<'a> {
    workspace_id: Uuid,
    urls: &'a ActionUrls<'a>,
    renderer: Arc<Renderer>,
    sender: Sender,
}

/// An email whose template is still to be filled in.
struct Draft {
    id: Uuid,
    unsubscribe: String,
    context: Value,
}

impl<'a> Composer<'a> {
    async fn new(
        connection: &mut PgConnection,
        workspace_id: Uuid,
        urls: &'a ActionUrls<'a>,
        settings: &Settings,
    ) -> Result<Self> {
        let sender = settings::sender(connection, workspace_id, settings, urls.mail).await?;
        Ok(Self { workspace_id, urls, renderer: Renderer::read(settings.all_templates()).await?, sender })
    }

    fn draft(&self, lead: &Lead) -> Draft {
        let id = Uuid::now_v7();
        let unsubscribe = self.urls.url(Action::Unsubscribe, self.workspace_id, id);
        let context = json!({
            "lead": {
                "name": lead.name, "first_name": lead.name.first(), "email": lead.email, "company": lead.company
            },
            "sender": { "name": self.sender.name },
            "unsubscribe_url": unsubscribe,
        });
        Draft { id, unsubscribe, context }
    }
}

impl Draft {
    /// The email of a step, with its template filled in.
    fn email(self, lead: &Lead, step_id: Uuid, content: Rendered) -> NewEmail {
        NewEmail {
            id: self.id,
            event: Event::Nurture,
            event_key: format!("nurture:{}:{step_id}", lead.id),
            subject: Some((RecordType::Lead, lead.id)),
            to_name: Some(lead.name.as_ref().to_owned()),
            to_email: lead.email.clone(),
            content,
            unsubscribe: Some(self.unsubscribe),
        }
    }
}

/// Notes that the leads have these steps; a lead that has had it already gets no mail.
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

/// Puts the mails into the outbox; returns the drafts whose mail is there now.
async fn enqueue_emails(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    sender: &Sender,
    drafts: Vec<DraftEmail>,
    nurtured: &mut Nurtured,
) -> Result<Vec<DraftEmail>> {
    let emails: Vec<NewEmail> = drafts.iter().map(|draft| draft.email.clone()).collect();
    let queued = mail::queue(connection, workspace_id, sender, &emails).await?;
    if queued.len() != drafts.len() {
        return Err(Error::internal("the outbox did not answer for each mail"));
    }
    let (mut posted, mut suppressed) = (Vec::with_capacity(drafts.len()), Vec::new());
    for (draft, queued) in drafts.into_iter().zip(queued) {
        match queued {
            Queued::New => {
                nurtured.count(&draft.candidate, &draft.verdict);
                posted.push(draft);
            }
            // The reader unsubscribed a moment ago.
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

/// A lead whose step was sent before waits for the next one.
fn waits(draft: &DraftEmail, at: Time) -> Verdict {
    Verdict::Wait { step: draft.step_id, at }
}

/// Takes back that the leads have their steps.
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

/// What the mails leave on their leads: an interaction, when they were last written to, and that
/// they are not new any more.
async fn record_interactions(
    connection: &mut PgConnection,
    actor: &Actor,
    drafts: Vec<DraftEmail>,
    now: Time,
) -> Result<()> {
    let interactions: Vec<LeadInteraction> = drafts.iter().map(|draft| interaction(draft, now)).collect();
    records::insert_all(connection, actor.workspace_id, None, &interactions).await?;
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
        followed_up_at: None,
        email_id: Some(draft.email.id),
        created_at: now,
        updated_at: now,
    }
}
