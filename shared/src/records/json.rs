//! Records as JSON, written without the general serializer, which takes a third of the time of a long list.

use std::fmt::Display;
use std::io::Write;

use chrono::{DateTime, Timelike, Utc};
use serde::Serialize;

use super::model::Fields;
use crate::error::Result;
use crate::query::Item;
use crate::values::cell::Cells;
use crate::values::timestamp::Micros;

impl<R: Fields> Item for R {
    fn write_json(&self, fields: Option<&[&'static str]>, json: &mut Vec<u8>) -> Result<()> {
        let mut object = Object { json, names: R::COLUMNS.iter().chain(R::JOINED), fields, before: b'{' };
        self.cells(&mut object);
        self.computed_cells(&mut object);
        if object.before == b'{' {
            json.push(b'{');
        }
        json.push(b'}');
        Ok(())
    }
}

/// An object whose values are the cells of a record.
struct Object<'a, N> {
    json: &'a mut Vec<u8>,
    /// The names of the cells.
    names: N,
    fields: Option<&'a [&'static str]>,
    /// What stands before the next field.
    before: u8,
}

impl<'n, N: Iterator<Item = &'n &'static str>> Object<'_, N> {
    /// Writes the name of the next cell, and returns where its value is written, unless it is left out.
    fn next(&mut self) -> Option<&mut Vec<u8>> {
        let name = self.names.next()?;
        if self.fields.is_some_and(|fields| !fields.contains(name)) {
            return None;
        }
        self.json.push(std::mem::replace(&mut self.before, b','));
        // The names of fields need no escaping.
        self.json.push(b'"');
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        Some(self.json)
    }
}

impl<'n, N: Iterator<Item = &'n &'static str>> Cells for Object<'_, N> {
    fn value(&mut self, value: impl Display) {
        if let Some(json) = self.next() {
            // Writing to a vector cannot fail.
            let _ = write!(json, "\"{value}\"");
        }
    }

    fn number(&mut self, number: impl Display + Serialize) {
        if let Some(json) = self.next() {
            let _ = serde_json::to_writer(json, &number);
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(json) = self.next() {
            push_text(json, text);
        }
    }

    fn json(&mut self, object: &str) {
        if let Some(json) = self.next() {
            json.extend_from_slice(object.as_bytes());
        }
    }

    fn empty(&mut self) {
        if let Some(json) = self.next() {
            json.extend_from_slice(b"null");
        }
    }

    /// Writes as many decimal places of the second as are needed: none, three or six.
    fn time(&mut self, time: DateTime<Utc>) {
        let Some(json) = self.next() else { return };
        let _ = write!(json, "\"{}", Micros(time));
        let zeros = match time.nanosecond() / 1_000 {
            0 => ".000000Z".len(),
            micros if micros % 1_000 == 0 => "000Z".len(),
            _ => "Z".len(),
        };
        json.truncate(json.len() - zeros);
        json.extend_from_slice(b"Z\"");
    }
}

fn push_text(json: &mut Vec<u8>, text: &str) {
    // Without an early end, the compiler checks many bytes at once.
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
        // Writing text to a vector cannot fail.
        let _ = serde_json::to_writer(json, text);
    } else {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use chrono::DurationRound;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::crm::leads::Lead;
    use crate::query::Chosen;
    use crate::records::Record;

    proptest! {
        #[test]
        fn a_record_is_written_as_by_its_serializer(
            text in any::<String>(), score in 0.0..100.0, micros in 0_i64..4_000_000_000_000_000, unit in 0_u32..=6,
            chosen in proptest::collection::vec(any::<bool>(), Lead::COLUMNS.len()),
        ) {
            let step = chrono::TimeDelta::microseconds(10_i64.pow(unit));
            let time = DateTime::from_timestamp_micros(micros).unwrap().duration_trunc(step).unwrap();
            let mut record = serde_json::to_value(Lead::example()).unwrap();
            for (field, value) in [("id", json!(uuid::Uuid::from_u128(7))), ("created_at", json!(time)), ("updated_at", json!(time))] {
                record[field] = value;
            }
            let mut all: Map<String, Value> = Lead::COLUMNS.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            all.extend(record.as_object().unwrap().clone());
            all.extend([("status".into(), json!("new")), ("source".into(), json!("email")), ("custom_fields".into(), json!({ "a": text }))]);
            all.extend([("score".into(), json!(score)), ("notes".into(), json!(format!("\"{text}\u{1}\\")))]);
            let lead: Lead = serde_json::from_value(all.into()).unwrap();

            let mut written = Vec::new();
            lead.write_json(None, &mut written).unwrap();
            prop_assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&lead).unwrap());

            let fields: Vec<&'static str> =
                Lead::COLUMNS.iter().zip(chosen).filter_map(|(name, chosen)| chosen.then_some(*name)).collect();
            let mut written = Vec::new();
            lead.write_json(Some(&fields), &mut written).unwrap();
            let some = serde_json::to_string(&Chosen { record: &lead, fields: &fields }).unwrap();
            prop_assert_eq!(String::from_utf8(written).unwrap(), some);
        }
    }
}
