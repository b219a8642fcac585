//! Restoring the values that a job changed, unless others have changed the records since.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::outcomes::{self, Report};
use super::rows::RowFault;
use super::undo::Undone;
use crate::error::{Error, Result};
use crate::platform::db;
use crate::records::history::{self, Actor};
use crate::records::link::Linked;
use crate::records::{self, Record, as_object};
use crate::values::Fault;

/// The number of records in a page of an undo.
pub(crate) const PAGE: i64 = 2_000;
/// The columns of records that a job could not change.
pub(super) const LEFT_HEADERS: [&str; 2] = ["id", "email"];

/// The time after which a change by others prevents a record from being undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// After the record was created.
    Created,
    /// After this history entry.
    Entry(Uuid),
}

#[derive(FromRow)]
struct Former {
    id: Uuid,
    record_id: Uuid,
    former: Value,
}

/// Restores the values that a job changed, the last change first: a page of its changes before an entry of the
/// history. Returns the last entry of the page.
pub(crate) async fn revert<R: Linked>(
    connection: &mut PgConnection,
    actor: &Actor,
    (job_id, before): (Uuid, Uuid),
    undone: &mut Undone,
) -> Result<Option<Uuid>> {
    let entries: Vec<Former> = sqlx::query_as(
        "SELECT id, record_id, former FROM history
         WHERE actor_type = 'job' AND actor_id = $1 AND id < $2 AND workspace_id = $3 AND record_type = $4
             AND action = 'updated'
         ORDER BY id DESC LIMIT $5",
    )
    .bind(job_id)
    .bind(before)
    .bind(actor.workspace_id)
    .bind(R::TYPE)
    .bind(PAGE)
    .fetch_all(&mut *connection)
    .await?;
    let Some(last) = entries.last().map(|entry| entry.id) else { return Ok(None) };
    let ids: Vec<Uuid> = entries.iter().map(|entry| entry.record_id).collect();
    let ends = history::earlier_ends::<R>(connection, actor.workspace_id, &ids).await?;
    // A record that was deleted and created again is not the record that the job changed.
    let is_of_present = |entry: &Former| ends.get(&entry.record_id).is_none_or(|end| entry.id > *end);
    let mut formers: HashMap<Uuid, Vec<Value>> = HashMap::new();
    for entry in entries.into_iter().filter(is_of_present) {
        formers.entry(entry.record_id).or_default().push(entry.former);
    }
    let ids: Vec<Uuid> = formers.keys().copied().collect();
    let present: Vec<R> = records::lock(connection, actor.workspace_id, &ids).await?;
    let touched = touched::<R>(connection, actor, (job_id, &ids), Since::Entry(last)).await?;
    let (left, mine): (Vec<R>, Vec<R>) = present.into_iter().partition(|record| touched.contains(&record.id()));
    let mut changed = Vec::with_capacity(mine.len());
    let now = db::now();
    for before in mine {
        let mut fields = as_object(&before)?;
        for former in formers.remove(&before.id()).unwrap_or_default() {
            if let Value::Object(former) = former {
                fields.extend(former);
            }
        }
        let mut after: R = serde_json::from_value(Value::Object(fields))?;
        // Links belong to both records; an undo does not change them.
        after.set_link(before.link());
        after.touch(now);
        changed.push((before, after));
    }
    let (taken, changed) = separate_taken(connection, actor, changed).await?;
    records::update_all(connection, actor, &changed).await.map_err(|error| match error {
        Error::Conflict(conflict) => conflict.repeat(),
        other => other,
    })?;
    undone.restored += i64::try_from(changed.len()).unwrap_or(i64::MAX);
    list_left(connection, actor, &mut undone.left, &left, &changed_since()).await?;
    list_left(connection, actor, &mut undone.left, &taken, &taken_since()).await?;
    Ok(Some(last))
}

/// Returns the records of a job that others have changed.
pub(crate) async fn touched<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    (job_id, ids): (Uuid, &[Uuid]),
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
    .bind([job_id, actor.id])
    .fetch_all(&mut *connection)
    .await?;
    // The history of an earlier record with the same id is irrelevant.
    let changed = changes.into_iter().filter(|(id, last)| ends.get(id).is_none_or(|end| last > end));
    Ok(changed.map(|(id, _)| id).collect())
}

/// Lists records that are left as they are. `listed` is the number of those before.
pub(crate) async fn list_left<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    listed: &mut i64,
    left: &[R],
    fault: &Fault,
) -> Result<()> {
    let email = R::UNIQUE.iter().find(|key| key.field == "email");
    let mut reports = Vec::with_capacity(left.len());
    for record in left {
        *listed += 1;
        let cells = std::iter::once(record.id().to_string()).chain(email.and_then(|email| (email.of)(record)));
        reports.push(Report::of_record(*listed, vec![RowFault::new("id", fault.clone())], cells.collect()));
    }
    outcomes::keep(connection, (actor.workspace_id, actor.id), &reports).await
}

/// The fault of a record that others have changed.
pub(crate) fn changed_since() -> Fault {
    Fault::new("changed", "was changed after the job or has dependent records")
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
