//! Users: the members of the workspace, to whom records are assigned.

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::edit::{self, Edit, Saved};
use crate::AppState;
use crate::console::crm::{Change, Versioned};
use crate::console::forms::{Draft, Fields, confirmed, done, form};
use crate::console::lists::{self, Column, Filter};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::{Id, Sent, Visit};
use crate::console::times::time;

pub(super) const PATH: &str = "/console/settings/users";

const LABELS: &edit::Labels = &[("name", "Name"), ("email", "Email")];

#[derive(Deserialize)]
struct User {
    id: Uuid,
    name: String,
    email: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

const COLUMNS: &[Column<User>] = &[
    Column::new("Name", |_, user| html! { a href=(format!("{PATH}/{}", user.id)) { (user.name) } }),
    Column::<User>::new("Email", |_, user| html! { (user.email) }).sorted("email"),
    Column::new("Id", |_, user| html! { code { (user.id) } }),
    Column::<User>::new("Created", |visit, user| time(visit.zone, user.created_at)).sorted("created_at"),
    Column::<User>::new("Updated", |visit, user| time(visit.zone, user.updated_at)).on_request(),
];

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/settings/users", get(list))
        .route("/settings/users/new", get(new).post(create))
        .route("/settings/users/{id}", get(show).post(save))
        .route("/settings/users/{id}/delete", post(delete))
        .route("/settings/users/{id}/restore", post(restore))
}

fn filters() -> [Filter; 2] {
    [Filter::input("name", "Name", "search"), Filter::input("email", "Email", "text")]
}

async fn list(visit: Visit) -> Result<Response> {
    let listing = lists::read(&visit, "/users", &filters()).await?;
    let empty = parts::empty(
        "No users",
        &html! { "Create users to assign leads and customers to them. They get the daily digest of follow-ups." },
    );
    let actions = html! { a.button.primary href=(format!("{PATH}/new")) { "Create a user" } };
    let content = html! {
        (lists::filters(&visit, &filters(), COLUMNS))
        (lists::table(&visit, "Users", COLUMNS, &listing, &empty))
    };
    Ok(super::page(&visit, PATH, "Users", &actions, &content))
}

fn inputs(draft: &Draft) -> Markup {
    html! {
        (draft.input("name", "Name").required())
        (draft.input("email", "Email").kind("email").required())
    }
}

async fn new(visit: Visit) -> Result<Response> {
    Ok(new_page(&visit, &Draft::of(Fields::default())))
}

fn new_page(visit: &Visit, draft: &Draft) -> Response {
    let form = form(
        visit,
        &format!("{PATH}/new"),
        &html! { (inputs(draft)) button.primary type="submit" { "Create the user" } },
    );
    super::page_with(draft.status(), visit, PATH, "Create a user", &html! {}, &html! { (draft.problems()) (form) })
}

async fn create(Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    match visit.crm.send(Method::POST, "/users", Change::with(body(&fields)).once(once)).await {
        Ok(_) => Ok(done(&visit, PATH, &Notice::of("The user was created."))),
        Err(refusal) => Ok(new_page(&visit, &Draft::refused(fields, refusal)?)),
    }
}

fn body(fields: &Fields) -> Value {
    fields.object(&["name", "email"]).into()
}

fn values(user: &User) -> Fields {
    edit::fields([("name", Some(user.name.clone())), ("email", Some(user.email.clone()))])
}

async fn show(Id(id): Id, visit: Visit) -> Result<Response> {
    let stored: Versioned<User> = visit.crm.record(&format!("/users/{id}")).await?;
    Ok(page(&visit, id, &Edit::of(&stored, values)))
}

async fn save(Id(id): Id, Sent { visit, fields }: Sent) -> Result<Response> {
    match Edit::save(&visit, (&format!("/users/{id}"), ""), fields, LABELS, body, values).await? {
        Saved::Done => Ok(done(&visit, PATH, &Notice::of("The user was saved."))),
        Saved::Refused(edit) => Ok(page(&visit, id, &edit)),
    }
}

fn page(visit: &Visit, id: Uuid, edit: &Edit) -> Response {
    let path = format!("{PATH}/{id}");
    let actions = confirmed(
        visit,
        &format!("{path}/delete"),
        "Delete",
        &html! {
            "The user gets no more email. Records stay assigned to the user, who can be restored for 30 days."
        },
    );
    let content = html! { (edit.problems()) (edit.form(visit, &path, &inputs(&edit.draft))) };
    super::page_with(edit.draft.status(), visit, PATH, "Edit a user", &actions, &content)
}

async fn delete(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("/users/{id}"), Change::default()).await?;
    let notice = Notice::of("The user was deleted.").undone_by(format!("{PATH}/{id}/restore"));
    Ok(done(&visit, PATH, &notice))
}

async fn restore(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    visit.crm.send(Method::POST, &format!("/users/{id}/restore"), change).await?;
    Ok(done(&visit, PATH, &Notice::of("The user was restored.")))
}
