//! The statements that read a list in the order of an index, each from the position where the previous one
//! ended.
//!
//! Records that match filters unknown to the order's index are found in two ways. If few match, they are all
//! looked up for each page, by an index of the filter if there is one. If many match, that would take the
//! square of their number; then the order's index is read, and each record is checked. The statements leave
//! the planner no choice between them, because it often estimates the number of matches wrongly.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Branch, Columns, Joined, Key, List, OrderKind, Place};

/// The maximum number of matches that are looked up. Each is read about seven times for the whole list.
pub(super) const FEW: i64 = 5_000;
/// The number of records that one statement examines, so that it takes milliseconds with any filters.
pub(super) const STRIDE: i64 = 20_000;

/// Begins a statement whose first parameter is the workspace, as selections and conditions expect it. A distributed
/// database sends a statement to one node if each table in it has the workspace as a parameter.
pub(super) fn of_workspace(workspace_id: Uuid, begin: String) -> QueryBuilder<Postgres> {
    let mut arguments = PgArguments::default();
    // A UUID is always encoded; without it, the statement would be refused.
    let _ = arguments.add(workspace_id);
    QueryBuilder::with_arguments(begin, arguments)
}

impl List {
    /// The statement of the next `limit` records of a list without checks: the columns, and `place`, the
    /// value of the order's expression, which forms a [`Place`] together with `id`.
    pub fn page(&self, workspace_id: Uuid, columns: Columns, limit: u32) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("SELECT {}, place FROM (", columns.selected));
        // Expressions of the selection are computed for the rows of the page only.
        self.push_ordered(&mut sql, workspace_id, columns.stored, i64::from(limit));
        sql
    }

    /// The matching records among the next few in the order: the columns and `place`. The statement ends as
    /// soon as it has found `limit` of them, so it costs hardly more than [`List::page`] if most match.
    pub(super) fn glance(&self, workspace_id: Uuid, columns: Columns, limit: u32) -> QueryBuilder<Postgres> {
        let table = self.spec.table;
        let mut sql = QueryBuilder::new(format!("SELECT {}, place FROM (SELECT * FROM (", columns.selected));
        let examined = (i64::from(limit) * 4).clamp(1_000, STRIDE);
        // The inner limit keeps the checks from being served by another index than that of the order.
        self.push_ordered(&mut sql, workspace_id, &format!("{table}.*"), examined);
        sql.push(format!(") AS {table} WHERE TRUE"));
        self.push_checks(&mut sql);
        self.push_order(&mut sql, i64::from(limit));
        sql
    }

    /// The matching records among the next [`STRIDE`] in the order, at most `limit`: the columns, `place`,
    /// `matches` and `nth`. The last record of the stride, which has that number, is returned even if it
    /// does not match.
    pub(super) fn stride(&self, workspace_id: Uuid, columns: Columns, limit: u32) -> QueryBuilder<Postgres> {
        let table = self.spec.table;
        let begin = format!("SELECT {}, place, matches, nth FROM (SELECT *, (TRUE", columns.selected);
        let mut sql = of_workspace(workspace_id, begin);
        self.push_checks(&mut sql);
        sql.push(") IS TRUE AS matches, row_number() OVER () AS nth FROM (SELECT * FROM (");
        self.push_ordered(&mut sql, workspace_id, &format!("{table}.*"), STRIDE);
        sql.push(format!(") AS {table}) AS {table} WHERE matches OR nth = "));
        sql.push_bind(STRIDE).push(" ORDER BY nth LIMIT ").push_bind(i64::from(limit));
        sql
    }

    /// The next of all matching records, if these are few: the columns, `place`, and `many`. If `many` is
    /// true, more match, and the returned ones are arbitrary.
    pub(super) fn lookup(&self, workspace_id: Uuid, columns: Columns, limit: u32) -> QueryBuilder<Postgres> {
        let (table, order) = (self.spec.table, self.order.expression);
        let direction = self.direction();
        // A materialized table expression is planned for all of its rows, and read no further than needed.
        let mut sql = QueryBuilder::new(format!(
            "WITH found AS MATERIALIZED (SELECT id, {order} AS place FROM {table} WHERE workspace_id = "
        ));
        sql.push_bind(workspace_id);
        self.push_conditions(&mut sql);
        self.push_after(&mut sql, workspace_id, &format!("({order}, id)"));
        sql.push("), few AS MATERIALIZED (SELECT id, place FROM found LIMIT ").push_bind(FEW + 1);
        sql.push(format!(") SELECT {}, place, (SELECT count(*) FROM few) > ", columns.selected)).push_bind(FEW);
        sql.push(format!(
            " AS many FROM (SELECT id AS page_id, place FROM few ORDER BY place{direction}, id{direction} LIMIT "
        ));
        sql.push_bind(i64::from(limit)).push(format!(") AS page JOIN {table} ON id = page_id WHERE workspace_id = "));
        sql.push_bind(workspace_id).push(format!(" ORDER BY place{direction}, id{direction}"));
        sql
    }

    /// The statement that counts all records on all pages.
    pub(super) fn counting(&self, workspace_id: Uuid) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("SELECT count(*) FROM {} WHERE workspace_id = ", self.spec.table));
        sql.push_bind(workspace_id);
        self.push_conditions(&mut sql);
        sql
    }

    /// Adds the statement that returns the ids of all matching records as `id`.
    pub(crate) fn push_ids(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid) {
        let table = self.spec.table;
        // A list of deleted records has entries of the history, whose ids are others.
        let id = self.spec.filterable().find(|field| field.name == "id").map(|field| field.compared(table));
        sql.push(format!("SELECT {} AS id FROM {table} WHERE workspace_id = ", id.as_deref().unwrap_or("id")));
        sql.push_bind(workspace_id);
        self.push_conditions(sql);
    }

    /// The statement that returns the keys that most records have in their `custom_fields`.
    pub(super) fn custom_keys(&self, workspace_id: Uuid, limit: u32) -> QueryBuilder<Postgres> {
        let table = self.spec.table;
        let mut sql = QueryBuilder::new(format!(
            "SELECT key FROM (SELECT jsonb_object_keys(custom_fields) AS key FROM {table} WHERE workspace_id = "
        ));
        sql.push_bind(workspace_id).push(" AND custom_fields <> '{}'");
        self.push_conditions(&mut sql);
        sql.push(") AS keys GROUP BY key ORDER BY count(*) DESC, key LIMIT ").push_bind(i64::from(limit));
        sql
    }

    /// What the order compares.
    pub(super) fn order_kind(&self) -> OrderKind {
        self.scan.map_or(self.order.kind, |field| field.order_kind())
    }

    pub(super) fn direction(&self) -> &'static str {
        if self.descending { " DESC" } else { "" }
    }

    pub(super) fn comparison(&self) -> &'static str {
        if self.descending { "<" } else { ">" }
    }

    fn push_order(&self, sql: &mut QueryBuilder<Postgres>, limit: i64) {
        let direction = self.direction();
        sql.push(format!(" ORDER BY place{direction}, id{direction} LIMIT ")).push_bind(limit);
    }

    /// Adds the next records of all branches in their order, without checks, inside an open parenthesis.
    fn push_ordered(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid, columns: &str, limit: i64) {
        for (i, branch) in self.branches().iter().enumerate() {
            sql.push(if i == 0 { "(" } else { " UNION ALL (" });
            self.push_branch(sql, workspace_id, columns, branch);
            // Each branch is in its order, so that they are merged and read no further than needed.
            self.push_order(sql, limit);
            sql.push(")");
        }
        sql.push(format!(") AS {}", self.spec.table));
        self.push_order(sql, limit);
    }

    fn push_branch(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid, columns: &str, branch: &Branch) {
        let (order, table) = (self.order.expression, self.spec.table);
        match branch {
            Branch::Joined(joined, value) => {
                let Joined { table: other, key, time, column, .. } = joined;
                // The order is that of the other table's index, and the records are read one by one.
                sql.push(format!(
                    "SELECT {columns}, joined_time AS place FROM (SELECT {key} AS joined_key, {time} AS joined_time"
                ));
                sql.push(format!(" FROM {other} WHERE workspace_id = ")).push_bind(workspace_id);
                sql.push(format!(" AND {column} = ")).push_bind(value.clone());
                sql.push(format!(") AS joined JOIN {table} ON id = joined_key WHERE workspace_id = "));
                sql.push_bind(workspace_id);
                self.push_after(sql, workspace_id, "(joined_time, joined_key)");
            }
            Branch::Whole | Branch::Of(..) => {
                sql.push(format!("SELECT {columns}, {order} AS place FROM {table} WHERE workspace_id = "));
                sql.push_bind(workspace_id);
                self.push_fixed(sql);
                if let Branch::Of(column, value) = branch {
                    sql.push(format!(" AND {column} = ")).push_bind(value.clone());
                }
                for condition in self.conditions.iter().filter(|condition| condition.bounds(order)) {
                    sql.push(" AND ");
                    condition.push(sql, self.spec);
                }
                self.push_after(sql, workspace_id, &format!("({order}, id)"));
            }
        }
    }

    /// Adds the conditions that each record is checked against.
    fn push_checks(&self, sql: &mut QueryBuilder<Postgres>) {
        for condition in self.checks(&self.branches()) {
            sql.push(" AND ");
            condition.push_check(sql, self.spec);
        }
        self.push_words(sql);
    }

    /// Adds all conditions of the list.
    pub(crate) fn push_conditions(&self, sql: &mut QueryBuilder<Postgres>) {
        self.push_fixed(sql);
        for condition in &self.conditions {
            sql.push(" AND ");
            condition.push(sql, self.spec);
        }
        self.push_words(sql);
    }

    /// Adds the conditions that no parameter changes.
    pub(super) fn push_fixed(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(only) = self.spec.only {
            sql.push(" AND ").push(only);
        }
        if let Some((column, id)) = self.parent {
            sql.push(format!(" AND {column} = ")).push_bind(id);
        }
    }

    fn push_words(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(words) = &self.words {
            sql.push(" AND search_vector @@ ").push_bind(words.clone()).push("::tsquery");
        }
    }

    fn push_after(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid, ordered_by: &str) {
        if let Some(Place { key, id, .. }) = &self.after {
            sql.push(format!(" AND {ordered_by} {} (", self.comparison()));
            self.push_key(sql, (self.order.expression, self.order.kind), workspace_id, key, *id);
            sql.push(", ").push_bind(*id).push(")");
        }
    }

    /// Adds the value of an order's expression at the position after which the list continues.
    pub(super) fn push_key(
        &self,
        sql: &mut QueryBuilder<Postgres>,
        (expression, kind): (&str, OrderKind),
        workspace_id: Uuid,
        key: &Key,
        id: Uuid,
    ) {
        match key {
            Key::Empty => {
                sql.push("NULL");
            }
            Key::Whole(key) => {
                sql.push_bind(key.clone()).push(format!("::{}", kind.sql_type()));
            }
            // The record may have changed in the meantime; then the list continues after the start.
            Key::Start(start) => {
                sql.push(format!("coalesce((SELECT {expression} FROM {} WHERE workspace_id = ", self.spec.table));
                sql.push_bind(workspace_id).push(" AND id = ").push_bind(id);
                sql.push(format!(" AND starts_with({expression}, ")).push_bind(start.clone());
                sql.push("::text)), ").push_bind(start.clone()).push("::text)");
            }
        }
    }
}
