//! Reminders: a run over all open feedback requests.

mod set_aside;

use std::collections::HashMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::brake::{Mailing, Mode, Start};
use super::composer::Composer;
use super::feedback_requests::{Recipient, mailed, recipients};
use super::run_request::RunRequest;
use super::tally::{Preview, Skipped};
use crate::accounts::settings;
use crate::crm::feedback::{Feedback, FeedbackStatus, MAX_REMINDERS};
use crate::error::Result;
use crate::mail::action_urls::ActionUrls;
use crate::mail::suppressions::is_suppressed;
use crate::mail::{self, NewEmail, Queued};
use crate::platform::db;
use crate::queue::{Page, Payload};
use crate::records::history::Actor;
use crate::values::json_schema::Shape;
use crate::values::{Email, Time};
use crate::{records, string_enum};

pub use set_aside::set_aside;

/// How many requests a page has.
const PAGE: i64 = 1_000;
/// The job that reminds customers of open requests, and expires requests that stay unanswered.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemindFeedback {
    /// Report what the run would do, without writing anything.
    pub dry_run: bool,
    /// How it was started.
    #[serde(flatten)]
    pub start: Start,
}

impl RemindFeedback {
    /// A run with these parameters, which a caller asked for or which a schedule starts.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault of the parameters.
    pub fn read(parameters: &[(String, String)], asked: bool) -> Result<Self> {
        let request = RunRequest::read(parameters)?;
        Ok(Self { dry_run: request.dry_run, start: request.start(asked) })
    }
}

impl Payload for RemindFeedback {
    const KIND: &'static str = "remind_feedback";
    const QUEUE: &'static str = "workflows";
    const WRITES_RECORDS: bool = true;
    const WRITES_EMAIL: bool = true;
    const CONFIRMABLE: bool = true;
    const TAKES_TURNS: bool = true;

    type Result = Reminded;

    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

string_enum! {
    /// Why a customer is not reminded.
    Reason {
        /// The customer is blocked.
        Blocked = "blocked",
        /// The customer's address is suppressed in this workspace.
        Suppressed = "suppressed",
        /// The template cannot be rendered for the customer.
        Template = "template",
        /// The run has written as many emails as it may. The reminder stays due.
        Limit = "limit",
    }
}

string_enum! {
    /// What a run does with a request.
    Would {
        /// The customer is reminded.
        Remind = "remind",
        /// The request expires.
        Expire = "expire",
        /// The next reminder is not due yet.
        Wait = "wait",
        /// A reminder is due but cannot be sent.
        Skip = "skip",
    }
}

/// What a dry run would do with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestPreview {
    /// The request.
    pub feedback_id: Uuid,
    /// The customer who was asked.
    pub customer_id: Uuid,
    /// The customer's address.
    #[schema(schema_with = Email::shape)]
    pub email: Email,
    /// What the run would do.
    #[schema(schema_with = Would::shape)]
    pub would: Would,
    /// Why the customer is not reminded.
    #[schema(schema_with = Option::<Reason>::shape)]
    pub reason: Option<Reason>,
    /// When the reminder or the expiry is, or was, due.
    #[schema(schema_with = Time::shape)]
    pub at: Time,
}

/// The result of a run: `open` is the sum of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = FeedbackRemindersResult)]
pub struct Reminded {
    /// Open requests that the run examined.
    pub open: i64,
    /// Requests whose customer was reminded: the email is in the outbox.
    pub reminded: i64,
    /// Requests that expired.
    pub expired: i64,
    /// Requests whose next reminder or expiry is not due yet.
    pub waiting: i64,
    /// Requests whose reminder is due but cannot be sent.
    #[schema(schema_with = Skipped::<Reason>::shape)]
    pub skipped: Skipped<Reason>,
    /// Whether this was a dry run, which writes nothing.
    pub dry_run: bool,
    /// What a dry run would do with the oldest requests.
    #[serde(skip_serializing_if = "Preview::is_none")]
    #[schema(value_type = Vec<RequestPreview>)]
    pub preview: Preview<RequestPreview>,
}

/// The progress of a run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestCursor {
    /// When the run began; it ignores later requests.
    began_at: Time,
    /// The last request of the previous page.
    after: (Time, Uuid),
}

impl Reminded {
    fn count(&mut self, request: &Open, Verdict { would, reason, at }: Verdict) {
        self.open += 1;
        match (would, reason) {
            (Would::Remind, _) => self.reminded += 1,
            (Would::Expire, _) => self.expired += 1,
            (Would::Skip, Some(reason)) => self.skipped.add(reason, 1),
            (Would::Skip, None) | (Would::Wait, _) => self.waiting += 1,
        }
        let Open { id: feedback_id, customer_id, ref email, .. } = *request;
        self.preview.list(|| RequestPreview { feedback_id, customer_id, email: email.clone(), would, reason, at });
    }
}

/// A request that was found open, and its customer.
#[derive(Debug, Clone, FromRow)]
struct Open {
    id: Uuid,
    customer_id: Uuid,
    created_at: Time,
    requested_at: Time,
    reminders: i16,
    last_reminder_at: Option<Time>,
    email: Email,
    blocked: bool,
    suppressed: bool,
    /// Whether the request's own email was sent or is queued.
    #[sqlx(skip)]
    mailed: bool,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    would: Would,
    reason: Option<Reason>,
    at: Time,
}

impl Open {
    /// A reminder is due after each interval; the request expires one interval after the last
    /// reminder. A request whose customer cannot be reminded expires when it would have expired
    /// with all reminders. The same holds for a request whose own email was never sent: a reminder
    /// must not be the first email that the customer gets about it.
    fn verdict(&self, wait: TimeDelta, now: Time) -> Verdict {
        let since = self.last_reminder_at.map_or(self.requested_at, |last| last.max(self.requested_at));
        let left = (MAX_REMINDERS - self.reminders).max(0);
        let (due, end) = (since + wait, since + wait * (i32::from(left) + 1));
        let reason = match () {
            () if self.blocked => Some(Reason::Blocked),
            () if self.suppressed => Some(Reason::Suppressed),
            () => None,
        };
        match (left, reason) {
            _ if now < due => Verdict { would: Would::Wait, reason: None, at: due },
            (0, _) => Verdict { would: Would::Expire, reason: None, at: end },
            (_, Some(_)) if now >= end => Verdict { would: Would::Expire, reason, at: end },
            (_, Some(_)) => Verdict { would: Would::Skip, reason, at: due },
            (_, None) if !self.mailed && now >= end => Verdict { would: Would::Expire, reason, at: end },
            (_, None) if !self.mailed => Verdict { would: Would::Wait, reason, at: end },
            (_, None) => Verdict { would: Would::Remind, reason, at: due },
        }
    }
}

impl Mailing for RemindFeedback {
    type Cursor = RequestCursor;
    type Tally = Reminded;

    fn start(&self) -> Start {
        self.start
    }

    fn begin_tally(&self) -> Reminded {
        Reminded { dry_run: self.dry_run, preview: Preview::new(self.dry_run), ..Reminded::default() }
    }

    fn count_done(&self, reminded: &Reminded) -> i64 {
        reminded.open
    }

    fn emails(reminded: &Reminded) -> i64 {
        reminded.reminded
    }

    /// A page of open requests, oldest first.
    async fn mail_page(
        &self,
        page: &mut Page<'_>,
        mode: Mode,
        cursor: Option<RequestCursor>,
        reminded: &mut Reminded,
    ) -> Result<Option<RequestCursor>> {
        let workspace_id = page.job.workspace_id;
        db::plan_afresh(page.connection).await?;
        let now = db::database_now(page.connection).await?;
        let (began_at, after) = match cursor {
            Some(RequestCursor { began_at, after }) => (began_at, after),
            None => {
                page.total = Some(count_open(page.connection, workspace_id).await?);
                (now, (Time::UNIX_EPOCH, Uuid::nil()))
            }
        };
        let requests = open_requests(page.connection, workspace_id, after, began_at).await?;
        let Some(after) = requests.last().map(|last| (last.created_at, last.id)) else { return Ok(None) };
        let settings = settings::get(page.connection, workspace_id).await?;
        let wait = TimeDelta::days(settings.feedback_reminder_after_days.into());
        let mut due = Vec::new();
        for request in requests {
            let verdict = request.verdict(wait, now);
            match verdict.would {
                Would::Remind | Would::Expire if !mode.is_preview() => due.push(request),
                _ => reminded.count(&request, verdict),
            }
        }
        if !due.is_empty() {
            let urls = ActionUrls::new(page.settings, page.signer);
            let composer = Composer::new(page.connection, workspace_id, urls, &settings).await?;
            act(page.connection, &page.job.actor(), (&composer, wait, now), (&due, mode), reminded).await?;
            page.notify = Some(mail::QUEUE);
        }
        Ok(Some(RequestCursor { began_at, after }))
    }
}

async fn count_open(connection: &mut PgConnection, workspace_id: Uuid) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM feedback WHERE workspace_id = $1 AND status = 'requested'")
        .bind(workspace_id)
        .fetch_one(connection)
        .await?)
}

/// Returns the next open requests, in the order of feedback_status_idx.
async fn open_requests(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    (created_at, id): (Time, Uuid),
    until: Time,
) -> Result<Vec<Open>> {
    let mut requests: Vec<Open> = sqlx::query_as(concat!(
        "SELECT feedback.id, feedback.customer_id, feedback.created_at, requested_at, reminders, last_reminder_at, email,
             customers.status = 'blocked' AS blocked, ",
        is_suppressed!("customers.email_key"),
        " AS suppressed
         FROM feedback
         JOIN customers ON customers.workspace_id = feedback.workspace_id AND customers.id = feedback.customer_id
         WHERE feedback.workspace_id = $1 AND feedback.status = 'requested'
             AND (feedback.created_at, feedback.id) > ($2, $3) AND feedback.created_at <= $4
         ORDER BY feedback.created_at, feedback.id LIMIT $5"
    ))
    .bind(workspace_id)
    .bind(created_at)
    .bind(id)
    .bind(until)
    .bind(PAGE)
    .fetch_all(&mut *connection)
    .await?;
    let ids: Vec<Uuid> = requests.iter().map(|request| request.id).collect();
    let mailed = mailed(connection, workspace_id, &ids).await?;
    requests.iter_mut().for_each(|request| request.mailed = mailed.contains(&request.id));
    Ok(requests)
}

/// Sends due reminders and expires overdue requests. The requests are locked and read again, so
/// that changes made since they were selected count, and nothing changes before the transaction
/// ends.
async fn act(
    connection: &mut PgConnection,
    actor: &Actor,
    (composer, wait, now): (&Composer<'_>, TimeDelta, Time),
    (due, mode): (&[Open], Mode),
    reminded: &mut Reminded,
) -> Result<()> {
    let (workspace_id, left) = (actor.workspace_id, mode.left(reminded.reminded));
    let customers: Vec<Uuid> = due.iter().map(|request| request.customer_id).collect();
    let ids: Vec<Uuid> = due.iter().map(|request| request.id).collect();
    let recipients: HashMap<Uuid, Recipient> = recipients(connection, workspace_id, &customers)
        .await?
        .into_iter()
        .map(|recipient| (recipient.id, recipient))
        .collect();
    let (mut due, mut changed) = (Vec::new(), Vec::new());
    let requests = records::lock::<Feedback>(connection, workspace_id, &ids).await?;
    let mailed = mailed(connection, workspace_id, &ids).await?;
    for feedback in requests {
        let Some(recipient) = recipients.get(&feedback.customer_id) else { continue };
        if feedback.status != FeedbackStatus::Requested {
            continue;
        }
        let request = Open::of(&feedback, recipient, mailed.contains(&feedback.id));
        let verdict = request.verdict(wait, now);
        match verdict.would {
            Would::Remind if due.len() as i64 >= left => {
                let (would, reason) = (Would::Skip, Some(Reason::Limit));
                reminded.count(&request, Verdict { would, reason, ..verdict });
            }
            Would::Remind => due.push((request, verdict, feedback, recipient)),
            Would::Expire => {
                reminded.count(&request, verdict);
                let after = Feedback { status: FeedbackStatus::Expired, expired_at: Some(now), ..feedback.clone() };
                changed.push((feedback, after));
            }
            Would::Wait | Would::Skip => reminded.count(&request, verdict),
        }
    }
    let drafts =
        due.iter().map(|(_, _, feedback, recipient)| recipient.draft(feedback.id, Some(feedback.reminders + 1)));
    let emails = composer.compose(drafts.collect()).await?;
    let mut letters = Vec::with_capacity(due.len());
    for ((request, verdict, feedback, _), email) in due.into_iter().zip(emails) {
        match email {
            Some(email) => letters.push((request, feedback, email)),
            None => {
                let (would, reason) = (Would::Skip, Some(Reason::Template));
                reminded.count(&request, Verdict { would, reason, ..verdict });
            }
        }
    }
    changed.extend(remind(connection, actor, (composer, wait, now), letters, reminded).await?);
    for (before, after) in &mut changed {
        records::mark_changed(before, after, now);
    }
    records::update_all(connection, actor, &changed).await
}

/// Writes reminders to the outbox; returns the changes to their requests.
async fn remind(
    connection: &mut PgConnection,
    actor: &Actor,
    (composer, wait, now): (&Composer<'_>, TimeDelta, Time),
    letters: Vec<(Open, Feedback, NewEmail)>,
    reminded: &mut Reminded,
) -> Result<Vec<(Feedback, Feedback)>> {
    let emails: Vec<NewEmail> = letters.iter().map(|(.., email)| email.clone()).collect();
    let queued = mail::queue(connection, actor, &composer.sender, &emails).await?;
    let mut changed = Vec::with_capacity(letters.len());
    for ((request, before, _), queued) in letters.into_iter().zip(queued) {
        let verdict = request.verdict(wait, now);
        // The address unsubscribed during this transaction.
        if queued == Queued::Suppressed {
            let (would, reason) = (Would::Skip, Some(Reason::Suppressed));
            reminded.count(&request, Verdict { would, reason, ..verdict });
            continue;
        }
        reminded.count(&request, verdict);
        let reminders = before.reminders + 1;
        changed.push((before.clone(), Feedback { reminders, last_reminder_at: Some(now), ..before }));
    }
    Ok(changed)
}

impl Open {
    fn of(feedback: &Feedback, recipient: &Recipient, mailed: bool) -> Self {
        Self {
            id: feedback.id,
            customer_id: feedback.customer_id,
            created_at: feedback.created_at,
            requested_at: feedback.requested_at,
            reminders: feedback.reminders,
            last_reminder_at: feedback.last_reminder_at,
            email: recipient.email.clone(),
            blocked: recipient.blocked,
            suppressed: recipient.suppressed,
            mailed,
        }
    }
}
