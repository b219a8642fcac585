//! Rewriting stored columns that are derived from a record's fields, after their definition changed.

use std::marker::PhantomData;

use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{Record, search_vector_of};
use crate::error::Result;
use crate::platform::backfill::{BATCH, Backfill, Batch};

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

    fn count<'a>(&'a self, connection: &'a mut PgConnection, workspace_id: Uuid) -> BoxFuture<'a, Result<i64>> {
        Box::pin(async move {
            let count = sqlx::query_scalar(R::statements().count.clone()).bind(workspace_id);
            Ok(count.fetch_one(connection).await?)
        })
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
    let Some(last) = records.last().map(R::id) else { return Ok(None) };
    if let Some(rederive) = &R::statements().rederive {
        let ids: Vec<Uuid> = records.iter().map(R::id).collect();
        let vectors: Vec<String> = records.iter().map(|record| search_vector_of(record, workspace_id)).collect();
        sqlx::query(rederive.clone()).bind(workspace_id).bind(ids).bind(vectors).execute(connection).await?;
    }
    Ok(Some(Batch { rows: i64::try_from(records.len()).unwrap_or(BATCH), last }))
}
