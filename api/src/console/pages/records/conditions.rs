//! The conditions of a list: every filter that the API has, in the URL under its name there.

use std::collections::BTreeSet;

use maud::{Markup, html};
use shared::query::{ListField, Spec};
use shared::values::kind::Kind;

use super::Noun;
use super::fields::{OWNER, label};
use super::people::People;
use crate::console::links::link;
use crate::console::lists::{COLUMNS, CURSOR, Filter, FilterKind, SORT};
use crate::console::parts::clipped;
use crate::console::parts::words;
use crate::console::session::Visit;

/// The parameters of the form that adds a condition.
const ADDS: [&str; 4] = ["where", "key", "is", "value"];
/// Stands for a custom field in that form.
const CUSTOM: &str = "custom";
const SEARCH: &str = "q";
/// The comparisons of that form: those of the API, and two without a value.
const COMPARISONS: [(&str, &str); 8] = [
    ("", "is"),
    ("ne", "is not"),
    ("gte", "is at least, or from"),
    ("gt", "is more than, or after"),
    ("lte", "is at most, or until"),
    ("lt", "is less than, or before"),
    ("null", "is empty"),
    ("some", "is not empty"),
];

/// The parameters of a page that the API has, too.
pub(super) fn asked<'a>(visit: &'a Visit, but: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let pairs = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    pairs.filter(move |(name, value)| {
        !value.is_empty() && !ADDS.contains(name) && *name != COLUMNS && !but.contains(name)
    })
}

/// Where the form that adds a condition leads.
pub(super) fn added<R: Noun>(visit: &Visit) -> Option<String> {
    let field = visit.query.iter().find(|(name, _)| name == "where").map(|(_, field)| field.as_str())?;
    let name = match (field, visit.parameter("key")) {
        (CUSTOM, Some(key)) => format!("{}{key}", Spec::CUSTOM),
        (field, _) => field.to_owned(),
    };
    let value = visit.parameter("value").unwrap_or_default().trim();
    let (name, value) = match visit.parameter("is").unwrap_or_default() {
        "" => (name, value),
        "null" => (name, "null"),
        "some" => (format!("{name}[ne]"), "null"),
        comparison => (format!("{name}[{comparison}]"), value),
    };
    let kept = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept = kept.filter(|(name, _)| !ADDS.contains(name) && *name != CURSOR);
    let is_known = field_of::<R>(&name).is_some() || name.starts_with(Spec::CUSTOM);
    let new = is_known.then_some((name.as_str(), value));
    Some(link(&visit.path, kept.chain(new)))
}

/// The field that a parameter compares, and how.
fn field_of<R: Noun>(parameter: &str) -> Option<(&'static ListField, &str)> {
    let (name, comparison) = parts_of(parameter);
    R::LIST.filterable().find(|field| field.name == name).map(|field| (field, comparison))
}

fn parts_of(parameter: &str) -> (&str, &str) {
    let split = parameter.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    split.unwrap_or((parameter, ""))
}

/// The filters that are shown at first sight.
pub(super) fn usual<R: Noun>(people: &People) -> Vec<Filter> {
    let search = R::SEARCHABLE.then(|| Filter::input(SEARCH, "Search", "search"));
    let filters = R::FILTERED_BY.iter().filter_map(|name| {
        let (field, comparison) = field_of::<R>(name)?;
        let kind = match field.kind {
            Kind::Word(options) => {
                FilterKind::Choice(options.iter().map(|word| ((*word).to_owned(), words(word))).collect())
            }
            Kind::Id if field.name == OWNER => {
                let nobody = [("null".to_owned(), "Nobody".to_owned())];
                FilterKind::Choice(nobody.into_iter().chain(people.choices()?).collect())
            }
            Kind::Time => FilterKind::Input("date"),
            Kind::Number => FilterKind::Input("number"),
            _ => FilterKind::Input("text"),
        };
        Some(Filter { name, label: label_of(field, comparison), kind })
    });
    search.into_iter().chain(filters).collect()
}

fn label_of(field: &ListField, comparison: &str) -> String {
    match comparison {
        "" => label(field.name),
        comparison => format!("{} {}", label(field.name), compared(field.kind, comparison)),
    }
}

/// A comparison in words.
fn compared(kind: Kind, comparison: &str) -> &'static str {
    match (comparison, kind) {
        ("", _) => "is",
        ("ne", _) => "is not",
        ("gte", Kind::Time) => "from",
        ("gt", Kind::Time) => "after",
        ("lte", Kind::Time) => "until",
        ("lt", Kind::Time) => "before",
        ("gte", _) => "at least",
        ("gt", _) => "more than",
        ("lte", _) => "at most",
        _ => "less than",
    }
}

/// The conditions that no input at first sight shows.
pub(super) fn others<'a>(visit: &'a Visit, usual: &'a [Filter]) -> Vec<(&'a str, &'a str)> {
    let is_shown = |name: &str, value: &str| {
        let is_single = visit.query.iter().filter(|(given, value)| given == name && !value.is_empty()).count() == 1;
        let fits = |filter: &Filter| match &filter.kind {
            FilterKind::Input("date") => value.len() == "2026-03-01".len(),
            FilterKind::Input(_) => true,
            FilterKind::Choice(options) => options.iter().any(|(option, _)| option == value),
        };
        is_single && usual.iter().any(|filter| filter.name == name && fits(filter))
    };
    asked(visit, &[SORT, CURSOR]).filter(|(name, value)| !is_shown(name, value)).collect()
}

/// The conditions that no input shows, each with a link that removes it.
pub(super) fn chips<R: Noun>(visit: &Visit, people: &People, others: &[(&str, &str)]) -> Markup {
    if others.is_empty() {
        return html! {};
    }
    html! {
        ul.chips aria-label="Filters" {
            @for (name, value) in others {
                li {
                    (said::<R>(people, name, value))
                    " " a href=(without(visit, name, value)) aria-label={ "Remove the filter: " (said::<R>(people, name, value)) } { "×" }
                }
            }
        }
    }
}

/// A condition in words.
fn said<R: Noun>(people: &People, parameter: &str, value: &str) -> Markup {
    let (name, comparison) = parts_of(parameter);
    let field = field_of::<R>(parameter).map(|(field, _)| field);
    let kind = field.map_or(Kind::Line, |field| field.kind);
    let label =
        field.map_or_else(|| name.strip_prefix(Spec::CUSTOM).unwrap_or(name).to_owned(), |field| label(field.name));
    html! {
        (label) " "
        @match (comparison, value, kind) {
            ("", "null", _) => "is empty",
            ("ne", "null", _) => "is not empty",
            (_, _, Kind::Word(_)) => { (compared(kind, comparison)) " " (value.split(',').map(words).collect::<Vec<_>>().join(" or ")) },
            (_, _, Kind::Id) if name == OWNER => { (compared(kind, comparison)) " " (people.user(value)) },
            _ => { (compared(kind, comparison)) " " (clipped(value, 60)) },
        }
    }
}

fn without(visit: &Visit, name: &str, value: &str) -> String {
    let pairs = visit.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    link(&visit.path, pairs.filter(|pair| *pair != (name, value) && pair.0 != CURSOR))
}

/// The id of the form that adds a condition.
const FORM: &str = "more";

/// The form that adds a condition; its inputs are in [`more`].
pub(super) fn more_form(visit: &Visit) -> Markup {
    let kept = visit
        .query
        .iter()
        .filter(|(name, value)| !value.is_empty() && name != CURSOR && !ADDS.contains(&name.as_str()));
    html! {
        form id=(FORM) method="get" action=(visit.path) {
            @for (name, value) in kept { input type="hidden" name=(name) value=(value); }
        }
    }
}

/// The inputs that add any condition that the API has, folded up.
pub(super) fn more<R: Noun>() -> Markup {
    let of_words = |field: &ListField| if let Kind::Word(words) = field.kind { Some(words) } else { None };
    let words: BTreeSet<&str> = R::LIST.filterable().filter_map(of_words).flatten().copied().collect();
    html! {
        details.columns.more-filters {
            summary.button { "More filters" }
            div.popover role="group" aria-label="More filters" {
                div.filter {
                    label for="more-where" { "Field" }
                    select #more-where form=(FORM) name="where" {
                        @for field in R::LIST.filterable() { option value=(field.name) { (label(field.name)) } }
                        @if R::LIST.has_custom_fields() { option value=(CUSTOM) { "Custom field" } }
                    }
                }
                @if R::LIST.has_custom_fields() {
                    div.filter {
                        label for="more-key" { "Name, for a custom field" }
                        input #more-key form=(FORM) type="text" name="key" autocomplete="off";
                    }
                }
                div.filter {
                    label for="more-is" { "Comparison" }
                    select #more-is form=(FORM) name="is" {
                        @for (value, label) in COMPARISONS { option value=(value) { (label) } }
                    }
                }
                div.filter {
                    label for="more-value" { "Value" }
                    input #more-value form=(FORM) type="text" name="value" list="more-values" autocomplete="off"
                        aria-describedby="more-hint";
                    datalist #more-values { @for word in words { option value=(word) {} } }
                    p.hint #more-hint {
                        "Dates as 2026-03-01, in the workspace's time zone. Only numbers and times have ranges."
                    }
                }
                button type="submit" form=(FORM) { "Add filter" }
            }
        }
    }
}
