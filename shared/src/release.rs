//! Releasing email that is [on hold](crate::mail::place), after a restore or a move.
//!
//! A release either continues where the database stands, or sets aside what another database may
//! have sent: emails that wait become `unknown`, and what fell due is marked as done. It works in
//! small transactions, each of which checks that the release is still the present one. Email stays
//! on hold until the last of them, so a release that was interrupted is run again.

use serde::Serialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::accounts::workspaces::{self, Workspace};
use crate::error::Result;
use crate::mail::{self, place};
use crate::platform::db;
use crate::queue::notify::notify_now;
use crate::queue::{self, Payload};
use crate::records::history::{Actor, ActorKind};
use crate::schedule::nightly::Nightly;
use crate::schedule::scheduled_runs;
use crate::values::Time;
use crate::workflows::set_aside::SetAside;
use crate::workflows::{feedback_reminders, feedback_requests, followups, nurture};

/// How many emails one transaction marks.
const PAGE: i64 = 1_000;
/// The answer of an email that was set aside.
const UNKNOWN: &str =
    "not sent here: email was released with --lost-since, and another database may have sent this message";

/// What a release did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Emails that waited, or were being sent, and are `unknown` now.
    pub unknown: u64,
    /// Emails that would have been written and were set aside.
    pub set_aside: u64,
    /// Scheduled runs that count as done.
    pub scheduled_runs: u64,
    /// Jobs that waited and are due now.
    pub jobs: u64,
}

/// Ends the hold, and makes the present place the remembered one. What waits is sent.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) if a release with `--lost-since` has begun and not
/// ended.
pub async fn release(connection: &mut PgConnection, public_url: Option<&str>) -> Result<Released> {
    place::release(connection, public_url).await?;
    Ok(Released { jobs: wake(connection).await?, ..Released::default() })
}

/// Like [`release`], but sends nothing that fell due before now. `list` gets each email that is set
/// aside before that is committed; its error stops the release.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) if the release was stopped by a hold or another
/// release.
pub async fn release_after_loss(
    connection: &mut PgConnection,
    public_url: Option<&str>,
    lost_since: Time,
    mut list: impl FnMut(&Workspace, &SetAside) -> Result<()>,
) -> Result<Released> {
    let id = place::begin_release(connection, lost_since).await?;
    let now = db::database_now(connection).await?;
    let mut release = Release { connection, id, now, list: &mut list, released: Released::default() };
    for workspace in workspaces::list(release.connection).await? {
        release.set_aside(&workspace).await?;
    }
    release.set_aside_runs(lost_since).await?;
    let Release { connection, mut released, .. } = release;
    place::end_release(connection, id, public_url).await?;
    released.jobs = wake(connection).await?;
    Ok(released)
}

/// Makes jobs that waited due, and wakes the workers. If this is interrupted, they check by
/// themselves within a minute.
async fn wake(connection: &mut PgConnection) -> Result<u64> {
    let mut jobs = 0;
    for workspace_id in workspaces::ids(connection).await? {
        jobs += queue::wake(connection, workspace_id, place::ON_HOLD).await?;
    }
    notify_now(connection, queue::QUEUES).await?;
    Ok(jobs)
}

/// A release that sets aside what another database may have sent.
struct Release<'a> {
    connection: &'a mut PgConnection,
    id: Uuid,
    /// What fell due by this time is set aside.
    now: Time,
    list: &'a mut dyn FnMut(&Workspace, &SetAside) -> Result<()>,
    released: Released,
}

impl Release<'_> {
    async fn set_aside(&mut self, workspace: &Workspace) -> Result<()> {
        self.give_up_emails(workspace.id).await?;
        let (now, id) = (self.now, workspace.id);
        let actor = Actor { workspace_id: id, kind: ActorKind::Operator, id: self.id, request_id: None };
        self.pages(workspace, async |step, cursor| feedback_requests::set_aside(step, &actor, cursor).await).await?;
        self.pages(workspace, async |step, cursor| nurture::set_aside(step, id, cursor, now).await).await?;
        self.pages(workspace, async |step, cursor| feedback_reminders::set_aside(step, &actor, cursor, now).await)
            .await?;
        self.pages(workspace, async |step, cursor| followups::set_aside(step, &actor, cursor, now).await).await
    }

    async fn give_up_emails(&mut self, workspace_id: Uuid) -> Result<()> {
        loop {
            let mut step = self.connection.begin().await?;
            place::continue_release(&mut step, self.id).await?;
            let given_up = mail::give_up(&mut step, workspace_id, UNKNOWN, PAGE).await?;
            step.commit().await?;
            if given_up == 0 {
                return Ok(());
            }
            self.released.unknown += given_up;
        }
    }

    /// Sets aside one kind of email page by page, each page in a transaction.
    async fn pages<C>(
        &mut self,
        workspace: &Workspace,
        page: impl AsyncFn(&mut PgConnection, Option<C>) -> Result<(Vec<SetAside>, Option<C>)>,
    ) -> Result<()> {
        let mut cursor = None;
        loop {
            let mut step = self.connection.begin().await?;
            place::continue_release(&mut step, self.id).await?;
            let (set_aside, next) = page(&mut *step, cursor).await?;
            for email in &set_aside {
                (self.list)(workspace, email)?;
            }
            step.commit().await?;
            self.released.set_aside += set_aside.len() as u64;
            if next.is_none() {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn set_aside_runs(&mut self, lost_since: Time) -> Result<()> {
        let mut step = self.connection.begin().await?;
        place::continue_release(&mut step, self.id).await?;
        let recorded = scheduled_runs::set_aside(&mut step, Nightly::KIND, lost_since, self.now).await?;
        step.commit().await?;
        self.released.scheduled_runs += recorded;
        Ok(())
    }
}
