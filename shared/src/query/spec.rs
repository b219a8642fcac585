//! What can be asked of a list.

/// What lists of a noun offer.
#[derive(Debug)]
pub struct Spec {
    /// The table, whose records have `workspace_id` and `id`.
    pub table: &'static str,
    /// The fields one can filter by.
    pub filters: &'static [Filter],
    /// The orders one can ask for; the first, descending, is the default.
    pub orders: &'static [Order],
    /// Those filters' columns that have an index of their own, by which few records are found at once.
    pub indexed: &'static [&'static str],
    /// Whether the table has `words`, and so `q=`.
    pub searchable: bool,
    /// A column by whose values the list is read in branches that are merged. The index of the
    /// default order starts with it, so that no second index in that order need exist beside.
    pub branches: Option<(&'static str, &'static [&'static str])>,
}

/// A field to filter by.
#[derive(Debug)]
pub struct Filter {
    /// The parameter, which is also the column.
    pub name: &'static str,
    /// What it compares.
    pub kind: FilterKind,
}

/// How a filter reads its values and compares them.
#[derive(Debug, Clone, Copy)]
pub enum FilterKind {
    /// One or more of these words, with commas.
    Word(&'static [&'static str]),
    /// One or more of these words, with commas, that an expression has.
    Computed(&'static str, &'static [&'static str]),
    /// One or more of these words, with commas, that a table beside has for each record.
    Joined(&'static Joined, &'static [&'static str]),
    /// One or more ids, with commas.
    Id,
    /// One or more email addresses, with commas, compared by their key, which this expression has.
    Email(&'static str),
    /// Exactly this text, which may have commas in it.
    Text,
    /// One or more numbers, with commas, or a range.
    Number,
    /// One or more points in time, with commas, or a range.
    Time,
}

/// A column of a table that has further things of records, one row for each at most.
///
/// It has an index on (`workspace_id`, the column, the time, the key), so that a list by it in the order
/// of time reads no more than its page.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// The table, with a `workspace_id`.
    pub table: &'static str,
    /// Its column that has the records' ids.
    pub key: &'static str,
    /// Its column that has the time by which the records are listed by default.
    pub time: &'static str,
    /// The column to filter by.
    pub column: &'static str,
    /// The word that holds for records without a row.
    pub absent: Option<&'static str>,
}

/// An order of a list; records that are equal in it are ordered by id.
#[derive(Debug)]
pub struct Order {
    /// The name in `sort=`.
    pub name: &'static str,
    /// The indexed expression.
    pub expression: &'static str,
    /// What it compares.
    pub kind: OrderKind,
}

/// What an order compares.
#[derive(Debug, Clone, Copy)]
pub enum OrderKind {
    /// Points in time.
    Time,
    /// Text.
    Text,
    /// Ids, which are made in the order of time.
    Id,
}

impl OrderKind {
    /// The type of its keys.
    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Self::Time => "timestamptz",
            Self::Text => "text",
            Self::Id => "uuid",
        }
    }
}
