//! JSON read strictly: a body that two programs could read differently is refused.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use shared::error::FieldError;

/// Levels of arrays and objects in a body, itself included.
const MAX_DEPTH: usize = 64;

/// Reads a body that must be one object, without a key that is there twice on any level.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Vec<FieldError>> {
    let malformed = |message: String| vec![FieldError::new("body", "malformed", message)];
    if body.trim_ascii().is_empty() {
        return Err(vec![FieldError::new("body", "required", "must be a JSON object")]);
    }
    let doubles = RefCell::new(Vec::new());
    let mut json = serde_json::Deserializer::from_slice(body);
    let strict = Strict { place: None, depth: 0, doubles: &doubles };
    let value = strict
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| malformed(format!("is not JSON that can be read: {error}")))?;
    match value {
        _ if !doubles.borrow().is_empty() => Err(doubles.into_inner()),
        Value::Object(fields) => Ok(fields),
        _ => Err(vec![FieldError::new("body", "invalid", "must be a JSON object")]),
    }
}

/// A value at some place of the body.
#[derive(Clone, Copy)]
struct Strict<'a> {
    place: Option<&'a Place<'a>>,
    depth: usize,
    doubles: &'a RefCell<Vec<FieldError>>,
}

struct Place<'a> {
    parent: Option<&'a Self>,
    key: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.key)
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
            let place = Place { parent: inside.place, key: &key };
            let value = entries.next_value_seed(Strict { place: Some(&place), ..inside })?;
            if object.contains_key(&key) {
                let error = FieldError::new(place.to_string(), "duplicate", "is there twice");
                inside.doubles.borrow_mut().push(error);
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Vec<(String, String)> {
        let errors = object(body.as_bytes()).unwrap_err();
        errors.into_iter().map(|error| (error.field, error.code.into_owned())).collect()
    }

    fn one(field: &str, code: &str) -> Vec<(String, String)> {
        vec![(field.to_owned(), code.to_owned())]
    }

    #[test]
    fn what_is_read_is_what_was_written() {
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
    fn every_key_that_is_there_twice_is_named() {
        let twice = |field: &str| (field.to_owned(), "duplicate".to_owned());
        assert_eq!(codes(r#"{"a":1,"b":{"c":[{"d":1,"d":2}]},"a":3}"#), [twice("b.c.d"), twice("a")]);
    }

    #[test]
    fn depth_is_bounded_and_never_breaks_the_stack() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert_eq!(codes(&nested(MAX_DEPTH)), one("body", "malformed"));
        assert_eq!(codes(&nested(100_000)), one("body", "malformed"));
    }
}
