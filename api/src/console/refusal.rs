//! Errors of pages.

use std::panic::AssertUnwindSafe;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::Deserialize;

use super::layout;
use crate::pages::Page;
use crate::respond::{Detail, Problem};

/// The result of pages.
pub(crate) type Result<T = Response, E = Refusal> = std::result::Result<T, E>;

/// The most bytes of an error that are read.
const MAX_BYTES: usize = 1024 * 1024;

/// Why a page cannot be shown or a form had no effect: an error of the API, or of the console itself.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// A sentence for people.
    pub message: String,
    /// What is wrong with which field.
    pub errors: Vec<Fault>,
    /// What is wrong with this program, for the log.
    pub detail: Option<Detail>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Fault {
    /// The name of the field, as the API names it.
    #[serde(default)]
    pub field: String,
    /// What is wrong with it, after its name.
    #[serde(default)]
    pub message: String,
    /// A word for programs.
    #[serde(default)]
    pub code: String,
    /// The id of the record that it conflicts with.
    #[serde(default)]
    pub id: Option<String>,
}

/// The body of an error of the API.
#[derive(Deserialize)]
struct ErrorBody {
    message: String,
    #[serde(default)]
    errors: Vec<Fault>,
}

impl Refusal {
    /// A refusal of the console itself.
    pub fn of(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: Vec::new(), detail: None }
    }

    /// A refusal of what was entered in a field.
    pub fn of_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = Fault { field: field.into(), message: message.into(), code: "invalid".to_owned(), id: None };
        Self { errors: vec![fault], ..Self::of(StatusCode::BAD_REQUEST, "Invalid request parameters") }
    }

    /// What is wrong with a field, for a person.
    pub fn about(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|fault| fault.field == field).map(|fault| fault.message.as_str())
    }

    /// Whether a form can be shown again with what is wrong with it.
    pub fn is_about_input(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 403 | 404 | 409 | 412 | 413 | 422 | 429)
    }

    /// Reads an error of the API.
    pub async fn from_answer(answer: Response) -> Self {
        let (status, detail) = (answer.status(), answer.extensions().get().cloned());
        let bytes = to_bytes(answer.into_body(), MAX_BYTES).await.unwrap_or_default();
        match serde_json::from_slice(&bytes) {
            Ok(ErrorBody { message, errors }) => Self { status, message, errors, detail },
            Err(_) => Self { detail, ..Self::of(status, "The API gave no reason.") },
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let body = serde_json::to_vec(&problem.body()).ok().and_then(|body| serde_json::from_slice(&body).ok());
        let ErrorBody { message, errors } = body.unwrap_or(ErrorBody { message: String::new(), errors: Vec::new() });
        Self { status: problem.status(), message, errors, detail: problem.detail() }
    }
}

impl From<shared::Error> for Refusal {
    fn from(error: shared::Error) -> Self {
        Problem::from(error).into()
    }
}

/// A response that a layer replaces by a page.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The page for unknown paths.
pub(super) async fn not_found() -> Refusal {
    Refusal::of(StatusCode::NOT_FOUND, "There is no such page.")
}

/// Turns every error that is no page yet into one, for visitors who are not known: our errors, the framework's, and
/// panics.
pub(super) async fn ensure_page(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut answer = answer.unwrap_or_else(|_| Problem::internal("a page panicked").into_response());
    if answer.extensions().get::<Page>().is_some()
        || !(answer.status().is_client_error() || answer.status().is_server_error())
    {
        return answer;
    }
    let refusal = match answer.extensions_mut().remove::<Refusal>() {
        Some(refusal) => refusal,
        None => Refusal::from_answer(answer).await,
    };
    layout::refused_to_nobody(&refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_detail_of_a_defect_reaches_the_log_and_no_page() {
        let of_the_api = Refusal::from_answer(Problem::internal("a secret").into_response()).await;
        for refusal in [of_the_api, Problem::internal("a secret").into()] {
            let page = layout::refused_to_nobody(&refusal);
            assert_eq!(page.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert!(page.extensions().get::<Detail>().is_some());
            let html = to_bytes(page.into_body(), MAX_BYTES).await.unwrap();
            assert!(!String::from_utf8_lossy(&html).contains("a secret"));
        }
    }
}
