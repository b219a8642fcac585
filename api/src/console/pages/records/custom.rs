//! Custom fields as people write them: a line `name: value` for each.
//!
//! A value is text, unless it is JSON: `5`, `true`, `null`, `"5"`, `["a", "b"]`. So what a form shows is what it sends.

use serde_json::{Map, Value};

/// The lines of custom fields.
pub(super) fn lines(fields: &Map<String, Value>) -> String {
    let lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}: {}", name_of(name), text_of(value))).collect();
    lines.join("\n")
}

/// A name that could be misread is quoted.
fn name_of(name: &str) -> String {
    let is_plain =
        !name.is_empty() && !name.contains([':', '\n', '\r']) && !name.starts_with('"') && name.trim() == name;
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}

/// A text that could be misread is quoted.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        value => value.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(['\n', '\r'])
        && text.trim() == text
        && serde_json::from_str::<Value>(text).is_err()
}

/// The custom fields of lines.
///
/// # Errors
/// What is wrong, after the name of the field.
pub(super) fn parse(lines: &str) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    for (at, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) = split(line.trim()).ok_or_else(|| format!("must have `name: value` in line {}", at + 1))?;
        if fields.contains_key(&name) {
            return Err(format!("must have `{name}` only once"));
        }
        fields.insert(name, serde_json::from_str(value).unwrap_or_else(|_| value.into()));
    }
    Ok(fields)
}

fn split(line: &str) -> Option<(String, &str)> {
    let (name, rest) = match line.starts_with('"') {
        true => {
            let mut values = serde_json::Deserializer::from_str(line).into_iter::<String>();
            let name = values.next()?.ok()?;
            (name, line.get(values.byte_offset()..)?.trim_start().strip_prefix(':')?)
        }
        false => line.split_once(':').map(|(name, rest)| (name.trim().to_owned(), rest))?,
    };
    Some((name, rest.trim()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_is_what_is_sent() {
        let fields = json!({
            "tier": "gold", "size": 5, "code": "0050", "zip": "5", "vip": true, "none": null, "empty": "",
            "tags": ["a", "b"], "a: b": "c: d", "\"q\"": "\"r\"", " x ": " y ", "lines": "one\ntwo", "": 1, "é": "ü",
        });
        let fields = fields.as_object().unwrap();
        assert_eq!(&parse(&lines(fields)).unwrap(), fields);
        assert_eq!(
            parse("tier: gold\n\n  size:5  ").unwrap(),
            *json!({ "tier": "gold", "size": 5 }).as_object().unwrap()
        );
    }

    #[test]
    fn a_line_that_is_no_field_is_named() {
        assert_eq!(parse("tier: gold\nsilver").unwrap_err(), "must have `name: value` in line 2");
        assert_eq!(parse("a: 1\na: 2").unwrap_err(), "must have `a` only once");
    }
}
