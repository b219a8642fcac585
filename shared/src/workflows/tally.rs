//! The parts of a run's result.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::Object;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::values::json_schema::Shape;
use crate::values::string_enum::StringEnum;

/// The most records that a dry run lists.
pub(super) const MAX_PREVIEW: usize = 1_000;

/// How many records a run skipped, by reason. Reasons without records are listed with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped<R>(Vec<(R, i64)>);

impl<R: StringEnum> Skipped<R> {
    pub(super) fn add(&mut self, reason: R, records: i64) {
        self.0.iter_mut().filter(|(known, _)| *known == reason).for_each(|(_, count)| *count += records);
    }

    pub(super) fn count(&self, reason: R) -> i64 {
        self.0.iter().filter(|(known, _)| *known == reason).map(|(_, count)| count).sum()
    }

    pub(super) fn sum(&self) -> i64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl<R: StringEnum> Default for Skipped<R> {
    fn default() -> Self {
        Self(R::VALUES.iter().map(|reason| (*reason, 0)).collect())
    }
}

impl<R: StringEnum> Serialize for Skipped<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(reason, count)| (reason.word(), count)))
    }
}

impl<'de, R: StringEnum> Deserialize<'de> for Skipped<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = HashMap::<String, i64>::deserialize(deserializer)?;
        let count = |reason: &R| (*reason, counts.get(reason.word()).copied().unwrap_or_default());
        Ok(Self(R::VALUES.iter().map(count).collect()))
    }
}

impl<R: StringEnum> Shape for Skipped<R> {
    fn shape() -> Object {
        let count = || Object::with_type(Type::Integer);
        let counts = R::VALUES.iter().map(|reason| reason.word());
        counts.fold(ObjectBuilder::new(), |object, reason| object.property(reason, count()).required(reason)).build()
    }
}

/// What a dry run would do with the first records. Empty outside dry runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Preview<T>(Option<Vec<T>>);

impl<T> Preview<T> {
    pub(super) fn new(dry_run: bool) -> Self {
        Self(dry_run.then(Vec::new))
    }

    /// Whether this is not a dry run.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Lists a record if there is room.
    pub(super) fn list(&mut self, record: impl FnOnce() -> T) {
        if let Some(listed) = self.0.as_mut().filter(|listed| listed.len() < MAX_PREVIEW) {
            listed.push(record());
        }
    }

    /// Lists a record. If the list is full, the record replaces the last one that is less
    /// informative.
    pub(super) fn prefer(&mut self, record: impl FnOnce() -> T, tells_less: impl Fn(&T) -> bool) {
        if let Some(listed) = self.0.as_mut().filter(|listed| listed.len() >= MAX_PREVIEW)
            && let Some(last) = listed.iter().rposition(tells_less)
        {
            listed.remove(last);
        }
        self.list(record);
    }
}

impl<T> Default for Preview<T> {
    fn default() -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::string_enum;

    string_enum! {
        Reason {
            Blocked = "blocked",
            Template = "template",
        }
    }

    #[test]
    fn every_reason_is_listed_in_its_order() {
        let mut skipped = Skipped::<Reason>::default();
        skipped.add(Reason::Template, 2);
        assert_eq!(serde_json::to_string(&skipped).unwrap(), r#"{"blocked":0,"template":2}"#);
        let read: Skipped<Reason> = serde_json::from_value(json!({ "template": 2 })).unwrap();
        assert_eq!((read.sum(), read), (2, skipped));
    }

    #[test]
    fn a_full_preview_lists_what_tells_more_instead_of_the_last_that_tells_less() {
        let mut preview = Preview::new(true);
        let mut prefer = |n, tells_less| preview.prefer(|| (n, tells_less), |(_, less)| *less);
        (0..MAX_PREVIEW).for_each(|n| prefer(n, n < 2));
        (MAX_PREVIEW..MAX_PREVIEW + 3).for_each(|n| prefer(n, false));
        preview.list(|| (0, false));
        let listed: Vec<usize> = preview.0.unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(listed, (2..MAX_PREVIEW + 2).collect::<Vec<_>>());
    }
}
