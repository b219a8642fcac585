//! `/dev/crm/{leads}/import`: files go in, piece by piece, and come out as a job.

use axum::Router;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use shared::error::FieldError;
use shared::imports::{ImportLeads, Importable, Options, Upload};
use shared::jobs::{Job, Payload};
use shared::leads::Lead;
use uuid::Uuid;

use crate::AppState;
use crate::auth::Caller;
use crate::extract::Query;
use crate::respond::{Problem, Result, accepted};

pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/leads/import", post(import_leads))
}

async fn import_leads(State(state): State<AppState>, caller: Caller, query: Query, request: Request) -> Result {
    let job = import::<Lead, _>(&state, &caller, &query, request, |import_id| ImportLeads { import_id }).await?;
    accepted(&job)
}

async fn import<R: Importable, P: Payload>(
    state: &AppState,
    caller: &Caller,
    Query(parameters): &Query,
    request: Request,
    payload: impl FnOnce(Uuid) -> P,
) -> Result<Job> {
    let mut form = multipart(request).await?;
    let mut upload = Upload::new::<R>(caller.workspace_id, Options::parse(parameters)?);
    if let Err(problem) = receive(state, &mut form, &mut upload).await {
        upload.abandon(&state.pool).await?;
        return Err(problem);
    }
    let job = upload.accept(&state.pool, payload, &caller.request_id).await?;
    state.doorbell.ring(P::QUEUE);
    Ok(job)
}

async fn multipart(request: Request) -> Result<Multipart> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return Err(Problem::unsupported("multipart/form-data"));
    }
    Multipart::from_request(request, &())
        .await
        .map_err(|_| fault("boundary", "required", "is missing in the Content-Type"))
}

/// Takes the form: exactly one part, the file.
async fn receive(state: &AppState, form: &mut Multipart, upload: &mut Upload) -> Result<()> {
    let mut files = 0;
    while let Some(part) = form.next_field().await? {
        match part.name() {
            Some("file") if files == 0 => receive_file(state, part, upload).await?,
            Some("file") => return Err(fault("file", "duplicate", "is there twice")),
            name => {
                return Err(fault(
                    name.unwrap_or("file"),
                    "unknown",
                    "is not a known part; options are query parameters",
                ));
            }
        }
        files += 1;
    }
    if files == 1 { Ok(()) } else { Err(fault("file", "required", "is required")) }
}

async fn receive_file(state: &AppState, mut part: Field<'_>, upload: &mut Upload) -> Result<()> {
    let mut room = state.settings.imports.max_bytes;
    while let Some(piece) = part.chunk().await? {
        room = room.checked_sub(piece.len() as u64).ok_or_else(Problem::too_large)?;
        upload.feed(&state.pool, &piece).await?;
    }
    Ok(())
}

fn fault(field: &str, code: &'static str, message: &'static str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, code, message)])
}
