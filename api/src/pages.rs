//! Pages for people who follow a link in an email: no key, no scripts, no external resources.
//!
//! Each page is a template in `pages/`, inside `pages/layout.html`; values are escaped. Errors on
//! these paths are pages, too.

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

/// All templates.
const PAGES: &[(&str, &str)] = &[
    ("feedback", include_str!("pages/feedback.html")),
    ("layout", include_str!("pages/layout.html")),
    ("message", include_str!("pages/message.html")),
    ("thanks", include_str!("pages/thanks.html")),
    ("unsubscribe", include_str!("pages/unsubscribe.html")),
];

/// Pages are not cached or framed, load nothing and run no scripts, and submit forms only to this
/// server. Their URL contains a secret token, so browsers must not send it as a referrer.
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

/// Marks a response as a page, so that an error is not replaced by JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page;

/// Renders the template `name` with values.
///
/// # Errors
/// 500 for a defect in the template.
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

/// A page with a single message.
///
/// # Errors
/// As [`page`].
pub fn message(status: StatusCode, title: &str, text: &str) -> Result {
    page(status, title, "message", &json!({ "title": title, "text": text }))
}

/// The page for an invalid link: it was altered, broken by an email program, or its record no
/// longer exists. The page does not reveal which.
///
/// # Errors
/// As [`page`].
pub fn unknown_link() -> Result {
    let text = "It may be incomplete. Please open it again from the email, or copy the whole link.";
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

/// Turns every other response of a page's route into a page: our errors, the framework's errors,
/// and panics.
pub(crate) async fn ensure_page(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| Problem::internal("the handler panicked").into_response());
    if answer.extensions().get::<Page>().is_some() || answer.status().is_success() {
        return answer;
    }
    let status = answer.status();
    let (title, text) = match status {
        // The path is all there is to a link, so an unreadable path is an invalid link.
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => return unknown_link().unwrap_or(answer),
        StatusCode::PAYLOAD_TOO_LARGE => ("This is too long", "Please send a shorter text."),
        StatusCode::TOO_MANY_REQUESTS => ("Too many requests", "Please try again in a moment."),
        _ if status.is_server_error() => {
            ("Something went wrong", "This is our fault. Please try again in a few minutes.")
        }
        _ => ("Something went wrong", "Please open the link in the email again."),
    };
    let Ok(page) = message(status, title, text) else { return answer };
    let (head, body) = page.into_parts();
    // Other headers and extensions stay, such as `Allow` or the detail for the log.
    let (mut original, _) = answer.into_parts();
    original.headers.remove(CONTENT_LENGTH);
    original.headers.extend(head.headers);
    original.extensions.insert(Page);
    Response::from_parts(original, body)
}
