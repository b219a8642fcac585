//! Interactions with leads and customers, and their next actions.

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde_json::{Value, json};
use shared::accounts::scopes::Scope;
use shared::records::Record;
use uuid::Uuid;

use super::edit::{self, Form};
use super::fields::{inputs, writable};
use super::people::{People, text_in};
use super::timeline::{Entry, MOST, Source, entry, merged, paragraph, said};
use super::{Json, Noun, api_of, page_of};
use crate::AppState;
use crate::console::crm::{Change, Listing};
use crate::console::forms::{Draft, UPDATE, confirmed, done, explained, form};
use crate::console::layout::page;
use crate::console::links::link;
use crate::console::lists::{CURSOR, pages};
use crate::console::notice::Notice;
use crate::console::parts::{self, words};
use crate::console::refusal::Result;
use crate::console::session::{Id, Ids, Sent, Visit};
use crate::console::times;

/// A kind of interaction.
pub(crate) trait Met: Record {
    /// Those whom it is with.
    type With: Noun;
    /// The field with the time when it took place.
    const AT: &'static str;
    /// The field with its text.
    const TEXT: &'static str;
}

/// The routes of interactions, under their record.
pub(crate) fn routes<M: Met>() -> Router<AppState> {
    let path = |rest: &str| format!("{}/{{id}}/interactions{rest}", M::With::PATH);
    Router::new()
        .route(&path(""), get(list::<M>).post(create::<M>))
        .route(&path("/{interaction}"), get(edit::<M>).post(save::<M>))
        .route(&path("/{interaction}/complete"), post(complete::<M>))
        .route(&path("/{interaction}/delete"), post(delete::<M>))
}

fn api<M: Met>(id: Uuid) -> String {
    format!("{}/interactions", api_of::<M::With>(id))
}

/// The interactions with somebody, newest first.
pub(crate) async fn of<M: Met>(visit: &Visit, id: Uuid) -> Result<Listing<Json>> {
    let path = format!("{}?sort=-{}&limit={MOST}", api::<M>(id), M::AT);
    let path = link(&path, visit.parameter(CURSOR).map(|cursor| (CURSOR, cursor)));
    visit.crm.list(&path).await
}

/// Interactions as a part of a timeline.
pub(crate) fn source<M: Met>(visit: &Visit, id: Uuid, listing: &Listing<Json>) -> Source {
    Source::of(listing, |interaction| shown::<M>(visit, id, interaction))
}

fn shown<M: Met>(visit: &Visit, id: Uuid, interaction: &Json) -> Entry {
    let at = time_in(interaction, M::AT).unwrap_or_default();
    let kind = words(text_in(interaction, "type").unwrap_or_default());
    let line = html! { strong { (kind) } @if let Some(subject) = text_in(interaction, "subject") { " " (subject) } };
    let text = html! {
        (paragraph(text_in(interaction, M::TEXT)))
        (said("Outcome", text_in(interaction, "outcome")))
        (next_action(visit, interaction))
        (actions::<M>(visit, id, interaction))
    };
    entry(visit, at, &line, &text)
}

fn time_in(record: &Json, name: &str) -> Option<DateTime<Utc>> {
    text_in(record, name)?.parse().ok()
}

fn next_action(visit: &Visit, interaction: &Json) -> Markup {
    let (action, due) = (text_in(interaction, "next_action"), time_in(interaction, "next_action_date"));
    if action.is_none() && due.is_none() {
        return html! {};
    }
    html! {
        p {
            span.quiet { "Next: " } (action.unwrap_or("Follow up"))
            @if let Some(due) = due {
                ", due " (times::time(visit.zone, due))
                @if due < Utc::now() { " " (parts::badge("overdue")) }
            }
            @if let Some(at) = time_in(interaction, "followed_up_at") {
                span.quiet { ", owner notified " (times::time(visit.zone, at)) }
            }
        }
    }
}

fn actions<M: Met>(visit: &Visit, id: Uuid, interaction: &Json) -> Markup {
    let page = format!("{}/interactions/{}", page_of::<M::With>(id), text_in(interaction, "id").unwrap_or_default());
    let is_open = ["next_action", "next_action_date"].iter().any(|name| text_in(interaction, name).is_some());
    let done = html! { "Clears the next action and its date. To plan it again, edit the interaction." };
    html! {
        div.actions.small {
            @if visit.may(Scope::RecordsWrite) {
                @if is_open { (explained(visit, &format!("{page}/complete"), "Complete", &done)) }
                a.button href=(page) { "Edit" span.hidden { " this interaction" } }
            }
            @if visit.may(Scope::RecordsDelete) {
                (confirmed(visit, &format!("{page}/delete"), "Delete", &html! { "Deletes this interaction. It cannot be restored." }))
            }
        }
    }
}

/// A form that records an interaction, folded up.
pub(crate) fn adder<M: Met>(visit: &Visit, id: Uuid) -> Markup {
    if !visit.may(Scope::RecordsWrite) {
        return html! {};
    }
    let content = html! {
        (inputs(&writable::<M>(), &fresh::<M>(visit), &People::default()))
        button.primary type="submit" { "Add interaction" }
    };
    let action = format!("{}/interactions", page_of::<M::With>(id));
    html! { details.more { summary.button { "Add interaction" } div.inset { (form(visit, &action, &content)) } } }
}

/// A new interaction takes place now.
fn fresh<M: Met>(visit: &Visit) -> Draft {
    let value = |name| if name == "date" { times::input_value(visit.zone, Utc::now()) } else { String::new() };
    Draft::of(writable::<M>().iter().map(|field| (field.name, value(field.name))).collect())
}

async fn list<M: Met>(visit: Visit, Id(id): Id) -> Result<Response> {
    let api = api_of::<M::With>(id);
    let (record, listing) = tokio::try_join!(visit.crm.get::<Json>(&api), of::<M>(&visit, id))?;
    let title = format!("Interactions with {}", M::With::title(&record));
    let content = html! {
        (parts::head(&title, &html! { a.button href=(page_of::<M::With>(id)) { "Back to the " (M::With::ONE) } }))
        (adder::<M>(&visit, id))
        (merged(vec![source::<M>(&visit, id, &Listing { next: None, ..listing.clone() })], &html! {}))
        (pages(&visit, &listing))
    };
    Ok(page(&visit, &title, &content))
}

async fn create<M: Met>(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let once = fields.take_once();
    let known = writable::<M>();
    let back = page_of::<M::With>(id);
    match edit::send_new(&visit, &api::<M>(id), &known, &fields, once).await {
        Ok(_) => Ok(done(&visit, &back, &Notice::of("Added the interaction."))),
        Err(refusal) => {
            let draft = Draft::refused(fields, refusal)?;
            let action = format!("{back}/interactions");
            let form = Form { title: "Add an interaction".to_owned(), action, back, submit: "Add interaction" };
            Ok(form.page(&visit, &draft, &inputs(&known, &draft, &People::default())))
        }
    }
}

fn form_of<M: Met>(id: Uuid, part: Uuid) -> Form {
    let back = page_of::<M::With>(id);
    let action = format!("{back}/interactions/{part}");
    Form { title: "Edit an interaction".to_owned(), action, back, submit: "Save" }
}

async fn edit<M: Met>(visit: Visit, Ids(id, part): Ids) -> Result<Response> {
    edit::show::<M>(&visit, &format!("{}/{part}", api::<M>(id)), |_| form_of::<M>(id, part)).await
}

async fn save<M: Met>(Ids(id, part): Ids, Sent { visit, fields }: Sent) -> Result<Response> {
    edit::update::<M>(&visit, fields, &format!("{}/{part}", api::<M>(id)), |_| form_of::<M>(id, part)).await
}

/// Clears the next action, so that it is due no more.
async fn complete<M: Met>(Ids(id, part): Ids, Sent { visit, .. }: Sent) -> Result<Response> {
    let cleared = json!({ "next_action": Value::Null, "next_action_date": Value::Null });
    visit.crm.send(UPDATE, &format!("{}/{part}", api::<M>(id)), Change::with(cleared)).await?;
    Ok(done(&visit, &page_of::<M::With>(id), &Notice::of("Completed the next action.")))
}

async fn delete<M: Met>(Ids(id, part): Ids, Sent { visit, .. }: Sent) -> Result<Response> {
    visit.crm.send(Method::DELETE, &format!("{}/{part}", api::<M>(id)), Change::default()).await?;
    Ok(done(&visit, &page_of::<M::With>(id), &Notice::of("Deleted the interaction.")))
}
