//! Aligned tables for people.

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

/// A table, printed with columns as wide as their widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self { rows: vec![titles.map(str::to_uppercase).into()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        // A line break in an error would break the table.
        self.rows.push(cells.map(|cell| cell.replace(['\n', '\r', '\t'], " ")).into());
    }

    pub fn print(&self) {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            println!("{}", cells.join("  ").trim_end());
        }
    }
}

/// A time to the second, or `-`.
pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// A value, or `-`.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A duration, such as `2h 5m`, or `-`.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{}d {}h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// The beginning of a text, on one line.
pub(super) fn short(text: Option<&str>) -> String {
    const MOST: usize = 80;
    let text = text.unwrap_or("-");
    if text.chars().count() > MOST {
        format!("{}…", text.chars().take(MOST - 1).collect::<String>())
    } else {
        text.to_owned()
    }
}

/// Prints the fields of an object, one on each line.
pub(super) fn fields(object: &impl Serialize) -> Result<()> {
    let Value::Object(object) = serde_json::to_value(object)? else { return Ok(()) };
    let width = object.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &object {
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        println!("{name:<width$}  {value}");
    }
    Ok(())
}
