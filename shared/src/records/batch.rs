//! Batches: many creates and updates in one request. All valid items are written in one transaction.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::crud::{draft, mark_changed};
use super::events::report_created;
use super::model::Record;
use super::{bulk, constraints};
use crate::error::{Error, Result};
use crate::events::Actor;
use crate::platform::db;
use crate::string_enum;
use crate::values::Time;
use crate::values::json::Items;
use crate::values::json_body::Object;

/// The maximum number of items in a batch.
pub const MAX_BATCH: usize = 1_000;
/// The maximum size of the records that a batch changes, in bytes. Small items can change large
/// records, which stay in memory until they are written.
const MAX_CHANGED_BYTES: usize = 16 * 1024 * 1024;

string_enum! {
    /// What happens to a new record with a key that another record has.
    ConflictMode {
        /// It is rejected; the default.
        Fail = "fail",
        /// It updates the other record.
        Update = "update",
    }
}

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

/// Writes a batch: an item with an `id` updates that record, an item without creates one or, with
/// [`ConflictMode::Update`], updates the record that it matches. Items are processed in their order,
/// and the results have the same order. Needs a transaction.
///
/// A unique key that an item gives up is available to others only after the batch.
///
/// # Errors
/// [`Error::Repeat`] if a concurrent transaction interfered; the caller runs the batch again.
pub async fn batch<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    items: &Items,
    mode: ConflictMode,
) -> Result<Vec<Answer<R>>> {
    let drafts = (0..items.len()).map(|at| Draft::read(items, at)).collect();
    write_all(connection, actor, items, drafts, mode).await
}

/// Creates a record from the only item, or updates the record that it matches: the one with the
/// same value of the first of [`Record::MATCHED_BY`] that a record has. Needs a transaction.
///
/// # Errors
/// [`Error::Repeat`] if a concurrent transaction interfered; the caller runs it again.
pub async fn create_or_update<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    item: &Items,
) -> Result<Answer<R>> {
    let drafts = vec![item.get(0).and_then(|item| Draft::create(item, 0))];
    let answer = write_all(connection, actor, item, drafts, ConflictMode::Update).await?.pop();
    answer.ok_or_else(|| Error::internal("an item has no result"))
}

async fn write_all<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    items: &Items,
    mut drafts: Vec<Result<Draft<R>>>,
    mode: ConflictMode,
) -> Result<Vec<Answer<R>>> {
    R::before_create(connection, actor, drafts.iter_mut().flatten().filter_map(Draft::new_record).collect()).await?;
    let mut table = Table::read(connection, actor.workspace_id, &drafts, (mode, MAX_CHANGED_BYTES)).await?;
    let answers: Vec<Answer<R>> = drafts
        .into_iter()
        .map(|draft| draft.and_then(|draft| table.take(draft, items)).unwrap_or_else(Answer::Refused))
        .collect();
    table.write(connection, actor, &answers).await?;
    Ok(answers)
}

/// A parsed item.
pub(super) enum Draft<R> {
    /// A new record. If it matches a record, the item is parsed again as an update of that record.
    New { record: Box<R>, at: usize },
    /// An update. The item is parsed again when its record is loaded; until then only the id, the
    /// requested unique keys and the references are known.
    Change { id: Uuid, at: usize, keys: Vec<Option<String>>, references: Vec<Option<Uuid>> },
}

impl<R: Record> Draft<R> {
    fn read(items: &Items, at: usize) -> Result<Self> {
        let mut item = items.get(at)?;
        match item.id()? {
            None => Self::create(item, at),
            Some(id) => Ok(Self::Change { id, at, keys: wanted_keys::<R>(&item), references: wanted::<R>(&item) }),
        }
    }

    fn create(item: Object, at: usize) -> Result<Self> {
        Ok(Self::New { record: Box::new(draft(None, item)?), at })
    }

    fn new_record(&mut self) -> Option<&mut R> {
        match self {
            Self::New { record, .. } => Some(record),
            Self::Change { .. } => None,
        }
    }

    fn keys(&self) -> Vec<Option<String>> {
        match self {
            Self::New { record, .. } => keys_of(&**record),
            Self::Change { keys, .. } => keys.clone(),
        }
    }

    fn references(&self) -> Vec<Option<Uuid>> {
        match self {
            Self::New { record, .. } => R::REFERENCES.iter().map(|reference| (reference.of)(record)).collect(),
            Self::Change { references, .. } => references.clone(),
        }
    }
}

/// Returns the record's value for each of [`Record::UNIQUE`].
fn keys_of<R: Record>(record: &R) -> Vec<Option<String>> {
    R::UNIQUE.iter().map(|key| (key.of)(record)).collect()
}

/// Returns the value that an item sets for each of [`Record::UNIQUE`]. Invalid values are rejected later.
pub(super) fn wanted_keys<R: Record>(item: &Object) -> Vec<Option<String>> {
    R::UNIQUE.iter().map(|key| item.text(key.field).and_then(|text| key.form.normal(text))).collect()
}

/// Returns the id that an item sets for each of [`Record::REFERENCES`]. Invalid ids are rejected later.
pub(super) fn wanted<R: Record>(item: &Object) -> Vec<Option<Uuid>> {
    let id = |column| item.text(column).and_then(|text| Uuid::try_parse(text.trim()).ok());
    R::REFERENCES.iter().map(|reference| id(reference.column)).collect()
}

/// The positions in [`Record::UNIQUE`] of the keys in [`Record::MATCHED_BY`].
fn matching_keys<R: Record>() -> impl Iterator<Item = usize> {
    R::MATCHED_BY.iter().filter_map(|field| R::UNIQUE.iter().position(|key| key.field == *field))
}

/// The records that the items change, the owners of unique keys, and the referenced records.
pub(super) struct Table<R> {
    mode: ConflictMode,
    /// When all records are changed, so that equal changes are written alike.
    now: Time,
    before: HashMap<Uuid, R>,
    after: HashMap<Uuid, R>,
    owners: Vec<HashMap<String, Uuid>>,
    referenced: Vec<HashSet<Uuid>>,
}

impl<R: Record> Table<R> {
    /// Locks and reads them; the records that the items change have at most `max_bytes`.
    pub(super) async fn read(
        connection: &mut PgConnection,
        workspace_id: Uuid,
        drafts: &[Result<Draft<R>>],
        (mode, max_bytes): (ConflictMode, usize),
    ) -> Result<Self> {
        let referenced = lock_referenced(connection, workspace_id, drafts).await?;
        let mut ids: Vec<Uuid> = Vec::new();
        for draft in drafts.iter().flatten() {
            if let Draft::Change { id, .. } = draft {
                ids.push(*id);
            }
        }
        if mode == ConflictMode::Update {
            let new = || drafts.iter().flatten().filter(|draft| matches!(draft, Draft::New { .. }));
            for at in matching_keys::<R>() {
                let wanted: Vec<String> = new().filter_map(|draft| draft.keys().swap_remove(at)).collect();
                let owners = constraints::owners(connection, workspace_id, &R::UNIQUE[at], &wanted).await?;
                ids.extend(owners.into_iter().map(|(_, id)| id));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let present: Vec<R> = bulk::lock_within(connection, workspace_id, &ids, max_bytes).await?;
        let before: HashMap<Uuid, R> = present.into_iter().map(|record| (record.id(), record)).collect();
        let mut wanted = vec![Vec::new(); R::UNIQUE.len()];
        for draft in drafts.iter().flatten() {
            wanted.iter_mut().zip(draft.keys()).for_each(|(wanted, key)| wanted.extend(key));
        }
        let mut owners: Vec<HashMap<String, Uuid>> = Vec::with_capacity(R::UNIQUE.len());
        for (key, wanted) in R::UNIQUE.iter().zip(wanted) {
            let found = match wanted.is_empty() {
                true => Vec::new(),
                false => constraints::owners(connection, workspace_id, key, &wanted).await?,
            };
            owners.push(found.into_iter().collect());
        }
        let table = Self { mode, now: db::now(), after: before.clone(), before, owners, referenced };
        if mode == ConflictMode::Update && drafts.iter().flatten().any(|draft| table.misses(draft)) {
            return Err(Error::Repeat("a matching record was created in the meantime".to_owned()));
        }
        Ok(table)
    }

    /// Whether a new record matches one that was not locked.
    fn misses(&self, draft: &Draft<R>) -> bool {
        let Draft::New { record, .. } = draft else { return false };
        let keys = keys_of(&**record);
        let owner = |at: usize| keys[at].as_ref().and_then(|key| self.owners[at].get(key));
        matching_keys::<R>().filter_map(owner).any(|owner| !self.before.contains_key(owner))
    }

    fn take(&mut self, draft: Draft<R>, items: &Items) -> Result<Answer<R>> {
        match draft {
            Draft::New { record, at } => match self.find(&record)? {
                None => self.create(*record),
                Some(id) => self.change(id, items.get(at)?),
            },
            Draft::Change { id, at, .. } => {
                let mut body = items.get(at)?;
                body.id()?;
                self.change(id, body)
            }
        }
    }

    /// Finds the record that a new one updates: the one with the first of its keys that a record has,
    /// unless that record has other values of the keys before it.
    fn find(&self, record: &R) -> Result<Option<Uuid>> {
        if self.mode == ConflictMode::Fail {
            return Ok(None);
        }
        let keys = keys_of(record);
        let mut before: Vec<usize> = Vec::new();
        for at in matching_keys::<R>() {
            let (key, Some(value)) = (&R::UNIQUE[at], &keys[at]) else { continue };
            let owner = self.owners[at].get(value).and_then(|owner| self.after.get(owner));
            // A record that gave the key up in this batch no longer matches, and nobody else can have it.
            match owner.filter(|owner| (key.of)(owner).as_ref() == Some(value)) {
                None => before.push(at),
                Some(owner) if before.iter().any(|at| (R::UNIQUE[*at].of)(owner).is_some()) => {
                    return Err(key.conflict(owner.id()));
                }
                Some(owner) => return Ok(Some(owner.id())),
            }
        }
        Ok(None)
    }

    fn create(&mut self, record: R) -> Result<Answer<R>> {
        self.check(None, &record)?;
        self.claim(&record);
        if self.mode == ConflictMode::Update {
            // Later items may match it.
            self.before.insert(record.id(), record.clone());
            self.after.insert(record.id(), record.clone());
        }
        Ok(Answer::Created(record))
    }

    pub(super) fn change(&mut self, id: Uuid, body: Object) -> Result<Answer<R>> {
        let present = self.after.get(&id).ok_or_else(|| Error::missing("id"))?.clone();
        let mut record = present.clone();
        record.apply(R::read(body, Some(&present))?);
        if record != present {
            self.check(Some(&present), &record)?;
            self.claim(&record);
            mark_changed(&present, &mut record, self.now);
            self.after.insert(id, record.clone());
        }
        Ok(Answer::Updated(record))
    }

    /// Rejects a record with a key that another one has, or with a reference to a record that does not
    /// exist.
    fn check(&self, present: Option<&R>, record: &R) -> Result<()> {
        for ((owners, value), key) in self.owners.iter().zip(keys_of(record)).zip(R::UNIQUE) {
            // The record keeps its value, which it may share: its email may be a duplicate.
            if present.is_some_and(|present| (key.of)(present) == value) {
                continue;
            }
            let owner = value.and_then(|value| owners.get(&value));
            if let Some(owner) = owner.filter(|owner| **owner != record.id()) {
                return Err(key.conflict(*owner));
            }
        }
        for (reference, referenced) in R::REFERENCES.iter().zip(&self.referenced) {
            let id = (reference.of)(record).filter(|id| present.and_then(reference.of) != Some(*id));
            if id.is_some_and(|id| !referenced.contains(&id)) {
                return Err(Error::missing(reference.column));
            }
        }
        Ok(())
    }

    fn claim(&mut self, record: &R) {
        for (owners, value) in self.owners.iter_mut().zip(keys_of(record)) {
            owners.extend(value.map(|value| (value, record.id())));
        }
    }

    /// Whether the items change the record.
    pub(super) fn is_changed(&self, id: Uuid) -> bool {
        self.before.get(&id) != self.after.get(&id)
    }

    /// Writes what the items create and change.
    ///
    /// # Errors
    /// [`Error::Repeat`] if a concurrent transaction interfered.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        answers: &[Answer<R>],
    ) -> Result<()> {
        self.write_all(connection, actor, answers).await.map_err(|error| match error {
            Error::Conflict(conflict) => conflict.repeat(),
            Error::NotFound | Error::Missing(_) => {
                Error::Repeat("a referenced record was deleted in the meantime".into())
            }
            other => other,
        })
    }

    async fn write_all(&self, connection: &mut PgConnection, actor: &Actor, answers: &[Answer<R>]) -> Result<()> {
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
        bulk::insert_all(connection, actor.workspace_id, actor.into(), &created).await?;
        report_created(connection, actor, &created).await?;
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

/// Returns, for each of [`Record::REFERENCES`], the referenced records that exist, and locks them
/// against deletion.
async fn lock_referenced<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    drafts: &[Result<Draft<R>>],
) -> Result<Vec<HashSet<Uuid>>> {
    let mut referenced = Vec::with_capacity(R::REFERENCES.len());
    for (at, find) in R::statements().references.iter().enumerate() {
        let wanted: Vec<Uuid> =
            drafts.iter().flatten().filter_map(|draft| draft.references().swap_remove(at)).collect();
        if wanted.is_empty() {
            referenced.push(HashSet::new());
            continue;
        }
        let found =
            sqlx::query_scalar(find.clone()).bind(workspace_id).bind(wanted).fetch_all(&mut *connection).await?;
        referenced.push(found.into_iter().collect());
    }
    Ok(referenced)
}
