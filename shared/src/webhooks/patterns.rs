//! Which events an endpoint wants.

use serde_json::Value;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use crate::events::EventType;
use crate::values::Fault;

/// The pattern of all types.
const ALL: &str = "*";

/// The types of events that an endpoint wants: names, `lead.*` for all types about leads, and `*` for all types.
/// `*` and `job.*` include types that a later version adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// The patterns that are stored with an endpoint.
    pub(super) fn stored(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Reads the patterns of a request.
    pub(super) fn from_json(value: Value) -> Result<Self, Fault> {
        let invalid = || Fault::new("invalid", "must be an array of types of events");
        let Value::Array(items) = value else { return Err(invalid()) };
        let mut patterns = Vec::with_capacity(items.len().min(EventType::PUBLIC.len()));
        for item in items {
            let Value::String(pattern) = item else { return Err(invalid()) };
            if !is_known(&pattern) {
                return Err(Fault::new("unknown_type", format!("must contain only known types, not {pattern:?}")));
            }
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        if patterns.is_empty() {
            return Err(Fault::new("required", "must not be empty"));
        }
        Ok(Self(patterns))
    }

    /// Whether the endpoint wants events of a type.
    pub fn matches(&self, event_type: EventType) -> bool {
        event_type.is_public() && self.0.iter().any(|pattern| covers(pattern, event_type))
    }

    /// The types that they match now.
    pub fn types(&self) -> impl Iterator<Item = EventType> {
        EventType::PUBLIC.iter().copied().filter(|event_type| self.matches(*event_type))
    }

    /// The types that they match now, without those that only `*` matches.
    pub fn named_types(&self) -> impl Iterator<Item = EventType> {
        let named =
            |event_type: &EventType| self.0.iter().any(|pattern| pattern != ALL && covers(pattern, *event_type));
        EventType::PUBLIC.iter().copied().filter(named)
    }

    /// The patterns as callers write them.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// The schema of the field.
    pub(super) fn schema() -> Schema {
        let families: std::collections::BTreeSet<&str> = EventType::PUBLIC.iter().map(|it| it.family()).collect();
        let families = families.into_iter().filter(|family| *family != EventType::Ping.as_str());
        let words = EventType::PUBLIC_WORDS.iter().map(|word| (*word).to_owned());
        let words = words.chain(families.map(|family| format!("{family}.*"))).chain([ALL.to_owned()]);
        let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
        let about = "The types of events to deliver: names, `lead.*` for all types about leads, or `*` for all.";
        ArrayBuilder::new().items(word).min_items(Some(1)).description(Some(about)).build().into()
    }
}

fn is_known(pattern: &str) -> bool {
    pattern == ALL || EventType::PUBLIC.iter().any(|event_type| covers(pattern, *event_type))
}

fn covers(pattern: &str, event_type: EventType) -> bool {
    let is_family = |family: &str| family == event_type.family() && event_type != EventType::Ping;
    pattern == ALL || pattern == event_type.as_str() || pattern.strip_suffix(".*").is_some_and(is_family)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_are_names_families_and_everything() {
        let read = |value: Value| Patterns::from_json(value).map_err(|fault| fault.code);
        let leads = read(json!(["lead.*", "order.created", "lead.*"])).unwrap();
        assert_eq!(leads.words(), ["lead.*", "order.created"]);
        assert!(leads.matches(EventType::LeadConverted) && leads.matches(EventType::OrderCreated));
        assert!(!leads.matches(EventType::LeadInteractionCreated) && !leads.matches(EventType::OrderDeleted));
        // Only the audit log has exports.
        assert!(
            !leads.matches(EventType::LeadExported) && !read(json!(["*"])).unwrap().matches(EventType::LeadExported)
        );
        for (wrong, code) in [
            (json!([]), "required"),
            (json!("*"), "invalid"),
            (json!([1]), "invalid"),
            (json!(["lead"]), "unknown_type"),
            (json!(["lead.exported"]), "unknown_type"),
            (json!(["ping.*"]), "unknown_type"),
            (json!(["*.created"]), "unknown_type"),
        ] {
            assert_eq!(read(wrong.clone()).unwrap_err(), code, "{wrong}");
        }
    }
}
