//! Counts by value and by interval, and averages.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::insight::period::{Bucket, Period};

/// The number of records of each value, an object in JSON. Values without records have the count 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(pub Vec<(&'static str, i64)>);

impl Counts {
    /// The counts of these values, in their order.
    pub fn of(words: &[&'static str], count: impl Fn(&str) -> i64) -> Self {
        Self(words.iter().map(|word| (*word, count(word))).collect())
    }

    /// The sum of all counts.
    pub fn total(&self) -> i64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The count of a value.
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
            .description(Some("The number of records of each value; 0 for values without records."))
            .additional_properties(Some(AdditionalProperties::RefOr(count.into())))
            .into()
    }
}

impl ToSchema for Counts {
    fn name() -> std::borrow::Cow<'static, str> {
        "Counts".into()
    }
}

/// The number of records in an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IntervalCount {
    /// The interval.
    #[serde(flatten)]
    pub interval: Bucket,
    /// The number of records in the part of the interval that is in the period.
    pub count: i64,
}

/// The counts of each interval of a period, from counts by PostgreSQL's `width_bucket` over
/// [`Period::bucket_starts`].
pub(crate) fn by_interval(period: &Period, counts: impl IntoIterator<Item = (i32, i64)>) -> Vec<IntervalCount> {
    let mut of: BTreeMap<i32, i64> = BTreeMap::new();
    for (bucket, count) in counts {
        *of.entry(bucket).or_default() += count;
    }
    let numbered = (1..).zip(period.buckets());
    numbered.map(|(number, interval)| IntervalCount { interval, count: of.remove(&number).unwrap_or(0) }).collect()
}

/// The mean and the median of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Spread {
    /// The arithmetic mean; `null` without values.
    pub mean: Option<f64>,
    /// The median: the middle value, or the mean of the two middle values; `null` without values.
    pub median: Option<f64>,
}
