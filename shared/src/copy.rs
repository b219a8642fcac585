//! Rows for PostgreSQL's `COPY … FROM STDIN` in its text format.

use std::fmt::{Display, Write};

use serde_json::{Map, Value};
use sqlx::PgConnection;

use crate::error::Result;

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

    /// A value whose text needs no escaping.
    pub fn value(&mut self, value: impl Display) -> &mut Self {
        self.separate();
        let _ = write!(self.buffer, "{value}");
        self
    }

    /// A value whose text needs no escaping, or NULL.
    pub fn optional(&mut self, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.value(value),
            None => self.null(),
        }
    }

    /// Any text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.separate();
        self.escape(text);
        self
    }

    /// Any text, or NULL.
    pub fn optional_text(&mut self, text: Option<&impl AsRef<str>>) -> &mut Self {
        match text {
            Some(text) => self.text(text.as_ref()),
            None => self.null(),
        }
    }

    /// A JSON object.
    pub fn json(&mut self, map: &Map<String, Value>) -> &mut Self {
        if map.is_empty() {
            return self.value("{}");
        }
        // A map of values always serializes.
        let json = serde_json::to_string(map).unwrap_or_default();
        self.text(&json)
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

    fn null(&mut self) -> &mut Self {
        self.separate();
        self.buffer.push_str("\\N");
        self
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
