//! `/dev/crm/schedules`: jobs that start at their times.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use shared::accounts::scopes::Scope;
use shared::error::Reason;
use shared::schedule::{self, Schedule, ScheduledRun};
use utoipa::ToSchema;
use utoipa::openapi::ResponseBuilder;

use crate::AppState;
use crate::extract::{JsonObject, NoBody, NoQuery, Path, Query};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::{headers, parameters, schemas};
use crate::respond::Result;
use crate::respond::lists::{self, Page};
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let schedules = [
        Operation::get("/schedules", list).needs(Scope::Workflows).named("list", "List schedules").lists::<Schedule>(&schedule::LIST),
        Operation::post("/schedules", create).needs(Scope::Workflows)
            .named("create", "Create a schedule")
            .about(
                "Starts a job at each of its times. Exactly one job is started for each time, within seconds, whatever \
                 processes or machines fail. A run that writes emails is stopped if they are unusually many, as the \
                 nightly run is. A workspace has at most 100 schedules, with its nightly run; the next one returns 409.",
            )
            .takes("ScheduleCreate".to_owned(), schedule::create_schema())
            .refers()
            .conflicts([Reason::LimitReached])
            .returns_record::<Schedule>(201, "The created schedule."),
        Operation::get("/schedules/{scheduleId}", read).needs(Scope::Workflows).named("get", "Get a schedule").reads::<Schedule>(),
        Operation::put("/schedules/{scheduleId}", update).needs(Scope::Workflows)
            .named("update", "Update a schedule")
            .about(
                "Changes only the fields in the body. A new time counts from now on. The time of the nightly run is \
                 that in the workspace's settings, and read-only here.",
            )
            .takes("ScheduleUpdate".to_owned(), schedule::update_schema())
            .refers()
            .returns_record::<Schedule>(200, "The updated schedule."),
        Operation::delete("/schedules/{scheduleId}", delete).needs(Scope::Workflows)
            .named("delete", "Delete a schedule")
            .about(
                "Also deletes the list of its runs. Jobs that wait for an earlier job of the schedule are cancelled; \
                 other jobs continue. Returns 409 for the nightly run, which can be paused.",
            )
            .conflicts([Reason::NotDeletable])
            .deletes(),
        Operation::post("/schedules/{scheduleId}/run", run).needs(Scope::Workflows)
            .named("run", "Run a schedule now")
            .about(
                "Starts its job now, also while the schedule is paused. The nightly run takes place once for each date: \
                 if it has, its job is returned, and retried if it failed. Returns what the request that starts such a \
                 job returns.",
            )
            .refers()
            .conflicts([
                Reason::OpenRequest,
                Reason::Blocked,
                Reason::Suppressed,
                Reason::NotUndoable,
                Reason::JobUnfinished,
                Reason::AlreadyRun,
            ])
            .accepts_any(),
        Operation::post("/schedules/{scheduleId}/pause", pause).needs(Scope::Workflows)
            .named("pause", "Pause a schedule")
            .about("The schedule starts no jobs until it is resumed. Jobs that it has started continue.")
            .returns_record::<Schedule>(200, "The paused schedule."),
        Operation::post("/schedules/{scheduleId}/resume", resume).needs(Scope::Workflows)
            .named("resume", "Resume a schedule")
            .about("The schedule runs at its next time. Times that passed during the pause are not made up.")
            .returns_record::<Schedule>(200, "The schedule."),
        runs_operation(),
    ];
    tagged("Schedules", schedules)
}

fn runs_operation() -> Operation {
    let response = ResponseBuilder::new()
        .description("The runs, newest first.")
        .content("application/json", schemas::content(schemas::array(&ScheduledRun::name())))
        .header_ref("Link", headers::reference("Link"))
        .header_ref("X-Next-Cursor", headers::reference("X-Next-Cursor"));
    let [limit, cursor, _] = parameters::of_page();
    Operation::get("/schedules/{scheduleId}/runs", runs).needs(Scope::Workflows)
        .named("runs", "List the runs of a schedule")
        .about(
            "Lists each time at which the schedule ran, with its job, and each at which it did not, with the reason. Runs \
             are kept for 30 days, nightly runs for 400 days. Of the times that were missed in a row, the latest 100 are \
             listed.",
        )
        .with([limit, cursor])
        .answers(200, response)
        .knows(schemas::of::<ScheduledRun>())
}

async fn list(State(state): State<AppState>, caller: Caller, uri: Uri, query: Query) -> Result {
    let how = (&schedule::LIST, schedule::COLUMNS);
    lists::answer::<Schedule>(&state, caller.workspace_id, how, None, &uri, query).await
}

async fn create(caller: Caller, write: Write, _: NoQuery, JsonObject { object, bytes }: JsonObject) -> Result {
    write
        .run(&bytes, move |connection, actor| {
            let object = object.clone();
            Box::pin(async move {
                let schedule = schedule::create(connection, (actor, caller.scopes), object).await?;
                Reply::created(format!("/dev/crm/schedules/{}", schedule.id), &schedule)
            })
        })
        .await
}

async fn read(State(state): State<AppState>, caller: Caller, Path(id): Path, _: NoQuery) -> Result {
    let schedule = schedule::get(&mut *state.connection().await?, caller.workspace_id, id).await?;
    Ok(Reply::record(&schedule)?.into_response())
}

async fn update(
    Path(id): Path,
    caller: Caller,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let condition = write.condition.clone();
    write
        .run(&bytes, move |connection, actor| {
            let (object, condition) = (object.clone(), condition.clone());
            Box::pin(async move {
                Reply::record(&schedule::update(connection, (actor, caller.scopes), id, object, &condition).await?)
            })
        })
        .await
}

async fn delete(Path(id): Path, write: Write, _: NoQuery) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                schedule::delete(connection, actor, id, &condition).await?;
                Ok(Reply::no_content())
            })
        })
        .await
}

async fn run(Path(id): Path, caller: Caller, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&schedule::run_now(connection, (actor, caller.scopes), id).await?) })
        })
        .await
}

async fn pause(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&schedule::pause(connection, actor, id).await?) })
        })
        .await
}

async fn resume(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::record(&schedule::resume(connection, actor, id).await?) })
        })
        .await
}

async fn runs(State(state): State<AppState>, caller: Caller, Path(id): Path, uri: Uri, query: Query) -> Result {
    let page = Page::parse(&state, caller.workspace_id, &uri, &query).await?;
    let connection = &mut *state.connection().await?;
    schedule::get(connection, caller.workspace_id, id).await?;
    let wanted = i64::from(page.limit) + 1;
    let mut runs = schedule::list_runs(connection, caller.workspace_id, id, page.before, wanted).await?;
    let has_more = runs.len() > page.limit as usize;
    runs.truncate(page.limit as usize);
    let last = runs.last().map(|run| run.id).filter(|_| has_more);
    let mut response = Json(runs).into_response();
    page.link(&uri, last, &mut response)?;
    Ok(response)
}
