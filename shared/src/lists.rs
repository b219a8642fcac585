//! Lists: filters, order and keyset pages, the same for every noun.
//!
//! A noun says in a [`Spec`] which filters and orders it has; [`List::parse`] reads a query string
//! against it, and [`List::page`] makes the statement. A cursor holds the place of the last record
//! and is bound to the filters and the order it was made under.

pub mod bounded;
mod filter;
mod spec;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use crate::error::{Error, FieldError, Result};
use crate::fields::{Fault, Field};
use crate::words;

use filter::{Condition, Value};

pub use spec::{Beside, Filter, FilterKind, Order, OrderKind, Spec};

/// The most records of one page.
pub const MAX_LIMIT: u32 = 1000;

/// A list as a caller asked for it.
#[derive(Debug, Clone)]
pub struct List {
    spec: &'static Spec,
    conditions: Vec<Condition>,
    words: Option<String>,
    order: &'static Order,
    descending: bool,
    /// The page's size; `None` asks for all records.
    pub limit: Option<u32>,
    /// Whether the number of all records was asked for.
    pub count: bool,
    after: Option<Place>,
    fingerprint: String,
}

/// A part of a list that one index has in its order.
#[derive(Debug)]
enum Branch {
    /// All of it.
    Whole,
    /// The records with a value in a column.
    Of(&'static str, String),
    /// The records with a value in a column beside.
    Beside(&'static Beside, String),
}

/// The place of a record in a list: what a cursor holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The value of the order's expression, as text.
    pub key: String,
    /// The record.
    pub id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Cursor {
    #[serde(flatten)]
    place: Place,
    list: String,
}

impl List {
    /// Reads the parameters of a list. Every fault is told, with the parameter's name.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(spec: &'static Spec, workspace_id: Uuid, parameters: &[(String, String)]) -> Result<Self> {
        let mut list = Self {
            spec,
            conditions: Vec::new(),
            words: None,
            order: &spec.orders[0],
            descending: true,
            limit: None,
            count: false,
            after: None,
            fingerprint: fingerprint(parameters),
        };
        let mut errors = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        for (name, text) in parameters {
            let taken = if seen.contains(&name.as_str()) {
                Err(Fault::new("duplicate", "is given twice"))
            } else {
                list.take(workspace_id, name, text.trim())
            };
            seen.push(name);
            if let Err(fault) = taken {
                errors.push(fault.of(name));
            }
        }
        // Only now is the order known that the cursor's key must fit.
        if list.after.as_ref().is_some_and(|place| !list.order.kind.takes(&place.key)) {
            errors.push(FieldError::new("cursor", "invalid", "is not a cursor of this API"));
        }
        if errors.is_empty() { Ok(list) } else { Err(Error::Invalid(errors)) }
    }

    fn take(&mut self, workspace_id: Uuid, name: &str, text: &str) -> Result<(), Fault> {
        match name {
            "limit" => {
                let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                self.limit =
                    Some(limit.ok_or_else(|| Fault::new("out_of_range", "must be a whole number from 1 to 1000"))?);
            }
            "cursor" => self.after = Some(self.read_cursor(text)?),
            "count" => self.count = bool::from_text(text)?,
            "sort" => self.sort(text)?,
            "q" if self.spec.searchable => self.words = words::query(workspace_id, text),
            _ => self.filter(name, text)?,
        }
        Ok(())
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

    fn filter(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        let (field, operator) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((field, operator)) => (field, Some(operator)),
            None => (name, None),
        };
        let unknown = || Fault::new("unknown", "is not a known parameter");
        let filter = self.spec.filters.iter().find(|filter| filter.name == field).ok_or_else(unknown)?;
        if text.is_empty() {
            return Err(Fault::new("required", "must not be empty"));
        }
        self.conditions.push(Condition::read(filter, operator, text)?);
        Ok(())
    }

    fn read_cursor(&self, text: &str) -> Result<Place, Fault> {
        let cursor: Option<Cursor> =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|json| serde_json::from_slice(&json).ok());
        match cursor {
            Some(cursor) if cursor.list == self.fingerprint => Ok(cursor.place),
            Some(_) => Err(Fault::new("invalid", "belongs to a list with other filters or another order")),
            None => Err(Fault::new("invalid", "is not a cursor of this API")),
        }
    }

    /// Only the records under a parent.
    pub fn within(&mut self, column: &'static str, id: Uuid) {
        self.conditions.push(Condition::of_id(column, id));
    }

    /// The cursor that leads on behind a record.
    pub fn cursor(&self, place: Place) -> String {
        let cursor = Cursor { place, list: self.fingerprint.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
    }

    /// Goes on behind a record.
    pub fn after(&mut self, place: Place) {
        self.after = Some(place);
    }

    /// The statement of the next `limit` records: `columns`, then `place`, the order's expression,
    /// which with the record's `id` makes its [`Place`].
    ///
    /// The columns must come from the program, never from a caller.
    pub fn page(&self, workspace_id: Uuid, columns: &str, limit: u32) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("SELECT {columns}, place FROM ("));
        let direction = if self.descending { " DESC" } else { "" };
        let ordered = format!(" ORDER BY place{direction}, id{direction} LIMIT ");
        for (i, branch) in self.branches().iter().enumerate() {
            sql.push(if i == 0 { "(" } else { " UNION ALL (" });
            self.push_branch(&mut sql, workspace_id, columns, branch);
            // Each branch comes in its order, so that they are merged and read no further than asked.
            sql.push(&ordered).push_bind(i64::from(limit)).push(")");
        }
        sql.push(") AS list").push(&ordered).push_bind(i64::from(limit));
        sql
    }

    fn push_branch(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid, columns: &str, branch: &Branch) {
        let (order, table) = (self.order.expression, self.spec.table);
        match branch {
            Branch::Beside(beside, value) => {
                let Beside { table: other, key, time, column, .. } = beside;
                // The order is that of the other table's index, and the records are reached one by one.
                sql.push(format!(
                    "SELECT {columns}, beside_time AS place FROM (SELECT {key} AS beside_key, {time} AS beside_time"
                ));
                sql.push(format!(" FROM {other} WHERE workspace_id = ")).push_bind(workspace_id);
                sql.push(format!(" AND {column} = ")).push_bind(value.clone());
                sql.push(format!(") AS beside JOIN {table} ON id = beside_key WHERE workspace_id = "));
                sql.push_bind(workspace_id);
                self.push_conditions(sql, Some(beside.column));
                self.push_after(sql, "(beside_time, beside_key)");
            }
            Branch::Whole | Branch::Of(..) => {
                sql.push(format!("SELECT {columns}, {order} AS place FROM {table} WHERE workspace_id = "));
                sql.push_bind(workspace_id);
                let of = if let Branch::Of(column, value) = branch { Some((*column, value)) } else { None };
                self.push_conditions(sql, of.map(|(column, _)| column));
                if let Some((column, value)) = of {
                    sql.push(format!(" AND {column} = ")).push_bind(value.clone());
                }
                self.push_after(sql, &format!("({order}, id)"));
            }
        }
    }

    /// The place of a record, from its row.
    fn place(&self, row: &PgRow) -> Result<Place> {
        let key = match self.order.kind {
            OrderKind::Time => row.try_get::<DateTime<Utc>, _>("place")?.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
            OrderKind::Text => row.try_get("place")?,
            OrderKind::Id => row.try_get::<Uuid, _>("place")?.to_string(),
        };
        Ok(Place { key, id: row.try_get("id")? })
    }

    /// The statement that counts all records, whatever the page.
    pub fn count(&self, workspace_id: Uuid) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("SELECT count(*) FROM {} WHERE workspace_id = ", self.spec.table));
        sql.push_bind(workspace_id);
        self.push_conditions(&mut sql, None);
        sql
    }

    /// The parts of the list that are in its order in an index: by a column beside that is asked for, else
    /// by the branching column; all of it where no such index has the order.
    fn branches(&self) -> Vec<Branch> {
        if self.words.is_some() || !std::ptr::eq(self.order, &self.spec.orders[0]) {
            return vec![Branch::Whole];
        }
        for condition in &self.conditions {
            if let (Some(beside), Value::Words(words)) = (condition.beside, &condition.value)
                && !beside.absent.is_some_and(|absent| words.iter().any(|word| word == absent))
            {
                return words.iter().map(|word| Branch::Beside(beside, word.clone())).collect();
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

    fn push_conditions(&self, sql: &mut QueryBuilder<Postgres>, except: Option<&str>) {
        for condition in &self.conditions {
            if except != Some(condition.decides()) {
                condition.push(sql, self.spec.table);
            }
        }
        if let Some(words) = &self.words {
            sql.push(" AND words @@ ").push_bind(words.clone()).push("::tsquery");
        }
    }

    fn push_after(&self, sql: &mut QueryBuilder<Postgres>, ordered_by: &str) {
        if let Some(Place { key, id }) = &self.after {
            let comparison = if self.descending { "<" } else { ">" };
            sql.push(format!(" AND {ordered_by} {comparison} ("));
            sql.push_bind(key.clone()).push(format!("::{}, ", self.order.kind.sql_type())).push_bind(*id).push(")");
        }
    }
}

/// What a cursor is bound to: every parameter that decides which records come in which order.
fn fingerprint(parameters: &[(String, String)]) -> String {
    let mut deciding: Vec<_> =
        parameters.iter().filter(|(name, _)| !matches!(name.as_str(), "cursor" | "limit" | "count")).collect();
    deciding.sort();
    let mut hash = Sha256::new();
    for (name, text) in deciding {
        hash.update(format!("{}:{name}={}:{text};", name.len(), text.len()));
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..9])
}

/// Some records of a list, one behind the other.
#[derive(Debug)]
pub struct Part<T> {
    /// The records.
    pub records: Vec<T>,
    /// The place of the last of them, if the list goes on behind it.
    pub next: Option<Place>,
}

/// The next `limit` records of a list.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn fetch<T>(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &str,
    limit: u32,
) -> Result<Part<T>>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let Part { records, next } = fetch_rows(connection, list, workspace_id, columns, limit).await?;
    Ok(Part { records: records.iter().map(T::from_row).collect::<sqlx::Result<_>>()?, next })
}

/// The same as rows, for those who have something to do before they read them.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn fetch_rows(
    connection: &mut PgConnection,
    list: &List,
    workspace_id: Uuid,
    columns: &str,
    limit: u32,
) -> Result<Part<PgRow>> {
    // One more than asked for tells whether the list goes on.
    let mut records = list.page(workspace_id, columns, limit + 1).build().fetch_all(connection).await?;
    let goes_on = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next = records.last().filter(|_| goes_on).map(|row| list.place(row)).transpose()?;
    Ok(Part { records, next })
}

/// How many records a list has, on all its pages.
///
/// # Errors
/// [`Error::Unavailable`] when the database is away.
pub async fn count(connection: &mut PgConnection, list: &List, workspace_id: Uuid) -> Result<i64> {
    Ok(list.count(workspace_id).build_query_scalar().fetch_one(connection).await?)
}
