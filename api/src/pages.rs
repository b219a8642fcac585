//! Pages for people who follow a link out of a mail: no key, no scripts, nothing from elsewhere.
//!
//! Each is a file in `pages/`, whose values are escaped, inside `pages/layout.html`. Whatever goes wrong
//! on such a path is a page, too.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;
use serde_json::json;

use crate::respond::{Problem, Result};

/// Every page: a line for each.
const PAGES: &[(&str, &str)] = &[
    ("feedback", include_str!("pages/feedback.html")),
    ("layout", include_str!("pages/layout.html")),
    ("message", include_str!("pages/message.html")),
    ("thanks", include_str!("pages/thanks.html")),
    ("unsubscribe", include_str!("pages/unsubscribe.html")),
];

/// A page is kept nowhere, loads and runs nothing, is shown in no frame, sends its form nowhere else,
/// and its address, which is as good as a key, is told to nobody.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// Marks an answer that is a page, which stays one though it tells of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page;

/// A page: its status, its title, its file, and the values in it.
///
/// # Errors
/// 500 for a defect of the page's file.
pub fn page(status: StatusCode, title: &str, name: &str, values: &impl Serialize) -> Result {
    let content = render(name, Value::from(Serde(values)))?;
    let html = render("layout", Value::from(Serde(&json!({ "title": title, "content": content }))))?;
    let mut headers = HeaderMap::with_capacity(HEADERS.len());
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut response = (status, headers, html).into_response();
    response.extensions_mut().insert(Page);
    Ok(response)
}

/// A page that says one thing.
///
/// # Errors
/// As [`page`].
pub fn message(status: StatusCode, title: &str, text: &str) -> Result {
    page(status, title, "message", &json!({ "title": title, "text": text }))
}

/// The page for a link that leads nowhere: it was altered, broken by a mail program, or what it led to
/// is gone. Which of them is told to nobody.
///
/// # Errors
/// As [`page`].
pub fn unknown_link() -> Result {
    let text = "It may have been cut off on its way. Please open it once more from the mail, or copy all of it.";
    message(StatusCode::NOT_FOUND, "This link does not work", text)
}

fn render(name: &str, values: Value) -> Result<String> {
    static ENVIRONMENT: LazyLock<Result<Environment<'static>, String>> = LazyLock::new(|| {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        for (name, source) in PAGES {
            environment.add_template(name, source).map_err(|error| error.to_string())?;
        }
        Ok(environment)
    });
    let environment = ENVIRONMENT.as_ref().map_err(|error| Problem::internal(error.as_str()))?;
    let page = environment.get_template(name).and_then(|template| template.render(values));
    page.map_err(|error| Problem::internal(error.to_string()))
}

/// Makes a page of whatever a route of pages answers that is none: errors, of ours or the framework's,
/// and panics.
pub(crate) async fn dress(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| Problem::internal("the handler panicked").into_response());
    if answer.extensions().get::<Page>().is_some() {
        return answer;
    }
    let status = answer.status();
    let (title, text) = match status {
        // The path is all that such a link has: one that cannot be read is none.
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => return unknown_link().unwrap_or(answer),
        StatusCode::PAYLOAD_TOO_LARGE => ("This is too much", "Please send a shorter text."),
        _ if status.is_server_error() => ("This did not work", "It is our fault. Please try again in a few minutes."),
        _ => ("This did not work", "Please open the link in the mail once more."),
    };
    let Ok(page) = message(status, title, text) else { return answer };
    let (head, body) = page.into_parts();
    let (mut former, _) = answer.into_parts();
    // What else was said, such as `Allow` or what the log is to have, stays.
    former.headers.remove(CONTENT_LENGTH);
    former.headers.extend(head.headers);
    former.extensions.insert(Page);
    Response::from_parts(former, body)
}
