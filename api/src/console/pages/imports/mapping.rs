//! The table that says what becomes of each column.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::file::Preview;
use super::kinds::Kind;
use crate::console::forms::{Draft, Fields};
use crate::console::pages::jobs::job::shortened;
use crate::console::parts::words;

/// What a custom field under the header is called in a form.
const CUSTOM: &str = "custom_fields";
/// The most columns with a select each; those of wider files are inputs that share one list.
const SELECTS: usize = 40;
/// The most samples of a column, and the most letters of a sample or a header.
const SAMPLES: usize = 3;
const LETTERS: usize = 40;

fn field_of(at: usize) -> String {
    format!("column-{at}")
}

/// The value of a form for a target of the API.
fn shown<'a>(header: &str, target: &'a Value) -> &'a str {
    let target = target.as_str().unwrap_or_default();
    if target.strip_prefix("custom_fields.") == Some(header) { CUSTOM } else { target }
}

/// The table. What a form was sent with is kept.
pub(super) fn table(kind: &Kind, preview: &Preview, draft: &Draft) -> Markup {
    let targets = (kind.targets)();
    let has_lists = preview.mapping.len() > SELECTS;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Columns of the file" {
            table.mapping {
                caption.hidden { "Columns of the file, and what becomes of them" }
                thead { tr { th scope="col" { "Column" } th scope="col" { "Samples" } th scope="col" { "Becomes" } } }
                tbody {
                    @for (at, (header, target)) in preview.mapping.iter().enumerate() {
                        @let suggested = shown(header, target);
                        @let value = sent(&draft.values, at).unwrap_or(suggested);
                        @let label = format!("What becomes of {}", shortened(header, LETTERS));
                        tr {
                            th scope="row" { (shortened(header, LETTERS)) }
                            td.quiet { (samples(preview, header)) }
                            td {
                                @if has_lists {
                                    input name=(field_of(at)) value=(value) list="targets" aria-label=(label) autocomplete="off";
                                } @else {
                                    select name=(field_of(at)) aria-label=(label) {
                                        (options(kind, &targets, suggested, value))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if has_lists { datalist #targets { (options(kind, &targets, "", "")) } }
    }
}

fn options(kind: &Kind, targets: &[&str], suggested: &str, value: &str) -> Markup {
    let option = |name: &str, text: &str| html! { option value=(name) selected[name == value] { (text) } };
    let is_other = |name: &str| !name.is_empty() && name != CUSTOM && !targets.contains(&name);
    html! {
        (option("", "Ignore"))
        @if (kind.has_custom_fields)() { (option(CUSTOM, "Custom field")) }
        @if is_other(suggested) { (option(suggested, suggested)) }
        @if is_other(value) && value != suggested { (option(value, value)) }
        @for target in targets { (option(target, &text_of(target))) }
    }
}

fn text_of(target: &str) -> String {
    match target {
        "suppression" => "Opt-out: no email".to_owned(),
        "deleted" => "Deleted: skip the row".to_owned(),
        "id" => "Id".to_owned(),
        other => words(other),
    }
}

fn samples(preview: &Preview, header: &str) -> String {
    let mut found: Vec<String> = Vec::new();
    for text in preview.rows.iter().filter_map(|row| row.get(header)) {
        let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
        let text = shortened(text.trim(), LETTERS);
        if !text.is_empty() && text != "null" && !found.contains(&text) {
            found.push(text);
        }
        if found.len() == SAMPLES {
            break;
        }
    }
    found.join(" · ")
}

fn sent(fields: &Fields, at: usize) -> Option<&str> {
    let name = field_of(at);
    fields.iter().find(|(given, _)| *given == name).map(|(_, value)| value.trim())
}

/// The mapping that a form asks for, if it is not what the API does by itself. What was detected is left to the API,
/// which knows the best of several columns for a field, as long as no changed column becomes that field. Any other
/// mapping, such as a remembered one, is replaced as a whole.
pub(super) fn chosen(fields: &Fields, preview: &Preview) -> Option<Map<String, Value>> {
    let column = |(at, (header, suggested)): (usize, (&String, &Value))| {
        let target = match sent(fields, at) {
            None => suggested.clone(),
            Some("") => Value::Null,
            Some(CUSTOM) => Value::from(format!("custom_fields.{header}")),
            Some(field) => Value::from(field),
        };
        (header.clone(), target.clone(), target != *suggested)
    };
    let columns: Vec<(String, Value, bool)> = preview.mapping.iter().enumerate().map(column).collect();
    let changed: Vec<&Value> =
        columns.iter().filter(|(_, _, is_changed)| *is_changed).map(|(_, target, _)| target).collect();
    if changed.is_empty() {
        return None;
    }
    let is_needed = |(_, target, is_changed): &&(String, Value, bool)| {
        *is_changed || preview.mapping_source != "detected" || (!target.is_null() && changed.contains(&target))
    };
    Some(columns.iter().filter(is_needed).map(|(header, target, _)| (header.clone(), target.clone())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn preview(source: &str) -> Preview {
        let mapping = json!({ "Mail": "email", "Mail 2": "email", "Rating": "custom_fields.Rating", "Note": null });
        let json = json!({
            "format": "csv", "encoding": "utf-8", "delimiter": ",", "header_row": 1, "sheets": [], "mapping": mapping,
            "mapping_source": source, "rows": [],
        });
        serde_json::from_value(json).unwrap()
    }

    fn fields(values: [&'static str; 4]) -> Fields {
        let names = ["column-0", "column-1", "column-2", "column-3"];
        names.into_iter().zip(values.map(str::to_owned)).collect()
    }

    #[test]
    fn a_mapping_has_what_was_changed_and_what_the_change_concerns() {
        let of = |values, source| chosen(&fields(values), &preview(source)).map(Value::Object);
        assert_eq!(of(["email", "email", "custom_fields", ""], "detected"), None);
        assert_eq!(of(["email", "email", "score", ""], "detected"), Some(json!({ "Rating": "score" })));
        assert_eq!(
            of(["email", "email", "email", ""], "detected"),
            Some(json!({ "Mail": "email", "Mail 2": "email", "Rating": "email" })),
        );
        assert_eq!(
            of(["email", "", "custom_fields", "custom_fields"], "saved"),
            Some(
                json!({ "Mail": "email", "Mail 2": null, "Rating": "custom_fields.Rating", "Note": "custom_fields.Note" })
            ),
        );
    }
}
