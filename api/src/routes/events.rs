//! `/dev/crm/events`: what happened, in an order in which a reader misses nothing.

mod stream;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::IntoResponse;
use shared::Error;
use shared::error::FieldError;
use shared::events::feed::{self, Filter, Reach};
use shared::events::{Event, EventType};
use shared::platform::db;
use shared::query::parameters::{Parameters, whole};
use shared::values::{Fault, Field};
use utoipa::ToSchema;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, ResponseBuilder};
use uuid::Uuid;

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::{self, one_of};
use crate::openapi::{headers, schemas};
use crate::respond::lists::{host, lead_on};
use crate::respond::{Problem, Result};

/// The most events of a page, and how many one has by default.
const MAX: u32 = 1_000;
const DEFAULT: u32 = 100;
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
/// The cursor after the last event.
const LATEST: &str = "latest";

pub(crate) fn operations() -> Vec<Operation> {
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MAX));
    let limit = parameters::query("limit", "The most events to return.", limit.default(Some(DEFAULT.into())));
    let response = ResponseBuilder::new()
        .description(
            "The events after the cursor. There may be few or none although more follow; then `Link` leads on.",
        )
        .content("application/json", schemas::content(schemas::array(&Event::name())))
        .header_ref("Link", headers::reference("Link"))
        .header_ref("X-Next-Cursor", headers::reference("X-Next-Cursor"));
    let events = [
        Operation::get("/events", list)
            .named("list", "Read what happened")
            .about(
                "Returns the events after a cursor, oldest first, in an order in which nothing is missed: whoever \
                 continues with the `X-Next-Cursor` of each response, which is always there, meets each event once. \
                 Without `after` it begins with the oldest event that is kept, with `after=latest` after the last one. \
                 What a job writes is summarised in its `job.changed` events; `/jobs/{jobId}/records` has the records.",
            )
            .with(of_feed())
            .with([limit])
            .answers(200, response)
            .problems([410])
            .knows(schemas::of::<Event>()),
        stream::operation(),
    ];
    tagged("Events", events)
}

/// The parameters of the feed.
fn of_feed() -> Vec<Parameter> {
    let cursor = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0));
    let after = OneOfBuilder::new().item(cursor).item(one_of([LATEST]));
    vec![
        parameters::query("after", "The cursor of an event, or `latest`.", after),
        parameters::several(
            "type",
            "Returns only events of these types.",
            one_of(EventType::PUBLIC_WORDS.iter().copied()).build(),
        ),
        parameters::query(
            "subject_id",
            "Returns only events about this record.",
            ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))),
        ),
    ]
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Cursor(i64),
    Latest,
}

impl After {
    fn parse(text: &str) -> std::result::Result<Self, Fault> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            _ if text == LATEST => Ok(Self::Latest),
            Ok(cursor) if is_number => Ok(Self::Cursor(cursor)),
            _ => Err(Fault::new("invalid", "must be the cursor of an event, or latest")),
        }
    }

    /// The cursor.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a cursor that was never given.
    fn cursor(self, reach: Reach) -> std::result::Result<i64, Error> {
        match self {
            Self::Latest => Ok(reach.number),
            // Numbers are at least the microseconds of their time, so a number of the future was never given.
            Self::Cursor(cursor) if cursor > reach.number.max(db::now().timestamp_micros()) => Err(Error::Invalid(
                vec![FieldError::new("after", "invalid", "must be a cursor that the feed has given")],
            )),
            Self::Cursor(cursor) => Ok(cursor),
        }
    }
}

/// The parameters of the feed that a request has.
struct Asked {
    after: Option<After>,
    filter: Filter,
}

impl Asked {
    fn parse(given: &mut Parameters<'_>) -> Self {
        let after = given.take_as("after", After::parse);
        let subject_id = given.take::<Uuid>("subject_id");
        let mut types = Vec::new();
        for word in given.take_all("type").into_iter().flat_map(|text| text.split(',')) {
            match EventType::from_text(word) {
                Ok(event_type) if event_type.is_public() => types.push(event_type),
                _ => given.refuse(FieldError::new("type", "invalid", "must be types of events, separated by commas")),
            }
        }
        Self { after, filter: Filter { types, subject_id } }
    }
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, Query(parameters): Query) -> Result {
    let mut given = Parameters::new(&parameters);
    let Asked { after, filter } = Asked::parse(&mut given);
    let limit = given.take_as("limit", |text| whole(text, 1..=MAX)).unwrap_or(DEFAULT);
    given.finish()?;
    let connection = &mut *state.connection().await?;
    let after = match after {
        Some(after) => Some(after.cursor(feed::reach(connection, caller.workspace_id).await?)?),
        None => None,
    };
    let part = feed::read(connection, caller.workspace_id, after, &filter, limit).await?;
    let next = part.next.to_string();
    let mut response = Json(part.events).into_response();
    match part.has_more {
        true => lead_on(&mut response, &host(&state), &uri, ("after", &next))?,
        false => {
            let next = HeaderValue::try_from(next).map_err(|error| Problem::internal(error.to_string()))?;
            response.headers_mut().insert(NEXT_CURSOR, next);
        }
    }
    Ok(response)
}
