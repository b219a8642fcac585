//! Batches: many creates and updates in one request. All valid items are written in one transaction.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::actor::Actor;
use super::crud::{draft, mark_changed};
use super::model::Record;
use super::{bulk, constraints};
use crate::error::{Error, Result};
use crate::platform::db;
use crate::values::json::Items;
use crate::values::json_body::Object;

/// The maximum number of items in a batch.
pub const MAX_BATCH: usize = 1_000;
/// The maximum size of the records that a batch changes, in bytes. Small items can change large
/// records, which stay in memory until they are written.
const MAX_CHANGED_BYTES: usize = 16 * 1024 * 1024;

/// The result of an item.
#[derive(Debug)]
pub enum Answer<R> {
    /// The record was created.
    Created(R),
    /// The record was updated, or already had the given values.
    Updated(R),
    /// The item was rejected, and nothing was written.
    Refused(Error),
}

/// Writes a batch: an item with an `id` updates that record, an item without creates one. Items are
/// processed in their order, and the results have the same order. Needs a transaction.
///
/// A unique key that an item gives up is available to others only after the batch.
///
/// # Errors
/// [`Error::Repeat`] if a concurrent transaction interfered; the caller runs the batch again.
pub async fn batch<R: Record>(connection: &mut PgConnection, actor: &Actor, items: &Items) -> Result<Vec<Answer<R>>> {
    let drafts: Vec<Result<Draft<R>>> = (0..items.len()).map(|at| Draft::read(items, at)).collect();
    let mut table = Table::read(connection, actor.workspace_id, &drafts).await?;
    let mut answers: Vec<Answer<R>> = drafts
        .into_iter()
        .map(|draft| draft.and_then(|draft| table.take(draft, items)).unwrap_or_else(Answer::Refused))
        .collect();
    table.refer(connection, actor.workspace_id, &mut answers).await?;
    table.write(connection, actor, &answers).await.map_err(|error| match error {
        Error::Conflict(reason) => Error::Repeat(format!("{} was taken in the meantime", reason.field)),
        Error::NotFound | Error::Missing(_) => Error::Repeat("a referenced record was deleted in the meantime".into()),
        other => other,
    })?;
    Ok(answers)
}

/// A parsed item.
enum Draft<R> {
    New(Box<R>),
    /// An update. The item is parsed again when its record is loaded; until then only the id and the
    /// requested unique keys are known.
    Change {
        id: Uuid,
        at: usize,
        keys: Vec<Option<String>>,
    },
}

impl<R: Record> Draft<R> {
    fn read(items: &Items, at: usize) -> Result<Self> {
        let mut item = items.get(at)?;
        match item.id()? {
            None => Ok(Self::New(Box::new(draft(None, item)?))),
            Some(id) => Ok(Self::Change { id, at, keys: wanted_keys::<R>(&item) }),
        }
    }

    fn keys(&self) -> Vec<Option<String>> {
        match self {
            Self::New(record) => keys_of(&**record),
            Self::Change { keys, .. } => keys.clone(),
        }
    }
}

/// Returns the record's value for each of [`Record::UNIQUE`].
fn keys_of<R: Record>(record: &R) -> Vec<Option<String>> {
    R::UNIQUE.iter().map(|key| (key.of)(record)).collect()
}

/// Returns the value that an item sets for each of [`Record::UNIQUE`]. Invalid values are rejected later.
fn wanted_keys<R: Record>(item: &Object) -> Vec<Option<String>> {
    R::UNIQUE.iter().map(|key| item.text(key.field).and_then(|text| key.form.normal(text))).collect()
}

/// The records that the items change, and the owners of unique keys.
struct Table<R> {
    before: HashMap<Uuid, R>,
    after: HashMap<Uuid, R>,
    owners: Vec<HashMap<String, Uuid>>,
}

impl<R: Record> Table<R> {
    async fn read(connection: &mut PgConnection, workspace_id: Uuid, drafts: &[Result<Draft<R>>]) -> Result<Self> {
        let (mut ids, mut wanted) = (Vec::new(), vec![Vec::new(); R::UNIQUE.len()]);
        for draft in drafts.iter().flatten() {
            if let Draft::Change { id, .. } = draft {
                ids.push(*id);
            }
            wanted.iter_mut().zip(draft.keys()).for_each(|(wanted, key)| wanted.extend(key));
        }
        ids.sort_unstable();
        ids.dedup();
        let present: Vec<R> = bulk::lock_within(connection, workspace_id, &ids, MAX_CHANGED_BYTES).await?;
        let before: HashMap<Uuid, R> = present.into_iter().map(|record| (record.id(), record)).collect();
        let mut owners = Vec::with_capacity(R::UNIQUE.len());
        for (key, wanted) in R::UNIQUE.iter().zip(wanted) {
            owners.push(constraints::owners(connection, workspace_id, key, &wanted).await?.into_iter().collect());
        }
        Ok(Self { after: before.clone(), before, owners })
    }

    fn take(&mut self, draft: Draft<R>, items: &Items) -> Result<Answer<R>> {
        match draft {
            Draft::New(record) => {
                self.claim(&record)?;
                Ok(Answer::Created(*record))
            }
            Draft::Change { id, at, .. } => {
                let mut body = items.get(at)?;
                body.id()?;
                let present = self.after.get(&id).ok_or_else(|| Error::missing("id"))?.clone();
                let mut record = present.clone();
                record.apply(R::read(body, Some(&present))?);
                if record != present {
                    self.claim(&record)?;
                    mark_changed(&present, &mut record, db::now());
                    self.after.insert(id, record.clone());
                }
                Ok(Answer::Updated(record))
            }
        }
    }

    fn claim(&mut self, record: &R) -> Result<()> {
        let keys = keys_of(record);
        for ((owners, value), key) in self.owners.iter().zip(&keys).zip(R::UNIQUE) {
            let owner = value.as_ref().and_then(|value| owners.get(value));
            if let Some(owner) = owner.filter(|owner| **owner != record.id()) {
                return Err(key.conflict(Some(*owner)));
            }
        }
        for (owners, value) in self.owners.iter_mut().zip(keys) {
            owners.extend(value.map(|value| (value, record.id())));
        }
        Ok(())
    }

    /// Rejects items that refer to records that do not exist. Existing ones are locked against
    /// deletion.
    async fn refer(
        &mut self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        answers: &mut [Answer<R>],
    ) -> Result<()> {
        for (reference, find) in R::REFERENCES.iter().zip(&R::statements().references) {
            let named = |answer: &Answer<R>| match answer {
                Answer::Created(record) | Answer::Updated(record) => (reference.of)(record),
                Answer::Refused(_) => None,
            };
            let wanted: Vec<Uuid> = answers.iter().filter_map(named).collect();
            let found: HashSet<Uuid> = sqlx::query_scalar(find.clone())
                .bind(workspace_id)
                .bind(wanted)
                .fetch_all(&mut *connection)
                .await?
                .into_iter()
                .collect();
            for answer in answers.iter_mut() {
                if named(answer).is_none_or(|id| found.contains(&id)) {
                    continue;
                }
                if let Answer::Created(record) | Answer::Updated(record) = answer
                    && let Some(before) = self.before.get(&record.id())
                {
                    self.after.insert(record.id(), before.clone());
                }
                *answer = Answer::Refused(Error::missing(reference.column));
            }
        }
        Ok(())
    }

    async fn write(&self, connection: &mut PgConnection, actor: &Actor, answers: &[Answer<R>]) -> Result<()> {
        let created = answers.iter().filter_map(|answer| match answer {
            Answer::Created(record) => Some(record.clone()),
            _ => None,
        });
        let mut created: Vec<R> = created.collect();
        // The fixed order prevents deadlocks between batches.
        created.sort_by_cached_key(|record| (keys_of(record), record.id()));
        let mut changed: Vec<(R, R)> = self
            .before
            .iter()
            .filter_map(|(id, before)| {
                self.after.get(id).filter(|after| *after != before).map(|after| (before.clone(), after.clone()))
            })
            .collect();
        changed.sort_by_key(|(before, _)| before.id());
        bulk::insert_all(connection, actor.workspace_id, None, &created).await?;
        bulk::update_all(connection, actor, &changed).await?;
        for record in &created {
            record.after_write(connection, actor, None).await?;
        }
        for (before, after) in &changed {
            after.after_write(connection, actor, Some(before)).await?;
        }
        Ok(())
    }
}
