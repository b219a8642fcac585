//! Nurture: leads are walked through their workspace's sequence of mails.
//!
//! A lead is nurtured while it is `new`, `contacted` or `qualified`. The first step is due its delay
//! after the lead was made, each later one its delay after the step before. A lead has had a step when
//! `nurture_steps` says so, and then never gets it again, whatever becomes of the sequence: it goes on
//! with the step behind the last one that it has had.

mod candidates;
mod send;
mod sequence;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::settings;
use crate::crm::leads::{Lead, LeadStatus};
use crate::error::Result;
use crate::mail::action_urls::ActionUrls;
use crate::platform::db;
use crate::queue::{self, Job, JobStatus, Payload};
use crate::records::history::Actor;
use crate::values::{Email, Time};
use crate::{records, string_enum};

use candidates::Candidate;
pub use candidates::{AMONG, BETWEEN};
use sequence::{Sequence, Verdict};

/// How many leads one step looks at.
const PAGE: i64 = 2_000;
/// The most leads that a dry run lists.
const MAX_PREVIEW: usize = 1_000;
/// The leads that are nurtured.
const NURTURED: [LeadStatus; 3] = [LeadStatus::New, LeadStatus::Contacted, LeadStatus::Qualified];

/// The job that takes every lead of a workspace on by one step, if it is due.
#[derive(Debug, Serialize, Deserialize)]
pub struct NurtureLeads {
    /// Whether it only tells what it would do.
    pub dry_run: bool,
}

impl Payload for NurtureLeads {
    const KIND: &'static str = "nurture_leads";
    const QUEUE: &'static str = "workflows";

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// Why a lead gets no mail.
    Reason {
        /// Its address unsubscribed, or was added to the suppressions.
        Suppressed = "suppressed",
        /// A mail to its address came back.
        Bounced = "bounced",
        /// Somebody has called, met or written to it since its last step.
        Interaction = "interaction",
        /// It has had the last step.
        Finished = "finished",
        /// The workspace's sequence has no steps.
        NoSteps = "no_steps",
        /// The step's template cannot be filled in for it.
        Template = "template",
    }
}

string_enum! {
    /// What a run does with a lead.
    Would {
        /// Its step is due: it is sent.
        Send = "send",
        /// Its step is not due yet.
        Wait = "wait",
        /// It gets none.
        Skip = "skip",
    }
}

/// Leads that got no mail, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skipped {
    /// See [`Reason::Suppressed`].
    pub suppressed: i64,
    /// See [`Reason::Bounced`].
    pub bounced: i64,
    /// See [`Reason::Interaction`].
    pub interaction: i64,
    /// See [`Reason::Finished`].
    pub finished: i64,
    /// See [`Reason::NoSteps`].
    pub no_steps: i64,
    /// See [`Reason::Template`].
    pub template: i64,
}

impl Skipped {
    fn add(&mut self, reason: Reason) {
        *match reason {
            Reason::Suppressed => &mut self.suppressed,
            Reason::Bounced => &mut self.bounced,
            Reason::Interaction => &mut self.interaction,
            Reason::Finished => &mut self.finished,
            Reason::NoSteps => &mut self.no_steps,
            Reason::Template => &mut self.template,
        } += 1;
    }
}

/// What a dry run would do with a lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The lead.
    pub lead_id: Uuid,
    /// Its address.
    pub email: Email,
    /// The step whose turn it is.
    pub step: Option<Uuid>,
    /// What it would do.
    pub would: Would,
    /// Why not more.
    pub reason: Option<Reason>,
    /// When the step is due, or has been since.
    pub at: Option<Time>,
}

/// How far a run is, and what it did: `leads` is the sum of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nurtured {
    /// Leads that it has looked at.
    pub leads: i64,
    /// Of these, those whose step was due: their mail is in the outbox.
    pub sent: i64,
    /// Those whose next step is not due yet.
    pub waiting: i64,
    /// Those that got none.
    pub skipped: Skipped,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What a dry run would do with the first leads; those it would mail come before others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Vec<Preview>>,
    /// Where the walk over the leads goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Uuid>,
    /// Nothing is left to be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

impl Nurtured {
    /// How far the job of a run is, by its result.
    pub fn resume(job: &Job, dry_run: bool) -> Self {
        let existing = match (&job.result, job.status) {
            (Some(result), JobStatus::Running | JobStatus::Queued) => serde_json::from_value(result.clone()).ok(),
            _ => None,
        };
        let preview = dry_run.then(Vec::new);
        existing.unwrap_or(Self { dry_run, preview, ..Self::default() })
    }

    /// The result of the run: without what only its steps needed.
    #[must_use]
    pub fn finished(self) -> Self {
        Self { after: None, done: false, ..self }
    }

    fn count(&mut self, candidate: &Candidate, verdict: &Verdict) {
        self.leads += 1;
        match verdict {
            Verdict::Send { .. } => self.sent += 1,
            Verdict::Wait { .. } => self.waiting += 1,
            Verdict::Skip { reason, .. } => self.skipped.add(*reason),
        }
        let sent = usize::try_from(self.sent).unwrap_or(usize::MAX);
        let Some(preview) = &mut self.preview else { return };
        if preview.len() == MAX_PREVIEW {
            // Of many leads the ones that would be mailed tell most.
            match preview.iter().rposition(|listed| listed.would != Would::Send) {
                Some(last) if matches!(verdict, Verdict::Send { .. }) && sent <= MAX_PREVIEW => preview.remove(last),
                _ => return,
            };
        }
        preview.push(verdict.preview(candidate));
    }
}

/// Starts a run, or gives the one under way.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn start(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    request_id: Option<&str>,
    dry_run: bool,
) -> Result<Job> {
    queue::start_run(connection, workspace_id, request_id, &NurtureLeads { dry_run }, dry_run).await
}

/// How many leads a run has to look at.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn total(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM leads WHERE workspace_id = $1 AND status = ANY ($2)")
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .fetch_one(connection)
        .await?)
}

/// Does one step of a run, as the job `actor.id`: the next page of leads. The caller's transaction
/// fences it. Returns how many mails are in the outbox by it.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn step(
    connection: &mut PgConnection,
    actor: &Actor,
    urls: &ActionUrls<'_>,
    nurtured: &mut Nurtured,
    now: Time,
) -> Result<i64> {
    db::plan_afresh(connection).await?;
    let (workspace_id, after) = (actor.workspace_id, nurtured.after.unwrap_or(Uuid::nil()));
    let Some(last) = records::page_end::<Lead>(connection, workspace_id, after, PAGE).await? else {
        nurtured.done = true;
        return Ok(0);
    };
    let settings = settings::get(connection, workspace_id).await?;
    let sequence = Sequence::new(&settings.nurture_sequence);
    let mut due = Vec::new();
    for candidate in candidates::page(connection, workspace_id, after, last).await? {
        let verdict = sequence.verdict(&candidate, now);
        match verdict {
            Verdict::Send { .. } if !nurtured.dry_run => due.push(candidate.id),
            _ => nurtured.count(&candidate, &verdict),
        }
    }
    nurtured.after = Some(last);
    let sent = nurtured.sent;
    send::send(connection, actor, (urls, &settings), &due, nurtured, now).await?;
    Ok(if nurtured.dry_run { 0 } else { nurtured.sent - sent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::db::now;
    use crate::values::Field;

    fn candidate() -> Candidate {
        Candidate::fresh(Uuid::now_v7(), Email::from_text("ada@example.com").unwrap(), now())
    }

    #[test]
    fn of_many_leads_a_dry_run_lists_those_it_would_mail() {
        let mut nurtured = Nurtured { dry_run: true, preview: Some(Vec::new()), ..Nurtured::default() };
        let (step, at) = (Uuid::nil(), now());
        for _ in 0..MAX_PREVIEW {
            nurtured.count(&candidate(), &Verdict::Wait { step, at });
        }
        let mailed: Vec<Candidate> = (0..MAX_PREVIEW + 5).map(|_| candidate()).collect();
        mailed.iter().for_each(|candidate| nurtured.count(candidate, &Verdict::Send { step, at }));
        let preview = nurtured.preview.unwrap();
        let listed: Vec<Uuid> = preview.iter().map(|listed| listed.lead_id).collect();
        let first: Vec<Uuid> = mailed.iter().take(MAX_PREVIEW).map(|candidate| candidate.id).collect();
        assert_eq!(listed, first);
    }
}
