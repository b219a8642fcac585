//! What operators do.

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path as Segment, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use shared::error::FieldError;
use shared::operations::actions::{self, By};
use shared::operations::command::{Command, Paused, Refusal};
use shared::operations::emails::Decision;
use shared::operations::jobs::JobDecision;
use shared::operations::selection;
use shared::values::json::object;
use shared::values::json_body::Object;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{MAX_BODY, data};
use crate::AppState;
use crate::extract::{NoQuery, Path};
use crate::respond::{Problem, Result};

/// How long a request waits for its action, which continues after that.
const PATIENCE: Duration = Duration::from_millis(800);

/// The state of these routes.
#[derive(Debug, Clone)]
pub(crate) struct Steering {
    pub state: AppState,
    /// Actions that continue after their responses.
    pub tasks: TaskTracker,
}

/// What an operator asks for: without a query, and with a JSON object as the body; no body is an empty object.
pub(super) struct Asked {
    steering: Steering,
    by: By,
    body: Object,
}

impl FromRequest<Steering> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, steering: &Steering) -> Result<Self> {
        let (mut head, body) = request.into_parts();
        let by = head.extensions.get::<By>().cloned().ok_or_else(|| Problem::internal("the operator is not known"))?;
        NoQuery::from_request_parts(&mut head, steering).await?;
        let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| Problem::too_large())?;
        let fields = if bytes.is_empty() { Map::new() } else { object(&bytes).map_err(shared::Error::from)? };
        Ok(Self { steering: steering.clone(), by, body: Object::new(fields) })
    }
}

impl Asked {
    /// Does what a command says that takes nothing from the body.
    async fn act(self, command: Command) -> Result {
        let command = |body: Object| {
            body.finish()?;
            Ok(command)
        };
        self.act_on(command).await
    }

    /// Does what a command says that is read from the body.
    async fn act_on(self, command: impl FnOnce(Object) -> Result<Command>) -> Result {
        let Self { steering, by, body } = self;
        act(steering, by, command(body)?).await
    }

    /// Changes the selected jobs.
    async fn change_jobs(self, decision: JobDecision) -> Result {
        self.act_on(|body| Ok(Command::Jobs(decision, selection::body(body)?))).await
    }

    /// Changes the selected emails.
    async fn change_emails(self, decision: Decision) -> Result {
        self.act_on(|body| Ok(Command::Emails(decision, selection::body(body)?))).await
    }

    /// Pauses something, for the reason in the body.
    async fn pause(self, paused: Paused) -> Result {
        self.act_on(|body| Ok(Command::Pause(paused, reason(body)?))).await
    }
}

/// Does what a command says. If that takes long, the response has the id of the action, which continues.
async fn act(Steering { state, tasks }: Steering, by: By, command: Command) -> Result {
    let mut connection = state.connection().await?;
    let prepared = match command.prepare(&mut connection).await {
        Ok(prepared) => prepared,
        Err(Refusal::CountDiffers { matched }) => return Ok(count_differs(matched)),
        Err(Refusal::Failed(error)) => return Err(error.into()),
    };
    let begun = prepared.begin(&mut connection, &by).await?;
    let (id, cut_off) = (begun.id, state.cut_off.clone());
    let action = tasks.spawn(async move { cut_off.run_until_cancelled(begun.run(&mut connection)).await });
    match timeout(PATIENCE, action).await {
        Ok(Ok(Some(Ok(action)))) => data(action),
        Ok(Ok(Some(Err(error)))) => Err(error.into()),
        Ok(Ok(None)) => Err(Problem::unavailable("The server is stopping; the action has no end")),
        Ok(Err(panic)) => Err(Problem::internal(panic.to_string())),
        Err(_) => {
            let action = actions::get(&mut *state.connection().await?, id).await?;
            let location = [("location", format!("/operator/actions/{id}"))];
            Ok((StatusCode::ACCEPTED, location, data(action)?).into_response())
        }
    }
}

/// 409 with the number of jobs or emails that match.
fn count_differs(matched: i64) -> Response {
    let message = format!("{matched} match; nothing was changed");
    let error = FieldError::new("expect", "count_differs", format!("must be the number that matches, {matched}"));
    (StatusCode::CONFLICT, Json(json!({ "message": message, "errors": [error], "matched": matched }))).into_response()
}

/// The only field of the body.
fn reason(mut body: Object) -> Result<Option<String>> {
    let reason = body.take_value("reason");
    body.finish()?;
    match reason {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(reason)) => Ok(Some(reason)),
        Some(_) => Err(Problem::invalid(vec![FieldError::new("reason", "invalid", "must be a string")])),
    }
}

pub(super) async fn retry_jobs(asked: Asked) -> Result {
    asked.change_jobs(JobDecision::Retry).await
}

pub(super) async fn cancel_jobs(asked: Asked) -> Result {
    asked.change_jobs(JobDecision::Cancel).await
}

pub(super) async fn resend_emails(asked: Asked) -> Result {
    asked.change_emails(Decision::Resend).await
}

pub(super) async fn mark_emails_sent(asked: Asked) -> Result {
    asked.change_emails(Decision::MarkSent).await
}

pub(super) async fn cancel_emails(asked: Asked) -> Result {
    asked.change_emails(Decision::Cancel).await
}

pub(super) async fn pause_queue(Segment(name): Segment<String>, asked: Asked) -> Result {
    asked.pause(Paused::Queue(name)).await
}

pub(super) async fn resume_queue(Segment(name): Segment<String>, asked: Asked) -> Result {
    asked.act(Command::Resume(Paused::Queue(name))).await
}

pub(super) async fn pause_kind(Segment(name): Segment<String>, asked: Asked) -> Result {
    asked.pause(Paused::Kind(name)).await
}

pub(super) async fn resume_kind(Segment(name): Segment<String>, asked: Asked) -> Result {
    asked.act(Command::Resume(Paused::Kind(name))).await
}

pub(super) async fn pause_workspace(Segment(name): Segment<String>, asked: Asked) -> Result {
    asked.pause(Paused::Workspace(name)).await
}

pub(super) async fn resume_workspace(Segment(name): Segment<String>, asked: Asked) -> Result {
    asked.act(Command::Resume(Paused::Workspace(name))).await
}

pub(super) async fn suspend(Segment(workspace): Segment<String>, asked: Asked) -> Result {
    asked.act(Command::Suspend(workspace)).await
}

pub(super) async fn unsuspend(Segment(workspace): Segment<String>, asked: Asked) -> Result {
    asked.act(Command::Unsuspend(workspace)).await
}

pub(super) async fn drain(Path(worker): Path, asked: Asked) -> Result {
    asked.act(Command::Drain(worker)).await
}

pub(super) async fn undrain(Path(worker): Path, asked: Asked) -> Result {
    asked.act(Command::Undrain(worker)).await
}
