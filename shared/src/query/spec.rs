//! What lists offer: filters, orders and the indexes that serve them.

use crate::values::kind::Kind;

/// What the lists of a table offer.
#[derive(Debug)]
pub struct Spec {
    /// The table, whose rows have `workspace_id` and `id`.
    pub table: &'static str,
    /// The fields of the response. Lists are filtered and sorted by them.
    pub fields: &'static [ListField],
    /// Further filters, which are not fields of the response.
    pub filters: &'static [ListField],
    /// The orders that an index serves; the first, descending, is the default.
    pub orders: &'static [Order],
    /// The fields besides `id` that have an index of their own, which finds few records at once.
    pub indexed: &'static [&'static str],
    /// Whether the table has `search_vector`, and so lists have `q=`.
    pub searchable: bool,
    /// A column by whose values the list is read in branches that are merged. The index of the
    /// default order begins with it, so no second index in that order is needed.
    pub branches: Option<(&'static str, &'static [&'static str])>,
    /// A condition that all rows of the list meet, if the table has others.
    pub only: Option<&'static str>,
}

impl Spec {
    /// The prefix of the filters by custom fields.
    pub const CUSTOM: &'static str = "custom.";

    /// The fields that filter a list.
    pub fn filterable(&self) -> impl Iterator<Item = &ListField> {
        self.fields.iter().chain(self.filters).filter(|field| field.kind != Kind::Json)
    }

    /// The fields that sort a list.
    pub fn sortable(&self) -> impl Iterator<Item = &ListField> {
        self.fields.iter().filter(|field| field.kind.is_ordered())
    }

    /// The names of the fields in the response.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }

    /// Whether the records have custom fields.
    pub fn has_custom_fields(&self) -> bool {
        self.names().any(|name| name == "custom_fields")
    }

    /// The order by this field that an index serves.
    pub fn served(&self, name: &str) -> Option<&Order> {
        self.orders.iter().find(|order| order.name == name)
    }

    pub(super) fn is_indexed(&self, name: &str) -> bool {
        name == "id" || self.indexed.contains(&name)
    }
}

/// A field by which lists are filtered and sorted.
#[derive(Debug)]
pub struct ListField {
    /// The name of the field and of its parameter.
    pub name: &'static str,
    /// How its values are compared.
    pub kind: Kind,
    /// Where its values are.
    source: Source,
}

/// Where the values of a field are.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// In the column of the same name.
    Column,
    /// An expression computes them.
    Expression(&'static str),
    /// In another table.
    Joined(&'static Joined),
    /// In a list in another table, of which one value is compared.
    Listed(&'static Listed),
}

impl ListField {
    /// A field in the column of the same name.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, source: Source::Column }
    }

    /// A field that an expression computes; for an email, its normal form.
    pub const fn computed(name: &'static str, kind: Kind, expression: &'static str) -> Self {
        Self { name, kind, source: Source::Expression(expression) }
    }

    /// A field in another table.
    pub const fn joined(name: &'static str, kind: Kind, joined: &'static Joined) -> Self {
        Self { name, kind, source: Source::Joined(joined) }
    }

    /// A field with a list of values in another table. It filters, and does not sort.
    pub const fn listed(name: &'static str, kind: Kind, listed: &'static Listed) -> Self {
        Self { name, kind, source: Source::Listed(listed) }
    }

    /// Whether a record has a list of values, of which a filter compares each.
    pub fn is_list(&self) -> bool {
        self.as_listed().is_some()
    }

    pub(super) fn as_joined(&self) -> Option<&'static Joined> {
        if let Source::Joined(joined) = self.source { Some(joined) } else { None }
    }

    pub(super) fn as_listed(&self) -> Option<&'static Listed> {
        if let Source::Listed(listed) = self.source { Some(listed) } else { None }
    }

    /// The expression that filters compare, for rows of this table. The workspace is `$1`.
    pub(super) fn compared(&self, table: &str) -> String {
        match self.source {
            // The normal form of an email is in a column of its own.
            Source::Column if self.kind == Kind::Email => format!("{}_key", self.name),
            Source::Column => self.name.to_owned(),
            Source::Expression(expression) => expression.to_owned(),
            Source::Joined(joined) => joined.lookup(table),
            Source::Listed(listed) => listed.lookup(table),
        }
    }

    /// The expression that a sort compares; `joined_value` is the value in another table.
    pub(super) fn sorted(&self) -> String {
        let value = match self.source {
            Source::Column | Source::Listed(_) => self.name.to_owned(),
            Source::Expression(expression) => format!("({expression})"),
            Source::Joined(joined) => joined.or_absent("joined_value"),
        };
        match self.kind {
            Kind::Word(words) => format!("array_position(ARRAY['{}'], {value})", words.join("', '")),
            _ => value,
        }
    }
}

/// A column of another table with at most one row for each record.
///
/// A column that [`ListField`]s of words filter by has an index on (`workspace_id`, the column, the time,
/// the key), so a list filtered by it in the default order reads no more than its page.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// The table, which has `workspace_id`.
    pub table: &'static str,
    /// Its column with the ids of the records.
    pub key: &'static str,
    /// Its column with the time by which the records are listed by default.
    pub time: &'static str,
    /// The column to compare.
    pub column: &'static str,
    /// The value of records without a row.
    pub absent: Option<&'static str>,
}

impl Joined {
    /// The value for a row of the records' table, looked up on its own.
    fn lookup(&self, table: &str) -> String {
        let Self { table: other, key, column, .. } = self;
        self.or_absent(&format!(
            "(SELECT joined.{column} FROM {other} AS joined WHERE joined.workspace_id = $1
                 AND joined.{key} = {table}.id)"
        ))
    }

    fn or_absent(&self, value: &str) -> String {
        self.absent.map_or_else(|| value.to_owned(), |absent| format!("coalesce({value}, '{absent}')"))
    }
}

/// A column of another table with a list of values for each record, which has at most one row there.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// The table, which has `workspace_id`.
    pub table: &'static str,
    /// Its column with the ids of the records.
    pub key: &'static str,
    /// Its column with the values, an array.
    pub column: &'static str,
}

impl Listed {
    /// The values of a row of the records' table, looked up on their own; null without any.
    fn lookup(&self, table: &str) -> String {
        let Self { table: other, key, column } = self;
        format!(
            "(SELECT nullif(listed.{column}, '{{}}') FROM {other} AS listed WHERE listed.workspace_id = $1
                 AND listed.{key} = {table}.id)"
        )
    }
}

/// An order of a list that an index serves; records that are equal in it are ordered by id.
#[derive(Debug)]
pub struct Order {
    /// The name in `sort=`.
    pub name: &'static str,
    /// The indexed expression, which is never null.
    pub expression: &'static str,
    /// What it compares.
    pub kind: OrderKind,
}

/// What an order compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKind {
    /// Points in time.
    Time,
    /// Text.
    Text,
    /// Ids, which rise with time.
    Id,
    /// Numbers.
    Number,
}

impl OrderKind {
    /// The SQL type of its keys.
    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Self::Time => "timestamptz",
            Self::Text => "text",
            Self::Id => "uuid",
            Self::Number => "numeric",
        }
    }
}

/// The columns of a list's rows.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// The columns of the table.
    pub stored: &'static str,
    /// What is selected of these: the columns, and expressions that are computed for the rows of a page. The
    /// workspace is `$1`, the first parameter of each statement.
    pub selected: &'static str,
}

/// The selection of these columns of a table, and of the fields in other tables. The workspace is `$1`.
pub fn selection(table: &str, columns: &str, fields: &[ListField]) -> String {
    let mut selection = columns.to_owned();
    for field in fields.iter().filter(|field| field.as_joined().is_some()) {
        selection.push_str(&format!(", {} AS {}", field.compared(table), field.name));
    }
    selection
}

impl Columns {
    /// Columns of the table only.
    pub const fn plain(columns: &'static str) -> Self {
        Self { stored: columns, selected: columns }
    }
}
