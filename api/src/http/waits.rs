//! Waiting for the end of a job: `Prefer: wait=N` on a request that returns 202, and `?wait=N` on
//! `GET /dev/crm/jobs/{id}`.
//!
//! The request itself has ended when its wait begins: its transaction is committed, its connection is
//! back in the pool, and its time limit no longer applies. One task per process asks for the ends of
//! all awaited jobs with one statement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{HeaderName, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::accounts::api_keys::authentication::Opened;
use shared::error::FieldError;
use shared::query::parameters::whole;
use shared::queue::{self, Job};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::respond::reply::Reply;
use crate::respond::{Problem, Result, write};
use crate::{AppState, CRM};

/// The longest wait in seconds.
pub(crate) const MAX_WAIT_S: u32 = 25;
/// The most waits of a workspace in this process. The next one returns at once.
const MAX_WAITS: usize = 100;
/// How often the awaited jobs are read.
const POLL: Duration = Duration::from_millis(100);

/// The header with the preferences of a request.
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The header with the preferences that a response honours.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Waits for a job, as an extension of the response that shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitFor {
    /// The job.
    pub job_id: Uuid,
    /// How long.
    pub seconds: u32,
}

/// Cancelled when the client of a request has disconnected; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Disconnected(CancellationToken);

impl Disconnected {
    /// Adds it to a request that may wait. The guard cancels it when it is dropped.
    pub fn watch(request: &mut Request) -> Option<DropGuard> {
        if !request.headers().contains_key(PREFER) {
            return None;
        }
        let token = CancellationToken::new();
        request.extensions_mut().insert(Self(token.clone()));
        Some(token.drop_guard())
    }
}

/// What a request says about waiting.
#[derive(Debug)]
pub(crate) struct Preference {
    /// `Prefer: wait=N`.
    seconds: Option<u32>,
    disconnected: Option<CancellationToken>,
}

impl Preference {
    /// Reads `Prefer: wait=N`. Other preferences are ignored, as RFC 7240 says.
    ///
    /// # Errors
    /// 400 for a `wait` that is not a number of seconds from 0 to 25, or that is repeated.
    pub fn of(request: &Request) -> Result<Self> {
        let disconnected = request.extensions().get::<Disconnected>().map(|Disconnected(token)| token.clone());
        Ok(Self { seconds: preferred(request.headers())?, disconnected })
    }

    /// Waits for the job that a response shows, if it is to be awaited. Returns the job's state at the end of the
    /// wait.
    pub async fn await_job(self, state: &AppState, caller: Option<Opened>, response: Response) -> Response {
        let asked = response.extensions().get::<WaitFor>().copied();
        let accepted = || Some(WaitFor { job_id: accepted_job(&response)?, seconds: self.seconds? });
        let (Some(wait), Some(caller)) = (asked.or_else(accepted), caller) else { return response };
        let Some(place) = state.waits.enter(caller.workspace_id, wait.job_id) else { return response };
        let revoked = CancellationToken::new();
        let _key = state.keys.track(&caller, revoked.clone());
        tokio::select! {
            () = place.ended.cancelled() => {}
            () = sleep(Duration::from_secs(wait.seconds.into())) => {}
            () = state.stopping.cancelled() => {}
            () = revoked.cancelled() => return Problem::unauthorized().into_response(),
            () = gone(self.disconnected) => return response,
        }
        drop(place);
        let job = async { queue::get(&mut *state.connection().await?, caller.workspace_id, wait.job_id).await };
        match job.await {
            Ok(job) => show(&job, asked.is_none(), wait.seconds, &response).unwrap_or_else(IntoResponse::into_response),
            // The response is true as of its time.
            Err(error) => {
                tracing::debug!(%error, "an awaited job could not be read");
                response
            }
        }
    }
}

/// Completes when the client has disconnected, if that is known.
async fn gone(disconnected: Option<CancellationToken>) {
    match disconnected {
        Some(token) => token.cancelled_owned().await,
        None => std::future::pending().await,
    }
}

/// Reads `wait` among the preferences of a request.
fn preferred(headers: &HeaderMap) -> Result<Option<u32>> {
    let mut wait = None;
    for value in headers.get_all(PREFER) {
        let Ok(value) = value.to_str() else {
            return Err(invalid(FieldError::new("Prefer", "invalid", "must have visible ASCII characters only")));
        };
        for preference in value.split(',') {
            // Parameters of a preference follow after a semicolon.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, text) = preference.split_once('=').unwrap_or((preference, ""));
            if !name.trim().eq_ignore_ascii_case("wait") {
                continue;
            }
            if wait.is_some() {
                return Err(invalid(FieldError::new("Prefer", "duplicate", "must have wait only once")));
            }
            let text = text.trim().trim_matches('"');
            wait =
                Some(whole(text, 0..=MAX_WAIT_S).map_err(|fault| {
                    invalid(FieldError::new("Prefer", fault.code, format!("wait {}", fault.message)))
                })?);
        }
    }
    Ok(wait)
}

fn invalid(fault: FieldError) -> Problem {
    Problem::invalid(vec![fault])
}

/// The job of a 202, which its `Location` names. Stored responses have it, too.
fn accepted_job(response: &Response) -> Option<Uuid> {
    if response.status() != StatusCode::ACCEPTED {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let id = location.strip_prefix(CRM)?.strip_prefix("/jobs/")?;
    Uuid::try_parse(id).ok()
}

/// The response with a job: 200 for one that has ended, else 202 if it was just accepted.
fn show(job: &Job, is_accepted: bool, seconds: u32, before: &Response) -> Result {
    let reply = match is_accepted {
        true if job.status.is_finished() => Reply::accepted(job)?.status(StatusCode::OK),
        true => Reply::accepted(job)?,
        false => Reply::record(job)?,
    };
    let mut response = reply.header(PREFERENCE_APPLIED, format!("wait={seconds}"))?.into_response();
    if write::is_replayed(before) {
        write::mark_replayed(&mut response);
    }
    Ok(response)
}

/// The waits of this process.
#[derive(Debug, Default)]
pub struct Waits {
    awaited: Arc<Mutex<Awaited>>,
    /// Wakes the task that reads the awaited jobs.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Awaited {
    last: u64,
    /// By the number of the wait: the workspace, the job, and what is cancelled when the job has ended.
    waits: HashMap<u64, (Uuid, Uuid, CancellationToken)>,
    by_workspace: HashMap<Uuid, usize>,
}

/// A wait, which ends when it is dropped.
struct Place {
    ended: CancellationToken,
    number: u64,
    workspace_id: Uuid,
    awaited: Arc<Mutex<Awaited>>,
}

impl Waits {
    /// Begins a wait; `None` if the workspace has as many as it may have.
    fn enter(&self, workspace_id: Uuid, job_id: Uuid) -> Option<Place> {
        let ended = CancellationToken::new();
        let number = {
            let mut awaited = lock(&self.awaited);
            let count = awaited.by_workspace.entry(workspace_id).or_default();
            if *count >= MAX_WAITS {
                return None;
            }
            *count += 1;
            awaited.last += 1;
            let number = awaited.last;
            awaited.waits.insert(number, (workspace_id, job_id, ended.clone()));
            number
        };
        self.begun.notify_one();
        Some(Place { ended, number, workspace_id, awaited: self.awaited.clone() })
    }

    /// Ends the waits whose jobs have ended. While the database is unavailable, they continue.
    async fn look(&self, state: &AppState) {
        let (workspaces, jobs): (Vec<Uuid>, Vec<Uuid>) =
            lock(&self.awaited).waits.values().map(|(workspace_id, job_id, _)| (*workspace_id, *job_id)).unzip();
        if jobs.is_empty() {
            return self.begun.notified().await;
        }
        let ended = async { queue::ended(&mut *state.connection().await?, &workspaces, &jobs).await };
        match ended.await {
            Ok(ended) => {
                let awaited = lock(&self.awaited);
                awaited.waits.values().filter(|(_, job, _)| ended.contains(job)).for_each(|(.., end)| end.cancel());
            }
            Err(error) => tracing::debug!(%error, "the awaited jobs could not be read"),
        }
        sleep(POLL).await;
    }
}

/// Watches the awaited jobs until the process stops.
pub(crate) async fn watch(state: AppState) {
    while state.stopping.run_until_cancelled(state.waits.look(&state)).await.is_some() {}
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut awaited = lock(&self.awaited);
        awaited.waits.remove(&self.number);
        if let Some(count) = awaited.by_workspace.get_mut(&self.workspace_id) {
            *count -= 1;
            if *count == 0 {
                awaited.by_workspace.remove(&self.workspace_id);
            }
        }
    }
}

/// A poisoned lock is used anyway: every change is complete when it is released.
fn lock(awaited: &Mutex<Awaited>) -> MutexGuard<'_, Awaited> {
    awaited.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn wait(values: &[&'static str]) -> Option<Result<Option<u32>, StatusCode>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        Some(preferred(&headers).map_err(|problem| problem.status()))
    }

    #[test]
    fn wait_is_one_of_the_preferences() {
        for (values, expected) in [
            (&[][..], None),
            (&["wait=5"], Some(5)),
            (&["respond-async, WAIT = \"10\""], Some(10)),
            (&["return=minimal", "handling=lenient, wait=25; a=b"], Some(25)),
            (&["waiting=5"], None),
        ] {
            assert_eq!(wait(values), Some(Ok(expected)), "{values:?}");
        }
        for values in
            [&["wait=26"][..], &["wait"], &["wait=-1"], &["wait=1.5"], &["wait=1, wait=2"], &["wait=1", "wait=1"]]
        {
            assert_eq!(wait(values), Some(Err(StatusCode::BAD_REQUEST)), "{values:?}");
        }
    }
}
