//! The change of one field by an update.

/// The change of a field: absent, cleared or set.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Patch<T> {
    /// The field was absent: it keeps its value.
    #[default]
    Keep,
    /// `null`, or an empty string for a string: the field is cleared, or reset to its default if it has one.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// Converts the new value, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Keep => Patch::Keep,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(change(value)),
        }
    }

    /// The new value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Returns the new value, if there is one.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Whether a required field has a value after the patch of a record that exists, or does not.
    pub fn is_value_for(&self, exists: bool) -> bool {
        match self {
            Self::Set(_) => true,
            Self::Keep => exists,
            Self::Clear => false,
        }
    }

    /// The value of an optional field after the patch.
    pub fn or<'a>(&'a self, present: Option<&'a T>) -> Option<&'a T> {
        match self {
            Self::Keep => present,
            Self::Clear => None,
            Self::Set(value) => Some(value),
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

    /// Applies the patch to a field that always has a value: clearing sets the default.
    pub fn apply_or(self, to: &mut T, default: T) {
        match self {
            Self::Keep => {}
            Self::Clear => *to = default,
            Self::Set(value) => *to = value,
        }
    }
}
