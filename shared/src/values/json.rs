//! JSON from callers, read strictly and within limits.
//!
//! A body that two programs could read differently is rejected. A tree of JSON values takes up to a
//! hundred times the memory of its text, so the number of values in an object is limited. The items of
//! a batch, which may have many more values, are read one at a time.

mod items;

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{FieldError, FieldErrors};
use crate::values::Fault;

pub use items::Items;

/// The most levels of arrays and objects in a body, including the body itself.
const MAX_DEPTH: usize = 64;
/// The most values in a body or in an item of a batch: enough for full `custom_fields` and all other fields.
const MAX_VALUES: usize = 10_000;

/// Reads a body, which must be one object without duplicate keys on any level.
///
/// # Errors
/// Every fault of the body.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, FieldErrors> {
    let mut errors = FieldErrors::default();
    match std::str::from_utf8(body).map(str::trim_ascii) {
        Ok("") => errors.push(FieldError::new("body", "required", "must be a JSON object")),
        Ok(text) => {
            if let Some(fields) = read(text, None, &mut errors) {
                return Ok(fields);
            }
        }
        Err(_) => errors.push(FieldError::new("body", "malformed", "is not valid JSON: it is not UTF-8")),
    }
    Err(errors)
}

/// Reads a parameter or a cell, which must be one object.
///
/// # Errors
/// A fault that names a duplicate key, or `None` if the text is not an object.
pub fn object_in_text(text: &str) -> Result<Map<String, Value>, Option<Fault>> {
    let mut errors = FieldErrors::default();
    read(text, None, &mut errors).ok_or_else(|| {
        let error = Vec::from(errors).into_iter().find(|error| error.code == DUPLICATE)?;
        Some(Fault::new(DUPLICATE, format!("has the key {} more than once", error.field)))
    })
}

const DUPLICATE: &str = "duplicate";

/// Reads an object: the value of the field `path`, or the whole body if that is `None`.
fn read(text: &str, path: Option<&str>, errors: &mut FieldErrors) -> Option<Map<String, Value>> {
    let field = path.unwrap_or("body");
    let before = errors.len();
    let root = path.map(|key| Path { parent: None, key });
    let bounds = Bounds { duplicates: RefCell::new(std::mem::take(errors)), left: Cell::new(MAX_VALUES + 1) };
    let mut json = serde_json::Deserializer::from_str(text);
    let strict = Strict { path: root.as_ref(), depth: 0, bounds: &bounds };
    let value = strict.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    *errors = bounds.duplicates.into_inner();
    match value {
        Ok(Value::Object(fields)) => return Some(fields).filter(|_| errors.len() == before),
        Ok(_) => errors.push(FieldError::new(field, "invalid", "must be a JSON object")),
        Err(_) if bounds.left.get() == 0 => {
            errors.push(FieldError::new(field, "too_many", format!("must have at most {MAX_VALUES} values")));
        }
        Err(error) => errors.push(FieldError::new(field, "malformed", format!("is not valid JSON: {error}"))),
    }
    None
}

/// The state of reading an object.
struct Bounds {
    duplicates: RefCell<FieldErrors>,
    /// How many more values may be read, plus one: 0 means too many.
    left: Cell<usize>,
}

/// Reads a value strictly.
#[derive(Clone, Copy)]
struct Strict<'a> {
    path: Option<&'a Path<'a>>,
    depth: usize,
    bounds: &'a Bounds,
}

struct Path<'a> {
    parent: Option<&'a Self>,
    key: &'a str,
}

impl Path<'_> {
    /// The keys joined by dots, up to the length that an error shows.
    fn dotted(&self) -> String {
        let mut path = self.parent.map(Self::dotted).unwrap_or_default();
        if path.len() <= FieldError::MAX_FIELD {
            if !path.is_empty() {
                path.push('.');
            }
            path.extend(self.key.chars().take(FieldError::MAX_FIELD + 1));
        }
        path
    }
}

impl<'a> Strict<'a> {
    fn inside<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.bounds.left.get().saturating_sub(1);
        self.bounds.left.set(left);
        if left == 0 {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = Path { parent: inside.path, key: &key };
            let value = entries.next_value_seed(Strict { path: Some(&path), ..inside })?;
            if object.contains_key(&key) {
                let error = || FieldError::new(path.dotted(), DUPLICATE, "must be given only once");
                inside.bounds.duplicates.borrow_mut().push_with(error);
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn errors(body: &str) -> Vec<FieldError> {
        object(body.as_bytes()).unwrap_err().into()
    }

    fn codes(body: &str) -> Vec<(String, String)> {
        errors(body).into_iter().map(|error| (error.field, error.code.into_owned())).collect()
    }

    fn one(field: &str, code: &str) -> Vec<(String, String)> {
        vec![(field.to_owned(), code.to_owned())]
    }

    #[test]
    fn values_and_the_order_of_keys_are_preserved() {
        let body = r#"{"b":[1,-2,3.5,null,true,"x"],"a":{"c":{}}}"#;
        assert_eq!(Value::Object(object(body.as_bytes()).unwrap()).to_string(), body);
    }

    #[test]
    fn a_body_must_be_one_object() {
        assert_eq!(codes(" \n"), one("body", "required"));
        for body in ["[]", "1", "\"a\"", "null"] {
            assert_eq!(codes(body), one("body", "invalid"), "{body}");
        }
        for body in ["{", "{}{}", "{'a':1}", "{\"a\":1e999}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}"] {
            assert_eq!(codes(body), one("body", "malformed"), "{body}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn every_duplicate_key_is_reported() {
        let duplicate = |field: &str| (field.to_owned(), "duplicate".to_owned());
        assert_eq!(codes(r#"{"a":1,"b":{"c":[{"d":1,"d":2}]},"a":3}"#), [duplicate("b.c.d"), duplicate("a")]);
        let fault = object_in_text(r#"{"E-mail":"email","E-mail":null}"#).unwrap_err().unwrap();
        assert_eq!((fault.code, fault.message.as_ref()), ("duplicate", "has the key E-mail more than once"));
        assert_eq!(object_in_text("[]"), Err(None));
    }

    #[test]
    fn many_duplicates_are_reported_in_bounded_memory() {
        let key = format!("\"{}\":", "k".repeat(1000));
        let body = format!("{{{key}{{{}\"x\":0}}}}", "\"x\":0,".repeat(5_000));
        let errors = errors(&body);
        assert_eq!((errors.len(), errors[100].code.as_ref()), (101, "more"));
        assert_eq!(errors[100].message, "and 4900 more");
        assert!(errors[0].field.chars().count() == FieldError::MAX_FIELD, "{}", errors[0].field);
    }

    #[test]
    fn depth_is_limited_and_never_overflows_the_stack() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert_eq!(codes(&nested(MAX_DEPTH)), one("body", "malformed"));
        assert_eq!(codes(&nested(100_000)), one("body", "malformed"));
    }

    #[test]
    fn the_number_of_values_is_limited() {
        let values = |count: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(count - 1));
        // The object and the array are values, too.
        assert!(object(values(MAX_VALUES - 2).as_bytes()).is_ok());
        for body in [
            values(MAX_VALUES - 1),
            values(500_000),
            format!("{{\"a\":[{}{{}}]}}", "{\"\":[]},".repeat(100_000)),
            format!("{{{}\"a\":0}}", (0..20_000).map(|n| format!("\"{n}\":0,")).collect::<String>()),
        ] {
            assert_eq!(codes(&body), one("body", "too_many"));
        }
    }

    /// Arbitrary values, whose keys are rarely equal.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 100, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_serde_json_reads_it(value in values(), pretty: bool) {
            let body = serde_json::json!({ "value": value });
            let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
            let expected: Map<String, Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(object(text.as_bytes()), Ok(expected));
        }

        #[test]
        fn the_reader_never_panics_and_the_number_of_errors_is_limited(text in r#"[{}\[\]":,0-9a\\e\-. ]{0,200}"#) {
            let known = serde_json::from_str::<Map<String, Value>>(&text);
            match object(text.as_bytes()) {
                Ok(fields) => prop_assert_eq!(fields, known.unwrap()),
                Err(errors) => prop_assert!(Vec::from(errors).len() <= FieldErrors::MAX_SHOWN + 1),
            }
        }

        #[test]
        fn any_bytes_are_read_or_rejected(body: Vec<u8>) {
            let _ = object(&body);
        }
    }
}
