//! Collecting the faults of an input in bounded memory.

use super::{Error, FieldError, Result};

/// The faults of an input: the first [`MAX_SHOWN`](FieldErrors::MAX_SHOWN), and the number of the others.
/// So the cost of collecting and reporting faults has a bound, however many a caller sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors {
    shown: Vec<FieldError>,
    more: usize,
}

impl FieldErrors {
    /// The most faults that are reported one by one.
    pub const MAX_SHOWN: usize = 100;

    /// A single fault.
    pub fn one(error: FieldError) -> Self {
        Self { shown: vec![error], more: 0 }
    }

    /// Adds a fault.
    pub fn push(&mut self, error: FieldError) {
        self.push_with(|| error);
    }

    /// Adds a fault that is built only if it is shown.
    pub fn push_with(&mut self, error: impl FnOnce() -> FieldError) {
        if self.shown.len() < Self::MAX_SHOWN {
            self.shown.push(error());
        } else {
            self.more += 1;
        }
    }

    /// Adds the faults of the value in the field `parent`.
    pub fn absorb(&mut self, parent: &str, other: Self) {
        for error in other.shown {
            self.push_with(|| error.inside(parent));
        }
        self.more += other.more;
    }

    /// Adds other faults of the same input.
    pub fn absorb_all(&mut self, other: Self) {
        for error in other.shown {
            self.push_with(|| error);
        }
        self.more += other.more;
    }

    /// The number of faults.
    pub fn len(&self) -> usize {
        self.shown.len() + self.more
    }

    /// Whether one of the faults is of this field.
    pub fn concerns(&self, field: &str) -> bool {
        self.shown.iter().any(|error| error.field == field)
    }

    /// Whether there is no fault.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// Fails if there is any fault.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, errors: T) {
        errors.into_iter().for_each(|error| self.push(error));
    }
}

impl From<FieldErrors> for Vec<FieldError> {
    /// The faults as they are reported, with the number of those not shown as the last entry.
    fn from(FieldErrors { mut shown, more }: FieldErrors) -> Self {
        if more > 0 {
            shown.push(FieldError::new("body", "more", format!("and {more} more")));
        }
        shown
    }
}

impl From<FieldErrors> for Error {
    fn from(errors: FieldErrors) -> Self {
        Self::Invalid(errors.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_faults_are_shown_and_the_others_counted() {
        let mut errors = FieldErrors::default();
        errors.extend((0..100).map(|n| FieldError::new(format!("f{n}"), "invalid", "is invalid")));
        assert_eq!(Vec::from(errors.clone()).len(), 100);
        let mut inner = errors.clone();
        inner.push(FieldError::new("f100", "invalid", "is invalid"));
        errors.absorb("items.3", inner);
        assert_eq!(errors.len(), 201);
        let shown = Vec::from(errors);
        assert_eq!((shown.len(), shown[99].field.as_str()), (101, "f99"));
        assert_eq!(shown[100], FieldError::new("body", "more", "and 101 more"));
    }

    #[test]
    fn long_names_and_messages_are_truncated() {
        let long = "ä".repeat(10_000);
        let error = FieldError::new(long.clone(), "invalid", long).inside("items.7");
        assert!(error.field.len() <= 2 * FieldError::MAX_FIELD && error.field.starts_with("items.7.ä"), "{error:?}");
        assert!(error.field.ends_with('…') && error.message.ends_with('…'));
        assert_eq!(error.message.chars().count(), FieldError::MAX_MESSAGE);
        let deep = (0..1000).fold(FieldError::new("x", "invalid", "is invalid"), |error, _| error.inside("parent"));
        assert!(deep.field.chars().count() <= FieldError::MAX_FIELD);
    }
}
