//! The progress of a job as server-sent events.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use shared::Error;
use shared::accounts::scopes::Scope;
use shared::jobs::JobUse;
use shared::queue::{self, Job};
use tokio::time::sleep;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, ResponseBuilder};
use uuid::Uuid;

use crate::AppState;
use crate::extract::{NoQuery, Path};
use crate::http::auth::Caller;
use crate::openapi::operations::Operation;
use crate::openapi::schemas;
use crate::respond::Result;

/// How often the job is read. No connection is held in between.
const POLL: Duration = Duration::from_millis(300);

const EXAMPLE: &str =
    "event: progress\ndata: {\"id\":\"019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44\",\"status\":\"running\",…}\n\n";

pub(super) fn operation() -> Operation {
    // OpenAPI 3.1 cannot describe a stream: tools disagree whether a schema is of an event or of all of them.
    let stream = ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Server-sent events."));
    let answer = ResponseBuilder::new()
        .description("`progress` with the job immediately and after each change, `end` when the job has ended.")
        .content("text/event-stream", schemas::content_like(stream.into(), EXAMPLE.into()));
    Operation::get("/jobs/{jobId}/events", events)
        .needs_scope_of_job(JobUse::Follow)
        .named("events", "Follow a job with server-sent events")
        .about(
            "Sends the job at once and after each change as `progress`, and at last as `end`. A stream without `end` was \
             interrupted; open it again. The `data` of an event is the job as JSON.",
        )
        .answers(200, answer)
        .knows(schemas::of::<Job>())
}

async fn events(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let job = queue::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    // When the process stops, the stream ends without `end`, so the client reconnects to another
    // process.
    let stopping = state.stopping.clone().cancelled_owned();
    let previews = caller.scopes.allows(Scope::RecordsRead);
    let shown = move |job: Job| if previews { job } else { job.without_preview() };
    let events = changes(state, caller.workspace_id, job).flat_map(move |job| stream::iter(to_events(&shown(job))));
    Ok(Sse::new(events.take_until(stopping)).keep_alive(KeepAlive::default()).into_response())
}

/// The job now and after each change, until it has ended.
fn changes(state: AppState, workspace_id: Uuid, job: Job) -> impl Stream<Item = Job> {
    let later = stream::unfold(job.clone(), move |known| {
        let state = state.clone();
        async move {
            let job = changed(&state, workspace_id, &known).await?;
            Some((job.clone(), job))
        }
    });
    stream::once(ready(job)).chain(later)
}

/// Waits until a job differs from its known state; `None` if it cannot change any more.
async fn changed(state: &AppState, workspace_id: Uuid, known: &Job) -> Option<Job> {
    while !known.status.is_finished() {
        sleep(POLL).await;
        let found = async { queue::get(&mut *state.connection().await?, workspace_id, known.id).await };
        match found.await {
            Ok(job) if job == *known => {}
            Ok(job) => return Some(job),
            Err(Error::NotFound) => return None,
            // The loop retries until the database is available again.
            Err(error) => tracing::debug!(%error, "a followed job could not be read"),
        }
    }
    None
}

fn to_events(job: &Job) -> Vec<std::result::Result<Event, Infallible>> {
    let names = if job.status.is_finished() { &["progress", "end"][..] } else { &["progress"] };
    let event = |name: &&str| Event::default().event(name).json_data(job).unwrap_or_default();
    names.iter().map(event).map(Ok).collect()
}
