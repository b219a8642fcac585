//! Rows for PostgreSQL's `COPY … FROM STDIN` in its text format.

use std::fmt::{Display, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use sqlx::PgConnection;

use crate::error::Result;

/// A row of cells being written: for COPY, or as CSV.
pub trait Cells {
    /// A value whose text needs no escaping.
    fn value(&mut self, value: impl Display);
    /// Any text.
    fn text(&mut self, text: &str);
    /// A JSON object.
    fn json(&mut self, map: &Map<String, Value>);
    /// Nothing.
    fn empty(&mut self);

    /// A value whose text needs no escaping, or nothing.
    fn optional(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(value),
            None => self.empty(),
        }
    }

    /// Any text, or nothing.
    fn optional_text(&mut self, text: Option<&impl AsRef<str>>) {
        match text {
            Some(text) => self.text(text.as_ref()),
            None => self.empty(),
        }
    }

    /// A point in time, in microseconds.
    fn time(&mut self, time: DateTime<Utc>) {
        self.value(time.to_rfc3339_opts(SecondsFormat::Micros, true));
    }
}

/// Rows being written, value by value.
#[derive(Debug)]
pub struct CopyRows {
    buffer: String,
    at_start: bool,
}

impl CopyRows {
    /// An empty set of rows, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: String::with_capacity(bytes), at_start: true }
    }

    /// Ends the row.
    pub fn end(&mut self) {
        self.buffer.push('\n');
        self.at_start = true;
    }

    /// Sends the rows with the given COPY statement.
    ///
    /// # Errors
    /// As the statement's: [`Error::Conflict`](crate::Error::Conflict) if a unique key is taken.
    pub async fn send(self, connection: &mut PgConnection, statement: &'static str) -> Result<()> {
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.buffer.into_bytes()).await?;
        copy.finish().await?;
        Ok(())
    }

    fn separate(&mut self) {
        if !self.at_start {
            self.buffer.push('\t');
        }
        self.at_start = false;
    }

    fn escape(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find(['\\', '\t', '\n', '\r']) {
            self.buffer.push_str(&rest[..at]);
            self.buffer.push_str(match rest.as_bytes()[at] {
                b'\\' => "\\\\",
                b'\t' => "\\t",
                b'\n' => "\\n",
                _ => "\\r",
            });
            rest = &rest[at + 1..];
        }
        self.buffer.push_str(rest);
    }
}

impl Cells for CopyRows {
    fn value(&mut self, value: impl Display) {
        self.separate();
        let _ = write!(self.buffer, "{value}");
    }

    fn text(&mut self, text: &str) {
        self.separate();
        self.escape(text);
    }

    fn json(&mut self, map: &Map<String, Value>) {
        if map.is_empty() {
            return self.value("{}");
        }
        // A map of values always serializes.
        let json = serde_json::to_string(map).unwrap_or_default();
        self.text(&json);
    }

    fn empty(&mut self) {
        self.separate();
        self.buffer.push_str("\\N");
    }
}
