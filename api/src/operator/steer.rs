//! What operators do.

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Extension, FromRequest, Path as Segment, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
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

/// A JSON object as the body; no body is an empty object.
pub(super) struct Body(Object);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let bytes = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| Problem::too_large())?;
        if bytes.is_empty() {
            return Ok(Self(Object::new(serde_json::Map::new())));
        }
        Ok(Self(object(&bytes).map(Object::new).map_err(shared::Error::from)?))
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

/// The handlers of the routes whose body selects jobs or emails.
macro_rules! by_selection {
    ($($(#[$meta:meta])* $name:ident: $variant:ident($decision:expr);)+) => {
        $(
            $(#[$meta])*
            pub(super) async fn $name(
                State(steering): State<Steering>,
                Extension(by): Extension<By>,
                _: NoQuery,
                Body(body): Body,
            ) -> Result {
                act(steering, by, Command::$variant($decision, selection::body(body)?)).await
            }
        )+
    };
}

by_selection! {
    retry_jobs: Jobs(JobDecision::Retry);
    cancel_jobs: Jobs(JobDecision::Cancel);
    resend_emails: Emails(Decision::Resend);
    mark_emails_sent: Emails(Decision::MarkSent);
    cancel_emails: Emails(Decision::Cancel);
}

/// The handlers of the routes that pause and resume.
macro_rules! pausing {
    ($($pause:ident, $resume:ident: $target:ident;)+) => {
        $(
            pub(super) async fn $pause(
                State(steering): State<Steering>,
                Extension(by): Extension<By>,
                Segment(name): Segment<String>,
                _: NoQuery,
                Body(body): Body,
            ) -> Result {
                act(steering, by, Command::Pause(Paused::$target(name), reason(body)?)).await
            }

            pub(super) async fn $resume(
                State(steering): State<Steering>,
                Extension(by): Extension<By>,
                Segment(name): Segment<String>,
                _: NoQuery,
                Body(body): Body,
            ) -> Result {
                body.finish().map_err(Problem::from)?;
                act(steering, by, Command::Resume(Paused::$target(name))).await
            }
        )+
    };
}

pausing! {
    pause_queue, resume_queue: Queue;
    pause_kind, resume_kind: Kind;
    pause_workspace, resume_workspace: Workspace;
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

pub(super) async fn suspend(
    State(steering): State<Steering>,
    Extension(by): Extension<By>,
    Segment(workspace): Segment<String>,
    _: NoQuery,
    Body(body): Body,
) -> Result {
    body.finish()?;
    act(steering, by, Command::Suspend(workspace)).await
}

pub(super) async fn unsuspend(
    State(steering): State<Steering>,
    Extension(by): Extension<By>,
    Segment(workspace): Segment<String>,
    _: NoQuery,
    Body(body): Body,
) -> Result {
    body.finish()?;
    act(steering, by, Command::Unsuspend(workspace)).await
}

pub(super) async fn drain(
    State(steering): State<Steering>,
    Extension(by): Extension<By>,
    Path(id): Path,
    _: NoQuery,
    Body(body): Body,
) -> Result {
    body.finish()?;
    act(steering, by, Command::Drain(id)).await
}

pub(super) async fn undrain(
    State(steering): State<Steering>,
    Extension(by): Extension<By>,
    Path(id): Path,
    _: NoQuery,
    Body(body): Body,
) -> Result {
    body.finish()?;
    act(steering, by, Command::Undrain(id)).await
}
