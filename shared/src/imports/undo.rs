//! Undoing an import: deletes the records it created and restores the values it changed. Records
//! that were changed by others after the import are left as they are, and listed.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Importable;
use super::revert::{PAGE, Since, changed_since, list_left, revert, touched};
use crate::error::{Error, Reason, Result};
use crate::mail::suppressions;
use crate::queue::{self, Job, NewJob, Page, Pages, Payload};
use crate::records;
use crate::records::history::Actor;

/// The job that undoes an import.
#[derive(Debug, Serialize, Deserialize)]
pub struct UndoImport {
    /// The job of the import.
    pub job_id: Uuid,
    /// The kind of the import's job.
    pub kind: String,
}

impl Payload for UndoImport {
    const KIND: &'static str = "undo_import";
    const QUEUE: &'static str = "imports";
    const WRITES_RECORDS: bool = true;

    type Result = Undone;
}

/// Enqueues the undo of a finished import. A repeated call returns the same job.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the job is not an import or has not finished.
pub async fn undo(connection: &mut PgConnection, actor: &Actor, job_id: Uuid) -> Result<Job> {
    let job = queue::get(connection, actor.workspace_id, job_id).await?;
    if !job.kind.starts_with("import_") {
        return Err(Error::conflict_with(
            job_id,
            Reason::NotUndoable,
            "kind",
            "only imports and bulk changes can be undone",
        ));
    }
    if !job.status.is_finished() {
        return Err(Error::conflict_with(job_id, Reason::JobUnfinished, "status", "the import has not finished"));
    }
    let payload = UndoImport { job_id, kind: job.kind };
    let undo = NewJob::new(actor.workspace_id, &payload)?.dedupe_key(format!("undo:{job_id}")).subject("job", job_id);
    queue::enqueue(connection, undo.request_id(actor.request_id.as_deref())).await
}

/// The result of an undo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = UndoResult)]
pub struct Undone {
    /// Deleted records, which the job had created or restored.
    pub removed: i64,
    /// Records that the job had changed and that have their previous values again, or that it had deleted and that
    /// exist again.
    pub restored: i64,
    /// Records that were changed after the job; the undo's errors list them.
    pub left: i64,
    /// Addresses that are no longer suppressed, because nothing but the import suppressed them.
    pub unsuppressed: i64,
}

/// The progress of an undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoCursor {
    /// Reads the records after this one.
    Records(Uuid),
    /// Reads the history backwards from this entry.
    History(Uuid),
    /// Takes back suppressions.
    Suppressions,
}

/// The undo of an import of one kind of record.
#[derive(Debug)]
pub struct Undo<R> {
    import_job: Uuid,
    records: PhantomData<R>,
}

/// How many suppressions a page takes back.
const LIFTED: usize = 2_000;

impl<R: Importable> Pages for Undo<R> {
    type Cursor = UndoCursor;
    type Tally = Undone;

    fn begin(&self) -> Undone {
        Undone::default()
    }

    fn done(&self, undone: &Undone) -> i64 {
        undone.removed + undone.restored + undone.left
    }

    async fn page(
        &self,
        page: &mut Page<'_>,
        cursor: Option<UndoCursor>,
        undone: &mut Undone,
    ) -> Result<Option<UndoCursor>> {
        let (connection, actor) = (&mut *page.connection, &page.job.actor());
        let first = if R::SUPPRESSES { UndoCursor::Suppressions } else { UndoCursor::Records(Uuid::nil()) };
        match cursor.unwrap_or(first) {
            // All records are read: an index on the import would slow down every import by a tenth.
            UndoCursor::Records(after) => {
                let Some(last) = records::page_end::<R>(connection, actor.workspace_id, after, PAGE).await? else {
                    return Ok(Some(UndoCursor::History(Uuid::max())));
                };
                self.remove(connection, actor, (after, last), undone).await?;
                Ok(Some(UndoCursor::Records(last)))
            }
            UndoCursor::History(before) => {
                let last = revert::<R>(connection, actor, (self.import_job, before), undone).await?;
                Ok(Some(last.map_or(UndoCursor::Suppressions, UndoCursor::History)))
            }
            UndoCursor::Suppressions => {
                let taken = suppressions::take_back(connection, actor.workspace_id, self.import_job, LIFTED).await?;
                undone.unsuppressed += taken.unsuppressed;
                Ok(taken.more.then_some(UndoCursor::Suppressions))
            }
        }
    }
}

impl<R: Importable> Undo<R> {
    /// Creates the undo of the import that this job ran.
    pub fn of(import_job: Uuid) -> Self {
        Self { import_job, records: PhantomData }
    }

    /// Deletes the records that the import created, unless others changed them.
    async fn remove(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        (after, last): (Uuid, Uuid),
        undone: &mut Undone,
    ) -> Result<()> {
        let (table, selected) = (R::TABLE, R::columns().selected);
        let sql = format!(
            "SELECT {selected} FROM {table} WHERE workspace_id = $1 AND id > $2 AND id <= $3 AND import_job_id = $4
             ORDER BY id FOR UPDATE"
        );
        let created: Vec<R> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(actor.workspace_id)
            .bind(after)
            .bind(last)
            .bind(self.import_job)
            .fetch_all(&mut *connection)
            .await?;
        let ids: Vec<Uuid> = created.iter().map(R::id).collect();
        let mut touched = touched::<R>(connection, actor, (self.import_job, &ids), Since::Created).await?;
        touched.extend(self.parents(connection, actor, &ids).await?);
        let (left, removed): (Vec<R>, Vec<R>) = created.into_iter().partition(|record| touched.contains(&record.id()));
        let ids: Vec<Uuid> = removed.iter().map(R::id).collect();
        let removed = records::delete_all::<R>(connection, actor, &ids).await?;
        undone.removed += i64::try_from(removed.len()).unwrap_or(i64::MAX);
        list_left(connection, actor, &mut undone.left, &left, &changed_since()).await
    }

    /// Returns the records that have dependent records, which prevent a delete.
    async fn parents(&self, connection: &mut PgConnection, actor: &Actor, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        let of = |(table, column): &(&str, &str)| {
            format!("SELECT {column} FROM {table} WHERE workspace_id = $1 AND {column} = ANY ($2)")
        };
        let sql: Vec<String> = R::CHILDREN.iter().map(of).collect();
        if sql.is_empty() {
            return Ok(Vec::new());
        }
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.join(" UNION ")))
            .bind(actor.workspace_id)
            .bind(ids)
            .fetch_all(connection)
            .await?)
    }
}
