//! Nurture: sends leads the emails of their workspace's sequence, one step at a time.
//!
//! A lead is nurtured while it is `new`, `contacted` or `qualified`. The first step is due its
//! delay after the lead was created, each later step its delay after the previous one.
//! `nurture_steps` records the steps that a lead has received; it never receives one of them again,
//! even if the sequence changes. A lead continues with the step after the last one that it
//! received.

mod candidates;
mod send;
mod sequence;
mod set_aside;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::brake::{Mailing, Mode, Start};
use super::tally::{MAX_PREVIEW, Preview, Skipped};
use crate::accounts::settings;
use crate::crm::leads::{Lead, LeadStatus};
use crate::error::Result;
use crate::mail;
use crate::platform::db;
use crate::queue::{Page, Payload};
use crate::values::json_schema::Shape;
use crate::values::{Email, Time};
use crate::{records, string_enum};

use candidates::Candidate;
pub use candidates::{AMONG, BETWEEN};
use sequence::{Sequence, Verdict};
pub use set_aside::set_aside;

/// How many leads a page has.
const PAGE: i64 = 2_000;
/// The statuses of leads that are nurtured.
const NURTURED: [LeadStatus; 3] = [LeadStatus::New, LeadStatus::Contacted, LeadStatus::Qualified];

/// The job that sends every lead of a workspace its next step, if the step is due.
#[derive(Debug, Serialize, Deserialize)]
pub struct NurtureLeads {
    /// Report what the run would do, without writing anything.
    pub dry_run: bool,
    /// How it was started.
    #[serde(flatten)]
    pub start: Start,
}

impl Payload for NurtureLeads {
    const KIND: &'static str = "nurture_leads";
    const QUEUE: &'static str = "workflows";
    const WRITES_EMAIL: bool = true;
    const CONFIRMABLE: bool = true;

    type Result = Nurtured;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// Why a lead gets no email.
    Reason {
        /// Its address unsubscribed, or was added to the suppressions.
        Suppressed = "suppressed",
        /// An email to its address bounced.
        Bounced = "bounced",
        /// Somebody has called, met or written to it since its last step.
        Interaction = "interaction",
        /// It has received the last step.
        Finished = "finished",
        /// The workspace's sequence has no steps.
        NoSteps = "no_steps",
        /// The step's template cannot be rendered for it.
        Template = "template",
        /// The run has written as many emails as it may. The step stays due.
        Limit = "limit",
    }
}

string_enum! {
    /// What a run does with a lead.
    Would {
        /// Its step is due, and is sent.
        Send = "send",
        /// Its step is not due yet.
        Wait = "wait",
        /// It gets no email.
        Skip = "skip",
    }
}

/// What a dry run would do with a lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeadPreview {
    /// The lead.
    pub lead_id: Uuid,
    /// Its address.
    #[schema(schema_with = Email::shape)]
    pub email: Email,
    /// The lead's next step.
    pub step: Option<Uuid>,
    /// What the run would do.
    #[schema(schema_with = Would::shape)]
    pub would: Would,
    /// Why the lead gets no email.
    #[schema(schema_with = Option::<Reason>::shape)]
    pub reason: Option<Reason>,
    /// When the step is, or was, due.
    #[schema(schema_with = Option::<Time>::shape)]
    pub at: Option<Time>,
}

/// The result of a run: `leads` is the sum of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = NurtureResult)]
pub struct Nurtured {
    /// Leads that the run examined.
    pub leads: i64,
    /// Leads whose step was due and whose email is in the outbox.
    pub sent: i64,
    /// Leads whose next step is not due yet.
    pub waiting: i64,
    /// Leads that got no email.
    #[schema(schema_with = Skipped::<Reason>::shape)]
    pub skipped: Skipped<Reason>,
    /// Whether this was a dry run, which writes nothing.
    pub dry_run: bool,
    /// What a dry run would do with the first leads. Leads that would get an email come first.
    #[serde(skip_serializing_if = "Preview::is_none")]
    #[schema(value_type = Vec<LeadPreview>)]
    pub preview: Preview<LeadPreview>,
}

impl Nurtured {
    fn count(&mut self, candidate: &Candidate, verdict: &Verdict) {
        self.leads += 1;
        match verdict {
            Verdict::Send { .. } => self.sent += 1,
            Verdict::Wait { .. } => self.waiting += 1,
            Verdict::Skip { reason, .. } => self.skipped.add(*reason, 1),
        }
        let preview = || verdict.preview(candidate);
        // In a long list, the leads that would get an email are the most informative.
        if matches!(verdict, Verdict::Send { .. }) && self.sent <= MAX_PREVIEW as i64 {
            self.preview.prefer(preview, |listed| listed.would != Would::Send);
        } else {
            self.preview.list(preview);
        }
    }
}

impl Mailing for NurtureLeads {
    /// The last lead of the previous page.
    type Cursor = Uuid;
    type Tally = Nurtured;

    fn start(&self) -> Start {
        self.start
    }

    fn begin_tally(&self) -> Nurtured {
        Nurtured { dry_run: self.dry_run, preview: Preview::new(self.dry_run), ..Nurtured::default() }
    }

    fn count_done(&self, nurtured: &Nurtured) -> i64 {
        nurtured.leads
    }

    fn emails(nurtured: &Nurtured) -> i64 {
        nurtured.sent
    }

    async fn mail_page(
        &self,
        page: &mut Page<'_>,
        mode: Mode,
        cursor: Option<Uuid>,
        nurtured: &mut Nurtured,
    ) -> Result<Option<Uuid>> {
        let workspace_id = page.job.workspace_id;
        db::plan_afresh(page.connection).await?;
        if cursor.is_none() {
            page.total = Some(total(page.connection, workspace_id).await?);
        }
        let after = cursor.unwrap_or(Uuid::nil());
        let Some(last) = records::page_end::<Lead>(page.connection, workspace_id, after, PAGE).await? else {
            return Ok(None);
        };
        let now = db::database_now(page.connection).await?;
        let settings = settings::get(page.connection, workspace_id).await?;
        let sequence = Sequence::new(&settings.nurture_sequence);
        let (mut due, mut left) = (Vec::new(), mode.left(nurtured.sent));
        for candidate in candidates::page(page.connection, workspace_id, after, last).await? {
            let verdict = sequence.verdict(&candidate, now);
            match verdict {
                Verdict::Send { step, .. } if left == 0 => {
                    nurtured.count(&candidate, &Verdict::Skip { step: Some(step), reason: Reason::Limit });
                }
                Verdict::Send { .. } if !mode.is_preview() => {
                    due.push(candidate.id);
                    left -= 1;
                }
                _ => nurtured.count(&candidate, &verdict),
            }
        }
        if !due.is_empty() {
            send::send(page, &settings, &due, nurtured, now).await?;
            page.notify = Some(mail::QUEUE);
        }
        Ok(Some(last))
    }
}

/// How many leads a run has to examine.
async fn total(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM leads WHERE workspace_id = $1 AND status = ANY ($2)")
        .bind(workspace_id)
        .bind(NURTURED.map(LeadStatus::as_str))
        .fetch_one(connection)
        .await?)
}
