//! Rewriting stored columns that are derived from a record's fields, after their definition changed.

use std::marker::PhantomData;

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, SqlStr};
use uuid::Uuid;

use super::model::{Record, derived, derived_columns};
use crate::error::{Error, Result};
use crate::platform::backfill::{BATCH, Backfill, Batch};
use crate::platform::email_keys::{self, Keyed};

/// The backfill of a kind of record, named like its table. Rows whose columns are right are only read.
#[derive(Debug, Default)]
pub struct Rederive<R>(PhantomData<fn() -> R>);

impl<R> Rederive<R> {
    /// The backfill of the kind.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<R: Record> Backfill for Rederive<R> {
    fn name(&self) -> &'static str {
        R::TABLE
    }

    fn count(&self) -> SqlStr {
        R::statements().count.clone()
    }

    fn rewrite<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        workspace_id: Uuid,
        after: Uuid,
    ) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(rewrite::<R>(connection, workspace_id, after))
    }
}

async fn rewrite<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, after: Uuid) -> Result<Option<Batch>> {
    let lock = sqlx::query_as(R::statements().lock_page.clone()).bind(workspace_id).bind(after).bind(BATCH);
    let records: Vec<R> = lock.fetch_all(&mut *connection).await?;
    let ids: Vec<Uuid> = records.iter().map(R::id).collect();
    let Some(batch) = Batch::of(&ids) else { return Ok(None) };
    let Some(rederive) = R::statements().rederive.clone() else {
        return Err(Error::internal(format!("{} have no email", R::TABLE)));
    };
    let mut columns: Vec<Vec<Option<String>>> = derived_columns::<R>().map(|_| Vec::new()).collect();
    let mut keyed = Vec::with_capacity(records.len());
    for record in &records {
        for ((column, value), values) in derived(record, workspace_id).zip(&mut columns) {
            if column == email_keys::COLUMN {
                keyed.push(Keyed::new(record.id(), record.created_at(), value.clone().unwrap_or_default()));
            }
            values.push(value);
        }
    }
    let numbers = email_keys::assign(connection, workspace_id, R::TABLE, &keyed).await?;
    let query = sqlx::query(rederive).bind(workspace_id).bind(ids).bind(numbers);
    columns.into_iter().fold(query, |query, values| query.bind(values)).execute(connection).await?;
    Ok(Some(batch))
}
