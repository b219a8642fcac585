//! The pages of the settings of the workspace: one tab for each noun.

mod audit;
mod deliveries;
mod edit;
mod general;
mod keys;
mod schedules;
mod secret;
mod sessions;
mod templates;
mod templates_edit;
mod users;
mod webhooks;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use shared::accounts::scopes::Scope;

use crate::AppState;
use crate::console::layout;
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::Visit;
use crate::respond::Problem;

/// The tabs, with the scope that each of them needs.
const TABS: [(&str, &str, Scope); 8] = [
    (general::PATH, "General", Scope::Settings),
    (templates::PATH, "Sequence and templates", Scope::Settings),
    (users::PATH, "Users", Scope::Settings),
    (keys::PATH, "Keys", Scope::Keys),
    (sessions::PATH, "Sessions", Scope::Keys),
    (webhooks::PATH, "Webhooks", Scope::Webhooks),
    (schedules::PATH, "Schedules", Scope::Workflows),
    (audit::PATH, "Audit", Scope::Keys),
];

/// The routes of these pages, under `/console`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings", get(first))
        .merge(general::routes())
        .merge(templates::routes())
        .merge(templates_edit::routes())
        .merge(users::routes())
        .merge(keys::routes())
        .merge(sessions::routes())
        .merge(webhooks::routes())
        .merge(deliveries::routes())
        .merge(schedules::routes())
        .merge(audit::routes())
}

/// Leads to the first tab that the key may see.
async fn first(visit: Visit) -> Result<Response> {
    if let Some((path, ..)) = TABS.into_iter().find(|(.., scope)| visit.may(*scope)) {
        return Ok(Redirect::to(path).into_response());
    }
    let content = html! {
        (parts::head("Settings", &html! {}))
        (parts::empty("Your key sees no settings", &html! {
            "The key " strong { (visit.key) } " has other scopes. A key with the scope "
            code { "settings" } ", " code { "keys" } ", " code { "webhooks" } " or " code { "workflows" }
            " sees the settings of its scope. Whoever manages keys can create one."
        }))
        (parts::section("What this key may do", &html! {
            ul { @for scope in visit.scopes().iter() { li { code { (scope.as_str()) } " – " (about(scope)) } } }
        }))
    };
    Ok(layout::page(&visit, "Settings", &content))
}

/// A page below a tab.
fn page(visit: &Visit, tab: &str, title: &str, actions: &Markup, content: &Markup) -> Response {
    page_with(StatusCode::OK, visit, tab, title, actions, content)
}

/// A page below a tab, with a status.
fn page_with(
    status: StatusCode,
    visit: &Visit,
    tab: &str,
    title: &str,
    actions: &Markup,
    content: &Markup,
) -> Response {
    layout::page_with(status, visit, title, &inside(visit, tab, title, actions, content))
}

/// The content of a page below a tab.
fn inside(visit: &Visit, tab: &str, title: &str, actions: &Markup, content: &Markup) -> Markup {
    let seen = TABS.into_iter().filter(|(.., scope)| visit.may(*scope)).map(|(path, name, _)| (path, name));
    html! {
        (parts::tabs("Settings", tab, seen))
        (parts::head(title, actions))
        (content)
    }
}

/// An answer of the API that has another form than its document says.
fn unexpected(error: serde_json::Error) -> Refusal {
    Problem::internal(format!("unexpected JSON: {error}")).into()
}

/// What a scope allows.
fn about(scope: Scope) -> &'static str {
    match scope {
        Scope::All => "everything, also what later versions add",
        Scope::RecordsRead => "read records, reports and events",
        Scope::RecordsWrite => "create, update, convert and restore records",
        Scope::RecordsDelete => "delete records",
        Scope::Imports => "import files",
        Scope::Exports => "export whole lists",
        Scope::Workflows => "workflows, bulk changes, schedules, suppressions, and decisions on emails",
        Scope::EmailsRead => "read emails and suppressions",
        Scope::Settings => "settings and users",
        Scope::Webhooks => "webhooks",
        Scope::Keys => "keys, sessions and the audit log",
    }
}
