//! Lists of the deleted records that can be restored.

use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use super::model::Record;
use crate::query::{Columns, Item};
use crate::values::Time;

/// A deleted record.
#[derive(Debug, Clone, Serialize)]
pub struct Deleted<R> {
    #[serde(flatten)]
    record: R,
    /// When it was deleted.
    deleted_at: Time,
}

impl<R: Record> Item for Deleted<R> {}

impl<R> Deleted<R> {
    /// The columns of a list of deleted records, which are entries of the history.
    pub const COLUMNS: Columns = Columns::plain("id, former, created_at");
}

impl<R: Record> FromRow<'_, PgRow> for Deleted<R> {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let record: Value = row.try_get("former")?;
        let record = serde_json::from_value(record).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self { record, deleted_at: row.try_get("created_at")? })
    }
}

/// Declares the list of the deleted records of a kind: the name in the history, the table, and filters
/// besides `id`. Records that were deleted with another one are restored with it, and a record that was
/// restored and deleted again has two entries. Both conditions are looked up for each entry: with a join,
/// the planner would give up the order of the index.
#[macro_export]
macro_rules! deleted_list {
    ($record_type:literal in $table:literal $(, $filter:expr)* $(,)?) => {
        $crate::query::Spec {
            table: "history",
            fields: &[],
            filters: &[
                $crate::query::ListField::computed("id", $crate::values::kind::Kind::Id, "record_id"),
                $($filter,)*
            ],
            orders: &[$crate::query::Order {
                name: "deleted_at",
                expression: "id",
                kind: $crate::query::OrderKind::Id,
            }],
            indexed: &[],
            searchable: false,
            branches: None,
            only: Some(concat!(
                "record_type = '", $record_type, "' AND action = 'deleted' AND cause_id IS NULL
                 AND created_at > now() - interval '30 days'
                 AND (SELECT present.id FROM ", $table, " AS present
                     WHERE present.workspace_id = $1 AND present.id = history.record_id) IS NULL
                 AND (SELECT later.id FROM history AS later WHERE later.workspace_id = $1
                     AND later.record_id = history.record_id AND later.id > history.id AND later.action = 'deleted'
                     LIMIT 1) IS NULL"
            )),
        }
    };
}
