//! The page that shows a secret: once, in the answer to the form that created it, and nowhere else.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use crate::console::parts;
use crate::console::session::Visit;

/// A secret to show.
pub(super) struct Secret<'a> {
    /// What people call it, such as `API key`.
    pub label: &'a str,
    /// The secret; `None` if the same form was sent before, and its answer had the secret.
    pub value: Option<String>,
    /// What to know about it.
    pub about: Markup,
    /// Where to go on.
    pub next: String,
}

/// The page that shows a secret. It is not stored by browsers, and its address has no secret.
pub(super) fn page(visit: &Visit, tab: &str, title: &str, secret: Secret<'_>) -> Response {
    let Secret { label, value, about, next } = secret;
    let content = html! {
        @match &value {
            Some(value) => {
                p { strong { "Copy it now. It is shown only here." } }
                div.field {
                    label for="secret" { (label) }
                    input #secret.code type="text" value=(value) readonly autocomplete="off" spellcheck="false";
                }
                p { (about) }
            },
            None => (parts::empty("This form was sent before", &html! {
                "The " (label) " was shown then, and is not stored. If you did not copy it, rotate it."
            })),
        }
        p { a.button href=(next) { "Continue" } }
    };
    super::page_with(StatusCode::OK, visit, tab, title, &html! {}, &content)
}
