//! The filters of a list: read from a query string, and written into a statement.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::postgres::PgHasArrayType;
use sqlx::{Encode, Postgres, QueryBuilder, Type};
use uuid::Uuid;

use super::spec::{Joined, ListField, Listed, Spec};
use crate::query::parameters::{number, once};
use crate::values::dates::time_in;
use crate::values::kind::Kind;
use crate::values::{Fault, Field, email_key};

/// A condition that the records of a list meet.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    subject: Subject,
    test: Test,
}

/// What a condition compares.
#[derive(Debug, Clone)]
enum Subject {
    Field(&'static ListField),
    /// The custom field with this key.
    Custom(String),
}

/// How it is compared.
#[derive(Debug, Clone)]
enum Test {
    /// It equals one of the values, or is empty if `or_empty` is set; negated, neither.
    OneOf { values: Values, or_empty: bool, negated: bool },
    /// It lies on one side of a value.
    Bound { operator: &'static str, value: Values },
}

/// Values of one type.
#[derive(Debug, Clone)]
enum Values {
    Texts(Vec<String>),
    Ids(Vec<Uuid>),
    Numbers(Vec<f64>),
    Times(Vec<DateTime<Utc>>),
}

/// The word for an empty value.
const EMPTY: &str = "null";

impl Condition {
    /// Reads a filter; `operator` is the part of its parameter in brackets.
    pub(super) fn read(
        field: &'static ListField,
        operator: Option<&str>,
        texts: &[&str],
        tz: Tz,
    ) -> Result<Self, Fault> {
        let subject = Subject::Field(field);
        let test = match operator {
            None => Test::one_of(field.kind, texts, false, tz)?,
            Some("ne") => Test::one_of(field.kind, texts, true, tz)?,
            Some(operator) if field.kind.has_ranges() => {
                Test::Bound { operator: comparison(operator)?, value: Values::read(field.kind, &[once(texts)?], tz)? }
            }
            Some(_) => return Err(Fault::new("unknown", "is not a known parameter")),
        };
        Ok(Self { subject, test })
    }

    /// Reads a filter by a custom field; the key may contain brackets itself.
    pub(super) fn custom(name: &str, texts: &[&str]) -> Result<Self, Fault> {
        let (key, negated) = name.strip_suffix("[ne]").map_or((name, false), |key| (key, true));
        if ["[gte]", "[gt]", "[lte]", "[lt]"].iter().any(|range| key.ends_with(range)) {
            return Err(Fault::new("unknown", "is not possible: custom fields have no ranges"));
        }
        if key.is_empty() || key.contains('\0') {
            return Err(Fault::new("unknown", "must be custom. and the key of a custom field"));
        }
        let test = Test::one_of(Kind::Line, texts, negated, Tz::UTC)?;
        Ok(Self { subject: Subject::Custom(key.to_owned()), test })
    }

    fn field(&self) -> Option<&'static ListField> {
        if let Subject::Field(field) = self.subject { Some(field) } else { None }
    }

    /// The column of another table that is compared.
    pub(super) fn joined(&self) -> Option<&'static Joined> {
        self.field()?.as_joined()
    }

    /// The lists of another table that have one of these ids; `None` if records without a row can meet the
    /// condition.
    fn listed(&self) -> Option<(&'static Listed, &[Uuid])> {
        match &self.test {
            Test::OneOf { values: Values::Ids(ids), or_empty: false, negated: false } => {
                Some((self.field()?.as_listed()?, ids))
            }
            _ => None,
        }
    }

    /// Whether this column of the table is compared.
    pub(super) fn is_on(&self, column: &str) -> bool {
        self.joined().is_none() && self.field().is_some_and(|field| field.name == column)
    }

    /// The words of an enumeration that meet the condition; `None` if empty values can meet it, or none does.
    pub(super) fn words(&self) -> Option<Vec<String>> {
        let Kind::Word(all) = self.field()?.kind else { return None };
        match &self.test {
            Test::OneOf { values: Values::Texts(words), or_empty: false, negated: false } => Some(words.clone()),
            // Columns of the table have one of the words; another table may have no row.
            Test::OneOf { values: Values::Texts(words), negated: true, .. } if self.joined().is_none() => {
                let others = all.iter().filter(|&&word| !words.iter().any(|other| other == word));
                let others: Vec<String> = others.map(|&word| word.to_owned()).collect();
                (!others.is_empty()).then_some(others)
            }
            _ => None,
        }
    }

    /// Whether it selects a range of an order by this expression, in the order's index.
    pub(super) fn bounds(&self, expression: &str) -> bool {
        let is_range = match &self.test {
            Test::OneOf { values: Values::Times(times), or_empty: false, negated: false } => times.len() == 1,
            Test::Bound { value: Values::Times(_), .. } => true,
            _ => false,
        };
        is_range && self.is_on(expression)
    }

    /// Whether an index finds the records that meet it.
    pub(super) fn is_indexed(&self, spec: &Spec) -> bool {
        let is_positive = matches!(self.test, Test::OneOf { or_empty: false, negated: false, .. });
        is_positive && self.field().is_some_and(|field| spec.is_indexed(field.name))
    }

    /// Adds it to the conditions of a statement that finds or counts records.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec) {
        match (self.joined(), self.words(), self.listed()) {
            (Some(joined), Some(words), _) => push_joined(sql, spec.table, joined, words),
            (.., Some((listed, ids))) => push_listed(sql, spec.table, listed, ids),
            _ => self.push_test(sql, spec, if self.is_indexed(spec) { Many::Indexed } else { Many::Hashed }),
        }
    }

    /// Adds it to the conditions of a statement that checks records one by one, in their order. It contains
    /// no join, for which the planner would give up the order.
    pub(super) fn push_check(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec) {
        self.push_test(sql, spec, Many::Hashed);
    }

    fn push_test(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec, many: Many) {
        match &self.test {
            Test::Bound { operator, value } => {
                self.push_subject(sql, spec);
                value.push_compared(sql, operator, many);
            }
            Test::OneOf { values, or_empty, negated } => {
                // Without values it is about empty ones only.
                sql.push(if *negated { "(" } else { "" });
                sql.push(if *or_empty && !values.is_empty() { "(" } else { "" });
                if !values.is_empty() {
                    self.push_equality(sql, spec, values, many);
                }
                if *or_empty {
                    sql.push(if values.is_empty() { "" } else { " OR " });
                    self.push_subject(sql, spec);
                    sql.push(if values.is_empty() { " IS NULL" } else { " IS NULL)" });
                }
                sql.push(if *negated { ") IS NOT TRUE" } else { "" });
            }
        }
    }

    fn push_equality(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec, values: &Values, many: Many) {
        if let (Some(_), Values::Ids(ids)) = (self.field().and_then(ListField::as_listed), values) {
            self.push_subject(sql, spec);
            sql.push(" && ").push_bind(ids.clone());
            return;
        }
        let is_hashed = many == Many::Hashed && values.len() >= FROM;
        // Within an expression, the values stay a table and are not joined.
        sql.push(if is_hashed { "(" } else { "" });
        self.push_subject(sql, spec);
        values.push_compared(sql, "=", many);
        sql.push(if is_hashed { ") IS TRUE" } else { "" });
        if let Subject::Custom(key) = &self.subject {
            // Only scalars compare as text.
            sql.push(" AND jsonb_typeof(custom_fields -> ").push_bind(key.clone());
            sql.push("::text) NOT IN ('object', 'array')");
        }
    }

    fn push_subject(&self, sql: &mut QueryBuilder<Postgres>, spec: &Spec) {
        match &self.subject {
            Subject::Custom(key) => {
                sql.push("(custom_fields ->> ").push_bind(key.clone()).push("::text)");
            }
            Subject::Field(field) => {
                sql.push(field.compared(spec.table));
                sql.push(if field.kind == Kind::Name { " COLLATE folded" } else { "" });
            }
        }
    }
}

impl Test {
    fn one_of(kind: Kind, texts: &[&str], negated: bool, tz: Tz) -> Result<Self, Fault> {
        if texts.iter().all(|text| text.is_empty()) {
            return Err(Fault::new("required", "must not be empty; null stands for an empty value"));
        }
        let mut texts: Vec<&str> = match kind.is_separated() {
            true => texts.iter().flat_map(|text| text.split(',')).collect(),
            false => texts.iter().map(|text| text.trim()).collect(),
        };
        texts.sort_unstable();
        texts.dedup();
        let or_empty = texts.contains(&EMPTY);
        texts.retain(|text| *text != EMPTY);
        Ok(Self::OneOf { values: Values::read(kind, &texts, tz)?, or_empty, negated })
    }
}

impl Values {
    fn read(kind: Kind, texts: &[&str], tz: Tz) -> Result<Self, Fault> {
        Ok(match kind {
            Kind::Word(words) => Self::Texts(parsed(texts, |word| match words.contains(&word) {
                true => Ok(word.to_owned()),
                false => Err(Fault::new("invalid", format!("must be one of: {}", words.join(" ")))),
            })?),
            Kind::Email => Self::Texts(parsed(texts, |email| match email.trim() {
                "" => Err(Fault::new("required", "must not be empty")),
                email => Ok(email_key(&String::from_text(email)?)),
            })?),
            Kind::Name | Kind::Line => Self::Texts(parsed(texts, String::from_text)?),
            Kind::Text | Kind::Json => Self::Texts(parsed(texts, long_text)?),
            Kind::Id => Self::Ids(parsed(texts, Uuid::from_text)?),
            Kind::Number => Self::Numbers(parsed(texts, number)?),
            Kind::Time => Self::Times(parsed(texts, |text| time_in(text, tz))?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Ids(ids) => ids.len(),
            Self::Numbers(numbers) => numbers.len(),
            Self::Times(times) => times.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compares the expression that was written before with these values.
    fn push_compared(&self, sql: &mut QueryBuilder<Postgres>, operator: &str, many: Many) {
        match self {
            Self::Texts(texts) => push(sql, operator, texts, many),
            Self::Ids(ids) => push(sql, operator, ids, many),
            Self::Numbers(numbers) => push(sql, operator, numbers, many),
            Self::Times(times) => push(sql, operator, times, many),
        }
    }
}

fn parsed<T>(texts: &[&str], parse: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    texts.iter().map(|text| parse(text)).collect()
}

/// Reads text that may have line breaks.
fn long_text(text: &str) -> Result<String, Fault> {
    match text {
        "" => Err(Fault::new("required", "must not be empty")),
        text if text.contains('\0') => Err(Fault::new("invalid", "must not contain control characters")),
        text => Ok(text.to_owned()),
    }
}

fn comparison(operator: &str) -> Result<&'static str, Fault> {
    match operator {
        "gte" => Ok(">="),
        "gt" => Ok(">"),
        "lte" => Ok("<="),
        "lt" => Ok("<"),
        _ => Err(Fault::new("unknown", "is not a known operator: use ne, gte, gt, lte or lt")),
    }
}

/// How an expression is compared with many values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Many {
    /// By the expression's index.
    Indexed,
    /// By a hash table, built once. Comparing each record with thousands of values would take that many
    /// times longer, which the planner only sees in a plan for these very values.
    Hashed,
}

/// The number of values from which on a hash table is faster.
const FROM: usize = 9;

fn push<T>(sql: &mut QueryBuilder<Postgres>, operator: &str, values: &[T], many: Many)
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + Clone + 'static,
{
    match values {
        // With one value the planner knows that a unique index has one row, and that an index keeps its order.
        [value] => sql.push(format!(" {operator} ")).push_bind(value.clone()),
        values if many == Many::Hashed && values.len() >= FROM => {
            sql.push(" IN (SELECT unnest(").push_bind(values.to_vec()).push("))")
        }
        values => sql.push(" = ANY (").push_bind(values.to_vec()).push(")"),
    };
}

/// Adds the condition that a record has one of the words in a column of another table.
fn push_joined(sql: &mut QueryBuilder<Postgres>, table: &str, joined: &Joined, words: Vec<String>) {
    let Joined { table: other, key, column, absent, .. } = joined;
    // A record without a row is found by the absence of a row with another word.
    let includes_absent = absent.is_some_and(|absent| words.iter().any(|word| word == absent));
    let (exists, comparison) = if includes_absent { ("NOT EXISTS", "<> ALL") } else { ("EXISTS", "= ANY") };
    sql.push(format!(
        "{exists} (SELECT FROM {other} AS joined WHERE joined.workspace_id = $1
             AND joined.{key} = {table}.id AND joined.{column} {comparison} ("
    ));
    sql.push_bind(words).push("))");
}

/// Adds the condition that a record has one of the ids in a list in another table.
fn push_listed(sql: &mut QueryBuilder<Postgres>, table: &str, listed: &Listed, ids: &[Uuid]) {
    let Listed { table: other, key, column } = listed;
    sql.push(format!(
        "EXISTS (SELECT FROM {other} AS listed WHERE listed.workspace_id = $1
             AND listed.{key} = {table}.id AND listed.{column} && "
    ));
    sql.push_bind(ids.to_vec()).push(")");
}
