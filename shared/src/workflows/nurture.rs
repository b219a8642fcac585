//! Nurture: sends leads the emails of their workspace's sequence, one step at a time.
//!
//! A lead is nurtured while it is enrolled, and `new`, `contacted` or `qualified`. A run walks the
//! enrolled leads; one that a caller starts walks all leads, or those that match filters, and enrols
//! those that are eligible. The first step is due its delay after the lead was enrolled, each later
//! step its delay after the previous one. `nurture_steps` records the steps that a lead has received;
//! it never receives one of them again, even if the sequence changes. A lead continues with the step
//! after the last one that it received. A lead that the sequence is over for leaves it.

mod candidates;
mod send;
mod sequence;
mod set_aside;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::brake::{Mailing, Mode, Start};
use super::tally::{MAX_PREVIEW, Preview, Skipped};
use crate::accounts::settings;
use crate::crm::leads::Lead;
use crate::error::Result;
use crate::platform::db;
use crate::query::List;
use crate::queue::{Page, Payload};
use crate::records::Record;
use crate::string_enum;
use crate::values::json_schema::Shape;
use crate::values::{Email, Time};

pub use candidates::{AMONG, ENROLLED};
use candidates::{Candidate, Walk};
use sequence::{Decision, Sequence, Verdict};
pub use set_aside::set_aside;

/// How many leads a page has.
const PAGE: i64 = 2_000;

/// The job that sends enrolled leads their next step, if the step is due.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct NurtureLeads {
    /// Report what the run would do, without writing anything.
    pub dry_run: bool,
    /// How it was started.
    #[serde(flatten)]
    pub start: Start,
    /// Enrol the eligible leads first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enroll: bool,
    /// The filters of the only leads to enrol and to send to, as the parameters of a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    filters: Vec<(String, String)>,
}

impl NurtureLeads {
    /// A run that sends to enrolled leads, and enrols nobody.
    pub fn enrolled() -> Self {
        Self::default()
    }

    /// A run that enrols the eligible leads that match the filters, and sends to all that match.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault of the filters.
    pub fn start(workspace_id: Uuid, dry_run: bool, start: Start, mut filters: Vec<(String, String)>) -> Result<Self> {
        filters_of(workspace_id, &filters)?;
        // The same filters in another order are the same run.
        filters.sort();
        Ok(Self { dry_run, start, enroll: true, filters })
    }

    fn walk(&self, workspace_id: Uuid) -> Result<Walk> {
        Ok(match self.enroll {
            true => Walk::Matching(Box::new(filters_of(workspace_id, &self.filters)?)),
            false => Walk::Enrolled,
        })
    }
}

fn filters_of(workspace_id: Uuid, filters: &[(String, String)]) -> Result<List> {
    List::filtered(const { &Lead::LIST }, workspace_id, filters)
}

impl Payload for NurtureLeads {
    const KIND: &'static str = "nurture_leads";
    const QUEUE: &'static str = "workflows";
    const WRITES_RECORDS: bool = true;
    const WRITES_EMAIL: bool = true;
    const CONFIRMABLE: bool = true;
    const TAKES_TURNS: bool = true;

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
        /// It replied.
        Replied = "replied",
        /// A caller has unenrolled it.
        Unenrolled = "unenrolled",
        /// It left when it was converted.
        Converted = "converted",
        /// It left when it was won.
        Won = "won",
        /// It left when it was lost.
        Lost = "lost",
        /// It left when it was deleted.
        Deleted = "deleted",
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
    /// Whether the run would enrol the lead.
    #[serde(default)]
    pub enroll: bool,
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

/// The result of a run: `leads` is the sum of `sent`, `waiting` and `skipped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = NurtureResult)]
pub struct Nurtured {
    /// Leads that the run examined.
    pub leads: i64,
    /// Leads that the run has enrolled.
    pub enrolled: i64,
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
    fn count(&mut self, candidate: &Candidate, decision: &Decision) {
        let verdict = decision.verdict;
        self.leads += 1;
        self.enrolled += i64::from(decision.enrolls());
        match verdict {
            Verdict::Send { .. } => self.sent += 1,
            Verdict::Wait { .. } => self.waiting += 1,
            Verdict::Skip { reason, .. } => self.skipped.add(reason, 1),
        }
        let preview = || decision.preview(candidate);
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
        let walk = self.walk(workspace_id)?;
        db::plan_afresh(page.connection).await?;
        if cursor.is_none() {
            page.total = Some(walk.total(page.connection, workspace_id).await?);
        }
        let after = cursor.unwrap_or(Uuid::nil());
        let Some((ids, last)) = walk.next(page.connection, workspace_id, after, PAGE).await? else { return Ok(None) };
        let now = db::database_now(page.connection).await?;
        let settings = settings::get(page.connection, workspace_id).await?;
        let sequence = Sequence::new(&settings.nurture_sequence);
        let mut written = Vec::new();
        for candidate in candidates::by_ids(page.connection, workspace_id, &ids, self.enroll).await? {
            let decision = sequence.decide(&candidate, now);
            match decision.writes() && !mode.is_preview() {
                true => written.push(candidate.id),
                false => nurtured.count(&candidate, &decision),
            }
        }
        if !written.is_empty() {
            let scope = send::Scope { all: self.enroll, left: mode.left(nurtured.sent), now };
            send::write(page, &settings, &written, scope, nurtured).await?;
        }
        Ok(Some(last))
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;
    use crate::crm::leads::NurtureExit;

    #[test]
    fn every_exit_is_a_reason_to_skip_a_lead() {
        assert!(NurtureExit::WORDS.iter().all(|word| Reason::from_word(word).is_some()));
    }
}
