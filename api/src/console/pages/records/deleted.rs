//! Deleting records, restoring them, and the list of those that can be restored.

use axum::http::Method;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use shared::accounts::scopes::Scope;
use shared::records::RESTORABLE_DAYS;

use super::people::text_in;
use super::{Json, Noun, api_of, page_of, reasons};
use crate::console::CONSOLE;
use crate::console::crm::{Change, Listing};
use crate::console::forms::{button, confirmed, done};
use crate::console::layout::{page, page_with};
use crate::console::links::link;
use crate::console::lists::{CURSOR, PAGE, pages};
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Id, Sent, Visit};
use crate::console::times;

/// Deletes a record. What the page that follows says has a button that restores it.
pub(super) async fn delete<R: Noun>(Id(id): Id, Sent { visit, .. }: Sent) -> Result<Response> {
    let record: Json = visit.crm.get(&api_of::<R>(id)).await?;
    visit.crm.send(Method::DELETE, &api_of::<R>(id), Change::default()).await?;
    let notice = Notice::of(format!("Deleted {}.", R::title(&record)));
    let notice =
        if visit.may(Scope::RecordsWrite) { notice.undone_by(format!("{}/restore", page_of::<R>(id))) } else { notice };
    Ok(done(&visit, &format!("{CONSOLE}{}", R::PATH), &notice))
}

/// The button that deletes a record.
pub(crate) fn delete_button<R: Noun>(visit: &Visit, id: uuid::Uuid) -> Markup {
    if !visit.may(Scope::RecordsDelete) {
        return html! {};
    }
    let what = html! { (R::DELETION) " It can be restored for " (RESTORABLE_DAYS) " days." };
    confirmed(visit, &format!("{}/delete", page_of::<R>(id)), "Delete", &what)
}

/// Restores a record.
pub(super) async fn restore<R: Noun>(Id(id): Id, Sent { visit, mut fields }: Sent) -> Result<Response> {
    let change = Change::default().once(fields.take_once());
    match visit.crm.send(Method::POST, &format!("{}/restore", api_of::<R>(id)), change).await {
        Ok(record) => {
            let title = record.as_object().map(R::title).unwrap_or_default();
            Ok(done(&visit, &page_of::<R>(id), &Notice::of(format!("Restored {title}."))))
        }
        Err(refusal) if refusal.status == 409 => Ok(blocked::<R>(&visit, &refusal)),
        Err(refusal) => Err(refusal),
    }
}

fn blocked<R: Noun>(visit: &Visit, refusal: &Refusal) -> Response {
    let other = refusal.errors.iter().find_map(|fault| fault.id.as_deref());
    let content = html! {
        (parts::head(&format!("This {} cannot be restored", R::ONE), &html! {}))
        (reasons(refusal))
        @if let Some(id) = other { p { a href=(page_of::<R>(id)) { "Show the " (R::ONE) " that is in the way" } } }
        p { a href={ (CONSOLE) (R::PATH) "/deleted" } { "Back to the deleted " (R::MANY) } }
    };
    page_with(refusal.status, visit, "Cannot be restored", &content)
}

/// Shows the deleted records that can be restored.
pub(super) async fn list<R: Noun>(visit: Visit) -> Result<Response> {
    let asked = ["email", "id", CURSOR].into_iter().filter_map(|name| Some((name, visit.parameter(name)?)));
    let path = link(R::PATH, asked.chain([("deleted", "true"), ("limit", PAGE), ("count", "true")]));
    let listing: Listing<Json> = visit.crm.list(&path).await?;
    let title = format!("Deleted {}", R::MANY);
    let content = html! {
        (parts::head(&title, &html! { a.button href={ (CONSOLE) (R::PATH) } { "Back to the " (R::MANY) } }))
        @if listing.items.is_empty() {
            (parts::empty(&format!("No deleted {}.", R::MANY), &html! { "What is deleted can be restored here for " (RESTORABLE_DAYS) " days." }))
        } @else {
            (table::<R>(&visit, &title, &listing))
        }
        (pages(&visit, &listing))
    };
    Ok(page(&visit, &title, &content))
}

fn table<R: Noun>(visit: &Visit, title: &str, listing: &Listing<Json>) -> Markup {
    let has_email = R::FIELDS.iter().any(|field| field.name == "email");
    let head: Vec<&str> =
        [R::TITLE.0].into_iter().chain(has_email.then_some("Email")).chain(["Deleted", "Restore"]).collect();
    let row = |record: &Json| {
        let email = has_email.then(|| parts::text_or_dash(text_in(record, "email")));
        let cells = [html! { (R::title(record)) }].into_iter().chain(email);
        cells.chain([deleted_at(visit, record), restore_button::<R>(visit, record)]).collect()
    };
    let rows: Vec<Vec<Markup>> = listing.items.iter().map(row).collect();
    parts::table(title, &head, &rows)
}

fn deleted_at(visit: &Visit, record: &Json) -> Markup {
    let at: Option<DateTime<Utc>> = text_in(record, "deleted_at").and_then(|at| at.parse().ok());
    times::time_or_dash(visit.zone, at)
}

fn restore_button<R: Noun>(visit: &Visit, record: &Json) -> Markup {
    match text_in(record, "id") {
        Some(id) if visit.may(Scope::RecordsWrite) => {
            button(visit, &format!("{}/restore", page_of::<R>(id)), "Restore")
        }
        _ => parts::text_or_dash(None),
    }
}

/// The page of a record that does not exist: if it was deleted, it says so, and can be restored.
pub(crate) async fn instead<R: Noun>(visit: &Visit, id: uuid::Uuid, refusal: Refusal) -> Result<Response> {
    if refusal.status != 404 {
        return Err(refusal);
    }
    let path = format!("{}?deleted=true&limit=1&id={id}", R::PATH);
    let Some(record) = visit.crm.list::<Json>(&path).await?.items.pop() else { return Err(refusal) };
    let title = R::title(&record);
    let content = html! {
        (parts::head(&title, &html! { (restore_button::<R>(visit, &record)) }))
        p { "This " (R::ONE) " was deleted on " (deleted_at(visit, &record)) ". It can be restored for " (RESTORABLE_DAYS) " days." }
        p { a href={ (page_of::<R>(id)) "/changes" } { "Show its changes" } }
    };
    Ok(page_with(refusal.status, visit, &title, &content))
}
