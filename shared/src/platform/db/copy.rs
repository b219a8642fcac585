//! Rows for PostgreSQL's `COPY … FROM STDIN` in the text format.

use std::fmt::{Display, Write};

use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;

use crate::values::cell::Cells;

/// Writes rows into a table, value by value.
///
/// Rows are sent in chunks, so that the database works while further rows are written.
pub struct CopyRows<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    buffer: String,
    at_start: bool,
}

impl<'c> CopyRows<'c> {
    const CHUNK: usize = 64 * 1024;

    /// Begins a COPY. The connection must be that of a [`Transaction`](super::Transaction), which cleans
    /// or closes the connection if the COPY is dropped unfinished.
    pub async fn begin(connection: &'c mut PgConnection, statement: &str) -> sqlx::Result<Self> {
        let copy = connection.copy_in_raw(statement).await?;
        Ok(Self { copy, buffer: String::with_capacity(Self::CHUNK * 2), at_start: true })
    }

    /// Ends the row.
    pub async fn end(&mut self) -> sqlx::Result<()> {
        self.buffer.push('\n');
        self.at_start = true;
        if self.buffer.len() >= Self::CHUNK {
            self.copy.send(self.buffer.as_bytes()).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends the COPY.
    ///
    /// # Errors
    /// When the database refuses a row, or is unavailable.
    pub async fn finish(mut self) -> sqlx::Result<()> {
        self.copy.send(self.buffer.as_bytes()).await?;
        self.copy.finish().await?;
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

impl Cells for CopyRows<'_> {
    fn value(&mut self, value: impl Display) {
        self.separate();
        let _ = write!(self.buffer, "{value}");
    }

    fn text(&mut self, text: &str) {
        self.separate();
        self.escape(text);
    }

    fn json(&mut self, json: &str) {
        self.text(json);
    }

    fn empty(&mut self) {
        self.separate();
        self.buffer.push_str("\\N");
    }
}
