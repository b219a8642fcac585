//! Orders that no index serves: each page reads all records that match, and keeps the first ones.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Columns, Key, List, ListField, OrderKind, Place};
use crate::values::kind::Kind;

impl ListField {
    /// What an order by the field compares.
    pub(super) fn order_kind(&self) -> OrderKind {
        match self.kind {
            Kind::Time => OrderKind::Time,
            Kind::Number | Kind::Word(_) => OrderKind::Number,
            _ => OrderKind::Text,
        }
    }

    /// The expressions of the order: text is compared without case and accents, and then as it is.
    fn sort_keys(&self) -> Vec<String> {
        let value = self.sorted();
        match self.order_kind() {
            OrderKind::Text => vec![format!("{value} COLLATE folded"), format!("{value} COLLATE \"C\"")],
            _ => vec![value],
        }
    }
}

impl List {
    /// The statement of the next `limit` records in the order of a field: the columns and `place`. Empty
    /// values are last in both directions.
    pub(super) fn sorted_page(
        &self,
        field: &ListField,
        workspace_id: Uuid,
        columns: Columns,
        limit: u32,
    ) -> QueryBuilder<Postgres> {
        let (table, value) = (self.spec.table, field.sorted());
        let place = if field.order_kind() == OrderKind::Number { format!("({value})::text") } else { value };
        let mut sql = QueryBuilder::new(format!("SELECT {}, {place} AS place FROM {table}", columns.selected));
        if let Some(joined) = field.as_joined() {
            // The columns are renamed, so that those of the table need no prefix.
            sql.push(format!(
                " LEFT JOIN (SELECT {} AS joined_key, {} AS joined_value FROM {} WHERE workspace_id = ",
                joined.key, joined.column, joined.table
            ));
            sql.push_bind(workspace_id).push(") AS joined ON joined_key = id");
        }
        sql.push(" WHERE workspace_id = ").push_bind(workspace_id);
        self.push_conditions(&mut sql);
        if let Some(place) = &self.after {
            self.push_after_value(&mut sql, field, workspace_id, place);
        }
        let direction = self.direction();
        let keys: Vec<String> = field.sort_keys().iter().map(|key| format!("{key}{direction} NULLS LAST")).collect();
        sql.push(format!(" ORDER BY {}, id{direction} LIMIT ", keys.join(", "))).push_bind(i64::from(limit));
        sql
    }

    fn push_after_value(
        &self,
        sql: &mut QueryBuilder<Postgres>,
        field: &ListField,
        workspace_id: Uuid,
        Place { key, id, .. }: &Place,
    ) {
        let (value, comparison) = (field.sorted(), self.comparison());
        if matches!(key, Key::Empty) {
            sql.push(format!(" AND {value} IS NULL AND id {comparison} ")).push_bind(*id);
            return;
        }
        let keys = field.sort_keys();
        sql.push(format!(" AND (({}, id) {comparison} (", keys.join(", ")));
        for _ in &keys {
            self.push_key(sql, (&value, field.order_kind()), workspace_id, key, *id);
            sql.push(", ");
        }
        sql.push_bind(*id).push(format!(") OR {value} IS NULL)"));
    }
}
