//! Follow-ups: emails the owner of each lead or customer a digest of the next actions that are due.
//!
//! A run first gathers what is due, page by page, and then writes one digest for each recipient. A
//! digest and the update of the interactions that it lists are one transaction. A recipient's
//! interactions that exceed one page are updated in the following steps.

mod digest;
mod gather;
mod set_aside;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::brake::{Mailing, Mode, Start};
use super::tally::{Preview, Skipped};
use crate::accounts::settings;
use crate::crm::interactions::{CustomerInteraction, LeadInteraction};
use crate::error::Result;
use crate::mail;
use crate::platform::db;
use crate::queue::{Page, Payload};
use crate::string_enum;
use crate::values::json_schema::Shape;
use crate::values::{Email, Time};

use gather::DueCursor;
pub use set_aside::set_aside;

/// How many interactions a page has.
const PAGE: i64 = 2_000;
/// The job that emails all owners their due next actions.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessFollowups {
    /// Report what the run would do, without writing anything.
    pub dry_run: bool,
    /// How it was started.
    #[serde(flatten)]
    pub start: Start,
}

impl Payload for ProcessFollowups {
    const KIND: &'static str = "process_followups";
    const QUEUE: &'static str = "workflows";
    const WRITES_RECORDS: bool = true;
    const WRITES_EMAIL: bool = true;
    const CONFIRMABLE: bool = true;
    const TAKES_TURNS: bool = true;

    type Result = FollowedUp;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// Why an interaction is not part of a digest.
    Reason {
        /// It has no owner, and the workspace has no notification address.
        NoRecipient = "no_recipient",
        /// The recipient's address is suppressed.
        Suppressed = "suppressed",
        /// It was changed or deleted during the run, and is no longer due.
        Changed = "changed",
        /// The digest's template cannot be rendered.
        Template = "template",
        /// The run has written as many emails as it may.
        Limit = "limit",
    }
}

string_enum! {
    /// What a run does with a recipient.
    Would {
        /// They get a digest.
        Send = "send",
        /// They get no digest.
        Skip = "skip",
    }
}

/// What a dry run would do with a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecipientPreview {
    /// The address; `null` for interactions without a recipient.
    #[schema(schema_with = Option::<Email>::shape)]
    pub email: Option<Email>,
    /// How many interactions are due.
    pub interactions: i64,
    /// What the run would do.
    #[schema(schema_with = Would::shape)]
    pub would: Would,
    /// Why the recipient gets no digest.
    #[schema(schema_with = Option::<Reason>::shape)]
    pub reason: Option<Reason>,
}

/// The result of a run: `interactions` is the sum of those that were followed up and those that
/// were skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = FollowupsResult)]
pub struct FollowedUp {
    /// Interactions that are due.
    pub interactions: i64,
    /// Interactions listed or counted in a digest.
    pub followed_up: i64,
    /// Digests in the outbox.
    pub sent: i64,
    /// Interactions that no digest covers. They stay due, except those that changed during the run.
    #[schema(schema_with = Skipped::<Reason>::shape)]
    pub skipped: Skipped<Reason>,
    /// Whether this was a dry run, which writes nothing.
    pub dry_run: bool,
    /// What a dry run would do with the first recipients.
    #[serde(skip_serializing_if = "Preview::is_none")]
    #[schema(value_type = Vec<RecipientPreview>)]
    pub preview: Preview<RecipientPreview>,
}

/// The progress of a run. It covers only what was due when the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowupCursor {
    began: Time,
    at: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// Gathering interactions with leads, after this one.
    Leads(Option<DueCursor>),
    /// Gathering interactions with customers, after this one.
    Customers(Option<DueCursor>),
    /// Writing digests.
    Digests(digest::Cursor),
}

impl FollowedUp {
    fn list(&mut self, email: Option<&Email>, interactions: i64, reason: Option<Reason>) {
        let would = if reason.is_some() { Would::Skip } else { Would::Send };
        self.preview.list(|| RecipientPreview { email: email.cloned(), interactions, would, reason });
    }
}

impl Mailing for ProcessFollowups {
    type Cursor = FollowupCursor;
    type Tally = FollowedUp;

    fn start(&self) -> Start {
        self.start
    }

    fn begin_tally(&self) -> FollowedUp {
        FollowedUp { dry_run: self.dry_run, preview: Preview::new(self.dry_run), ..FollowedUp::default() }
    }

    fn count_done(&self, run: &FollowedUp) -> i64 {
        run.followed_up + run.skipped.sum()
    }

    fn emails(run: &FollowedUp) -> i64 {
        run.sent
    }

    async fn mail_page(
        &self,
        page: &mut Page<'_>,
        mode: Mode,
        cursor: Option<FollowupCursor>,
        run: &mut FollowedUp,
    ) -> Result<Option<FollowupCursor>> {
        let actor = page.job.actor();
        db::plan_afresh(page.connection).await?;
        let now = db::database_now(page.connection).await?;
        let settings = settings::get(page.connection, actor.workspace_id).await?;
        if cursor.is_none() {
            // What the same run gathered when it counted its emails.
            gather::forget(page.connection, &actor).await?;
        }
        let FollowupCursor { began, at } = cursor.unwrap_or(FollowupCursor { began: now, at: Stage::Leads(None) });
        let gathering = gather::Gathering { actor: &actor, settings: &settings, by: began };
        let at = match at {
            Stage::Leads(after) => {
                let last = gathering.page::<LeadInteraction>(page.connection, after, run).await?;
                last.map_or(Stage::Customers(None), |last| Stage::Leads(Some(last)))
            }
            Stage::Customers(after) => {
                match gathering.page::<CustomerInteraction>(page.connection, after, run).await? {
                    Some(last) => Stage::Customers(Some(last)),
                    None => {
                        let nobodys = run.skipped.count(Reason::NoRecipient);
                        if nobodys > 0 {
                            run.list(None, nobodys, Some(Reason::NoRecipient));
                        }
                        page.total = Some(run.interactions);
                        Stage::Digests(digest::Cursor::default())
                    }
                }
            }
            Stage::Digests(cursor) => {
                let mail = &page.settings.mail;
                let writing = digest::Writing { actor: &actor, settings: &settings, mail, mode, began, now };
                let sent = run.sent;
                let Some(cursor) = writing.page(page.connection, cursor, run).await? else {
                    gather::forget(page.connection, &actor).await?;
                    return Ok(None);
                };
                page.notify = (run.sent > sent && !mode.is_preview()).then_some(mail::QUEUE);
                Stage::Digests(cursor)
            }
        };
        Ok(Some(FollowupCursor { began, at }))
    }
}
