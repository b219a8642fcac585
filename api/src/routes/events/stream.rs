//! The feed as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use shared::error::FieldError;
use shared::events::Event;
use shared::events::feed::{self, Filter};
use shared::query::parameters::Parameters;
use tokio::time::sleep;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, ResponseBuilder};
use uuid::Uuid;

use super::{After, Asked, of_feed};
use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::Operation;
use crate::openapi::schemas;
use crate::respond::{Problem, Result};

/// How many events are read at once.
const PART: u32 = 100;
/// How long a stream waits after an error.
const PAUSE: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: &str = "last-event-id";
const EXAMPLE: &str =
    "id: 1795940000000000\nevent: lead.created\ndata: {\"id\":\"evt_019ab3f26b1e7c3a9f523d8c1e0a7b44\",…}\n\n";

pub(super) fn operation() -> Operation {
    // OpenAPI 3.1 cannot describe a stream: tools disagree whether a schema is of an event or of all of them.
    let stream = ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Server-sent events."));
    let answer = ResponseBuilder::new()
        .description("The events after the cursor, and then each new one.")
        .content("text/event-stream", schemas::content_like(stream.into(), EXAMPLE.into()));
    Operation::get("/events/stream", follow)
        .named("stream", "Follow what happens with server-sent events")
        .about(
            "Sends the events after the cursor, and then each new one, without end. The `id` of each is its cursor: a \
             client that reconnects with it in `Last-Event-ID` misses none. That header wins over `after`. Without \
             both, it begins with the next event.",
        )
        .with(of_feed())
        .with([crate::openapi::parameters::last_event_id()])
        .answers(200, answer)
        .problems([410])
        .knows(schemas::of::<Event>())
}

async fn follow(State(state): State<AppState>, caller: Caller, headers: HeaderMap, Query(parameters): Query) -> Result {
    let mut given = Parameters::new(&parameters);
    let Asked { after, filter } = Asked::parse(&mut given);
    given.finish()?;
    let after = last_event_id(&headers)?.or(after).unwrap_or(After::Latest);
    let cursor = {
        let connection = &mut *state.connection().await?;
        let cursor = after.cursor(feed::reach(connection, caller.workspace_id).await?)?;
        // A cursor that is too old is refused before the response begins.
        feed::read(connection, caller.workspace_id, Some(cursor), &filter, 1).await?;
        cursor
    };
    // When the process stops, the stream ends, so the client reconnects to another process.
    let stopping = state.stopping.clone().cancelled_owned();
    let events = events(state, caller.workspace_id, cursor, filter);
    Ok(Sse::new(events.take_until(stopping)).keep_alive(KeepAlive::default()).into_response())
}

/// The cursor after which a client reconnects.
fn last_event_id(headers: &HeaderMap) -> Result<Option<After>> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let after = value.to_str().ok().and_then(|text| After::parse(text.trim()).ok());
    let invalid = || FieldError::new("Last-Event-ID", "invalid", "must be the cursor of an event");
    after.map(Some).ok_or_else(|| Problem::invalid(vec![invalid()]))
}

type Sent = std::result::Result<sse::Event, Infallible>;

/// The events after a cursor, without end.
fn events(state: AppState, workspace_id: Uuid, cursor: i64, filter: Filter) -> impl Stream<Item = Sent> {
    let parts = stream::unfold((state, cursor), move |(state, cursor)| {
        let filter = filter.clone();
        async move {
            let (events, next) = next_part(&state, workspace_id, cursor, &filter).await?;
            Some((stream::iter(events), (state, next)))
        }
    });
    parts.flatten()
}

/// Waits for the events after a cursor. `None` if they were deleted, because the client reads too slowly.
async fn next_part(state: &AppState, workspace_id: Uuid, mut cursor: i64, filter: &Filter) -> Option<(Vec<Sent>, i64)> {
    loop {
        let read =
            async { feed::read(&mut *state.connection().await?, workspace_id, Some(cursor), filter, PART).await };
        match read.await {
            Ok(part) if part.events.is_empty() && !part.has_more => {
                cursor = part.next;
                state.feeds.wait(&state.pool, workspace_id, cursor).await;
            }
            Ok(part) => return Some((part.events.iter().map(to_sent).collect(), part.next)),
            Err(shared::Error::TooOld { .. }) => return None,
            // The loop retries until the database is available again.
            Err(error) => {
                tracing::debug!(%error, "the feed could not be read");
                sleep(PAUSE).await;
            }
        }
    }
}

fn to_sent(event: &Event) -> Sent {
    let sent = sse::Event::default().id(event.cursor.to_string()).event(event.event_type.as_str());
    Ok(sent.json_data(event).unwrap_or_default())
}
