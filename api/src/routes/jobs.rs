//! `/dev/crm/jobs`: long-running work, its progress and its rejected rows.

mod errors;
mod events;
mod records;

use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::accounts::scopes::Scope;
use shared::bulk;
use shared::error::Reason;
use shared::events::EventType;
use shared::jobs::{self, JobUse};
use shared::query::Columns;
use shared::query::parameters::{Parameters, whole};
use shared::queue::{self, Job};

use crate::AppState;
use crate::extract::{Confirm, NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::http::waits::{MAX_WAIT_S, WaitFor};
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters;
use crate::respond::Result;
use crate::respond::lists;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let jobs = [
        Operation::get("/jobs", list)
            .needs_scope_of_job(JobUse::Follow)
            .named("list", "List jobs")
            .lists::<Job>(&jobs::LIST),
        Operation::get("/jobs/{jobId}", read)
            .needs_scope_of_job(JobUse::Follow)
            .shows_job()
            .named("get", "Get a job")
            .with([parameters::wait()])
            .reads::<Job>()
            .returns_header(200, "Preference-Applied"),
        Operation::post("/jobs/{jobId}/cancel", cancel)
            .needs_scope_of_job(JobUse::Follow)
            .shows_job()
            .named("cancel", "Cancel a job")
            .about("A running job stops at its next step; the steps it committed are kept. A job that has ended is returned unchanged.")
            .returns_record::<Job>(200, "The job in its final state."),
        Operation::post("/jobs/{jobId}/retry", retry)
            .needs_scope_of_job(JobUse::Retry)
            .named("retry", "Retry a failed or cancelled job")
            .about("Resumes the job after its last committed step. A job that waits for a retry is retried at once; any other job that has not ended is returned unchanged. Returns 409 for a job that succeeded.\n\nA run of nurture, follow-ups or reminders that nobody asked for fails with an error that begins with `too_many_emails` and names the number, if that is more than the workspace's `max_emails_per_run`, or unusual compared with the runs of the last 30 days. It has written nothing. `confirm` lets it write that many.")
            .confirms()
            .conflicts([Reason::JobSucceeded, Reason::AlreadyRunning])
            .accepts_any(),
        Operation::post("/jobs/{jobId}/undo", undo)
            .needs_scope_of_job(JobUse::Undo)
            .named("undo", "Undo an import or a bulk change")
            .about(
                "Deletes the records that the job created or restored, restores those that it deleted and the previous \
                 values of those that it updated, and takes back the suppressions that its file made. Records that were \
                 changed after the job are left as they are and listed at the new job's `errors`. Returns 409 for a \
                 job that is neither an import nor a bulk change, that converted leads, or that has not ended.",
            )
            .conflicts([Reason::NotUndoable, Reason::JobUnfinished])
            .accepts_any(),
        errors::operation(),
        records::operation(),
        events::operation(),
    ];
    tagged("Jobs", jobs)
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    let selected = match caller.scopes.allows(Scope::RecordsRead) {
        true => queue::COLUMNS,
        false => queue::COLUMNS_WITHOUT_PREVIEWS,
    };
    let list = (jobs::list_for(caller.scopes), Columns { stored: queue::COLUMNS, selected });
    lists::answer::<Job>(&state, caller.workspace_id, list, None, &uri, query).await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, Query(parameters): Query) -> Result {
    let mut given = Parameters::new(&parameters);
    let wait = given.take_as("wait", |text| whole(text, 0..=MAX_WAIT_S));
    given.finish()?;
    let job = queue::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    let mut response = Reply::record(&job)?.into_response();
    if let Some(seconds) = wait {
        response.extensions_mut().insert(WaitFor { job_id: id, seconds });
    }
    Ok(response)
}

async fn cancel(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&jobs::cancel(connection, actor, id).await?) })
        })
        .await
}

async fn retry(Path(id): Path, write: Write, Confirm(confirm): Confirm, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move {
                let job = jobs::retry(connection, actor.workspace_id, id, confirm).await?;
                jobs::report(connection, actor, EventType::JobRetried, &job).await?;
                Reply::accepted(&job)
            })
        })
        .await
}

async fn undo(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&bulk::undo(connection, actor, id).await?) })
        })
        .await
}
