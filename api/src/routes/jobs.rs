//! `/dev/crm/jobs`: long work, what it does and what it refused.

mod errors;
mod events;

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::error::Reason;
use shared::imports;
use shared::jobs;
use shared::queue::{self, Job};

use crate::AppState;
use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::lists;
use crate::respond::write::Write;
use crate::respond::{Reply, Result};

pub(crate) fn operations() -> Vec<Operation> {
    let jobs = [
        Operation::get("/jobs", list).named("listJobs", "List jobs").lists::<Job>(&jobs::LIST),
        Operation::get("/jobs/{jobId}", read).named("getJob", "Get a job").reads::<Job>(),
        Operation::post("/jobs/{jobId}/cancel", cancel)
            .named("cancelJob", "Cancel a job")
            .about("A job at work ends at its next step and keeps what its steps committed. One that has ended stays as it is.")
            .returns_record::<Job>(200, "The job, which has ended."),
        Operation::post("/jobs/{jobId}/retry", retry)
            .named("retryJob", "Retry a job that failed or was cancelled")
            .about("It resumes after its last committed step. One that waits for a retry is retried at once; any other that has not ended is returned as it is, and one that succeeded is a 409.")
            .conflicts([Reason::JobSucceeded, Reason::AlreadyRunning])
            .accepts(),
        Operation::post("/jobs/{jobId}/undo", undo)
            .named("undoJob", "Take an import back")
            .about(
                "What it made is removed, and what it changed gets its former values. Records that somebody else has \
                 touched since are left, and found at the new job's `errors`. 409 for a job that is no import, or has not ended.",
            )
            .conflicts([Reason::NotUndoable, Reason::JobUnfinished])
            .accepts(),
        errors::operation(),
        events::operation(),
    ];
    tagged("Jobs", jobs)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    lists::answer::<Job>(&state, caller.workspace_id, (&jobs::LIST, queue::COLUMNS), None, &uri, query).await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let job = queue::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&job)?.into_response())
}

async fn cancel(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&queue::cancel(connection, actor.workspace_id, id).await?) })
        })
        .await
}

async fn retry(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&queue::retry(connection, actor.workspace_id, id).await?) })
        })
        .await
}

async fn undo(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&imports::undo(connection, actor, id).await?) })
        })
        .await
}
