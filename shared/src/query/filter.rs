//! Filters as a caller gave them: read from a query string, written into a statement.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgHasArrayType;
use sqlx::{Encode, Postgres, QueryBuilder, Type};
use uuid::Uuid;

use super::spec::{Filter, FilterKind, Joined, Spec};
use crate::query::parameters::{number, once};
use crate::values::{Fault, Field, email_key};

/// What must hold of a record for it to be in a list.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// The filter's name, by which the list knows its column.
    name: &'static str,
    /// The column, or the expression that stands for it.
    pub(super) column: &'static str,
    /// How numbers and times are compared, and text.
    operator: &'static str,
    pub(super) value: Value,
    pub(super) joined: Option<&'static Joined>,
}

/// What the column is compared with: several values only where it must equal one of them.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Words(Vec<String>),
    Ids(Vec<Uuid>),
    /// Their keys.
    Emails(Vec<String>),
    /// Compared as they are, commas included.
    Texts(Vec<String>),
    Numbers(Vec<f64>),
    Times(Vec<DateTime<Utc>>),
}

impl Condition {
    /// Reads the values of a filter; `range` is what its parameter has in brackets.
    pub(super) fn read(filter: &Filter, range: Option<&str>, texts: &[&str]) -> Result<Self, Fault> {
        let operator = match (range, filter.kind) {
            (None, _) => "=",
            (Some(range), FilterKind::Number | FilterKind::Time) => operator(range)?,
            (Some(_), _) => return Err(Fault::new("unknown", "is not a known parameter")),
        };
        let value = match filter.kind {
            FilterKind::Word(words) | FilterKind::Computed(_, words) | FilterKind::Joined(_, words) => {
                Value::Words(each(texts, |word| match words.contains(&word) {
                    true => Ok(word.to_owned()),
                    false => Err(Fault::new("invalid", format!("must be one of: {}", words.join(" ")))),
                })?)
            }
            FilterKind::Id => Value::Ids(each(texts, Uuid::from_text)?),
            FilterKind::Email(_) => Value::Emails(each(texts, |email| match email.trim() {
                "" => Err(Fault::new("required", "must not be empty")),
                email => Ok(email_key(&String::from_text(email)?)),
            })?),
            FilterKind::Text => Value::Texts(parsed(texts.iter().map(|text| text.trim()), String::from_text)?),
            FilterKind::Number if range.is_some() => Value::Numbers(vec![number(once(texts)?)?]),
            FilterKind::Number => Value::Numbers(each(texts, number)?),
            FilterKind::Time if range.is_some() => Value::Times(vec![DateTime::from_text(once(texts)?)?]),
            FilterKind::Time => Value::Times(each(texts, DateTime::from_text)?),
        };
        let joined = if let FilterKind::Joined(joined, _) = filter.kind { Some(joined) } else { None };
        let column = match filter.kind {
            FilterKind::Computed(expression, _) | FilterKind::Email(expression) => expression,
            _ => filter.name,
        };
        Ok(Self { name: filter.name, column, operator, value, joined })
    }

    /// The column, or the one beside, that decides.
    pub(super) fn decides(&self) -> &'static str {
        self.joined.map_or(self.column, |joined| joined.column)
    }

    /// Whether it cuts a range of an order by this column, which the order's index has.
    pub(super) fn bounds(&self, column: &str) -> bool {
        self.column == column && matches!(&self.value, Value::Times(times) if times.len() == 1)
    }

    /// Whether its column has an index of its own.
    pub(super) fn is_indexed(&self, spec: &Spec) -> bool {
        spec.indexed.contains(&self.name)
    }

    /// Adds it to the conditions of a statement that finds records by it, or counts them.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec) {
        match (&self.value, self.joined) {
            (Value::Words(words), Some(joined)) => push_joined(sql, spec.table, joined, words),
            _ => self.push_comparison(sql, if self.is_indexed(spec) { Values::Indexed } else { Values::Hashed }),
        }
    }

    /// Adds it to the conditions of a statement that checks records one by one, in their order. Nothing in it
    /// may be joined, or the planner gives up the order.
    pub(super) fn push_check(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec) {
        match (&self.value, self.joined) {
            (Value::Words(words), Some(joined)) => push_beside_check(sql, spec.table, joined, words),
            _ => self.push_comparison(sql, Values::Hashed),
        }
    }

    fn push_comparison(&self, sql: &mut QueryBuilder<Postgres>, values: Values) {
        let Self { column, operator, value, .. } = self;
        match value {
            Value::Ids(ids) => push(sql, column, operator, ids, values),
            Value::Words(texts) | Value::Emails(texts) | Value::Texts(texts) => {
                push(sql, column, operator, texts, values);
            }
            Value::Numbers(numbers) => push(sql, column, operator, numbers, values),
            Value::Times(times) => push(sql, column, operator, times, values),
        }
    }
}

/// How a column is compared with many values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// By the column's index.
    Indexed,
    /// By a table of them, made once: comparing each record with thousands of values would take that many times
    /// longer, which the planner sees only in a plan that it makes for these very values.
    Hashed,
}

/// From so many values on a table of them is worth its making.
const MANY: usize = 9;

fn operator(range: &str) -> Result<&'static str, Fault> {
    match range {
        "gte" => Ok(">="),
        "gt" => Ok(">"),
        "lte" => Ok("<="),
        "lt" => Ok("<"),
        _ => Err(Fault::new("unknown", "is not a known range: use gte, gt, lte or lt")),
    }
}

/// The values of lists with commas, each once.
fn each<T>(texts: &[&str], parse: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    parsed(texts.iter().flat_map(|text| text.split(',')), parse)
}

/// The values of texts, each once.
fn parsed<'a, T>(
    texts: impl Iterator<Item = &'a str>,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut values: Vec<&str> = texts.collect();
    values.sort_unstable();
    values.dedup();
    values.into_iter().map(parse).collect()
}

fn push<T>(sql: &mut QueryBuilder<Postgres>, expression: &str, operator: &str, values: &[T], how: Values)
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + Clone + 'static,
{
    match values {
        // One value is found by equality: of it the planner knows that a unique index has one row, and that an
        // index behind it keeps its order.
        [value] => sql.push(format!("{expression} {operator} ")).push_bind(value.clone()),
        many if how == Values::Hashed && many.len() >= MANY => {
            // Within an expression, it stays a table, and is not joined.
            sql.push(format!("({expression} IN (SELECT unnest(")).push_bind(many.to_vec()).push("))) IS TRUE")
        }
        several => sql.push(format!("{expression} = ANY (")).push_bind(several.to_vec()).push(")"),
    };
}

/// The records that have one of the words in a column beside.
fn push_joined(sql: &mut QueryBuilder<Postgres>, table: &str, joined: &Joined, words: &[String]) {
    let Joined { table: other, key, column, absent, .. } = joined;
    // A record without a row is found by there being no row with another word.
    let is_absent_asked = absent.is_some_and(|absent| words.iter().any(|word| word == absent));
    let (exists, comparison) = if is_absent_asked { ("NOT EXISTS", "<> ALL") } else { ("EXISTS", "= ANY") };
    sql.push(format!(
        "{exists} (SELECT FROM {other} AS joined WHERE joined.workspace_id = {table}.workspace_id
             AND joined.{key} = {table}.id AND joined.{column} {comparison} ("
    ));
    sql.push_bind(words.to_vec()).push("))");
}

/// As [`push_joined`], looked up for each record.
fn push_beside_check(sql: &mut QueryBuilder<Postgres>, table: &str, joined: &Joined, words: &[String]) {
    let Joined { table: other, key, column, absent, .. } = joined;
    sql.push(format!(
        "coalesce((SELECT joined.{column} FROM {other} AS joined WHERE joined.workspace_id = {table}.workspace_id
             AND joined.{key} = {table}.id), "
    ));
    sql.push_bind(absent.unwrap_or_default()).push(") = ANY (").push_bind(words.to_vec()).push(")");
}
