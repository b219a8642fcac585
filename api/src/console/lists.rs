//! Lists: filters, a table whose columns can be chosen and sorted, and pages. Everything is in the URL, with the names
//! that the API has.

use maud::{Markup, html};
use serde::de::DeserializeOwned;

use super::crm::Listing;
use super::links::link;
use super::refusal::Result;
use super::session::Visit;

/// The records of a page.
const PAGE: &str = "50";
/// The parameter with the columns to show, once for each.
const COLUMNS: &str = "columns";
const CURSOR: &str = "cursor";
const SORT: &str = "sort";

/// A filter of a list: a parameter of the API.
pub(crate) struct Filter {
    /// The name of the parameter.
    pub name: &'static str,
    /// What people call it.
    pub label: &'static str,
    /// How it is entered.
    pub kind: FilterKind,
}

/// How a filter is entered.
pub(crate) enum FilterKind {
    /// An HTML input of this type: `search`, `text`, `number`, `date`.
    Input(&'static str),
    /// One of these values.
    Choice(Vec<(String, String)>),
}

impl Filter {
    /// A filter with an input of this type.
    pub fn input(name: &'static str, label: &'static str, kind: &'static str) -> Self {
        Self { name, label, kind: FilterKind::Input(kind) }
    }

    /// A filter with these values and their labels.
    pub fn choice<V: Into<String>, L: Into<String>>(
        name: &'static str,
        label: &'static str,
        options: impl IntoIterator<Item = (V, L)>,
    ) -> Self {
        let options = options.into_iter().map(|(value, label)| (value.into(), label.into())).collect();
        Self { name, label, kind: FilterKind::Choice(options) }
    }
}

/// A column of a table.
pub(crate) struct Column<T> {
    /// Its heading.
    pub label: &'static str,
    /// The name that the API sorts by.
    pub sort: Option<&'static str>,
    /// Whether it has numbers, which are aligned to the right.
    pub number: bool,
    /// Whether it is shown unless other columns are chosen.
    pub usual: bool,
    /// What it shows of an item.
    pub cell: fn(&Visit, &T) -> Markup,
}

impl<T> Column<T> {
    /// A column with text.
    pub const fn new(label: &'static str, cell: fn(&Visit, &T) -> Markup) -> Self {
        Self { label, sort: None, number: false, usual: true, cell }
    }

    /// A column that the API sorts by this name.
    pub const fn sorted(self, name: &'static str) -> Self {
        Self { sort: Some(name), ..self }
    }

    /// A column with numbers.
    pub const fn number(self) -> Self {
        Self { number: true, ..self }
    }

    /// A column that is shown if it is chosen.
    pub const fn on_request(self) -> Self {
        Self { usual: false, ..self }
    }
}

/// The path of the API for the list that a page shows: the filters of its URL, its order and its place.
pub(crate) fn api_path(visit: &Visit, path: &str, filters: &[Filter]) -> String {
    let asked = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let known = |name: &str| matches!(name, SORT | CURSOR) || filters.iter().any(|filter| filter.name == name);
    let asked = asked.filter(|(name, _)| known(name));
    link(path, asked.chain([("limit", PAGE), ("count", "true")]))
}

/// The path of the API for everything that matches the filters of a page, as a file.
pub(crate) fn file_path(visit: &Visit, path: &str, filters: &[Filter]) -> String {
    let asked = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    link(path, asked.filter(|(name, _)| *name == SORT || filters.iter().any(|filter| filter.name == *name)))
}

/// Reads the part of a list that the URL of a page asks for.
///
/// # Errors
/// The API's.
pub(crate) async fn read<T: DeserializeOwned>(visit: &Visit, path: &str, filters: &[Filter]) -> Result<Listing<T>> {
    visit.crm.list(&api_path(visit, path, filters)).await
}

/// The form of the filters. With scripts, it submits itself.
pub(crate) fn filters<T>(visit: &Visit, filters: &[Filter], columns: &[Column<T>]) -> Markup {
    let is_active = filters.iter().any(|filter| visit.parameter(filter.name).is_some());
    html! {
        form.filters method="get" action=(visit.path) role="search" aria-label="Filters" data-auto {
            @for filter in filters { (filter_input(visit, filter)) }
            @if let Some(sort) = visit.parameter(SORT) { input type="hidden" name=(SORT) value=(sort); }
            @if columns.iter().any(|column| !column.usual) {
                details.columns {
                    summary.button { "Columns" }
                    div.popover role="group" aria-label="Columns" {
                        @for column in columns {
                            label.check {
                                input type="checkbox" name=(COLUMNS) value=(column.label) checked[is_shown(visit, columns, column)];
                                " " (column.label)
                            }
                        }
                    }
                }
            }
            button type="submit" { "Apply" }
            @if is_active { a.button href=(visit.path) { "Clear" } }
        }
    }
}

/// The input of a filter, with its label.
pub(super) fn filter_input(visit: &Visit, filter: &Filter) -> Markup {
    let (id, value) = (format!("q-{}", filter.name), visit.parameter(filter.name).unwrap_or_default());
    html! {
        div.filter {
            label for=(id) { (filter.label) }
            @match &filter.kind {
                FilterKind::Input(kind) => input id=(id) type=(kind) name=(filter.name) value=(value) autocomplete="off"
                    step=[(*kind == "number").then_some("any")];,
                FilterKind::Choice(options) => select id=(id) name=(filter.name) {
                    option value="" { "Any" }
                    @for (option, label) in options { option value=(option) selected[option == value] { (label) } }
                },
            }
        }
    }
}

fn is_shown<T>(visit: &Visit, columns: &[Column<T>], column: &Column<T>) -> bool {
    let mut chosen = visit.query.iter().filter(|(name, _)| name == COLUMNS).map(|(_, label)| label.as_str()).peekable();
    // A choice of which nothing is left is none.
    let is_chosen = |label: &str| columns.iter().any(|column| column.label == label);
    match chosen.peek().is_some_and(|_| visit.query.iter().any(|(name, label)| name == COLUMNS && is_chosen(label))) {
        true => chosen.any(|label| label == column.label),
        false => column.usual,
    }
}

/// The table of a list, with its pages.
pub(crate) fn table<T>(
    visit: &Visit,
    caption: &str,
    columns: &[Column<T>],
    listing: &Listing<T>,
    empty: &Markup,
) -> Markup {
    if listing.items.is_empty() {
        return html! { (empty) (pages(visit, listing)) };
    }
    let shown: Vec<&Column<T>> = columns.iter().filter(|column| is_shown(visit, columns, column)).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.hidden { (caption) }
                thead { tr { @for column in &shown { (heading(visit, column)) } } }
                tbody {
                    @for item in &listing.items {
                        tr {
                            @for (at, column) in shown.iter().enumerate() {
                                @if at == 0 { th scope="row" { ((column.cell)(visit, item)) } }
                                @else { td.number[column.number] { ((column.cell)(visit, item)) } }
                            }
                        }
                    }
                }
            }
        }
        (pages(visit, listing))
    }
}

fn heading<T>(visit: &Visit, column: &Column<T>) -> Markup {
    let Some(name) = column.sort else {
        return html! { th.number[column.number] scope="col" { (column.label) } };
    };
    let sort = visit.parameter(SORT).unwrap_or_default();
    // A first click sorts upwards, and a second one downwards.
    let (order, next) = match sort {
        _ if sort == name => (Some("ascending"), format!("-{name}")),
        _ if sort.strip_prefix('-') == Some(name) => (Some("descending"), name.to_owned()),
        _ => (None, name.to_owned()),
    };
    html! {
        th.number[column.number] scope="col" aria-sort=[order] {
            a href=(with(visit, SORT, &next)) {
                (column.label)
                @match order {
                    Some("ascending") => span aria-hidden="true" { " ↑" },
                    Some(_) => span aria-hidden="true" { " ↓" },
                    None => {},
                }
            }
        }
    }
}

/// The number of items and the links between pages.
pub(crate) fn pages<T>(visit: &Visit, listing: &Listing<T>) -> Markup {
    let is_later = visit.parameter(CURSOR).is_some();
    html! {
        nav.pages aria-label="Pages" {
            @if let Some(total) = listing.total {
                span.quiet { (super::parts::count(total)) @if total == 1 { " match" } @else { " matches" } }
            }
            @if is_later { a.button href=(with(visit, CURSOR, "")) { "First page" } }
            @if let Some(next) = &listing.next { a.button rel="next" href=(with(visit, CURSOR, next)) { "Next page" } }
        }
    }
}

/// This page with another value of a parameter; a new order begins at the first page.
pub(crate) fn with(visit: &Visit, name: &str, value: &str) -> String {
    let others = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let others = others.filter(|(other, _)| *other != name && (name == CURSOR || *other != CURSOR));
    link(&visit.path, others.chain([(name, value)]))
}

/// The path of this page's list as a file.
pub(crate) fn export_link(visit: &Visit, path: &str) -> String {
    let asked = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    link(path, asked.filter(|(name, _)| !matches!(*name, CURSOR | COLUMNS)))
}
