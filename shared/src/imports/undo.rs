//! Undoing an import: deletes the records it created and restores the values it changed. Records
//! that were changed by others after the import are left as they are, and listed.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Importable;
use super::outcomes::{self, Outcome, Report};
use super::rows::RowFault;
use crate::error::{Error, Reason, Result};
use crate::mail::{self, Cancel, suppressions};
use crate::platform::db;
use crate::queue::{self, Job, NewJob, Page, Pages, Payload};
use crate::records::history::{self, Action, Actor, Entry};
use crate::records::link;
use crate::records::{self, Record, as_object};
use crate::values::Fault;

/// The number of records in a page.
const PAGE: i64 = 2_000;
/// The columns of the listed records.
pub(super) const LEFT_HEADERS: [&str; 2] = ["id", "email"];

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

    type Result = Undone;
}

/// Enqueues the undo of a finished import. A repeated call returns the same job.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the job is not an import or has not finished.
pub async fn undo(connection: &mut PgConnection, actor: &Actor, job_id: Uuid) -> Result<Job> {
    let job = queue::get(connection, actor.workspace_id, job_id).await?;
    if !job.kind.starts_with("import_") {
        return Err(Error::conflict_with(job_id, Reason::NotUndoable, "kind", "only imports can be undone"));
    }
    if !job.status.is_finished() {
        return Err(Error::conflict_with(job_id, Reason::JobUnfinished, "status", "the import has not finished"));
    }
    let payload = UndoImport { job_id, kind: job.kind };
    let undo = NewJob::new(actor.workspace_id, &payload)?.dedupe_key(format!("undo:{job_id}")).subject("job", job_id);
    queue::enqueue(connection, undo.request_id(actor.request_id.as_deref())).await
}

/// The counts of an undo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = UndoResult)]
pub struct Undone {
    /// Deleted records, which the import had created.
    pub removed: i64,
    /// Restored records, which the import had changed.
    pub restored: i64,
    /// Records that were changed after the import; the job's errors list them.
    pub left: i64,
    /// Addresses that are no longer suppressed, because only the import suppressed them.
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
        let (connection, actor) = (&mut *page.connection, &Actor::job(page.job));
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
                let last = self.revert(connection, actor, before, undone).await?;
                Ok(Some(last.map_or(UndoCursor::Suppressions, UndoCursor::History)))
            }
            UndoCursor::Suppressions => {
                let taken = suppressions::take_back(connection, actor.workspace_id, self.import_job, PAGE).await?;
                undone.unsuppressed += taken;
                Ok((taken == PAGE).then_some(UndoCursor::Suppressions))
            }
        }
    }
}

/// The time after which a change by others prevents a record from being undone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    /// After the record was created.
    Created,
    /// After this history entry.
    Entry(Uuid),
}

#[derive(FromRow)]
struct Gone {
    id: Uuid,
    row: Value,
}

#[derive(FromRow)]
struct Former {
    id: Uuid,
    record_id: Uuid,
    former: Value,
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
        let touched = self.touched(connection, actor, &ids, Since::Created).await?;
        let (left, removed): (Vec<R>, Vec<R>) = created.into_iter().partition(|record| touched.contains(&record.id()));
        for record in &removed {
            link::cut::<R::Other>(connection, actor, record.link()).await?;
        }
        let ids: Vec<Uuid> = removed.iter().map(R::id).collect();
        let stopped: Vec<(Uuid, Cancel)> = ids.iter().map(|id| (*id, Cancel::All)).collect();
        mail::cancel_to_all(connection, actor.workspace_id, R::TYPE, &stopped).await?;
        let sql = format!(
            "DELETE FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) RETURNING id, to_jsonb({table}) AS row"
        );
        let deleted: Vec<Gone> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(actor.workspace_id).bind(ids).fetch_all(&mut *connection).await?;
        undone.removed += i64::try_from(deleted.len()).unwrap_or(i64::MAX);
        records::hand_over_keys(connection, actor.workspace_id, removed.iter().map(|record| (record, None))).await?;
        let entry = |Gone { id, row }| Entry { former: Some(row), ..Entry::new(R::TYPE, id, Action::Deleted) };
        history::keep(connection, actor, deleted.into_iter().map(entry).collect()).await?;
        list_left(connection, actor, undone, &left, &changed_since()).await
    }

    /// Restores the values that the import changed, the last change first. Returns the last history
    /// entry of the page.
    async fn revert(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        before: Uuid,
        undone: &mut Undone,
    ) -> Result<Option<Uuid>> {
        let entries: Vec<Former> = sqlx::query_as(
            "SELECT id, record_id, former FROM history
             WHERE actor_type = 'job' AND actor_id = $1 AND id < $2 AND workspace_id = $3 AND record_type = $4
                 AND action = 'updated'
             ORDER BY id DESC LIMIT $5",
        )
        .bind(self.import_job)
        .bind(before)
        .bind(actor.workspace_id)
        .bind(R::TYPE)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = entries.last().map(|entry| entry.id) else { return Ok(None) };
        let ids: Vec<Uuid> = entries.iter().map(|entry| entry.record_id).collect();
        let ends = history::earlier_ends::<R>(connection, actor.workspace_id, &ids).await?;
        // A record that was deleted and created again is not the record that the import changed.
        let is_of_present = |entry: &Former| ends.get(&entry.record_id).is_none_or(|end| entry.id > *end);
        let entries: Vec<Former> = entries.into_iter().filter(is_of_present).collect();
        let ids: Vec<Uuid> = entries.iter().map(|entry| entry.record_id).collect();
        let present: Vec<R> = records::lock(connection, actor.workspace_id, &ids).await?;
        let touched = self.touched(connection, actor, &ids, Since::Entry(last)).await?;
        let (left, mine): (Vec<R>, Vec<R>) = present.into_iter().partition(|record| touched.contains(&record.id()));
        let mut changed = Vec::with_capacity(mine.len());
        for before in mine {
            let mut fields = as_object(&before)?;
            for entry in entries.iter().filter(|entry| entry.record_id == before.id()) {
                if let Value::Object(former) = &entry.former {
                    fields.extend(former.clone());
                }
            }
            let mut after: R = serde_json::from_value(Value::Object(fields))?;
            // Links belong to both records; an undo does not change them.
            after.set_link(before.link());
            after.touch(db::now());
            changed.push((before, after));
        }
        let (taken, changed) = separate_taken(connection, actor, changed).await?;
        records::update_all(connection, actor, &changed).await.map_err(|error| match error {
            Error::Conflict(conflict) => conflict.repeat(),
            other => other,
        })?;
        undone.restored += i64::try_from(changed.len()).unwrap_or(i64::MAX);
        list_left(connection, actor, undone, &left, &changed_since()).await?;
        list_left(connection, actor, undone, &taken, &taken_since()).await?;
        Ok(Some(last))
    }

    /// Returns the records that others have changed, or that have dependent records.
    async fn touched(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        ids: &[Uuid],
        since: Since,
    ) -> Result<HashSet<Uuid>> {
        let ends = history::earlier_ends::<R>(connection, actor.workspace_id, ids).await?;
        let changes: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT record_id, max(id::text)::uuid FROM history
             WHERE workspace_id = $1 AND record_id = ANY ($2) AND record_type = $3 AND id > $4 AND actor_id <> ALL ($5)
             GROUP BY record_id",
        )
        .bind(actor.workspace_id)
        .bind(ids)
        .bind(R::TYPE)
        .bind(match since {
            Since::Created => Uuid::nil(),
            Since::Entry(entry) => entry,
        })
        .bind([self.import_job, actor.id])
        .fetch_all(&mut *connection)
        .await?;
        // The history of an earlier record with the same id is irrelevant.
        let changed = changes.into_iter().filter(|(id, last)| ends.get(id).is_none_or(|end| last > end));
        let mut touched: HashSet<Uuid> = changed.map(|(id, _)| id).collect();
        // Dependent records prevent a delete, but not the restoring of values.
        if since == Since::Created {
            touched.extend(self.parents(connection, actor, ids).await?);
        }
        Ok(touched)
    }

    /// Returns the records that have dependent records.
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

/// Lists records that are left as they are.
async fn list_left<R: Importable>(
    connection: &mut PgConnection,
    actor: &Actor,
    undone: &mut Undone,
    left: &[R],
    fault: &Fault,
) -> Result<()> {
    let mut listed = Vec::with_capacity(left.len());
    for record in left {
        undone.left += 1;
        let email = R::EMAIL.and_then(|key| (key.of)(record));
        listed.push(Report {
            line: undone.left.unsigned_abs(),
            outcome: Outcome::Failed,
            faults: vec![RowFault::new("id", fault.clone())],
            cells: vec![record.id().to_string(), email.unwrap_or_default()],
        });
    }
    outcomes::keep(connection, (actor.workspace_id, actor.id), &listed).await
}

fn changed_since() -> Fault {
    Fault::new("changed", "was changed after the import or has dependent records")
}

fn taken_since() -> Fault {
    Fault::new("taken", "had a unique value that another record has by now")
}

/// Separates the records whose change would bring back a unique value that another record has by now.
async fn separate_taken<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    changes: Vec<(R, R)>,
) -> Result<(Vec<R>, Vec<(R, R)>)> {
    let mut taken: HashSet<Uuid> = HashSet::new();
    for key in R::UNIQUE {
        let regained = changes.iter().filter(|(before, after)| (key.of)(before) != (key.of)(after));
        let regained: HashMap<String, Uuid> =
            regained.filter_map(|(_, after)| Some(((key.of)(after)?, after.id()))).collect();
        if !regained.is_empty() {
            let values: Vec<String> = regained.keys().cloned().collect();
            let owners = records::owners(connection, actor.workspace_id, key, &values).await?;
            taken.extend(owners.iter().filter_map(|(value, _)| regained.get(value)));
        }
    }
    let (taken, changes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(before, _)| taken.contains(&before.id()));
    Ok((taken.into_iter().map(|(before, _)| before).collect(), changes))
}
