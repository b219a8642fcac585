//! Reading records from the rows of a statement.

use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Column, Decode, Row, Type};

/// The columns of a row in their order, which is found faster than each column's name.
#[derive(Debug)]
pub struct InOrder<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> InOrder<'r> {
    /// The columns from the first one on.
    pub fn new(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// Reads the next column, whose name is known.
    ///
    /// # Errors
    /// [`sqlx::Error::ColumnIndexOutOfBounds`] and [`sqlx::Error::ColumnDecode`].
    pub fn read<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self, name: &str) -> sqlx::Result<T> {
        debug_assert_eq!(self.row.columns().get(self.next).map(Column::name), Some(name));
        self.next += 1;
        self.row.try_get(self.next - 1)
    }
}
