//! Series and tables of reports as CSV.
//!
//! A table is a part of the report's JSON, so both always have the same figures.

use serde_json::{Map, Value};

use crate::error::{FieldError, Result};
use crate::query::parameters::Parameters;
use crate::records::csv::CsvRows;
use crate::values::Fault;

/// A table of a report.
#[derive(Debug)]
pub struct Table {
    /// Its name in the parameter `table`.
    pub name: &'static str,
    /// Where it is in the report, as a JSON pointer.
    pub at: &'static str,
    /// Its rows and columns.
    pub rows: Rows,
}

/// The rows of a table.
#[derive(Debug)]
pub enum Rows {
    /// The items of an array, with these columns; `rate.numerator` is a field of an object in a row.
    Items(&'static [&'static str]),
    /// The same, followed by a column for each item of an array in the rows: its name, the field of an item,
    /// and the prefix of the numbered columns.
    Spread(&'static [&'static str], (&'static str, &'static str, &'static str)),
    /// The fields of an object with a number each: the names of the two columns.
    Counts(&'static str, &'static str),
}

/// The column that distinguishes the compared periods.
const PERIOD: &str = "period";

/// Whether a table is requested, and not the whole report.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// The whole report.
    Json,
    /// The table that the parameter `table` names, of these.
    Csv(&'static [Table]),
}

impl Format {
    /// Takes the parameter `table`, which is for CSV only.
    pub fn take(self, parameters: &mut Parameters<'_>) -> Option<&'static Table> {
        match self {
            Self::Json => none(parameters),
            Self::Csv(tables) => take(parameters, tables),
        }
    }
}

/// Parses the parameters of a report that has no other than `table`.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) with every fault.
pub fn parse(format: Format, pairs: &[(String, String)]) -> Result<Option<&'static Table>> {
    let mut parameters = Parameters::new(pairs);
    let table = format.take(&mut parameters);
    parameters.finish().map(|()| table)
}

fn none(parameters: &mut Parameters<'_>) -> Option<&'static Table> {
    if !parameters.take_all("table").is_empty() {
        parameters.refuse(FieldError::new("table", "invalid", "needs the header `Accept: text/csv`"));
    }
    None
}

/// Takes the parameter `table`, which may be left out if there is only one.
fn take(parameters: &mut Parameters<'_>, tables: &'static [Table]) -> Option<&'static Table> {
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let message = format!("must be one of: {}", names.join(" "));
    let mut is_given = false;
    let table = parameters.take_as("table", |name| {
        is_given = true;
        let table = tables.iter().find(|table| table.name == name);
        table.ok_or_else(|| Fault::new("invalid", message.clone()))
    });
    match tables {
        [only] if !is_given => Some(only),
        _ => {
            if !is_given {
                parameters.refuse(FieldError::new("table", "required", message));
            }
            table
        }
    }
}

/// Writes a table of a report as CSV. With a comparison, the rows of both periods follow each other.
///
/// # Errors
/// None that occur.
pub fn csv(table: &Table, report: &Value) -> Result<Vec<u8>> {
    let parts: Vec<(&str, &Value)> = [("requested", Some(report)), ("comparison", report.get("comparison"))]
        .into_iter()
        .filter_map(|(name, part)| Some((name, part?.pointer(table.at)?)))
        .collect();
    let is_compared = parts.len() > 1;
    let columns = table.rows.columns(parts.iter().map(|(_, part)| *part));
    let mut csv = CsvRows::with_capacity(4_096);
    csv.row(is_compared.then_some(PERIOD).into_iter().chain(columns.iter().map(String::as_str)));
    for (name, part) in parts {
        for row in table.rows.of(part) {
            let cells = columns.iter().map(|column| row.get(column).map(text).unwrap_or_default());
            let cells: Vec<String> = is_compared.then(|| name.to_owned()).into_iter().chain(cells).collect();
            csv.row(cells.iter().map(String::as_str));
        }
    }
    csv.into_bytes()
}

impl Rows {
    fn columns<'a>(&self, parts: impl Iterator<Item = &'a Value>) -> Vec<String> {
        let own = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
        match self {
            Self::Items(columns) => own(columns),
            Self::Counts(key, count) => own(&[key, count]),
            Self::Spread(columns, (field, _, prefix)) => {
                let length = |row: &Value| row[field].as_array().map_or(0, Vec::len);
                let longest = parts.filter_map(Value::as_array).flatten().map(length).max();
                let numbered = (1..=longest.unwrap_or(0)).map(|number| format!("{prefix}{number}"));
                own(columns).into_iter().chain(numbered).collect()
            }
        }
    }

    /// The rows, each with the cells of its columns.
    fn of<'a>(&self, part: &'a Value) -> Vec<Map<String, Value>> {
        let items = part.as_array().into_iter().flatten();
        match self {
            Self::Items(_) => items.map(flat).collect(),
            Self::Spread(_, (field, of, prefix)) => items
                .map(|item| {
                    let mut row = flat(item);
                    for (number, part) in (1..).zip(item[field].as_array().into_iter().flatten()) {
                        row.insert(format!("{prefix}{number}"), part[of].clone());
                    }
                    row
                })
                .collect(),
            Self::Counts(key, count) => {
                let row = |(name, value): (&'a String, &'a Value)| {
                    let cells = [((*key).to_owned(), Value::from(name.as_str())), ((*count).to_owned(), value.clone())];
                    cells.into_iter().collect()
                };
                part.as_object().into_iter().flatten().map(row).collect()
            }
        }
    }
}

/// The fields of an object, with those of objects in it under names with a dot. Arrays are left out.
fn flat(item: &Value) -> Map<String, Value> {
    let mut cells = Map::new();
    flatten("", item, &mut cells);
    cells
}

fn flatten(prefix: &str, value: &Value, cells: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, cells);
            }
        }
        Value::Array(_) => {}
        value => _ = cells.insert(prefix.to_owned(), value.clone()),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(table: &Table, report: &Value) -> String {
        String::from_utf8(csv(table, report).unwrap()).unwrap()
    }

    #[test]
    fn items_are_rows_and_objects_in_them_columns() {
        let table = Table { name: "sources", at: "/by/source", rows: Rows::Items(&["source", "rate.rate", "name"]) };
        let report = json!({ "by": { "source": [
            { "source": "email", "rate": { "rate": 0.5 }, "name": "=1+1" },
            { "source": "other", "rate": { "rate": null }, "name": "a, \"b\"" },
        ] } });
        assert_eq!(written(&table, &report), "source,rate.rate,name\r\nemail,0.5,'=1+1\r\nother,,\"a, \"\"b\"\"\"\r\n");
        assert_eq!(written(&table, &json!({ "by": { "source": [] } })), "source,rate.rate,name\r\n");
    }

    #[test]
    fn compared_periods_follow_each_other() {
        let table = Table { name: "status", at: "/by_status", rows: Rows::Counts("status", "leads") };
        let report = json!({ "by_status": { "new": 2 }, "comparison": { "by_status": { "new": 1 } } });
        assert_eq!(written(&table, &report), "period,status,leads\r\nrequested,new,2\r\ncomparison,new,1\r\n");
    }

    #[test]
    fn arrays_in_rows_are_numbered_columns() {
        let table =
            Table { name: "cohorts", at: "/cohorts", rows: Rows::Spread(&["label"], ("again", "rate", "month_")) };
        let report = json!({ "cohorts": [
            { "label": "2026-01", "again": [{ "rate": 0.5 }, { "rate": 0.25 }] }, { "label": "2026-02", "again": [] },
        ] });
        assert_eq!(written(&table, &report), "label,month_1,month_2\r\n2026-01,0.5,0.25\r\n2026-02,,\r\n");
    }
}
