//! Many creates and updates in one request: all that can be written are, in one transaction.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Record, as_object, bulk, draft, mark_changed};
use crate::error::{Error, Result};
use crate::platform::db;
use crate::records::history::Actor;
use crate::values::email_key;
use crate::values::json::Items;

/// The most items of a batch.
pub const MAX_BATCH: usize = 1_000;
/// The most bytes of the records that a batch changes: small items can change large records, and all of
/// them are held until they are written.
const MAX_CHANGED_BYTES: usize = 16 * 1024 * 1024;
/// More bytes than any unique key has.
const MAX_KEY: usize = 1_024;

/// What became of an item.
#[derive(Debug)]
pub enum Answer<R> {
    /// It was made.
    Created(R),
    /// It was changed, or is as it was.
    Updated(R),
    /// It was refused, and nothing of it was written.
    Refused(Error),
}

/// Writes a batch: an item with an `id` updates that record, one without makes a new one. They are
/// taken in their order and answered in it. Needs a transaction.
///
/// An email that an item gives up is free for others only after the batch.
///
/// # Errors
/// [`Error::Repeat`] if another transaction slipped in between: the batch must be run again.
pub async fn batch<R: Record>(connection: &mut PgConnection, actor: &Actor, items: &Items) -> Result<Vec<Answer<R>>> {
    let drafts: Vec<Result<Draft<R>>> = (0..items.len()).map(|at| Draft::read(items, at)).collect();
    let mut table = Table::read(connection, actor.workspace_id, &drafts).await?;
    let mut answers: Vec<Answer<R>> = drafts
        .into_iter()
        .map(|draft| draft.and_then(|draft| table.take(draft, items)).unwrap_or_else(Answer::Refused))
        .collect();
    table.refer(connection, actor.workspace_id, &mut answers).await?;
    table.write(connection, actor, &answers).await.map_err(|error| match error {
        Error::Conflict(reason) => Error::Repeat(format!("{} was taken meanwhile", reason.field)),
        Error::NotFound | Error::Missing(_) => Error::Repeat("a record that was referred to is gone".into()),
        other => other,
    })?;
    Ok(answers)
}

/// An item that was read.
enum Draft<R> {
    New(Box<R>),
    /// The item at a place of the batch, read once more when its record is known; here only for its id
    /// and the keys it asks for.
    Change {
        id: Uuid,
        at: usize,
        email: Option<String>,
        lead_id: Option<String>,
    },
}

impl<R: Record> Draft<R> {
    fn read(items: &Items, at: usize) -> Result<Self> {
        let mut item = items.get(at)?;
        let Some(id) = item.id()? else { return Ok(Self::New(Box::new(draft(None, item)?))) };
        // What is longer than any key is refused later.
        let wanted = |name: &str| item.text(name).map(str::trim).filter(|key| key.len() <= MAX_KEY);
        let (email, lead_id) = (wanted("email").map(email_key), wanted("lead_id").map(str::to_owned));
        Ok(Self::Change { id, at, email, lead_id })
    }
}

/// The records that the items change, and who has which unique key.
struct Table<R> {
    before: HashMap<Uuid, R>,
    after: HashMap<Uuid, R>,
    owners: Vec<HashMap<String, Uuid>>,
}

impl<R: Record> Table<R> {
    async fn read(connection: &mut PgConnection, workspace_id: Uuid, drafts: &[Result<Draft<R>>]) -> Result<Self> {
        let (mut ids, mut keys) = (Vec::new(), vec![Vec::new(); R::UNIQUE.len()]);
        for draft in drafts.iter().flatten() {
            match draft {
                Draft::New(record) => {
                    keys.iter_mut().zip(record.keys()).for_each(|(keys, key)| keys.extend(key));
                }
                Draft::Change { id, email, lead_id, .. } => {
                    ids.push(*id);
                    keys.iter_mut().zip([email, lead_id]).for_each(|(keys, key)| keys.extend(key.clone()));
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let present: Vec<R> = bulk::lock_within(connection, workspace_id, &ids, MAX_CHANGED_BYTES).await?;
        let before: HashMap<Uuid, R> = present.into_iter().map(|record| (record.id(), record)).collect();
        let mut owners = Vec::new();
        for ((_, expression, cast), keys) in R::UNIQUE.iter().zip(keys) {
            let keys: Vec<String> =
                keys.into_iter().filter(|key| *cast == "text" || Uuid::try_parse(key).is_ok()).collect();
            let sql = format!(
                "SELECT ({expression})::text, id FROM {} WHERE workspace_id = $1 AND {expression} = ANY ($2::text[]::{cast}[])",
                R::TABLE
            );
            let taken: Vec<(String, Uuid)> =
                sqlx::query_as(AssertSqlSafe(sql)).bind(workspace_id).bind(keys).fetch_all(&mut *connection).await?;
            owners.push(taken.into_iter().collect());
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
        let keys: Vec<Option<String>> = record.keys();
        for ((owners, key), (field, ..)) in self.owners.iter().zip(&keys).zip(R::UNIQUE) {
            let owner = key.as_ref().and_then(|key| owners.get(key));
            if let Some(owner) = owner.filter(|owner| **owner != record.id()) {
                return Err(Error::taken(R::TABLE, field, Some(*owner)));
            }
        }
        for (owners, key) in self.owners.iter_mut().zip(keys) {
            owners.extend(key.map(|key| (key, record.id())));
        }
        Ok(())
    }

    /// Refuses the items that refer to records which do not exist; those that do are kept from
    /// being deleted meanwhile.
    async fn refer(
        &mut self,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        answers: &mut [Answer<R>],
    ) -> Result<()> {
        for (column, table) in R::REFERENCES {
            let mut wanted = Vec::new();
            for answer in answers.iter() {
                if let Answer::Created(record) | Answer::Updated(record) = answer {
                    wanted.extend(reference(record, column)?);
                }
            }
            let sql =
                format!("SELECT id FROM {table} WHERE workspace_id = $1 AND id = ANY ($2) ORDER BY id FOR KEY SHARE");
            let found: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(workspace_id)
                .bind(wanted)
                .fetch_all(&mut *connection)
                .await?;
            for answer in answers.iter_mut() {
                if let Answer::Created(record) | Answer::Updated(record) = answer
                    && reference(record, column)?.is_some_and(|id| !found.contains(&id))
                {
                    if let Some(before) = self.before.get(&record.id()) {
                        self.after.insert(record.id(), before.clone());
                    }
                    *answer = Answer::Refused(Error::missing(column));
                }
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
        // In one order, so that two batches never wait in a circle.
        created.sort_by_cached_key(|record| (record.keys(), record.id()));
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

fn reference<R: Record>(record: &R, column: &str) -> Result<Option<Uuid>> {
    Ok(as_object(record)?.get(column).and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()))
}
