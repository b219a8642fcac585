//! How the values of a type are compared in lists.

use uuid::Uuid;

use super::{CustomFields, Email, Line, Money, Name, Quantity, Rating, Score, Text, Time};

/// How values are compared when a list is filtered or sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of these words, which are in this order.
    Word(&'static [&'static str]),
    /// An id; ids have no order.
    Id,
    /// An email address.
    Email,
    /// A name, compared without case and accents.
    Name,
    /// Text on one line.
    Line,
    /// Text that is too long to be sorted by.
    Text,
    /// A number.
    Number,
    /// A point in time.
    Time,
    /// A JSON object or list, which is not compared.
    Json,
}

impl Kind {
    /// Whether a list can be sorted by such values.
    pub const fn is_ordered(self) -> bool {
        !matches!(self, Self::Id | Self::Text | Self::Json)
    }

    /// Whether commas separate several values of a filter. Texts may contain commas, so their filter is
    /// repeated instead.
    pub const fn is_separated(self) -> bool {
        !matches!(self, Self::Name | Self::Line | Self::Text | Self::Json)
    }

    /// Whether such values have ranges.
    pub const fn has_ranges(self) -> bool {
        matches!(self, Self::Number | Self::Time)
    }
}

/// A type whose values are compared in lists; a missing value has no order.
pub trait Compared {
    /// How its values are compared.
    const KIND: Kind;
}

impl<T: Compared> Compared for Option<T> {
    const KIND: Kind = T::KIND;
}

impl<const MAX: usize> Compared for Line<MAX> {
    const KIND: Kind = Kind::Line;
}

impl<const MAX: usize> Compared for Text<MAX> {
    const KIND: Kind = Kind::Text;
}

macro_rules! compared {
    ($($kind:ident: $($type:ty),+;)+) => {
        $($(impl Compared for $type {
            const KIND: Kind = Kind::$kind;
        })+)+
    };
}

compared! {
    Id: Uuid;
    Email: Email;
    Name: Name;
    Number: Score, Money, Quantity, Rating, i16, i64;
    Time: Time;
    Json: CustomFields;
}
