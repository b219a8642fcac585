//! Finding jobs and emails of all workspaces by the queries of their filters.

use std::cmp::Reverse;
use std::collections::HashMap;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection, Postgres};
use uuid::Uuid;

use crate::accounts::workspaces;
use crate::error::Result;

/// The rows of one kind that were found: the ids of each workspace.
pub(super) type Found = Vec<(Uuid, Vec<Uuid>)>;

/// A query with its arguments.
pub(super) type Query<'q, O> = QueryAs<'q, Postgres, O, PgArguments>;

/// A query by a filter. It is planned with the values that are bound, because the best index depends on which of them
/// are given: so it is not prepared for later.
pub(super) fn query<'q, O: for<'r> FromRow<'r, PgRow>>(statement: &'static str) -> Query<'q, O> {
    sqlx::query_as(statement).persistent(false)
}

/// What lists show of a row.
pub(super) trait Summary: for<'r> FromRow<'r, PgRow> + Send + Unpin {
    /// The statement that reads the rows `$2` of the workspace `$1`.
    const SELECT: &'static str;

    /// The id of the row.
    fn id(&self) -> Uuid;

    /// The row with the name of its workspace.
    fn of(self, workspace: String) -> Self;
}

/// Finds the newest rows, and at most so many: each with its workspace. The last parameter of each query is that limit.
async fn newest(
    connection: &mut PgConnection,
    queries: Vec<Query<'_, (Uuid, Uuid)>>,
    limit: i64,
) -> Result<Vec<(Uuid, Uuid)>> {
    let mut found = Vec::new();
    for query in queries {
        found.extend(query.bind(limit).fetch_all(&mut *connection).await?);
    }
    found.sort_unstable_by_key(|(_, id)| Reverse(*id));
    // A job that ends between two queries is found by both.
    found.dedup();
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// Finds all rows, by queries that have a limit as their last parameter.
pub(super) async fn all(connection: &mut PgConnection, queries: Vec<Query<'_, (Uuid, Uuid)>>) -> Result<Found> {
    Ok(by_workspace(newest(connection, queries, i64::MAX).await?))
}

/// Lists the newest rows, by queries that have a limit as their last parameter.
pub(super) async fn list<S: Summary>(
    connection: &mut PgConnection,
    queries: Vec<Query<'_, (Uuid, Uuid)>>,
    limit: i64,
) -> Result<Vec<S>> {
    let names = names(connection).await?;
    let mut rows: Vec<S> = Vec::new();
    for (workspace_id, ids) in by_workspace(newest(connection, queries, limit).await?) {
        let workspace = names.get(&workspace_id).cloned().unwrap_or_default();
        let found: Vec<S> = sqlx::query_as(S::SELECT).bind(workspace_id).bind(ids).fetch_all(&mut *connection).await?;
        rows.extend(found.into_iter().map(|row| row.of(workspace.clone())));
    }
    rows.sort_unstable_by_key(|row| Reverse(row.id()));
    Ok(rows)
}

/// The sum of what queries count.
pub(super) async fn count(connection: &mut PgConnection, queries: Vec<Query<'_, (i64,)>>) -> Result<i64> {
    let mut sum = 0;
    for query in queries {
        let (count,) = query.fetch_one(&mut *connection).await?;
        sum += count;
    }
    Ok(sum)
}

/// Those of the rows that the query still finds; its last parameter is their ids.
pub(super) async fn still_matching(
    connection: &mut PgConnection,
    query: Query<'_, (Uuid,)>,
    ids: &[Uuid],
) -> Result<Vec<Uuid>> {
    let matching = query.bind(ids.to_vec()).fetch_all(connection).await?;
    Ok(matching.into_iter().map(|(id,)| id).collect())
}

/// The names of all workspaces.
pub(super) async fn names(connection: &mut PgConnection) -> Result<HashMap<Uuid, String>> {
    Ok(workspaces::list(connection).await?.into_iter().map(|workspace| (workspace.id, workspace.name)).collect())
}

/// Groups ids by their workspaces.
pub(super) fn by_workspace(ids: impl IntoIterator<Item = (Uuid, Uuid)>) -> Found {
    let mut found: Found = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for (workspace_id, id) in ids {
        let place = *places.entry(workspace_id).or_insert_with(|| {
            found.push((workspace_id, Vec::new()));
            found.len() - 1
        });
        found[place].1.push(id);
    }
    found
}
