//! Runs one job, from the buffer to its outcome.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use shared::Error;
use shared::error::ErrorClass;
use shared::mail::place::Hold;
use shared::platform::trace::{self, Kind, Span};
use shared::queue::{Claimed, Ended, Next, Outcome};
use sqlx::types::Json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::Service;
use tracing::Instrument;

use crate::context::{WorkerContext, jittered};
use crate::queue::claim::{self, ClaimedJob};
use crate::queue::fairness::{Slots, Turn};
use crate::queue::job::{Done, Handler, Running, Stop};

/// How long a job of an unknown kind is postponed, since a newer version that is being deployed may
/// know it.
pub(crate) const UNKNOWN_KIND_PAUSE: Duration = Duration::from_secs(30);
/// How long a handler that lost its lease may take to end before it is dropped.
const GRACE: Duration = Duration::from_secs(1);
/// The number of interruptions by the database between two steps that do not count as a failure.
const MAX_INTERRUPTIONS: u32 = 10;
/// How long a job waits before it checks again whether email is on hold: a tenth of its age, within
/// these bounds. A release wakes it.
const SOONEST: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(60);
/// Attempts that take this long are logged at the level of those that a request caused.
const LONG: Duration = Duration::from_secs(1);
/// The error of a job whose handler panicked, while the job is retried.
const PANICKED: &str = "internal error; the job will be retried";
const INTERNAL: &str = "internal error; see the worker's log";

/// Runs jobs for apalis.
#[derive(Clone)]
pub(crate) struct RunJob(pub Arc<WorkerContext>);

impl Service<apalis::prelude::Task<ClaimedJob>> for RunJob {
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: apalis::prelude::Task<ClaimedJob>) -> Self::Future {
        Box::pin(run(self.0.clone(), task.args).map(Ok))
    }
}

/// Runs a job and passes its outcome on to be written.
async fn run(process: Arc<WorkerContext>, job: ClaimedJob) {
    let ClaimedJob { claimed, hold, slot, pass } = job;
    let lease = claimed.lease();
    let mut trace = span_of(&claimed);
    // The span has the highest level, so that warnings carry it whatever the log's level.
    let span = tracing::error_span!(
        "job",
        job_id = %claimed.id,
        kind = claimed.kind,
        attempt = claimed.attempt,
        workspace_id = %claimed.workspace_id,
        request_id = claimed.request_id,
        worker_id = %process.steering.worker_id,
        trace_id = trace.trace_id(),
    );
    let Some(kind) = process.tasks.get(&claimed.kind) else {
        span.in_scope(|| tracing::warn!("unknown kind of job"));
        drop(hold);
        let outcome = Outcome::Snooze(UNKNOWN_KIND_PAUSE);
        return process.acks.send(Ended::silently(lease, outcome)).await;
    };
    let (attempt, is_requested) = (claimed.attempt, claimed.request_id.is_some());
    let (turn, position, workspace_id) = (Turn::of(claimed.workspace_id), claimed.position(), claimed.workspace_id);
    let metrics = process.metrics.kind(&claimed.kind);
    let job = Running {
        retry_state: claimed.retry_state.clone().map(|Json(state)| state).unwrap_or_default(),
        claimed,
        process: process.clone(),
        lost: hold.lost.clone(),
        pass,
        turn: turn.clone(),
        since: Instant::now(),
        is_dry_run: false,
        writes_email: false,
        interruptions: 0,
        recorded: None,
        reporting: kind.reporting,
        reported_at: (attempt == 1).then(Instant::now),
    };

    if let Some(metrics) = metrics {
        metrics.started.inc();
    }
    span.in_scope(|| tracing::debug!("job attempt started"));
    let began = Instant::now();
    let handling = trace::scope(trace.context().cloned(), handle(job, kind.handler)).instrument(span.clone());
    let outcome = supervise(&process, &hold.lost, (slot.others(), turn), handling).await;
    let time = began.elapsed();
    slot.took(time);
    if let Some(metrics) = metrics {
        metrics.ended(outcome.as_ref(), time);
    }
    span.in_scope(|| log_end(outcome.as_ref(), time, is_requested));
    end_span(&mut trace, outcome.as_ref());
    if outcome == Some(Outcome::Yielded) {
        claim::note_yield(&process, &slot, kind.queue, workspace_id, position);
    }

    // The lease leaves the table before the outcome is sent, so that only running jobs are renewed.
    drop(hold);
    if let Some(outcome) = outcome {
        process.acks.send(Ended { lease, outcome, reporting: kind.reporting }).await;
    }
}

/// The span of an attempt. A job that no request caused may begin a trace.
fn span_of(claimed: &Claimed) -> Span {
    let name = format_args!("job {}", claimed.kind);
    let stored = claimed.trace_context.as_deref();
    let mut span = match (stored, &claimed.request_id) {
        (None, None) => Span::begin(Kind::Consumer, name, None),
        _ => Span::resume(Kind::Consumer, name, stored),
    };
    span.set("messaging.system", "crm");
    span.set("messaging.operation.type", "process");
    span.set("messaging.operation.name", claimed.kind.as_str());
    span.set("messaging.message.id", claimed.id);
    span.set("crm.job.attempt", claimed.attempt);
    span.set("crm.workspace.id", claimed.workspace_id);
    span.set_some("crm.request.id", claimed.request_id.as_deref());
    span
}

fn end_span(span: &mut Span, outcome: Option<&Outcome>) {
    span.set("crm.job.outcome", word(outcome));
    if matches!(outcome, Some(Outcome::Failed(_) | Outcome::Retry { counts: true, .. })) {
        span.fail(word(outcome));
    }
}

/// Logs how an attempt ended. Short successes that no request caused are many, and say little.
fn log_end(outcome: Option<&Outcome>, time: Duration, is_requested: bool) {
    let (outcome, ms, is_routine) = (word(outcome), time.as_millis() as u64, is_routine(outcome));
    if is_routine && !(is_requested && outcome == "succeeded") && time < LONG {
        tracing::debug!(outcome, ms, "job attempt ended");
    } else {
        tracing::info!(outcome, ms, "job attempt ended");
    }
}

/// Whether an attempt ended as most do.
fn is_routine(outcome: Option<&Outcome>) -> bool {
    matches!(
        outcome,
        Some(Outcome::Succeeded(_) | Outcome::Snooze(_) | Outcome::Yielded | Outcome::Retry { counts: false, .. })
    )
}

fn word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Succeeded(_)) => "succeeded",
        Some(Outcome::Failed(_)) => "failed",
        Some(Outcome::Retry { .. }) => "retry",
        Some(Outcome::Snooze(_)) => "postponed",
        Some(Outcome::Yielded) => "yielded",
        None => "lost",
    }
}

/// Waits for a handler's outcome, or drops the handler when it must stop. Returns `None` if this
/// worker has lost the job and must not write an outcome.
async fn supervise(
    process: &WorkerContext,
    lost: &CancellationToken,
    (slots, turn): (&Slots, Arc<Turn>),
    handling: impl Future<Output = Option<Outcome>> + Send + 'static,
) -> Option<Outcome> {
    let mut handling = Box::pin(handling);
    // Many short jobs end before they wait for anything. The others get a separate task.
    if let Poll::Ready(outcome) = futures_util::poll!(handling.as_mut()) {
        return outcome;
    }
    let _seat = slots.take(turn);
    let handling = AbortOnDropHandle::new(tokio::spawn(handling));
    tokio::select! {
        outcome = handling => outcome.ok().flatten().filter(|_| !lost.is_cancelled()),
        () = async { lost.cancelled().await; tokio::time::sleep(GRACE).await } => None,
        () = process.aborting.cancelled() => Some(Outcome::Snooze(Duration::ZERO)),
    }
}

/// Runs the handler until it has an outcome, and again after each interruption by the database.
async fn handle(mut job: Running, handler: Handler) -> Option<Outcome> {
    loop {
        let stop = match attempt(&mut job, handler).await {
            Ok(Done::AsRecorded) => return Some(Outcome::Succeeded(None)),
            Ok(Done::With(result)) => return Some(Outcome::Succeeded(Some(result))),
            Err(stop) => stop,
        };
        match stop.error() {
            Some(error) if is_interruption(error) && job.interruptions < MAX_INTERRUPTIONS => {
                tracing::debug!(%error, "handler interrupted; running it again");
                job.interruptions += 1;
                let is_disconnected = error.class() == ErrorClass::Connection;
                if is_disconnected && !can_resume(&job).await {
                    return verdict(&mut job, stop);
                }
            }
            _ => return verdict(&mut job, stop),
        }
    }
}

/// Waits for the database. Returns `false` if the job must wait without its slot, because the
/// database answers others.
async fn can_resume(job: &Running) -> bool {
    tokio::select! {
        is_connected = job.process.wait_for_connection() => is_connected,
        () = job.stopping() => true,
    }
}

async fn attempt(job: &mut Running, handler: Handler) -> Result<Done, Stop> {
    job.yield_now().await?;
    AssertUnwindSafe(handler(job)).catch_unwind().await.unwrap_or_else(|panic| {
        tracing::error!("the job's handler panicked: {}", text_of(&*panic));
        Err(Stop::Defect(PANICKED.into()))
    })
}

/// Whether to run the handler again at once: the connection was lost, the transaction was aborted,
/// or another transaction inserted a conflicting row.
fn is_interruption(error: &Error) -> bool {
    matches!(error, Error::Repeat(_) | Error::Conflict(_)) || error.class() == ErrorClass::Connection
}

/// The outcome of a job whose handler stopped; `None` if this worker has lost the job.
fn verdict(job: &mut Running, stop: Stop) -> Option<Outcome> {
    if let Some(error) = stop.error() {
        if matches!(error, Error::Superseded) {
            return None;
        }
        log(job, error);
    }
    let (class, error, wanted) = match stop {
        Stop::Yield => return Some(Outcome::Yielded),
        Stop::HandBack => return Some(Outcome::Snooze(Duration::ZERO)),
        Stop::Snooze(delay) => return Some(Outcome::Snooze(delay)),
        Stop::OnHold(hold) => return Some(wait_for_release(job, hold)),
        Stop::Fail(error) => return Some(Outcome::Failed(error)),
        Stop::Retry { error, delay } => (ErrorClass::Ordinary, error, delay),
        Stop::Defect(error) => (ErrorClass::Defect, error, None),
        Stop::Error(error) => (error.class(), text_for_callers(&error), None),
        Stop::ErrorOf { part, error } => (error.class(), format!("{part}: {}", text_for_callers(&error)), None),
    };
    let now = job.now();
    let next = job.retry_state.add(class, now, job.is_dry_run, rand::random());
    // A failed job must not promise a retry.
    let error = if error == PANICKED && matches!(next, Next::Fail(_)) { INTERNAL.into() } else { error };
    match next {
        Next::Retry(delay) => Some(Outcome::Retry {
            error,
            delay: wanted.unwrap_or(delay),
            counts: !class.is_condition(),
            state: job.retry_state.clone(),
        }),
        Next::Fail(None) => Some(Outcome::Failed(error)),
        Next::Fail(Some(why)) => Some(Outcome::Failed(format!("{why}: {error}"))),
    }
}

/// The job waits, with the hold as the reason that callers see.
fn wait_for_release(job: &Running, hold: Hold) -> Outcome {
    let created_at = job.claimed.id.get_timestamp().map_or(0, |timestamp| timestamp.to_unix().0.cast_signed());
    let age = Duration::from_secs(u64::try_from(job.now().timestamp() - created_at).unwrap_or_default());
    let delay = jittered((age / 10).clamp(SOONEST, LATEST));
    Outcome::Retry { error: hold.to_string(), delay, counts: false, state: job.retry_state.clone() }
}

/// Logs an error. Errors that are caused by the state of the database are limited, because many
/// jobs meet them repeatedly.
fn log(job: &Running, error: &Error) {
    if !error.class().is_condition() {
        tracing::warn!(%error, failures = job.claimed.failures + 1, "job attempt failed");
    } else if let Some(left_out) = job.process.waits.allows() {
        tracing::warn!(%error, waits = job.retry_state.waits + 1, left_out, "job is waiting for the database");
    }
}

/// The text of an error for callers, without internal details.
fn text_for_callers(error: &Error) -> String {
    match error {
        Error::NotFound => "a record the job needs was not found".into(),
        Error::Missing(_)
        | Error::Invalid(_)
        | Error::Changed
        | Error::Conflict(_)
        | Error::Forbidden(_)
        | Error::TooLarge
        | Error::TooOld { .. }
        | Error::Superseded => error.to_string(),
        Error::Unavailable(_) | Error::Repeat(_) => {
            error.condition().unwrap_or("the database could not complete the operation".into())
        }
        Error::Internal(_) => error.condition().unwrap_or(INTERNAL.into()),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
