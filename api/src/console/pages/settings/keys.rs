//! API keys: list, create, rotate, revoke.

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use shared::accounts::scopes::{Scope, Scopes};
use uuid::Uuid;

use super::edit;
use super::secret::{self, Secret};
use crate::AppState;
use crate::console::crm::Change;
use crate::console::forms::{Draft, Fields, confirmed, done, form};
use crate::console::lists::{self, Column};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times::{from_input, time, time_or_dash};

pub(super) const PATH: &str = "/console/settings/keys";

#[derive(Deserialize)]
struct ApiKey {
    id: Uuid,
    name: String,
    scopes: Vec<String>,
    prefix: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    rotated_at: Option<DateTime<Utc>>,
    old_key_until: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    last_used_ip: Option<String>,
}

impl ApiKey {
    /// Whether the visitor's key may rotate and revoke it.
    fn is_managed_by(&self, visit: &Visit) -> bool {
        let scopes: Option<Scopes> = self.scopes.join(",").parse().ok();
        scopes.is_some_and(|scopes| visit.scopes().lacks(scopes).is_empty())
    }
}

const COLUMNS: &[Column<ApiKey>] = &[
    Column::new("Name", |visit, key| {
        html! {
            a href=(format!("{PATH}/{}", key.id)) { (key.name) }
            @if key.id == visit.caller.key_id { " " span.badge { "This one" } }
        }
    }),
    Column::new("Begins with", |_, key| html! { code { (key.prefix) } }),
    Column::new("Scopes", |_, key| scopes(key)),
    Column::<ApiKey>::new("Created", |visit, key| time(visit.zone, key.created_at)).sorted("created_at"),
    Column::new("Expires", |visit, key| time_or_dash(visit.zone, key.expires_at)),
    Column::new("Last used", |visit, key| time_or_dash(visit.zone, key.last_used_at)),
];

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/keys", get(list))
        .route("/settings/keys/new", get(new).post(create))
        .route("/settings/keys/{id}", get(show))
        .route("/settings/keys/{id}/rotate", post(rotate))
        .route("/settings/keys/{id}/revoke", post(revoke))
}

fn scopes(key: &ApiKey) -> Markup {
    html! { @for scope in &key.scopes { code { (scope) } " " } }
}

async fn list(visit: Visit) -> Result<Response> {
    let listing = lists::read(&visit, "/keys", &[]).await?;
    let empty = parts::empty("No keys", &html! { "Create one to use the API." });
    let actions = html! { a.button.primary href=(format!("{PATH}/new")) { "Create a key" } };
    let content = lists::table(&visit, "API keys", COLUMNS, &listing, &empty);
    Ok(super::page(&visit, PATH, "API keys", &actions, &content))
}

async fn new(visit: Visit) -> Result<Response> {
    Ok(new_page(&visit, &Draft::of(Fields::default())))
}

fn new_page(visit: &Visit, draft: &Draft) -> Response {
    let offered = Scope::ALL.iter().filter(|scope| visit.may(**scope));
    let offered = offered.map(|scope| (scope.as_str(), format!("{} – {}", scope.as_str(), super::about(*scope))));
    let inputs = html! {
        (draft.input("name", "Name").required().hint("What the key is for."))
        (draft.input("scopes", "Scopes").checks(offered).hint("A key creates only keys whose scopes are all among its own."))
        (draft.input("expires_at", "Expires").kind("datetime-local").hint(format!("In {}. Empty: never.", visit.zone)))
        button.primary type="submit" { "Create the key" }
    };
    let content = html! { (draft.problems()) (form(visit, &format!("{PATH}/new"), &inputs)) };
    super::page_with(draft.status(), visit, PATH, "Create a key", &html! {}, &content)
}

#[derive(Deserialize)]
struct Issued {
    id: Uuid,
    name: String,
    key: Option<String>,
}

async fn create(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let mut body = fields.object(&["name"]);
    body.insert("scopes".to_owned(), json!(fields.all("scopes").collect::<Vec<_>>()));
    body.insert("expires_at".to_owned(), from_input(visit.zone, fields.get("expires_at")));
    match visit.crm.send(Method::POST, "/keys", Change::with(body.into()).once(once)).await {
        Ok(issued) => reveal(&visit, "Key created", issued, html! { "Keep it where other secrets are kept." }),
        Err(refusal) => Ok(new_page(&visit, &Draft::refused(fields, refusal)?)),
    }
}

fn reveal(visit: &Visit, title: &str, issued: serde_json::Value, about: Markup) -> Result<Response> {
    let Issued { id, name, key: value } = serde_json::from_value(issued).map_err(super::unexpected)?;
    let about = html! { "The key " strong { (name) } ". " (about) };
    Ok(secret::page(visit, PATH, title, Secret { label: "API key", value, about, next: format!("{PATH}/{id}") }))
}

async fn show(Id(id): Id, visit: Visit) -> Result<Response> {
    let key: ApiKey = visit.crm.get(&format!("/keys/{id}")).await?;
    Ok(key_page(&visit, &key, &Draft::of(edit::fields([("overlap_hours", Some("24".to_owned()))]))))
}

fn key_page(visit: &Visit, key: &ApiKey, draft: &Draft) -> Response {
    let path = format!("{PATH}/{}", key.id);
    let zone = visit.zone;
    let facts = parts::facts([
        ("Begins with", html! { code { (key.prefix) } }),
        ("Scopes", scopes(key)),
        ("Created", time(zone, key.created_at)),
        ("Expires", time_or_dash(zone, key.expires_at)),
        ("Last used", time_or_dash(zone, key.last_used_at)),
        ("From", parts::text_or_dash(key.last_used_ip.as_deref())),
        ("Rotated", time_or_dash(zone, key.rotated_at)),
        ("Old key works until", time_or_dash(zone, key.old_key_until)),
    ]);
    let is_managed = key.is_managed_by(visit);
    let actions = html! {
        @if is_managed {
            (confirmed(visit, &format!("{path}/revoke"), "Revoke", &html! {
                "Requests with the key fail within half a second, and its sessions end. Accepted work continues. A \
                 revoked key does not come back: create another one instead."
                @if key.id == visit.caller.key_id { " You are signed in with it, and will be signed out." }
            }))
        }
    };
    let rotation = html! {
        p { "A new key with the same id, scopes and expiry. Both work during the overlap." }
        (form(visit, &format!("{path}/rotate"), &html! {
            (draft.input("overlap_hours", "Hours that the old key works").kind("number").hint("0 to 720."))
            button type="submit" { "Rotate the key" }
        }))
    };
    let content = html! {
        (draft.problems())
        section { (facts) }
        @if is_managed { (parts::section("Rotate", &rotation)) }
        @else { p.quiet { "It has scopes that your key lacks, so you can neither rotate nor revoke it." } }
    };
    super::page_with(draft.status(), visit, PATH, &key.name, &actions, &content)
}

async fn rotate(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let mut body = serde_json::Map::new();
    if fields.has("overlap_hours") {
        body.insert("overlap_hours".to_owned(), fields.number("overlap_hours"));
    }
    let path = format!("/keys/{id}");
    match visit.crm.send(Method::POST, &format!("{path}/rotate"), Change::with(body.into()).once(once)).await {
        Ok(issued) => {
            reveal(&visit, "Key rotated", issued, html! { "The old key works until the end of the overlap." })
        }
        Err(refusal) => Ok(key_page(&visit, &visit.crm.get(&path).await?, &Draft::refused(fields, refusal)?)),
    }
}

async fn revoke(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/keys/{id}"), Change::default()).await?;
    Ok(done(&visit, PATH, &Notice::of("The key was revoked.")))
}
