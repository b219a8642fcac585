//! Follow-ups: whoever looks after a lead or a customer is told which next actions are due.
//!
//! A run first gathers what is due, page by page, and then writes one digest for each recipient. A
//! digest and the marks on the interactions that it lists are one transaction; of a recipient with
//! more than one page of them, the others are marked in the steps after it.

mod digest;
mod gather;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::settings;
use crate::crm::interactions::{CustomerInteraction, LeadInteraction};
use crate::error::Result;
use crate::platform::config;
use crate::platform::db;
use crate::queue::{self, Job, JobStatus, Payload};
use crate::records::history::Actor;
use crate::string_enum;
use crate::values::{Email, Time};

use gather::Place;

/// How many interactions one step looks at.
const PAGE: i64 = 2_000;
/// The most recipients that a dry run lists.
const MAX_PREVIEW: usize = 1_000;

/// The job that tells everybody which of their next actions are due.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessFollowups {
    /// Whether it only tells what it would do.
    pub dry_run: bool,
}

impl Payload for ProcessFollowups {
    const KIND: &'static str = "process_followups";
    const QUEUE: &'static str = "workflows";

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// Why nobody is told of an interaction.
    Reason {
        /// Nobody looks after it, and the workspace has no notification address.
        NoRecipient = "no_recipient",
        /// The recipient's address is suppressed.
        Suppressed = "suppressed",
        /// It was changed or deleted meanwhile, and is not due any more.
        Changed = "changed",
        /// The digest's template cannot be filled in.
        Template = "template",
    }
}

string_enum! {
    /// What a run does with a recipient.
    Would {
        /// They get a digest.
        Send = "send",
        /// They get none.
        Skip = "skip",
    }
}

/// Interactions of which nobody was told, by the reason. They stay due, but for those that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skipped {
    /// See [`Reason::NoRecipient`].
    pub no_recipient: i64,
    /// See [`Reason::Suppressed`].
    pub suppressed: i64,
    /// See [`Reason::Changed`].
    pub changed: i64,
    /// See [`Reason::Template`].
    pub template: i64,
}

impl Skipped {
    fn add(&mut self, reason: Reason, interactions: i64) {
        *match reason {
            Reason::NoRecipient => &mut self.no_recipient,
            Reason::Suppressed => &mut self.suppressed,
            Reason::Changed => &mut self.changed,
            Reason::Template => &mut self.template,
        } += interactions;
    }
}

/// What a dry run would do with a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The address; `null` stands for all that has no recipient.
    pub email: Option<Email>,
    /// How many interactions are due.
    pub interactions: i64,
    /// What it would do.
    pub would: Would,
    /// Why not more.
    pub reason: Option<Reason>,
}

/// How far a run is, and what it did: `interactions` is the sum of those that were followed up and
/// those that were skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowedUp {
    /// Interactions that are due.
    pub interactions: i64,
    /// Of these, those that somebody is told of.
    pub followed_up: i64,
    /// Digests: their mails are in the outbox.
    pub sent: i64,
    /// Interactions of which nobody is told.
    pub skipped: Skipped,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What a dry run would do with the first recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Vec<Preview>>,
    /// Where the run goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    walk: Option<Walk>,
    /// Nothing is left to be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

/// Where a run is. All of it is about what was due when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Walk {
    began: Time,
    at: At,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// Behind this interaction with a lead, gathering.
    Leads(Option<Place>),
    /// Behind this interaction with a customer, gathering.
    Customers(Option<Place>),
    /// Writing digests.
    Digests(digest::Cursor),
}

impl FollowedUp {
    /// How far the job of a run is, by its result.
    pub fn resume(job: &Job, dry_run: bool) -> Self {
        let existing = match (&job.result, job.status) {
            (Some(result), JobStatus::Running | JobStatus::Queued) => serde_json::from_value(result.clone()).ok(),
            _ => None,
        };
        let preview = dry_run.then(Vec::new);
        existing.unwrap_or(Self { dry_run, preview, ..Self::default() })
    }

    /// How far it is, in interactions; their number is known when all are gathered.
    pub fn progress(&self) -> queue::Progress {
        let Skipped { no_recipient, suppressed, changed, template } = self.skipped;
        let done = self.followed_up + no_recipient + suppressed + changed + template;
        let gathered = self.done || matches!(self.walk, Some(Walk { at: At::Digests(_), .. }));
        queue::Progress { done, total: gathered.then_some(self.interactions) }
    }

    /// The result of the run: without what only its steps needed.
    #[must_use]
    pub fn finished(self) -> Self {
        Self { walk: None, done: false, ..self }
    }

    fn list(&mut self, email: Option<&Email>, interactions: i64, reason: Option<Reason>) {
        let would = if reason.is_some() { Would::Skip } else { Would::Send };
        let Some(preview) = self.preview.as_mut().filter(|preview| preview.len() < MAX_PREVIEW) else { return };
        preview.push(Preview { email: email.cloned(), interactions, would, reason });
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
    queue::start_run(connection, workspace_id, request_id, &ProcessFollowups { dry_run }, dry_run).await
}

/// Does one step of a run, as the job `actor.id`. The caller's transaction fences it. Returns how many
/// mails are in the outbox by it.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) when the database is away.
pub async fn step(
    connection: &mut PgConnection,
    actor: &Actor,
    mail: &config::Mail,
    run: &mut FollowedUp,
    now: Time,
) -> Result<i64> {
    db::plan_afresh(connection).await?;
    let settings = settings::get(connection, actor.workspace_id).await?;
    let mut walk = run.walk.take().unwrap_or(Walk { began: now, at: At::Leads(None) });
    let sent = run.sent;
    walk.at = match walk.at {
        At::Leads(after) => {
            let gathering = gather::Gathering { actor, settings: &settings, by: walk.began };
            match gathering.page::<LeadInteraction>(connection, after, run).await? {
                Some(last) => At::Leads(Some(last)),
                None => At::Customers(None),
            }
        }
        At::Customers(after) => {
            let gathering = gather::Gathering { actor, settings: &settings, by: walk.began };
            match gathering.page::<CustomerInteraction>(connection, after, run).await? {
                Some(last) => At::Customers(Some(last)),
                None => {
                    if run.skipped.no_recipient > 0 {
                        run.list(None, run.skipped.no_recipient, Some(Reason::NoRecipient));
                    }
                    At::Digests(digest::Cursor::default())
                }
            }
        }
        At::Digests(cursor) => {
            let writing = digest::Writing { actor, settings: &settings, mail, began: walk.began, now };
            match writing.page(connection, cursor, run).await? {
                Some(cursor) => At::Digests(cursor),
                None => {
                    gather::forget(connection, actor).await?;
                    run.done = true;
                    return Ok(0);
                }
            }
        }
    };
    run.walk = Some(walk);
    Ok(if run.dry_run { 0 } else { run.sent - sent })
}
