//! The statements that read a list, each from the place where the one before it ended.
//!
//! Records that match filters of which the order's index knows nothing are found in two ways. Where they are
//! few, an index of what is asked for leads to them, and all are read for each page. Where they are many, that
//! would take the square of their number; then the order's index is walked, and each record is checked. Both
//! are forced on the planner, which guesses how many match, and wrongly often enough.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::filter::Condition;
use super::{Branch, List};
use crate::query::{Joined, Place};

/// Matches of which no more than this are few: for a list of them, each is read some seven times.
pub(super) const FEW: i64 = 5_000;
/// So many records are walked over in one statement, so that it takes milliseconds, whatever is asked for.
pub(super) const STRIDE: i64 = 20_000;

impl List {
    /// The statement of the next `limit` records of a list without checks: `columns`, then `place`, the order's
    /// expression, which with the record's `id` makes its [`Place`].
    pub fn page(&self, workspace_id: Uuid, columns: &'static str, limit: u32) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("SELECT {columns}, place FROM ("));
        self.push_ordered(&mut sql, workspace_id, columns, i64::from(limit));
        sql
    }

    /// The next records that match, among the next few in the order: `columns` and `place`. It ends as soon as
    /// it has found `limit` of them, so where most records match it costs hardly more than [`List::page`].
    pub(super) fn glance(&self, workspace_id: Uuid, columns: &'static str, limit: u32) -> QueryBuilder<Postgres> {
        let table = self.spec.table;
        let mut sql = QueryBuilder::new(format!("SELECT {columns}, place FROM (SELECT * FROM ("));
        let among = (i64::from(limit) * 4).clamp(1_000, STRIDE);
        // The limit keeps the checks out of there, where an index might serve them instead of the order.
        self.push_ordered(&mut sql, workspace_id, &format!("{table}.*"), among);
        sql.push(format!(") AS {table} WHERE TRUE"));
        self.push_checks(&mut sql);
        self.push_order(&mut sql, i64::from(limit));
        sql
    }

    /// The records that match among the next [`STRIDE`] in the order, `limit` of them at most: `columns`,
    /// `place`, `matches` and `number`. The last record of the stride, which has that number, is among them
    /// also if it does not match.
    pub(super) fn stride(&self, workspace_id: Uuid, columns: &'static str, limit: u32) -> QueryBuilder<Postgres> {
        let table = self.spec.table;
        let mut sql = QueryBuilder::new(format!("SELECT {columns}, place, matches, number FROM (SELECT *, (TRUE"));
        self.push_checks(&mut sql);
        sql.push(") IS TRUE AS matches, row_number() OVER () AS number FROM (SELECT * FROM (");
        self.push_ordered(&mut sql, workspace_id, &format!("{table}.*"), STRIDE);
        sql.push(format!(") AS {table}) AS walked WHERE matches OR number = "));
        sql.push_bind(STRIDE).push(" ORDER BY number LIMIT ").push_bind(i64::from(limit));
        sql
    }

    /// The next records of all that match, if these are few: `columns`, `place`, and `many`, which says that
    /// they are not, and that those returned are any.
    pub(super) fn lookup(&self, workspace_id: Uuid, columns: &'static str, limit: u32) -> QueryBuilder<Postgres> {
        let (table, order) = (self.spec.table, self.order.expression);
        let direction = self.direction();
        // A table expression is planned for all of its rows, and read no further than it is asked.
        let mut sql = QueryBuilder::new(format!(
            "WITH found AS MATERIALIZED (SELECT id, {order} AS place FROM {table} WHERE workspace_id = "
        ));
        sql.push_bind(workspace_id);
        self.push_conditions(&mut sql);
        self.push_after(&mut sql, &format!("({order}, id)"));
        sql.push("), few AS MATERIALIZED (SELECT id, place FROM found LIMIT ").push_bind(FEW + 1);
        sql.push(format!(") SELECT {columns}, place, (SELECT count(*) FROM few) > ")).push_bind(FEW);
        sql.push(format!(
            " AS many FROM (SELECT id AS page_id, place FROM few ORDER BY place{direction}, id{direction} LIMIT "
        ));
        sql.push_bind(i64::from(limit)).push(format!(") AS page JOIN {table} ON id = page_id WHERE workspace_id = "));
        sql.push_bind(workspace_id).push(format!(" ORDER BY place{direction}, id{direction}"));
        sql
    }

    /// The statement that counts all records, whatever the page.
    pub(super) fn counting(&self, workspace_id: Uuid) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new(format!("SELECT count(*) FROM {} WHERE workspace_id = ", self.spec.table));
        sql.push_bind(workspace_id);
        self.push_conditions(&mut sql);
        sql
    }

    fn direction(&self) -> &'static str {
        if self.descending { " DESC" } else { "" }
    }

    fn push_order(&self, sql: &mut QueryBuilder<Postgres>, limit: i64) {
        let direction = self.direction();
        sql.push(format!(" ORDER BY place{direction}, id{direction} LIMIT ")).push_bind(limit);
    }

    /// The next records of all branches in their order, without checks. It stands in a parenthesis that is open.
    fn push_ordered(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid, columns: &str, limit: i64) {
        for (i, branch) in self.branches().iter().enumerate() {
            sql.push(if i == 0 { "(" } else { " UNION ALL (" });
            self.push_branch(sql, workspace_id, columns, branch);
            // Each branch comes in its order, so that they are merged and read no further than asked.
            self.push_order(sql, limit);
            sql.push(")");
        }
        sql.push(") AS list");
        self.push_order(sql, limit);
    }

    fn push_branch(&self, sql: &mut QueryBuilder<Postgres>, workspace_id: Uuid, columns: &str, branch: &Branch) {
        let (order, table) = (self.order.expression, self.spec.table);
        match branch {
            Branch::Joined(joined, value) => {
                let Joined { table: other, key, time, column, .. } = joined;
                // The order is that of the other table's index, and the records are reached one by one.
                sql.push(format!(
                    "SELECT {columns}, beside_time AS place FROM (SELECT {key} AS beside_key, {time} AS beside_time"
                ));
                sql.push(format!(" FROM {other} WHERE workspace_id = ")).push_bind(workspace_id);
                sql.push(format!(" AND {column} = ")).push_bind(value.clone());
                sql.push(format!(") AS joined JOIN {table} ON id = beside_key WHERE workspace_id = "));
                sql.push_bind(workspace_id);
                self.push_after(sql, "(beside_time, beside_key)");
            }
            Branch::Whole | Branch::Of(..) => {
                sql.push(format!("SELECT {columns}, {order} AS place FROM {table} WHERE workspace_id = "));
                sql.push_bind(workspace_id);
                self.push_parent(sql);
                if let Branch::Of(column, value) = branch {
                    sql.push(format!(" AND {column} = ")).push_bind(value.clone());
                }
                for condition in self.conditions.iter().filter(|condition| condition.bounds(order)) {
                    sql.push(" AND ");
                    condition.push(sql, self.spec);
                }
                self.push_after(sql, &format!("({order}, id)"));
            }
        }
    }

    /// What each record is checked for.
    fn push_checks(&self, sql: &mut QueryBuilder<Postgres>) {
        for condition in self.checks(&self.branches()) {
            sql.push(" AND ");
            condition.push_check(sql, self.spec);
        }
        self.push_words(sql);
    }

    /// All that is asked for.
    fn push_conditions(&self, sql: &mut QueryBuilder<Postgres>) {
        self.push_parent(sql);
        for condition in &self.conditions {
            sql.push(" AND ");
            Condition::push(condition, sql, self.spec);
        }
        self.push_words(sql);
    }

    fn push_parent(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some((column, id)) = self.parent {
            sql.push(format!(" AND {column} = ")).push_bind(id);
        }
    }

    fn push_words(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(words) = &self.words {
            sql.push(" AND search_vector @@ ").push_bind(words.clone()).push("::tsquery");
        }
    }

    fn push_after(&self, sql: &mut QueryBuilder<Postgres>, ordered_by: &str) {
        if let Some(Place { key, id, .. }) = &self.after {
            let comparison = if self.descending { "<" } else { ">" };
            sql.push(format!(" AND {ordered_by} {comparison} ("));
            sql.push_bind(key.clone()).push(format!("::{}, ", self.order.kind.sql_type())).push_bind(*id).push(")");
        }
    }
}
