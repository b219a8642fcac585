//! Sessions: who is signed in.

use std::collections::HashMap;

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use crate::AppState;
use crate::console::crm::{Change, Listing};
use crate::console::forms::{confirmed, done};
use crate::console::lists::{self, Column};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times::time;

pub(super) const PATH: &str = "/console/settings/sessions";

#[derive(Deserialize)]
struct Session {
    id: Uuid,
    key_id: Uuid,
    address: Option<String>,
    user_agent: Option<String>,
    created_at: DateTime<Utc>,
    used_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// The name of its key.
    #[serde(skip)]
    key: Option<String>,
}

/// The names of the API keys by their ids.
pub(super) async fn key_names(visit: &Visit) -> Result<HashMap<Uuid, String>> {
    #[derive(Deserialize)]
    struct Named {
        id: Uuid,
        name: String,
    }
    let keys: Listing<Named> = visit.crm.list("/keys?limit=200&fields=id,name").await?;
    Ok(keys.items.into_iter().map(|key| (key.id, key.name)).collect())
}

/// The keys of the sessions that have not ended.
pub(super) async fn key_ids(visit: &Visit) -> Result<HashMap<Uuid, Uuid>> {
    #[derive(Deserialize)]
    struct Begun {
        id: Uuid,
        key_id: Uuid,
    }
    let sessions: Listing<Begun> = visit.crm.list("/sessions?limit=200&fields=id,key_id").await?;
    Ok(sessions.items.into_iter().map(|session| (session.id, session.key_id)).collect())
}

const COLUMNS: &[Column<Session>] = &[
    Column::new("Key", |visit, session| {
        html! {
            a href=(format!("{}/{}", super::keys::PATH, session.key_id)) { (session.key.as_deref().unwrap_or("Key")) }
            @if visit.caller.session_id == Some(session.id) { " " span.badge { "This one" } }
        }
    }),
    Column::new("Address", |_, session| parts::text_or_dash(session.address.as_deref())),
    Column::new("Browser", |_, session| parts::text_or_dash(session.user_agent.as_deref())),
    Column::<Session>::new("Signed in", |visit, session| time(visit.zone, session.created_at)).sorted("created_at"),
    Column::new("Last used", |visit, session| time(visit.zone, session.used_at)),
    Column::new("Ends at the latest", |visit, session| time(visit.zone, session.expires_at)),
    Column::new("Change", end_button),
];

fn end_button(visit: &Visit, session: &Session) -> Markup {
    let what = html! {
        "Signs out this browser. Its key stays valid, so the person can sign in again."
        @if visit.caller.session_id == Some(session.id) { " This is your own session." }
    };
    confirmed(visit, &format!("{PATH}/{}/end", session.id), "End", &what)
}

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/settings/sessions", get(list)).route("/settings/sessions/{id}/end", post(end))
}

async fn list(visit: Visit) -> Result<Response> {
    let (mut listing, names) = tokio::try_join!(lists::read::<Session>(&visit, "/sessions", &[]), key_names(&visit))?;
    for session in &mut listing.items {
        session.key = names.get(&session.key_id).cloned();
    }
    let content = html! {
        p.quiet { "A session ends an hour after its last use, 12 hours after it began, and with its key." }
        (lists::table(&visit, "Sessions", COLUMNS, &listing, &parts::empty("Nobody is signed in", &html! {})))
    };
    Ok(super::page(&visit, PATH, "Sessions", &html! {}, &content))
}

async fn end(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/sessions/{id}"), Change::default()).await?;
    Ok(done(&visit, PATH, &Notice::of("The session was ended.")))
}
