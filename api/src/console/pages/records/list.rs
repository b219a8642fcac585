//! The list of a kind of record.

use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde_json::Value;
use shared::accounts::scopes::Scope;
use shared::query::ListField;
use shared::values::kind::Kind;

use super::conditions::{self, added, asked};
use super::fields::{clipped_value, label, shown};
use super::people::{People, text_in};
use super::{Json, Noun, page_of};
use crate::console::CONSOLE;
use crate::console::crm::Listing;
use crate::console::layout::page_with;
use crate::console::links::link;
use crate::console::lists::{COLUMNS, CURSOR, PAGE, SORT, filter_input, heading_of, pages, with};
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::Visit;

/// The characters of a cell.
const CELL: usize = 80;

/// Shows the list.
pub(super) async fn show<R: Noun>(visit: Visit) -> Result<Response> {
    if let Some(path) = added::<R>(&visit) {
        return Ok(Redirect::to(&path).into_response());
    }
    let path = api_path::<R>(&visit);
    let (listing, people) = tokio::join!(visit.crm.list::<Json>(&path), People::users(&visit));
    let (listing, refusal) = match listing {
        Ok(listing) => (listing, None),
        // The filters are shown with what is wrong with them.
        Err(refusal) if refusal.status == 400 => {
            (Listing { items: Vec::new(), total: None, next: None }, Some(refusal))
        }
        Err(refusal) => return Err(refusal),
    };
    let people = match R::FIELDS.iter().any(|field| field.name == "customer_id")
        && columns::<R>(&visit).contains(&"customer_id")
    {
        true => people?.and_customers(&visit, &listing.items).await?,
        false => people?,
    };
    let title = parts::words(R::MANY);
    let content = html! {
        (parts::head(&title, &actions::<R>(&visit)))
        (filters::<R>(&visit, &people))
        @match &refusal {
            Some(refusal) => (wrong(refusal)),
            None => (table::<R>(&visit, &people, &listing)),
        }
    };
    let status = refusal.map_or(axum::http::StatusCode::OK, |refusal| refusal.status);
    Ok(page_with(status, &visit, &title, &content))
}

/// The list of the API that a page shows: only what its columns need.
fn api_path<R: Noun>(visit: &Visit) -> String {
    let fields = ["id"].iter().chain(R::TITLED_BY).copied().chain(columns::<R>(visit));
    let fields: std::collections::BTreeSet<&str> = fields.collect();
    let fields = fields.into_iter().collect::<Vec<_>>().join(",");
    let own = [("fields", fields.as_str()), ("limit", PAGE), ("count", "true"), ("tz", visit.zone.name())];
    link(R::PATH, asked(visit, &[]).chain(own))
}

/// Passes on the file of everything that matches.
pub(super) async fn export<R: Noun>(visit: Visit) -> Result<Response> {
    // An export has only the orders that an index serves.
    let is_served = |sort: &str| R::EXPORT.served(sort.trim_start_matches('-')).is_some();
    let asked = asked(&visit, &[CURSOR]).filter(|(name, value)| *name != SORT || is_served(value));
    let path = link(&format!("{}/export", R::PATH), asked.chain([("tz", visit.zone.name()), ("bom", "true")]));
    visit.crm.file(&path, "text/csv").await
}

fn actions<R: Noun>(visit: &Visit) -> Markup {
    let path = format!("{CONSOLE}{}", R::PATH);
    let export = link(&format!("{path}/export"), asked(visit, &[CURSOR]));
    html! {
        a.button href={ (path) "/deleted" } { "Deleted" }
        @if visit.may(Scope::Exports) { a.button href=(export) { "Export CSV" } }
        @if visit.may(Scope::RecordsWrite) { a.button.primary href={ (path) "/new" } { "New " (R::ONE) } }
    }
}

/// The fields that can be columns; the title is always one.
fn choices<R: Noun>() -> impl Iterator<Item = &'static ListField> {
    R::FIELDS.iter().filter(|field| !R::TITLED_BY.contains(&field.name) || R::SHOWN.contains(&field.name))
}

/// The columns that are shown.
fn columns<R: Noun>(visit: &Visit) -> Vec<&'static str> {
    let is_chosen = |name: &str| visit.query.iter().any(|(given, value)| given == COLUMNS && value == name);
    let chosen: Vec<&'static str> = choices::<R>().map(|field| field.name).filter(|name| is_chosen(name)).collect();
    if chosen.is_empty() { R::SHOWN.to_vec() } else { chosen }
}

fn filters<R: Noun>(visit: &Visit, people: &People) -> Markup {
    let usual = conditions::usual::<R>(people);
    let others = conditions::others(visit, &usual);
    let shown = columns::<R>(visit);
    let is_active = asked(visit, &[SORT, CURSOR]).next().is_some();
    html! {
            form.filters method="get" action=(visit.path) role="search" aria-label="Filters" data-auto {
                @for filter in &usual { (filter_input(visit, filter)) }
                @for (name, value) in &others { input type="hidden" name=(name) value=(value); }
                @if let Some(sort) = visit.parameter(SORT) { input type="hidden" name=(SORT) value=(sort); }
                details.columns {
                    summary.button { "Columns" }
                    div.popover.many role="group" aria-label="Columns" {
                        @for field in choices::<R>() {
                            label.check {
                                input type="checkbox" name=(COLUMNS) value=(field.name) checked[shown.contains(&field.name)];
                                " " (label(field.name))
                            }
                        }
                        button type="submit" { "Show" }
                    }
                }
                (conditions::more::<R>())
                button type="submit" { "Apply" }
                @if is_active { a.button href=(visit.path) { "Clear" } }
            }
        (conditions::more_form(visit))
        (conditions::chips::<R>(visit, people, &others))
    }
}

fn wrong(refusal: &Refusal) -> Markup {
    html! {
        div.problems role="alert" {
            p { "These filters do not work." }
            ul { @for fault in &refusal.errors { li { code { (fault.field) } " " (fault.message) } } }
        }
    }
}

fn table<R: Noun>(visit: &Visit, people: &People, listing: &Listing<Json>) -> Markup {
    if listing.items.is_empty() {
        return html! { (empty::<R>(visit)) (pages(visit, listing)) };
    }
    let shown: Vec<&ListField> =
        columns::<R>(visit).iter().filter_map(|name| choices::<R>().find(|field| field.name == *name)).collect();
    let caption = parts::words(R::MANY);
    let (title, sort) = R::TITLE;
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table.rows {
                caption.hidden { (caption) }
                thead {
                    tr {
                        (heading_of(visit, title, sort, false))
                        @for field in &shown {
                            (heading_of(visit, &label(field.name), sortable::<R>(field), field.kind == Kind::Number))
                        }
                    }
                }
                tbody {
                    @for record in &listing.items {
                        tr {
                            th scope="row" { (title_link::<R>(record)) }
                            @for field in &shown { (cell(visit, people, field, record)) }
                        }
                    }
                }
            }
        }
        (pages(visit, listing))
    }
}

/// The title of a record, as a link to its page.
pub(super) fn title_link<R: Noun>(record: &Json) -> Markup {
    html! { a href=(page_of::<R>(text_in(record, "id").unwrap_or_default())) { (R::title(record)) } }
}

fn sortable<R: Noun>(field: &ListField) -> Option<&'static str> {
    R::LIST.sortable().find(|sortable| sortable.name == field.name).map(|sortable| sortable.name)
}

fn cell(visit: &Visit, people: &People, field: &ListField, record: &Json) -> Markup {
    let value = clipped_value(record.get(field.name).unwrap_or(&Value::Null), CELL);
    html! { td.number[field.kind == Kind::Number] { (shown(visit, people, field.name, field.kind, &value)) } }
}

fn empty<R: Noun>(visit: &Visit) -> Markup {
    if asked(visit, &[SORT]).next().is_some() {
        let all =
            html! { a href=(with(visit, CURSOR, "").split('?').next().unwrap_or_default()) { "Show all " (R::MANY) } };
        return parts::empty(&format!("No {} match these filters.", R::MANY), &all);
    }
    let path = format!("{CONSOLE}{}", R::PATH);
    let first = html! {
        @if visit.may(Scope::RecordsWrite) { a href={ (path) "/new" } { "Create the first one" } }
        @if visit.may(Scope::Imports) { " or " a href={ (CONSOLE) "/imports" } { "import a file" } "." }
    };
    parts::empty(&format!("There are no {} yet.", R::MANY), &first)
}
