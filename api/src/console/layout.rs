//! The frame of every page: its head, navigation and headers.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use shared::accounts::scopes::Scope;

use super::assets;
use super::forms::{button, form};
use super::refusal::Refusal;
use super::session::Visit;
use crate::pages::Page;

/// With `no-referrer`, a browser would send `Origin: null` with the console's own forms.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "same-origin"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// Pages load only their own stylesheet, script and icon, and talk to this server only.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Of the page that shows an email in a frame.
const POLICY_WITH_FRAME: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Of an email in a frame.
const POLICY_OF_FRAME: &str =
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'";

/// The parts of the console, with the scopes of which a key needs one to see anything there.
const PLACES: [(&str, &str, &[Scope]); 9] = [
    ("/console", "Overview", &[Scope::RecordsRead]),
    ("/console/leads", "Leads", &[Scope::RecordsRead]),
    ("/console/customers", "Customers", &[Scope::RecordsRead]),
    ("/console/orders", "Orders", &[Scope::RecordsRead]),
    ("/console/imports", "Imports", &[Scope::Imports]),
    ("/console/jobs", "Jobs", &Scope::STARTING),
    ("/console/emails", "Emails", &[Scope::EmailsRead]),
    ("/console/feedback", "Feedback", &[Scope::RecordsRead]),
    ("/console/reports", "Reports", &[Scope::RecordsRead]),
];

/// A page.
pub(crate) fn page(visit: &Visit, title: &str, content: &Markup) -> Response {
    page_with(StatusCode::OK, visit, title, content)
}

/// A page with a status, such as that of a form that was refused.
pub(crate) fn page_with(status: StatusCode, visit: &Visit, title: &str, content: &Markup) -> Response {
    page_in(status, &Frame::of(visit), title, content)
}

/// A page that shows a frame of the console's own.
pub(crate) fn page_with_frame(visit: &Visit, title: &str, content: &Markup) -> Response {
    respond(StatusCode::OK, POLICY_WITH_FRAME, &document(title, &Frame::of(visit).around(content)))
}

/// An email in a frame: it runs no scripts, loads nothing, and cannot reach the page around it.
pub(crate) fn frame(html: &str) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY_OF_FRAME),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "SAMEORIGIN"),
    ];
    (headers, html.to_owned()).into_response()
}

/// A page for someone who is not signed in.
pub(super) fn bare(status: StatusCode, title: &str, content: &Markup) -> Response {
    respond(status, POLICY, &document(title, &html! { main.bare { (content) } }))
}

/// The page of an error.
pub(super) fn refused(visit: &Visit, refusal: &Refusal) -> Response {
    refused_in(&Frame::of(visit), refusal)
}

/// The page of an error, for someone who is not known.
pub(super) fn refused_to_nobody(refusal: &Refusal) -> Response {
    logged(refusal, bare(refusal.status, title_of(refusal.status), &about(refusal)))
}

/// The response, with what the log says about it.
fn logged(refusal: &Refusal, mut response: Response) -> Response {
    if let Some(detail) = refusal.detail.clone() {
        response.extensions_mut().insert(detail);
    }
    response
}

fn title_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "Not allowed",
        404 => "Not found",
        413 => "Too large",
        429 => "Too many requests",
        503 => "Unavailable",
        500.. => "Something went wrong",
        _ => "This did not work",
    }
}

fn about(refusal: &Refusal) -> Markup {
    html! {
        h1 { (title_of(refusal.status)) }
        p { (refusal.message) }
        @if !refusal.errors.is_empty() {
            ul { @for fault in &refusal.errors { li { code { (fault.field) } " " (fault.message) } } }
        }
        p { a href="/console" { "Back to the overview" } }
    }
}

fn respond(status: StatusCode, policy: &'static str, html: &Markup) -> Response {
    let mut headers: HeaderMap =
        HEADERS.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let mut response = (status, headers, html.0.clone()).into_response();
    response.extensions_mut().insert(Page);
    response
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                meta name="color-scheme" content="light dark";
                title { (title) " · CRM" }
                link rel="icon" href=(assets::icon()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::style());
                script type="module" src=(assets::script()) {}
            }
            body { (body) }
        }
    }
}

/// What is around the content of a page.
pub(super) struct Frame {
    /// Where one is, where one can go, and who is signed in.
    pub side: Markup,
    /// What the last form did.
    pub notice: Markup,
}

impl Frame {
    fn of(visit: &Visit) -> Self {
        let side = html! {
            p.workspace { (visit.workspace) }
            (places(visit))
            div.account {
                p.quiet { "Signed in with the key " strong { (visit.key) } }
                (button(visit, "/console/sign-out", "Sign out"))
            }
        };
        Self { side, notice: notice(visit) }
    }

    fn around(&self, content: &Markup) -> Markup {
        html! {
            a.skip href="#content" { "Skip to the content" }
            div.frame {
                header.side { (self.side) }
                main #content tabindex="-1" {
                    (self.notice)
                    (content)
                }
            }
        }
    }
}

/// A page in this frame.
pub(super) fn page_in(status: StatusCode, frame: &Frame, title: &str, content: &Markup) -> Response {
    respond(status, POLICY, &document(title, &frame.around(content)))
}

/// The page of an error in this frame.
pub(super) fn refused_in(frame: &Frame, refusal: &Refusal) -> Response {
    logged(refusal, page_in(refusal.status, frame, title_of(refusal.status), &about(refusal)))
}

fn places(visit: &Visit) -> Markup {
    // Everyone sees the settings, which say what the key may do.
    let can_see = |scopes: &[Scope]| scopes.is_empty() || scopes.iter().any(|scope| visit.may(*scope));
    let is_here = |path: &str| match path {
        "/console" => visit.path == "/console" || visit.path == "/console/",
        path => visit.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    };
    let places = PLACES.into_iter().chain([("/console/settings", "Settings", &[][..])]);
    html! {
        nav.places aria-label="Console" {
            @for (path, name, _) in places.filter(|(_, _, scopes)| can_see(scopes)) {
                a href=(path) aria-current=[is_here(path).then_some("page")] { (name) }
            }
        }
    }
}

fn notice(visit: &Visit) -> Markup {
    let Some(notice) = &visit.notice else { return html! {} };
    html! {
        div.notice role="status" {
            p { (notice.text) }
            @if let Some(undo) = &notice.undo {
                (form(visit, undo, &html! { button type="submit" { "Undo" } }))
            }
        }
    }
}
