//! The progress of a job as server-sent events.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use shared::Error;
use shared::queue::{self, Job};
use tokio::time::sleep;
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, ResponseBuilder, Type};
use uuid::Uuid;

use crate::AppState;
use crate::extract::{NoQuery, Path};
use crate::http::auth::Caller;
use crate::openapi::operations::Operation;
use crate::openapi::parameters::one_of;
use crate::openapi::schemas;
use crate::respond::Result;

/// How often the job is read. No connection is held in between.
const POLL: Duration = Duration::from_millis(300);

pub(super) fn operation() -> Operation {
    let data = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/json")
        .content_schema(Some(schemas::reference(&Job::name())));
    let event = ObjectBuilder::new()
        .description(Some("An event as clients parse it; it is sent as separate lines of `event:` and `data:`."))
        .property("event", one_of(["progress", "end"]))
        .property("data", data)
        .required("event")
        .required("data");
    let answer = ResponseBuilder::new()
        .description("`progress` with the job immediately and after each change, `end` when the job has ended.")
        .content("text/event-stream", schemas::content(event.into()));
    Operation::get("/jobs/{jobId}/events", events)
        .named("followJob", "Follow a job with server-sent events")
        .answers(200, answer)
        .knows(schemas::of::<Job>())
}

async fn events(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let job = queue::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    // When the process stops, the stream ends without `end`, so the client reconnects to another
    // process.
    let stopping = state.stopping.clone().cancelled_owned();
    let events = changes(state, caller.workspace_id, job).flat_map(|job| stream::iter(to_events(&job)));
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
