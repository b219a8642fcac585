//! The interface between the queue and the handlers of jobs.
//!
//! A job's payload is declared in `shared`. A kind that processes pages of records implements
//! [`Pages`] there. Any other kind has a file in [`jobs`](crate::jobs), which implements [`Task`]
//! for the payload. A long job is a sequence of small steps. Each [`JobStep`] is one transaction
//! that writes its rows, moves the job's cursor and records the progress, so after a crash the next
//! attempt resumes after the last committed step.
//!
//! ```ignore
//! impl Task for ImportLeads {
//!     async fn run(self, job: &mut Running) -> Result<Done, Stop> {
//!         // Always read where the job stands from the database: this may be a later attempt.
//!         while let Some(chunk) = imports::next_chunk(&mut *job.connection().await?, job.id()).await? {
//!             let mut step = job.begin().await?;
//!             leads::insert_many(&mut step, &chunk.rows).await?;
//!             imports::drop_chunk(&mut step, &chunk).await?;
//!             step.commit(progress, &counts).await?;
//!         }
//!         Ok(Done::AsRecorded)
//!     }
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::Error;
use shared::jobs;
use shared::mail::place::{self, Hold};
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, PoolConnection};
use shared::platform::signed_links::Signer;
use shared::queue::notify::Notifier;
use shared::queue::{self, Claimed, Lease, Page, Pages, Payload, Progress, Reporting, RetryState};
use shared::records::history::Actor;
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::WorkerContext;
use crate::jobs::pages;
use crate::metrics::KindMetrics;
use crate::queue::fairness::Turn;
use crate::queue::quarantine::RunPermit;
use crate::queue::run::UNKNOWN_KIND_PAUSE;

/// How often an event reports what a running job has written.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// A payload with a handler: one kind of job.
pub trait Task: Payload {
    /// Does the work, resuming after the last committed step.
    ///
    /// It may be called again for the same attempt, after a deadlock or a database outage, and it
    /// cannot know whether a commit without a response took effect. So it keeps no position in
    /// memory: it reads the position from the database when it starts.
    ///
    /// It may also be dropped at any `await`: when its lease is lost, and at the end of a shutdown.
    fn run(self, job: &mut Running) -> impl Future<Output = Result<Done, Stop>> + Send;
}

/// How a job succeeds.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// With the result that its last step recorded, if any.
    AsRecorded,
    /// With this result.
    With(Value),
}

/// Why a handler stops before its job is done.
#[derive(Debug)]
pub enum Stop {
    /// A permanent failure; the reason is shown in the API.
    Fail(String),
    /// A temporary error, shown in the API. It counts as a failure.
    Retry {
        /// The error.
        error: String,
        /// How long to wait; `None` waits longer with each failure.
        delay: Option<Duration>,
    },
    /// An internal error that another attempt is likely to hit again, shown in the API.
    Defect(String),
    /// No error: the job is not ready to run yet.
    Snooze(Duration),
    /// The process is stopping: another worker takes the job over. Returned by [`Running::begin`].
    HandBack,
    /// Another workspace waits for a slot: the job resumes later. Returned by [`Running::begin`].
    Yield,
    /// Email is on hold, and the job would write some. Returned by [`Running::begin`].
    OnHold(Hold),
    /// Any other error; the worker decides how to handle it.
    Error(Error),
    /// An error in a part of the job, which is named in the API.
    ErrorOf {
        /// The description: `find_themes cannot begin`.
        part: String,
        /// The error.
        error: Error,
    },
}

impl Stop {
    /// A permanent failure.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail(reason.into())
    }

    /// A temporary error: retried after a delay that grows with each failure.
    pub fn retry(error: impl Into<String>) -> Self {
        Self::Retry { error: error.into(), delay: None }
    }

    pub(crate) fn error(&self) -> Option<&Error> {
        match self {
            Self::Error(error) | Self::ErrorOf { error, .. } => Some(error),
            _ => None,
        }
    }

    /// An error in a part of the job, which is named in the API.
    pub fn of_part(part: impl Into<String>, error: Error) -> Self {
        Self::ErrorOf { part: part.into(), error }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Error(error.into())
    }
}

/// A running job, as its handler sees it.
pub struct Running {
    pub(crate) claimed: Claimed,
    pub(crate) process: Arc<WorkerContext>,
    pub(crate) lost: CancellationToken,
    pub(crate) pass: RunPermit,
    pub(crate) turn: Arc<Turn>,
    /// When it was claimed, by the clock of this process.
    pub(crate) since: Instant,
    /// Whether it only reports what it would do.
    pub(crate) is_dry_run: bool,
    /// Whether it waits while email is on hold.
    pub(crate) writes_email: bool,
    /// Errors since a step last recorded progress.
    pub(crate) retry_state: RetryState,
    /// Handler runs interrupted by the database since then.
    pub(crate) interruptions: u32,
    /// What this attempt recorded last: the progress, the result and the cursor.
    pub(crate) recorded: Option<(Progress, Value, Option<Value>)>,
    /// Which events the job has.
    pub(crate) reporting: Reporting,
    /// When an event last reported what it wrote; `None` if an earlier attempt may have left that out.
    pub(crate) reported_at: Option<Instant>,
}

impl Running {
    /// The job's id.
    pub fn id(&self) -> Uuid {
        self.claimed.id
    }

    /// The job's workspace.
    pub fn workspace_id(&self) -> Uuid {
        self.claimed.workspace_id
    }

    /// The number of this attempt; it rises with each.
    pub fn attempt(&self) -> i32 {
        self.claimed.attempt
    }

    /// The lease under which the job may write.
    pub fn lease(&self) -> Lease {
        self.claimed.lease()
    }

    /// The request that caused the job, for jobs that it enqueues.
    pub fn request_id(&self) -> Option<&str> {
        self.claimed.request_id.as_deref()
    }

    /// The job as the actor in the history of records.
    pub fn actor(&self) -> Actor {
        self.claimed.actor()
    }

    /// The present time, by the database's clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.claimed.claimed_at() + self.since.elapsed()
    }

    /// The program's settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.process.settings
    }

    /// Connections for reading, and for work outside of steps.
    pub fn pool(&self) -> &Pool {
        &self.process.pool
    }

    /// Returns a connection for reading. Drop it before the next step begins.
    pub async fn connection(&self) -> Result<PoolConnection, Stop> {
        Ok(self.process.pool.acquire().await?)
    }

    /// Notifies workers after a commit that has enqueued further jobs.
    pub fn notifier(&self) -> &Notifier {
        &self.process.notifier
    }

    /// Whether the job should end soon: the process is stopping, or the job was cancelled or taken
    /// over.
    pub fn is_stopping(&self) -> bool {
        self.lost.is_cancelled() || self.process.stopping.is_cancelled()
    }

    /// Waits until the job should end soon, see [`Running::is_stopping`].
    pub async fn stopping(&self) {
        tokio::select! {
            () = self.lost.cancelled() => (),
            () = self.process.stopping.cancelled() => (),
        }
    }

    /// Begins the next step. A job yields between steps: here it is handed back when the process is
    /// stopping or draining, its workspace is suspended, or another workspace waits for its slot, ends when it was cancelled, and waits
    /// while a quarantined job runs. A job that writes emails stops here while email is on hold.
    ///
    /// # Errors
    /// [`Stop`], to be passed on with `?`.
    pub async fn begin(&mut self) -> Result<JobStep<'_>, Stop> {
        self.yield_now().await?;
        let mut transaction = db::Transaction::begin(&self.process.pool).await?;
        if self.writes_email
            && let Some(hold) = place::hold_for_page(&mut transaction, self.settings().own_url()).await?
        {
            return Err(Stop::OnHold(hold));
        }
        Ok(JobStep { transaction, job: self })
    }

    /// Parses the job's payload.
    ///
    /// # Errors
    /// [`Stop::OnHold`] for a job that must not start while email is on hold.
    async fn payload<P: Payload>(&mut self) -> Result<P, Stop> {
        let payload = match queue::payload::<P>(&self.claimed) {
            Ok(payload) => payload,
            Err(error) => return Err(unreadable(self, &error).await),
        };
        self.is_dry_run = payload.is_dry_run();
        self.writes_email = P::WRITES_EMAIL && !self.is_dry_run;
        if self.writes_email
            && let Some(hold) = self.process.check_hold(&mut *self.connection().await?).await?
        {
            return Err(Stop::OnHold(hold));
        }
        Ok(payload)
    }

    /// Whether the next step records an event of what the job wrote so far.
    fn must_report(&self) -> bool {
        let is_due = self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        self.reporting == Reporting::Records && !self.is_dry_run && is_due
    }

    pub(crate) async fn yield_now(&mut self) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(Error::Superseded.into()),
            () = self.process.stopping.cancelled() => Err(Stop::HandBack),
            () = self.process.steering.must_stop(self.workspace_id()) => Err(Stop::HandBack),
            () = self.pass.renew(&self.process.gate) => if self.turn.is_over() { Err(Stop::Yield) } else { Ok(()) },
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("kind", &self.claimed.kind)
            .field("lease", &self.lease())
            .finish_non_exhaustive()
    }
}

/// One step of a job: a transaction, used as a connection. Dropping it rolls back.
#[derive(Debug)]
pub struct JobStep<'a> {
    transaction: db::Transaction,
    job: &'a mut Running,
}

impl JobStep<'_> {
    /// What a page of a run works with.
    pub(crate) fn page<'s>(&'s mut self, signer: &'s Signer) -> Page<'s> {
        let Running { claimed: job, process, .. } = &*self.job;
        Page {
            connection: &mut self.transaction,
            job,
            settings: &process.settings,
            signer,
            total: None,
            notify: None,
            failure: None,
        }
    }

    /// Records the progress and the result so far, and commits. Recording comes last because it
    /// locks the job's row, which renewing and cancelling wait for.
    ///
    /// Errors count until new progress is recorded. A step that a later attempt repeats must
    /// therefore record the same values again; otherwise the job would be retried at once and
    /// forever.
    ///
    /// # Errors
    /// [`Error::Superseded`] when the job was cancelled or taken over; the step is rolled back.
    pub async fn commit(self, progress: Progress, result: &Value) -> Result<(), Stop> {
        self.commit_at(progress, result, None).await
    }

    /// Like [`JobStep::commit`], and records the cursor, which is not visible in the API.
    pub async fn commit_at(mut self, progress: Progress, result: &Value, cursor: Option<&Value>) -> Result<(), Stop> {
        let recorded = queue::progress(&mut self.transaction, self.job.lease(), progress, result, cursor).await?;
        let reports = self.job.must_report();
        if reports {
            queue::report_progress(&mut self.transaction, self.job.lease()).await?;
        }
        self.transaction.commit().await?;
        let job = self.job;
        if reports {
            job.reported_at = Some(Instant::now());
        }
        job.retry_state = recorded.retry_state.map(|Json(state)| state).unwrap_or_default();
        let now = Some((progress, result.clone(), cursor.cloned()));
        if job.recorded != now {
            job.interruptions = 0;
            job.recorded = now;
        }
        if recorded.crashes == 0 {
            job.pass.get_on();
            job.turn.step();
        }
        Ok(())
    }
}

impl Deref for JobStep<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for JobStep<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = Result<Done, Stop>> + Send + 'a>>;
pub(crate) type Handler = for<'a> fn(&'a mut Running) -> Handling<'a>;

/// The kinds of jobs that a worker can run.
#[derive(Debug, Default)]
pub struct Tasks(BTreeMap<&'static str, Kind>);

/// One kind of job.
#[derive(Debug)]
pub(crate) struct Kind {
    pub queue: &'static str,
    pub reporting: Reporting,
    pub handler: Handler,
    pub metrics: KindMetrics,
}

impl Tasks {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind with a handler.
    #[must_use]
    pub fn with<T: Task>(self) -> Self {
        self.and::<T>(|job| Box::pin(async move { job.payload::<T>().await?.run(job).await }))
    }

    /// Adds a kind whose jobs run page by page.
    #[must_use]
    pub fn with_pages<P: Payload + Pages>(self) -> Self {
        self.and::<P>(|job| Box::pin(async move { pages::run(job.payload::<P>().await?, job).await }))
    }

    fn and<P: Payload>(mut self, handler: Handler) -> Self {
        let (reporting, metrics) = (jobs::reporting(P::KIND), KindMetrics::default());
        self.0.insert(P::KIND, Kind { queue: P::QUEUE, reporting, handler, metrics });
        self
    }

    /// The queues of these kinds.
    pub fn queues(&self) -> Vec<&'static str> {
        let queues: std::collections::BTreeSet<_> = self.0.values().map(|kind| kind.queue).collect();
        queues.into_iter().collect()
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Kind> {
        self.0.get(kind)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Kind)> {
        self.0.iter().map(|(name, kind)| (*name, kind))
    }
}

/// A payload that this version cannot parse may come from a newer version that is being rolled out,
/// so the job waits for that version's workers. After a day it fails.
async fn unreadable(job: &Running, error: &Error) -> Stop {
    let noted = async {
        let mut connection = job.process.pool.acquire().await?;
        queue::note_unreadable(&mut connection, job.lease()).await
    };
    match noted.await {
        Ok(true) => Stop::Fail(format!("its payload cannot be read: {error}")),
        Ok(false) => {
            tracing::warn!(job = %job.id(), kind = job.claimed.kind, %error, "this version cannot read the job's payload");
            Stop::Snooze(UNKNOWN_KIND_PAUSE)
        }
        Err(error) => Stop::Error(error),
    }
}
