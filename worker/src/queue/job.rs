//! What a kind of job is written against.
//!
//! A job's payload lives with its noun in `shared`. One whose work is pages of records says there what it does
//! with a page ([`Pages`]). Any other is run by a file in [`jobs`](crate::jobs), which implements [`Task`] for the
//! payload. A long job is a walk over small steps. Each [`JobStep`] is one transaction that does its rows, moves the job's own cursor and
//! records the progress, so whatever dies in between, the next attempt goes on after the last step.
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
use shared::platform::config::Settings;
use shared::platform::db::{self, Pool, PoolConnection};
use shared::platform::signed_links::Signer;
use shared::queue::notify::Notifier;
use shared::queue::{self, Claimed, Lease, Page, Pages, Payload, Progress, RetryState};
use shared::records::history::Actor;
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::WorkerContext;
use crate::jobs::pages::walk;
use crate::metrics::KindMetrics;
use crate::queue::fairness::Turn;
use crate::queue::quarantine::RunPermit;
use crate::queue::run::UNKNOWN_KIND_PAUSE;

/// A payload that can be run: one kind of job.
pub trait Task: Payload {
    /// Does the work, from wherever its last committed step has ended.
    ///
    /// It may be called again for the same attempt, after a deadlock or when the database had been
    /// away, and it cannot know whether the step whose commit had no answer was committed. So it
    /// keeps no position in memory: it reads it from the database when it begins.
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
    /// Trying again would not help; callers read the reason.
    Fail(String),
    /// An error that may pass; callers read it. It counts as a failure.
    Retry {
        /// The error.
        error: String,
        /// How long to wait; `None` waits longer with each failure.
        delay: Option<Duration>,
    },
    /// A defect of the program, which another attempt is likely to meet again; callers read it.
    Defect(String),
    /// Nothing is wrong, but it is not the time yet.
    Snooze(Duration),
    /// The process is told to stop: another takes the job over. [`Running::begin`] says so.
    HandBack,
    /// Another workspace waits for a slot: the job resumes later. [`Running::begin`] says so.
    Yield,
    /// Whatever went wrong; the worker decides what becomes of the job.
    Error(Error),
    /// The same, in a part of the job that callers are to know of.
    ErrorOf {
        /// What went wrong: `find_themes cannot begin`.
        part: String,
        /// The error.
        error: Error,
    },
}

impl Stop {
    /// Trying again would not help.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::Fail(reason.into())
    }

    /// An error that may pass: again, after a wait that grows with each failure.
    pub fn retry(error: impl Into<String>) -> Self {
        Self::Retry { error: error.into(), delay: None }
    }

    pub(crate) fn error(&self) -> Option<&Error> {
        match self {
            Self::Error(error) | Self::ErrorOf { error, .. } => Some(error),
            _ => None,
        }
    }

    /// An error in a part of the job that callers are to know of.
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

/// A job at work, in the hands of its handler.
pub struct Running {
    pub(crate) claimed: Claimed,
    pub(crate) process: Arc<WorkerContext>,
    pub(crate) lost: CancellationToken,
    pub(crate) pass: RunPermit,
    pub(crate) turn: Arc<Turn>,
    /// When it was claimed, by the clock of this process.
    pub(crate) since: Instant,
    /// Whether it only shows what it would do.
    pub(crate) is_dry_run: bool,
    /// The errors since a step last recorded anything new.
    pub(crate) retry_state: RetryState,
    /// Runs of the handler that the database interrupted since then.
    pub(crate) interruptions: u32,
    /// What this attempt recorded last: the progress, the result and the cursor.
    pub(crate) recorded: Option<(Progress, Value, Option<Value>)>,
}

impl Running {
    /// The job's id.
    pub fn id(&self) -> Uuid {
        self.claimed.id
    }

    /// Whose job it is.
    pub fn workspace_id(&self) -> Uuid {
        self.claimed.workspace_id
    }

    /// The number of this attempt; it rises with each.
    pub fn attempt(&self) -> i32 {
        self.claimed.attempt
    }

    /// The right to write for this job.
    pub fn lease(&self) -> Lease {
        self.claimed.lease()
    }

    /// The request that caused it, for what it begins in turn.
    pub fn request_id(&self) -> Option<&str> {
        self.claimed.request_id.as_deref()
    }

    /// The job as the one who writes, in the history of records.
    pub fn actor(&self) -> Actor {
        Actor::job(&self.claimed)
    }

    /// The present time, by the database's clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.claimed.claimed_at() + self.since.elapsed()
    }

    /// The settings of the program.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.process.settings
    }

    /// Connections for reading, and for work outside of steps.
    pub fn pool(&self) -> &Pool {
        &self.process.pool
    }

    /// A connection for reading. Give it back before the next step begins.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connection(&self) -> Result<PoolConnection, Stop> {
        Ok(self.process.pool.acquire().await?)
    }

    /// Notifies workers after a commit that has enqueued further jobs.
    pub fn notifier(&self) -> &Notifier {
        &self.process.notifier
    }

    /// Whether the job should end soon: the process was told to stop, or the job was cancelled or
    /// taken over.
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

    /// Begins the next step. Between two steps is where a job yields: here it is handed back when
    /// the process is told to stop or when another workspace waits for its slot, ends when it was
    /// cancelled, and waits while a job that may kill the process has it for itself.
    ///
    /// # Errors
    /// [`Stop`], to be passed on with `?`.
    pub async fn begin(&mut self) -> Result<JobStep<'_>, Stop> {
        self.yield_now().await?;
        let transaction = db::Transaction::begin(&self.process.pool).await?;
        Ok(JobStep { transaction, job: self })
    }

    /// What the job is told to do.
    async fn payload<P: Payload>(&mut self) -> Result<P, Stop> {
        match queue::payload::<P>(&self.claimed) {
            Ok(payload) => {
                self.is_dry_run = payload.is_dry_run();
                Ok(payload)
            }
            Err(error) => Err(unreadable(self, &error).await),
        }
    }

    pub(crate) async fn yield_now(&mut self) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(Error::Superseded.into()),
            () = self.process.stopping.cancelled() => Err(Stop::HandBack),
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

/// One step of a job: a transaction, used as a connection. Dropping it takes everything back.
#[derive(Debug)]
pub struct JobStep<'a> {
    transaction: db::Transaction,
    job: &'a mut Running,
}

impl JobStep<'_> {
    /// What a page of a run works with.
    pub(crate) fn page<'s>(&'s mut self, signer: &'s Signer) -> Page<'s> {
        let Running { claimed: job, process, .. } = &*self.job;
        Page { connection: &mut self.transaction, job, settings: &process.settings, signer, total: None, notify: None }
    }

    /// Records how far the job is now and what it did so far, and commits. Recording comes last
    /// because it locks the job's row, for which renewing and cancelling wait.
    ///
    /// Errors count until something new is recorded. So a step that a later attempt does again must record
    /// the same again, or the job would be retried at once and for ever.
    ///
    /// # Errors
    /// [`Error::Superseded`] when the job was cancelled or taken over: nothing of the step stays.
    pub async fn commit(self, progress: Progress, result: &Value) -> Result<(), Stop> {
        self.commit_at(progress, result, None).await
    }

    /// The same, with where the job goes on. Callers never see that.
    ///
    /// # Errors
    /// See [`JobStep::commit`].
    pub async fn commit_at(mut self, progress: Progress, result: &Value, cursor: Option<&Value>) -> Result<(), Stop> {
        let recorded = queue::progress(&mut self.transaction, self.job.lease(), progress, result, cursor).await?;
        self.transaction.commit().await?;
        let job = self.job;
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
    pub handler: Handler,
    pub metrics: KindMetrics,
}

impl Tasks {
    /// No kind yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this kind.
    #[must_use]
    pub fn with<T: Task>(self) -> Self {
        self.and::<T>(|job| Box::pin(async move { job.payload::<T>().await?.run(job).await }))
    }

    /// And this kind, whose jobs are done page by page.
    #[must_use]
    pub fn with_pages<P: Payload + Pages>(self) -> Self {
        self.and::<P>(|job| Box::pin(async move { walk(job.payload::<P>().await?, job).await }))
    }

    fn and<P: Payload>(mut self, handler: Handler) -> Self {
        self.0.insert(P::KIND, Kind { queue: P::QUEUE, handler, metrics: KindMetrics::default() });
        self
    }

    /// The queues in which these kinds wait.
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

/// A payload that this version cannot read may be of a newer one that is being rolled out, so the job
/// waits for its workers. Only after a day nobody can be expected to read it.
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
