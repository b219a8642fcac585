//! What an update says about one optional field.

/// Absent, cleared or set: the three things a caller can say about an optional field.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Patch<T> {
    /// The field was not named: it keeps its value.
    #[default]
    Keep,
    /// `null`, or an empty string for a string: the field is emptied, or set to its default if it has one.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// The same with another value, if it has one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Keep => Patch::Keep,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(change(value)),
        }
    }

    /// Applies the patch to an optional field.
    pub fn apply(self, to: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *to = None,
            Self::Set(value) => *to = Some(value),
        }
    }

    /// Applies the patch to a field that always has a value, and a default for when it is cleared.
    pub fn apply_or(self, to: &mut T, default: T) {
        match self {
            Self::Keep => {}
            Self::Clear => *to = default,
            Self::Set(value) => *to = value,
        }
    }
}
