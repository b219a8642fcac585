//! Lists: filters, orders and keyset pages, the same for every kind of record.
//!
//! A kind declares in a [`Spec`] what its lists offer. [`List::parse`] reads a query string against it, and
//! [`fetch`] reads a page. The statements (`statements.rs`) are chosen so that a whole list takes time
//! linear in what it reads. A cursor contains the position of the last record and is sealed for its list.

pub mod bounded;
mod cursor;
mod filter;
mod item;
mod order;
mod pages;
pub mod parameters;
mod parse;
mod rows;
mod spec;
mod statements;
mod steps;

use uuid::Uuid;

use filter::Condition;

pub use cursor::{Access, IdCursors, Key, Place};
#[cfg(test)]
pub(crate) use item::Chosen;
pub use item::Item;
pub use pages::{Part, count, custom_keys, fetch};
pub use parse::NO_FILTERS;
pub use spec::{Columns, Joined, ListField, Listed, Order, OrderKind, Spec, selection};

/// The maximum number of records on a page.
pub const MAX_LIMIT: u32 = 1000;

/// A list that a caller requested.
#[derive(Debug, Clone)]
pub struct List {
    spec: &'static Spec,
    /// The parent of the listed records, and the column that refers to it.
    parent: Option<(&'static str, Uuid)>,
    conditions: Vec<Condition>,
    words: Option<String>,
    /// The order that an index serves, unless `scan` is set.
    order: &'static Order,
    /// The field to sort by without an index, so that each page reads all records that match.
    scan: Option<&'static ListField>,
    descending: bool,
    /// The page size; `None` requests all records.
    pub limit: Option<u32>,
    /// Whether the number of all records was requested.
    pub count: bool,
    /// The only fields to return, in the order of the record.
    pub fields: Option<Vec<&'static str>>,
    after: Option<Place>,
    /// What its cursors are bound to.
    context: [u8; 32],
}

/// A part of a list that one index contains in its order.
#[derive(Debug)]
enum Branch {
    /// The whole list.
    Whole,
    /// The records with a value in a column.
    Of(&'static str, String),
    /// The records with a value in a column of another table.
    Joined(&'static Joined, String),
}

impl List {
    /// Continues the list after a record.
    pub fn after(&mut self, place: Place) {
        self.after = Some(place);
    }

    /// Whether a filter or a search decides which records it has.
    pub fn is_filtered(&self) -> bool {
        !self.conditions.is_empty() || self.words.is_some()
    }

    /// How its records are found from here on.
    fn access(&self) -> Access {
        self.after.as_ref().map_or(Access::Undecided, |place| place.access)
    }

    /// Whether records in the order must be checked against conditions.
    fn has_checks(&self) -> bool {
        self.words.is_some() || !self.checks(&self.branches()).is_empty()
    }

    /// Whether a condition has an index of its own. Such an index is read no further than needed, while the
    /// index of words is read for all records that have them.
    fn has_indexed(&self) -> bool {
        self.conditions.iter().any(|condition| condition.is_indexed(self.spec))
    }

    /// The parts of the list that an index contains in its order: by a column of another table that a
    /// condition names, else by the branching column; the whole list if no such index has the order.
    fn branches(&self) -> Vec<Branch> {
        if !std::ptr::eq(self.order, &self.spec.orders[0]) {
            return vec![Branch::Whole];
        }
        for condition in &self.conditions {
            if let (Some(joined), Some(words)) = (condition.joined(), condition.words())
                && !joined.absent.is_some_and(|absent| words.iter().any(|word| word == absent))
            {
                return words.into_iter().map(|word| Branch::Joined(joined, word)).collect();
            }
        }
        let Some((column, all)) = self.spec.branches else { return vec![Branch::Whole] };
        let chosen = self.conditions.iter().filter(|condition| condition.is_on(column)).find_map(Condition::words);
        let values = chosen.unwrap_or_else(|| all.iter().map(|&value| value.to_owned()).collect());
        values.into_iter().map(|value| Branch::Of(column, value)).collect()
    }

    /// The conditions that the index of the branches does not decide, so that each record is checked.
    fn checks(&self, branches: &[Branch]) -> Vec<&Condition> {
        let mut is_first = true;
        let mut is_decided = |condition: &Condition| match branches.first() {
            Some(Branch::Of(column, _)) if condition.is_on(column) && condition.words().is_some() => {
                std::mem::replace(&mut is_first, false)
            }
            Some(Branch::Joined(joined, _)) if condition.joined() == Some(*joined) && condition.words().is_some() => {
                std::mem::replace(&mut is_first, false)
            }
            Some(Branch::Joined(..)) => false,
            _ => condition.bounds(self.order.expression),
        };
        self.conditions.iter().filter(|condition| !is_decided(condition)).collect()
    }
}
