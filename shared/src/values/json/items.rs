//! The items of a batch, parsed one at a time.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::read;
use crate::error::{Error, FieldError, FieldErrors, Result};
use crate::values::json_body::Object;

/// The items of a body such as `{"items": [{…}, …]}`. Items stay text until they are used: trees of all of
/// them would take many times the memory of the body.
#[derive(Debug, Clone)]
pub struct Items {
    body: Bytes,
    ranges: Arc<[Range<usize>]>,
}

impl Items {
    /// Reads a body whose only field is a list of 1 to `max` objects, and checks each object as strictly as
    /// a body.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn read(body: &Bytes, name: &'static str, max: usize) -> Result<Self> {
        let malformed = |message: String| Error::invalid("body", "malformed", format!("is not valid JSON: {message}"));
        let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
        if text.trim_ascii().is_empty() {
            return Err(Error::invalid("body", "required", "must be a JSON object"));
        }
        if !text.trim_ascii_start().starts_with('{') {
            let valid = serde_json::from_str::<IgnoredAny>(text);
            valid.map_err(|error| malformed(error.to_string()))?;
            return Err(Error::invalid("body", "invalid", "must be a JSON object"));
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let outer = json.deserialize_map(Outer { name }).and_then(|outer| json.end().map(|()| outer));
        let (list, unknown) = outer.map_err(|error| malformed(error.to_string()))?;
        let mut errors = FieldErrors::default();
        let items = match list {
            Some(list) if list.get().starts_with('[') => {
                split(list.get(), name, max, &mut errors).map_err(|error| malformed(error.to_string()))?
            }
            Some(_) => {
                errors.push(FieldError::new(name, "invalid", "must be an array of objects"));
                vec![]
            }
            None => {
                errors.push(FieldError::new(name, "required", "is required"));
                vec![]
            }
        };
        errors.absorb_all(unknown);
        errors.check()?;
        let range = |item: &str| {
            let start = item.as_ptr().addr() - text.as_ptr().addr();
            start..start + item.len()
        };
        Ok(Self { body: body.clone(), ranges: items.into_iter().map(range).collect() })
    }

    /// The body itself as the only item. It must have been checked before.
    pub fn single(body: Bytes) -> Self {
        Self { ranges: std::iter::once(0..body.len()).collect(), body }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Parses an item, to be read field by field.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no item at this index.
    pub fn get(&self, at: usize) -> Result<Object> {
        let range = self.ranges.get(at).ok_or(Error::NotFound)?;
        Ok(Object::new(serde_json::from_slice(&self.body[range.clone()])?))
    }
}

/// Splits a list into its items and checks each of them.
fn split<'a>(
    list: &'a str,
    name: &str,
    max: usize,
    errors: &mut FieldErrors,
) -> Result<Vec<&'a str>, serde_json::Error> {
    let items = serde_json::Deserializer::from_str(list).deserialize_seq(List { max })?;
    match items {
        Some(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                read(item, Some(&format!("{name}.{at}")), errors);
            }
            Ok(items)
        }
        _ => {
            errors.push(FieldError::new(name, "out_of_range", format!("must have from 1 to {max} items")));
            Ok(vec![])
        }
    }
}

/// Reads the body into the text of the list, and the faults of all other fields.
struct Outer {
    name: &'static str,
}

impl<'de> Visitor<'de> for Outer {
    type Value = (Option<&'de RawValue>, FieldErrors);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let (mut list, mut errors) = (None, FieldErrors::default());
        while let Some(key) = fields.next_key::<String>()? {
            let value: &RawValue = fields.next_value()?;
            if key != self.name {
                errors.push_with(|| FieldError::new(key, "unknown", "is not a known field"));
            } else if list.replace(value).is_some() {
                errors.push_with(|| FieldError::new(key, "duplicate", "must be given only once"));
            }
        }
        Ok((list, errors))
    }
}

/// Reads the texts of at most `max` items; `None` for a longer list.
struct List {
    max: usize,
}

impl<'de> Visitor<'de> for List {
    type Value = Option<Vec<&'de str>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<&RawValue>()? {
            if items.len() == self.max {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            items.push(item.get());
        }
        Ok(Some(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Vec<(String, String)> {
        match Items::read(&Bytes::copy_from_slice(body.as_bytes()), "items", 3) {
            Err(Error::Invalid(errors)) => {
                errors.into_iter().map(|error| (error.field, error.code.into_owned())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn one(field: &str, code: &str) -> Vec<(String, String)> {
        vec![(field.to_owned(), code.to_owned())]
    }

    #[test]
    fn items_are_read_one_by_one() {
        let body = Bytes::from_static(br#" { "items" : [ {"a": "{[,"} , {"id":"7"},{} ] } "#);
        let items = Items::read(&body, "items", 3).unwrap();
        assert_eq!(items.len(), 3);
        assert_eq!(items.get(0).unwrap().text("a"), Some("{[,"));
        assert_eq!(items.get(1).unwrap().text("id"), Some("7"));
        assert!(items.get(2).unwrap().finish().is_ok() && items.get(3).is_err());
    }

    #[test]
    fn only_a_list_of_objects_is_accepted() {
        for (body, code) in [("", "required"), ("[]", "invalid"), ("7", "invalid"), ("{", "malformed")] {
            assert_eq!(codes(body), one("body", code), "{body}");
        }
        for body in [r#"{"items":[{]}"#, r#"{"items":[{}]}x"#, r#"{"items":[{},]}"#, "[", "{\"items\":[}"] {
            assert_eq!(codes(body), one("body", "malformed"), "{body}");
        }
        assert_eq!(codes(r#"{"items":[{"a":"\ud800"}]}"#), one("items.0", "malformed"));
        for (body, code) in [
            ("{}", "required"),
            (r#"{"items":null}"#, "invalid"),
            (r#"{"items":[]}"#, "out_of_range"),
            (r#"{"items":[{},{},{},{}]}"#, "out_of_range"),
            (r#"{"items":[{}],"items":[{}]}"#, "duplicate"),
        ] {
            assert_eq!(codes(body), one("items", code), "{body}");
        }
        let several = codes(r#"{"x":[[[]]],"items":[{},7,{"a":1,"a":2}]}"#);
        assert_eq!(several, [one("items.1", "invalid"), one("items.2.a", "duplicate"), one("x", "unknown")].concat());
    }

    #[test]
    fn a_huge_or_deep_list_is_rejected() {
        assert_eq!(codes(&format!("{{\"items\":[{}{{}}]}}", "{},".repeat(1_000_000))), one("items", "out_of_range"));
        let deep = format!("{{\"items\":[{}{}]}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(codes(&deep), one("items.0", "malformed"));
        assert_eq!(codes(&format!("{{\"items\":[{{\"a\":[{}0]}}]}}", "0,".repeat(10_000))), one("items.0", "too_many"));
    }
}
