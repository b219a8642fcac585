//! Custom fields of a record.

use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::types::Json;
use sqlx::{Decode, Encode, Postgres};

use super::{Fault, Field};
use crate::values::cell::{Cell, Cells};
use crate::values::dates::zone;
use crate::values::json;

/// Custom fields of a record: a JSON object of bounded size.
///
/// The object is stored as text without whitespace: a tree of values can take forty times as much memory,
/// and a batch has a thousand records. `None` is the empty object.
#[derive(Debug, Clone, Default)]
pub struct CustomFields(Option<Box<RawValue>>);

impl CustomFields {
    /// The most keys and bytes (as JSON) that an API caller may store.
    pub const API_LIMITS: (usize, usize) = (100, 16 * 1024);
    /// The most keys and bytes (as JSON) that an import may store; an import stores every unknown column.
    pub const IMPORT_LIMITS: (usize, usize) = (1_000, 64 * 1024);
    const MAX_DEPTH: usize = 5;

    /// The fields as a JSON object.
    pub fn to_map(&self) -> Map<String, Value> {
        // The text is always an object.
        serde_json::from_str(self.as_json()).unwrap_or_default()
    }

    /// The fields as the text of a JSON object.
    pub fn as_json(&self) -> &str {
        self.0.as_ref().map_or("{}", |json| json.get())
    }

    /// The person's time zone, if the field `time_zone` has the name of one.
    pub fn time_zone(&self) -> Option<Tz> {
        // Most records have none, and are not parsed.
        let json = self.as_json();
        let map = json.contains("\"time_zone\"").then(|| self.to_map())?;
        zone(map.get("time_zone")?.as_str()?.trim()).ok()
    }

    fn of(map: &Map<String, Value>) -> serde_json::Result<Self> {
        Ok(Self(if map.is_empty() { None } else { Some(to_raw_value(map)?) }))
    }

    /// Accepts a JSON object within the given limits of keys and bytes.
    pub fn new(map: Map<String, Value>, (keys, bytes): (usize, usize)) -> Result<Self, Fault> {
        if map.len() > keys {
            return Err(Fault::new("too_long", format!("must have at most {keys} keys")));
        }
        // PostgreSQL's jsonb has no NUL character.
        if map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
            return Err(Fault::new("invalid", "must not contain NUL characters"));
        }
        if map.values().any(|value| depth(value) >= Self::MAX_DEPTH) {
            let max = Self::MAX_DEPTH;
            return Err(Fault::new("too_deep", format!("must not be nested deeper than {max}")));
        }
        let fields = Self::of(&map).map_err(|_| Fault::new("invalid", "must be a JSON object"))?;
        let size = fields.as_json().len();
        if size > bytes {
            let kib = bytes / 1024;
            return Err(Fault::new("too_long", format!("must have at most {kib} KiB as JSON")));
        }
        Ok(fields)
    }
}

impl PartialEq for CustomFields {
    /// The order of the keys does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json() || self.to_map() == other.to_map()
    }
}

impl Serialize for CustomFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(json) => json.serialize(serializer),
            None => Map::new().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CustomFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl sqlx::Type<Postgres> for CustomFields {
    fn type_info() -> PgTypeInfo {
        Json::<Map<String, Value>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        Json::<Map<String, Value>>::compatible(ty)
    }
}

impl Encode<'_, Postgres> for CustomFields {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&Json(self), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for CustomFields {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let Json(fields) = Json::decode(value)?;
        Ok(fields)
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// The levels of arrays and objects of a value: 0 for a plain value.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl Field for CustomFields {
    const IS_STRING: bool = false;

    fn from_text(text: &str) -> Result<Self, Fault> {
        let not_an_object = || Fault::new("invalid", "must be a JSON object");
        let map = json::object_in_text(text).map_err(|duplicate| duplicate.unwrap_or_else(not_an_object))?;
        Self::new(map, Self::IMPORT_LIMITS)
    }

    fn from_json(value: Value) -> Result<Self, Fault> {
        Self::from_json_within(value, Self::API_LIMITS)
    }
}

impl CustomFields {
    fn from_json_within(value: Value, limits: (usize, usize)) -> Result<Self, Fault> {
        match value {
            Value::Object(map) => Self::new(map, limits),
            _ => Err(Fault::new("invalid", "must be a JSON object")),
        }
    }
}

impl Cell for CustomFields {
    fn write(&self, cells: &mut impl Cells) {
        cells.json(self.as_json());
    }
}
