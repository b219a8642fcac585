//! The options of an import, which are all in the URL of its page.

use maud::{Markup, html};
use shared::imports::{DateOrder, Decimal};

use super::UPLOADS;
use super::file::{Preview, Waits};
use super::kinds::{KINDS, Kind};
use crate::console::forms::{Draft, Fields};
use crate::console::links::link;
use crate::console::session::Visit;

/// The options that say how the file is read.
const READING: [&str; 9] =
    ["sheet", "encoding", "delimiter", "header_row", "columns", "date_order", "decimal", "tz", "unmapped"];
/// The options that say what becomes of its rows.
const WRITING: [&str; 7] = ["mapping", "save_mapping", "key", "on_conflict", "create", "strict", "enroll"];
/// The encodings that files of other systems have.
const ENCODINGS: [(&str, &str); 11] = [
    ("utf-8", "UTF-8"),
    ("utf-16le", "UTF-16"),
    ("windows-1252", "Windows-1252 (Western)"),
    ("windows-1250", "Windows-1250 (Central European)"),
    ("windows-1251", "Windows-1251 (Cyrillic)"),
    ("windows-1254", "Windows-1254 (Turkish)"),
    ("macintosh", "Macintosh"),
    ("shift_jis", "Shift JIS"),
    ("gb18030", "GB 18030"),
    ("big5", "Big5"),
    ("euc-kr", "EUC-KR"),
];
const DELIMITERS: [(&str, &str); 4] =
    [("comma", "Comma"), ("semicolon", "Semicolon"), ("tab", "Tab"), ("pipe", "Vertical bar")];

/// The options of a page or a form, as parameters of the API.
pub(super) fn given<'a>(fields: &'a Fields, mapping: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let is_option = |name: &str| READING.contains(&name) || WRITING.contains(&name);
    let is_given = |(name, value): &(&str, &str)| {
        !value.is_empty() && is_option(name) && (*name != "mapping" || mapping.is_none())
    };
    // A file without a header is one whose columns are named.
    let headless = (!fields.get("columns").is_empty()).then_some(("header", "false"));
    fields.iter().filter(is_given).chain(headless).chain(mapping.map(|mapping| ("mapping", mapping))).collect()
}

/// The options that say how the file is read, and its kind, as hidden fields.
pub(super) fn hidden_reading(fields: &Fields, kind: &Kind) -> Markup {
    html! {
        input type="hidden" name="kind" value=(kind.name);
        @for (name, value) in fields.iter().filter(|(name, value)| READING.contains(name) && !value.is_empty()) {
            input type="hidden" name=(name) value=(value);
        }
    }
}

/// How the file is read: each choice is another URL. A mapping is of the headers that were read before.
pub(super) fn reading(visit: &Visit, file: &Waits, kind: &Kind, draft: &Draft, preview: Option<&Preview>) -> Markup {
    let detected = |what: Option<&str>| what.map_or_else(|| "Detected".to_owned(), |what| format!("{what} (detected)"));
    let format = preview.map_or("csv", |preview| preview.format.as_str());
    let sheets = preview.map(|preview| preview.sheets.as_slice()).unwrap_or_default();
    let encoding = preview.map(|preview| preview.encoding.as_str());
    let delimiter = preview.and_then(|preview| preview.delimiter.as_deref()).map(name_of_delimiter);
    let header = preview.and_then(|preview| preview.header_row).map(|row| row.to_string());
    let select = |name, label, none: String, options: Vec<(String, String)>| {
        choice(draft, name, label, [(String::new(), none)].into_iter().chain(options))
    };
    let texts = |options: &[(&str, &str)]| {
        options.iter().map(|(value, text)| ((*value).to_owned(), (*text).to_owned())).collect()
    };
    // The others depend on the kind.
    let kept = ["on_conflict", "create", "strict"].into_iter().filter(|name| draft.values.has(name));
    html! {
        form.filters.reading method="get" action=(format!("{UPLOADS}/{}", file.id)) aria-label="How the file is read" data-auto {
            (choice(draft, "kind", "Import as", KINDS.iter().map(|kind| (kind.name.to_owned(), kind.title.to_owned()))))
            @if format == "xlsx" {
                (select("sheet", "Sheet", "First visible".to_owned(), sheets.iter().map(|name| (name.clone(), name.clone())).collect()))
            }
            @if format == "csv" {
                (select("encoding", "Encoding", detected(encoding), texts(&ENCODINGS)))
                (select("delimiter", "Delimiter", detected(delimiter), texts(&DELIMITERS)))
            }
            @if format != "jsonl" {
                (text(draft, "header_row", "Header in row", "number", &header.unwrap_or_default()))
                (text(draft, "columns", "Or names of columns", "text", "name,email"))
            }
            (select("date_order", "3/4/2026 is", "Detected".to_owned(), orders()))
            (select("decimal", "1,234 is", "Detected".to_owned(), decimals()))
            @if (kind.has_custom_fields)() {
                (select("unmapped", "Other columns", "Custom fields".to_owned(), vec![("ignore".to_owned(), "Ignored".to_owned())]))
            }
            (text(draft, "tz", "Time zone", "text", visit.zone.name()))
            @for name in kept { input type="hidden" name=(name) value=(draft.values.get(name)); }
            button type="submit" { "Apply" }
            a.button href=(link(&format!("{UPLOADS}/{}", file.id), [("kind", kind.name)])) { "Detect" }
        }
    }
}

fn orders() -> Vec<(String, String)> {
    let texts = ["3 April 2026", "4 March 2026", "Year first"];
    DateOrder::WORDS.iter().zip(texts).map(|(word, text)| ((*word).to_owned(), text.to_owned())).collect()
}

fn decimals() -> Vec<(String, String)> {
    let texts = ["1.234 (decimal comma)", "1234 (decimal point)"];
    Decimal::WORDS.iter().zip(texts).map(|(word, text)| ((*word).to_owned(), text.to_owned())).collect()
}

fn name_of_delimiter(delimiter: &str) -> &str {
    match delimiter {
        "," => "comma",
        ";" => "semicolon",
        "\t" => "tab",
        "|" => "vertical bar",
        other => other,
    }
}

/// A select in the row of options. A value that is not offered was typed into the URL, and stays.
fn choice(draft: &Draft, name: &str, label: &str, options: impl IntoIterator<Item = (String, String)>) -> Markup {
    let value = draft.values.get(name);
    let mut options: Vec<(String, String)> = options.into_iter().collect();
    if !value.is_empty() && !options.iter().any(|(option, _)| option == value) {
        options.push((value.to_owned(), value.to_owned()));
    }
    let wrong = wrong(draft, name);
    html! {
        div.filter {
            label for=(format!("f-{name}")) { (label) }
            select id=(format!("f-{name}")) name=(name) aria-invalid=[wrong.map(|_| "true")] {
                @for (option, text) in options { option value=(option) selected[option == value] { (text) } }
            }
            @if let Some(wrong) = wrong { p.wrong { (label) " " (wrong) } }
        }
    }
}

fn text(draft: &Draft, name: &str, label: &str, kind: &str, placeholder: &str) -> Markup {
    let wrong = wrong(draft, name);
    html! {
        div.filter {
            label for=(format!("f-{name}")) { (label) }
            input id=(format!("f-{name}")) type=(kind) name=(name) value=(draft.values.get(name)) placeholder=(placeholder)
                min=[(kind == "number").then_some("1")] autocomplete="off"
                aria-invalid=[wrong.map(|_| "true")];
            @if let Some(wrong) = wrong { p.wrong { (label) " " (wrong) } }
        }
    }
}

fn wrong<'a>(draft: &'a Draft, name: &str) -> Option<&'a str> {
    draft.refusal.as_ref().and_then(|refusal| refusal.about(name))
}

/// All options of a dry run, as hidden fields of the form that imports.
pub(super) fn hidden(fields: &Fields, kind: &Kind) -> Markup {
    html! {
        (hidden_reading(fields, kind))
        @for (name, value) in fields.iter().filter(|(name, value)| WRITING.contains(name) && !value.is_empty()) {
            input type="hidden" name=(name) value=(value);
        }
    }
}

/// What becomes of the rows.
pub(super) fn writing(kind: &Kind, draft: &Draft) -> Markup {
    let keys = kind.keys.iter().map(|key| (key.as_str(), key_title(key.as_str())));
    let conflicts = [
        ("skip", "Skip the row"),
        ("update", "Update the record with the cells that are not empty"),
        ("fail", "Reject the row"),
    ];
    let create = [("", "Create it"), ("false", "Reject the row: only update")];
    let is_new = draft.refusal.is_none() && !draft.values.has("job");
    let remembers = if is_new { "true" } else { "" };
    let strict = [("", "Leave the cell out, with a warning"), ("true", "Reject the row")];
    html! {
        div.fields {
            (draft.input("key", "A row finds its record by").choice(keys))
            (draft.input("on_conflict", "If the record exists").choice(conflicts))
            (draft.input("create", "If it does not exist").choice(create))
            (draft.input("strict", "If a cell cannot be read").choice(strict))
        }
        @if kind.name == "leads" { (draft.input("enroll", "Enrol the created leads for nurture").flag()) }
        (draft.input("save_mapping", "Remember what I changed for the next file with the same header").flag().or(remembers))
    }
}

fn key_title(key: &str) -> &'static str {
    match key {
        "email" => "Email",
        "external_id" => "Id in the other system",
        _ => "Id",
    }
}
