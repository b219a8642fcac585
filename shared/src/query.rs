//! Lists: filters, order and keyset pages, the same for every noun.
//!
//! A noun says in a [`Spec`] which filters and orders it has; [`List::parse`] reads a query string against it,
//! and [`fetch`] reads a page. The ways in which pages are read (`statements.rs`) are chosen so that a whole list
//! takes time linear in what it reads. A cursor holds the place of the last record, and is sealed for its list.

pub mod bounded;
mod cursor;
mod filter;
mod pages;
pub mod parameters;
mod rows;
mod spec;
mod statements;
mod steps;

use uuid::Uuid;

use crate::error::Result;
use crate::platform::signed_links::Signer;
use crate::query::parameters::{Parameters, unknown, whole};
use crate::values::Fault;
use crate::values::search;

use filter::{Condition, Value};

pub use cursor::{Access, IdCursors, Place};
pub use pages::{Part, count, fetch};
pub use spec::{Filter, FilterKind, Joined, Order, OrderKind, Spec};

/// The most records of one page.
pub const MAX_LIMIT: u32 = 1000;

/// A list as a caller asked for it.
#[derive(Debug, Clone)]
pub struct List {
    spec: &'static Spec,
    /// The record under which the listed ones are, and the column that names it.
    parent: Option<(&'static str, Uuid)>,
    conditions: Vec<Condition>,
    words: Option<String>,
    order: &'static Order,
    descending: bool,
    /// The page's size; `None` asks for all records.
    pub limit: Option<u32>,
    /// Whether the number of all records was asked for.
    pub count: bool,
    after: Option<Place>,
    /// What its cursors are bound to.
    context: [u8; 32],
}

/// A part of a list that one index has in its order.
#[derive(Debug)]
enum Branch {
    /// All of it.
    Whole,
    /// The records with a value in a column.
    Of(&'static str, String),
    /// The records with a value in a column beside.
    Joined(&'static Joined, String),
}

impl List {
    /// Reads the parameters of a list that is read from its beginning.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault, by the parameter's name.
    pub fn parse(spec: &'static Spec, workspace_id: Uuid, parameters: &[(String, String)]) -> Result<Self> {
        Self::read(spec, (workspace_id, None), parameters, None)
    }

    /// Reads the parameters of a list that may go on after a cursor, of the records under a parent if there
    /// is one.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault, by the parameter's name.
    pub fn resume(
        spec: &'static Spec,
        workspace_id: Uuid,
        parent: Option<(&'static str, Uuid)>,
        parameters: &[(String, String)],
        signer: &Signer,
    ) -> Result<Self> {
        Self::read(spec, (workspace_id, parent), parameters, Some(signer))
    }

    fn read(
        spec: &'static Spec,
        (workspace_id, parent): (Uuid, Option<(&'static str, Uuid)>),
        parameters: &[(String, String)],
        signer: Option<&Signer>,
    ) -> Result<Self> {
        let mut list = Self {
            spec,
            parent,
            conditions: Vec::new(),
            words: None,
            order: &spec.orders[0],
            descending: true,
            limit: None,
            count: false,
            after: None,
            context: cursor::context(workspace_id, spec.table, parent, parameters),
        };
        let mut parameters = Parameters::new(parameters);
        list.limit = parameters.take_as("limit", |text| whole(text, 1..=MAX_LIMIT));
        list.count = parameters.flag("count");
        parameters.take_as("sort", |text| list.sort(text));
        // Opened at the end, when its list is known.
        let cursor = signer.and_then(|signer| parameters.take_as("cursor", |text| Ok((signer, text.to_owned()))));
        if spec.searchable {
            list.words = parameters.take_as("q", |text| search::query(workspace_id, text));
        }
        for (name, texts) in parameters.rest() {
            if let Err(fault) = list.filter(name, &texts) {
                parameters.refuse(fault.of(name));
            }
        }
        if let Some((signer, cursor)) = cursor {
            match list.open_cursor(signer, &cursor) {
                Ok(place) => list.after = Some(place),
                Err(fault) => parameters.refuse(fault.of("cursor")),
            }
        }
        parameters.finish()?;
        Ok(list)
    }

    fn sort(&mut self, text: &str) -> Result<(), Fault> {
        let (name, reversed) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        let order = self.spec.orders.iter().find(|order| order.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.spec.orders.iter().map(|order| order.name).collect();
            Fault::new("invalid", format!("must be one of: {}, with - in front for descending", names.join(", ")))
        })?;
        self.order = order;
        self.descending = reversed;
        Ok(())
    }

    /// Adds a filter, of which `status=a&status=b` is the same as `status=a,b`.
    fn filter(&mut self, name: &str, texts: &[&str]) -> Result<(), Fault> {
        let (field, operator) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((field, operator)) => (field, Some(operator)),
            None => (name, None),
        };
        let filter = self.spec.filters.iter().find(|filter| filter.name == field).ok_or_else(unknown)?;
        if texts.iter().all(|text| text.is_empty()) {
            return Err(Fault::new("required", "must not be empty"));
        }
        self.conditions.push(Condition::read(filter, operator, texts)?);
        Ok(())
    }

    /// Goes on after a place.
    pub fn after(&mut self, place: Place) {
        self.after = Some(place);
    }

    /// How its records are found from here on.
    fn access(&self) -> Access {
        self.after.as_ref().map_or(Access::Undecided, |place| place.access)
    }

    /// Whether a record in the order must be checked for whether it is one of the list's.
    fn has_checks(&self) -> bool {
        self.words.is_some() || !self.checks(&self.branches()).is_empty()
    }

    /// Whether something is asked for that has an ordinary index of its own. Such an index is read no further
    /// than is asked; that of words is read for all records that have them.
    fn has_indexed(&self) -> bool {
        self.conditions.iter().any(|condition| condition.is_indexed(self.spec))
    }

    /// The parts of the list that are in its order in an index: by a column beside that is asked for, else
    /// by the branching column; all of it where no such index has the order.
    fn branches(&self) -> Vec<Branch> {
        if !std::ptr::eq(self.order, &self.spec.orders[0]) {
            return vec![Branch::Whole];
        }
        for condition in &self.conditions {
            if let (Some(joined), Value::Words(words)) = (condition.joined, &condition.value)
                && !joined.absent.is_some_and(|absent| words.iter().any(|word| word == absent))
            {
                return words.iter().map(|word| Branch::Joined(joined, word.clone())).collect();
            }
        }
        let Some((column, all)) = self.spec.branches else { return vec![Branch::Whole] };
        let asked = self.conditions.iter().find_map(|condition| match &condition.value {
            Value::Words(words) if condition.column == column => Some(words.clone()),
            _ => None,
        });
        let values = asked.unwrap_or_else(|| all.iter().map(|&value| value.to_owned()).collect());
        values.into_iter().map(|value| Branch::Of(column, value)).collect()
    }

    /// The conditions that the index of the branches does not decide, so that each record is checked for them.
    fn checks(&self, branches: &[Branch]) -> Vec<&Condition> {
        let (decided, ordered_by) = match branches.first() {
            Some(Branch::Of(column, _)) => (Some(*column), Some(self.order.expression)),
            Some(Branch::Joined(joined, _)) => (Some(joined.column), None),
            Some(Branch::Whole) | None => (None, Some(self.order.expression)),
        };
        let is_decided = |condition: &&Condition| {
            decided == Some(condition.decides()) || ordered_by.is_some_and(|column| condition.bounds(column))
        };
        self.conditions.iter().filter(|condition| !is_decided(condition)).collect()
    }
}
