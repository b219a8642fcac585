//! Examples of bodies, composed from their schemas, so that no operation lacks one and none is out of date.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Content, RefOr};

use super::operations::{HTML, Operation};

/// The id in all examples.
pub(crate) const ID: &str = "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44";
/// The beginning of a page.
pub(crate) const PAGE: &str = "<!doctype html>…";
const TIME: &str = "2026-01-15T10:00:00Z";
/// How deep examples go. Deeper values are left out, which only schemas that contain themselves have.
const DEPTH: usize = 30;

/// Typical texts, by the name of their field.
const TEXTS: &[(&str, &str)] = &[
    ("body", "Hello {{ lead.first_name }},"),
    ("category", "delivery"),
    ("comment", "The delivery was fast."),
    ("company", "Analytical Engines"),
    ("cursor", "eyJrZXk"),
    ("delimiter", ","),
    ("encoding", "UTF-8"),
    ("field", "email"),
    ("code", "invalid"),
    ("key", "delivery time"),
    ("label", "delivery time"),
    ("message", "is not an email address"),
    ("name", "Ada Lovelace"),
    ("nightly_at", "02:00"),
    ("phone", "+1 415 555 0103"),
    ("quote", "The delivery was fast."),
    ("subject", "Welcome"),
    ("text", "The delivery was fast."),
    ("text_body", "Hello Ada,"),
    ("html_body", "<p>Hello Ada,</p>"),
    ("time_zone", "Europe/Berlin"),
    ("tz", "Europe/Berlin"),
];

/// Adds an example to each body of an operation that has none.
pub(crate) fn complete(operation: &mut Operation) {
    let to_json = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
    let schemas = operation.schemas.iter().map(|(name, schema)| (name.clone(), to_json(schema)));
    let examples = Examples(schemas.collect());
    let bodies = operation.body.iter_mut().flat_map(|body| body.content.iter_mut());
    let answers = operation.answers.iter_mut().flat_map(|(_, answer)| answer.content.iter_mut());
    for (kind, content) in bodies.chain(answers) {
        if let RefOr::T(content) = content
            && content.example.is_none()
        {
            content.example = examples.of_content(kind, content);
        }
    }
}

/// Schemas by name.
struct Examples(BTreeMap<String, Value>);

impl Examples {
    fn of_content(&self, kind: &str, content: &Content) -> Option<Value> {
        match kind {
            HTML => Some(PAGE.into()),
            _ => {
                let schema = serde_json::to_value(content.schema.as_ref()?).ok()?;
                Some(self.of(&schema, "", DEPTH))
            }
        }
    }

    /// An example of the field `name` with a schema.
    fn of(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else { return Value::Null };
        if let Some(named) = schema["$ref"].as_str().and_then(|path| self.0.get(path.rsplit('/').next()?)) {
            return self.of(named, name, depth);
        }
        if let Some(example) = schema["examples"].get(0).or_else(|| schema.get("default")) {
            return example.clone();
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().map(|part| self.of(part, name, depth));
            let fields = parts.filter_map(|part| part.as_object().cloned()).flatten();
            return Value::Object(fields.collect());
        }
        if let Some(alternatives) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            let first = alternatives.iter().find(|alternative| alternative["type"] != "null");
            return first.map_or(Value::Null, |first| self.of(first, name, depth));
        }
        if let Some(word) = schema["enum"].get(0) {
            return word.clone();
        }
        match type_of(schema) {
            "object" => self.of_object(schema, depth),
            "array" => json!([self.of(&schema["items"], name, depth)]),
            "string" => of_string(schema, name),
            "integer" => of_integer(schema),
            "number" => json!(0.25),
            "boolean" => json!(false),
            _ => Value::Null,
        }
    }

    fn of_object(&self, schema: &Value, depth: usize) -> Value {
        if let Some(properties) = schema["properties"].as_object() {
            let fields = properties.iter().map(|(name, schema)| (name.clone(), self.of(schema, name, depth)));
            return Value::Object(fields.collect());
        }
        let values = schema.get("additionalProperties").filter(|values| values.is_object());
        let fields = values.map(|values| ("name".to_owned(), self.of(values, "", depth)));
        Value::Object(fields.into_iter().collect::<Map<_, _>>())
    }
}

/// The type of a schema, without `null`.
fn type_of(schema: &Value) -> &str {
    let of_one = schema["type"].as_str();
    let types = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    of_one.or_else(|| types.into_iter().find(|of| *of != "null")).unwrap_or_default()
}

fn of_string(schema: &Value, name: &str) -> Value {
    match schema["format"].as_str() {
        Some("uuid") => ID.into(),
        Some("date-time") => TIME.into(),
        Some("date") => TIME[..10].into(),
        Some("email") => "ada@example.com".into(),
        _ => TEXTS.iter().find(|(known, _)| *known == name).map_or("text", |(_, text)| text).into(),
    }
}

fn of_integer(schema: &Value) -> Value {
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    json!(12.clamp(bound("minimum").unwrap_or(i64::MIN), bound("maximum").unwrap_or(i64::MAX)))
}
