//! Numbers of things: by their words, by time, and for each.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::insight::period::Period;

/// How many there are of each word, in the words' order: an object in JSON. Those that nobody has are 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(pub Vec<(&'static str, i64)>);

impl Counts {
    /// The counts of these words.
    pub fn of(words: &[&'static str], count: impl Fn(&str) -> i64) -> Self {
        Self(words.iter().map(|word| (*word, count(word))).collect())
    }

    /// How many there are in all.
    pub fn total(&self) -> i64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// How many there are of a word.
    pub fn get(&self, word: &str) -> i64 {
        self.0.iter().find(|(of, _)| *of == word).map_or(0, |(_, count)| *count)
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (word, count) in &self.0 {
            map.serialize_entry(word, count)?;
        }
        map.end()
    }
}

impl PartialSchema for Counts {
    fn schema() -> RefOr<Schema> {
        let count: Schema = Object::with_type(Type::Integer).into();
        ObjectBuilder::new()
            .description(Some("How many there are of each word; 0 of those that nobody has."))
            .additional_properties(Some(AdditionalProperties::RefOr(count.into())))
            .into()
    }
}

impl ToSchema for Counts {
    fn name() -> std::borrow::Cow<'static, str> {
        "Counts".into()
    }
}

/// How many there were in a day, week or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct IntervalCount {
    /// Where it begins; the first may begin before the period does.
    pub start: DateTime<Utc>,
    /// How many there were in that part of it which is in the period.
    pub count: i64,
}

/// The counts of each interval of a period, given those of PostgreSQL's `width_bucket` over
/// [`Period::buckets`].
pub(crate) fn by_interval(period: &Period, counts: impl IntoIterator<Item = (i32, i64)>) -> Vec<IntervalCount> {
    let mut of: BTreeMap<i32, i64> = BTreeMap::new();
    for (bucket, count) in counts {
        *of.entry(bucket).or_default() += count;
    }
    let numbered = (1..).zip(period.buckets());
    numbered.map(|(bucket, start)| IntervalCount { start, count: of.get(&bucket).copied().unwrap_or(0) }).collect()
}

/// How much there is for each, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Spread {
    /// The arithmetic mean; `null` if there are none.
    pub mean: Option<f64>,
    /// The median: the middle one, or the mean of the two in the middle.
    pub median: Option<f64>,
}
