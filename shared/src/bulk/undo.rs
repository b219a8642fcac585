//! Undoing a bulk change: restores previous values and deleted records, and deletes restored records again. Records
//! that were changed by others after the bulk change are left as they are, and listed.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use uuid::Uuid;

use super::changes::{SLICE, faults, report};
use super::{BulkAction, BulkChanged};
use crate::error::{Error, Reason, Result};
use crate::imports::revert::{PAGE, Since, changed_since, revert, touched};
use crate::imports::rows::RowFault;
use crate::imports::{self, Undone};
use crate::queue::{self, Job, NewJob, Page, Pages, Payload};
use crate::records;
use crate::records::history::{self, Actor};

/// The job that undoes a bulk change.
#[derive(Debug, Serialize, Deserialize)]
pub struct UndoBulk {
    /// The job of the bulk change.
    pub job_id: Uuid,
    /// The kind of that job.
    pub kind: String,
}

impl Payload for UndoBulk {
    const KIND: &'static str = "undo_bulk";
    const QUEUE: &'static str = "imports";
    const WRITES_RECORDS: bool = true;

    type Result = Undone;
}

/// Enqueues the undo of a finished import or bulk change. A repeated call returns the same job.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the job cannot be undone or has not finished.
pub async fn undo(connection: &mut PgConnection, actor: &Actor, job_id: Uuid) -> Result<Job> {
    let job = queue::get(connection, actor.workspace_id, job_id).await?;
    if !job.kind.starts_with("bulk_") {
        return imports::undo(connection, actor, job_id).await;
    }
    let action: BulkAction =
        sqlx::query_scalar("SELECT payload ->> 'action' FROM jobs WHERE workspace_id = $1 AND id = $2")
            .bind(actor.workspace_id)
            .bind(job_id)
            .fetch_one(&mut *connection)
            .await?;
    if action == BulkAction::Convert {
        return Err(Error::conflict_with(job_id, Reason::NotUndoable, "kind", "conversions cannot be undone"));
    }
    if !job.status.is_finished() {
        return Err(Error::conflict_with(job_id, Reason::JobUnfinished, "status", "the bulk change has not finished"));
    }
    let payload = UndoBulk { job_id, kind: job.kind };
    let undo = NewJob::new(actor.workspace_id, &payload)?.dedupe_key(format!("undo:{job_id}")).subject("job", job_id);
    queue::enqueue(connection, undo.request_id(actor.request_id.as_deref())).await
}

/// The undo of a bulk change of one kind of record.
#[derive(Debug)]
pub struct Undo<R> {
    bulk_job: Uuid,
    records: PhantomData<fn() -> R>,
}

/// What the bulk change did to a record.
#[derive(Debug, FromRow)]
struct Done {
    id: Uuid,
    record_id: Uuid,
    action: history::Action,
    created_at: DateTime<Utc>,
}

impl<R: BulkChanged> Pages for Undo<R> {
    /// The history is read backwards from this entry.
    type Cursor = Uuid;
    type Tally = Undone;

    fn begin(&self) -> Undone {
        Undone::default()
    }

    fn done(&self, undone: &Undone) -> i64 {
        undone.removed + undone.restored + undone.left
    }

    async fn page(&self, page: &mut Page<'_>, cursor: Option<Uuid>, undone: &mut Undone) -> Result<Option<Uuid>> {
        let (connection, actor) = (&mut *page.connection, &page.job.actor());
        let before = cursor.unwrap_or(Uuid::max());
        let done = self.done_before(connection, actor, before).await?;
        let Some(Done { action, id: last, .. }) = done.last() else { return Ok(None) };
        let last = *last;
        match action {
            history::Action::Updated => return revert::<R>(connection, actor, (self.bulk_job, before), undone).await,
            history::Action::Deleted => self.restore(connection, actor, &done, undone).await?,
            history::Action::Restored => self.delete(connection, actor, &done, undone).await?,
            history::Action::Created => {}
        }
        Ok(Some(last))
    }
}

impl<R: BulkChanged> Undo<R> {
    /// Creates the undo of the bulk change that this job made.
    pub fn of(bulk_job: Uuid) -> Self {
        Self { bulk_job, records: PhantomData }
    }

    /// What the bulk change did, the last first.
    async fn done_before(&self, connection: &mut PgConnection, actor: &Actor, before: Uuid) -> Result<Vec<Done>> {
        Ok(sqlx::query_as(
            "SELECT id, record_id, action, created_at FROM history
             WHERE actor_type = 'job' AND actor_id = $1 AND id < $2 AND workspace_id = $3 AND record_type = $4
                 AND cause_id IS NULL
             ORDER BY id DESC LIMIT $5",
        )
        .bind(self.bulk_job)
        .bind(before)
        .bind(actor.workspace_id)
        .bind(R::TYPE)
        .bind(PAGE)
        .fetch_all(connection)
        .await?)
    }

    /// Restores deleted records, unless others have restored them since.
    async fn restore(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        done: &[Done],
        undone: &mut Undone,
    ) -> Result<()> {
        let ids: Vec<Uuid> = done.iter().map(|done| done.record_id).collect();
        let lasts = last_ends::<R>(connection, actor, &ids).await?;
        let (mine, others): (Vec<&Done>, Vec<&Done>) =
            done.iter().partition(|done| lasts.get(&done.record_id) == Some(&done.id));
        let mut left: Vec<(Uuid, Vec<RowFault>)> = others.iter().map(|done| (done.record_id, changed())).collect();
        let mut ids: Vec<Uuid> = mine.iter().map(|done| done.record_id).collect();
        // In the order of all statements that lock records.
        ids.sort_unstable();
        for ids in ids.chunks(SLICE) {
            let restored = records::restore_all::<R>(connection, actor, ids).await?;
            undone.restored += count(restored.records.len());
            for (id, error) in restored.refused {
                left.push((id, faults(error)?));
            }
        }
        report::<R>(connection, actor, left, &mut undone.left).await
    }

    /// Deletes restored records again, unless others have changed them since.
    async fn delete(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        done: &[Done],
        undone: &mut Undone,
    ) -> Result<()> {
        let ids: Vec<Uuid> = done.iter().map(|done| done.record_id).collect();
        let since = Since::Entry(done.last().map_or(Uuid::nil(), |last| last.id));
        let mut kept = touched::<R>(connection, actor, (self.bulk_job, &ids), since).await?;
        kept.extend(new_parents::<R>(connection, actor, done).await?);
        let (mut left, mut removed): (Vec<Uuid>, Vec<Uuid>) = ids.into_iter().partition(|id| kept.contains(id));
        removed.sort_unstable();
        for ids in removed.chunks(SLICE) {
            undone.removed += count(records::delete_all::<R>(connection, actor, ids).await?.len());
        }
        let existing: HashSet<Uuid> = records::existing::<R>(connection, actor.workspace_id, &left).await?;
        left.retain(|id| existing.contains(id));
        let left = left.into_iter().map(|id| (id, changed())).collect();
        report::<R>(connection, actor, left, &mut undone.left).await
    }
}

/// The last deletion or restoration of records.
async fn last_ends<R: BulkChanged>(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Uuid>> {
    let lasts: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT DISTINCT ON (record_id) record_id, id FROM history
         WHERE workspace_id = $1 AND record_id = ANY ($2) AND record_type = $3 AND action IN ('deleted', 'restored')
         ORDER BY record_id, id DESC",
    )
    .bind(actor.workspace_id)
    .bind(ids)
    .bind(R::TYPE)
    .fetch_all(connection)
    .await?;
    Ok(lasts.into_iter().collect())
}

/// Returns the records that have dependent records which were created after they were restored.
async fn new_parents<R: BulkChanged>(connection: &mut PgConnection, actor: &Actor, done: &[Done]) -> Result<Vec<Uuid>> {
    let of = |(table, column): &(&str, &str)| {
        format!(
            "SELECT {column} FROM {table} JOIN unnest($2::uuid[], $3::timestamptz[]) AS restored (restored_id, restored_at)
                 ON {column} = restored_id
             WHERE workspace_id = $1 AND created_at > restored_at"
        )
    };
    let sql: Vec<String> = R::CHILDREN.iter().map(of).collect();
    if sql.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, times): (Vec<Uuid>, Vec<DateTime<Utc>>) =
        done.iter().map(|done| (done.record_id, done.created_at)).unzip();
    Ok(sqlx::query_scalar(AssertSqlSafe(sql.join(" UNION ")))
        .bind(actor.workspace_id)
        .bind(ids)
        .bind(times)
        .fetch_all(connection)
        .await?)
}

fn changed() -> Vec<RowFault> {
    vec![RowFault::new("id", changed_since())]
}

fn count(records: usize) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}
