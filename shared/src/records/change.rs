//! The same update of many records.

use sqlx::PgConnection;
use uuid::Uuid;

use super::batch::{ConflictMode, Draft, Table, wanted, wanted_keys};
use super::model::Record;
use crate::error::{Error, Result};
use crate::events::Actor;
use crate::values::json_body::Object;

/// What became of a record.
#[derive(Debug)]
pub enum Outcome {
    /// It was changed.
    Changed,
    /// It was like that before, so nothing was written.
    Unchanged,
    /// It cannot be changed.
    Refused(Error),
}

/// Updates records, each as [`update`](super::update) does, and returns what became of each, in the order of the ids.
/// A dry run writes nothing. Needs a transaction, and the memory for all of these records.
///
/// # Errors
/// [`Error::Repeat`] if a concurrent transaction interfered.
pub async fn change_all<R: Record>(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: &[Uuid],
    body: &Object,
    dry_run: bool,
) -> Result<Vec<Outcome>> {
    let (keys, references) = (wanted_keys::<R>(body), wanted::<R>(body));
    let draft = |id: &Uuid| Ok(Draft::Change { id: *id, at: 0, keys: keys.clone(), references: references.clone() });
    let drafts: Vec<Result<Draft<R>>> = ids.iter().map(draft).collect();
    let limits = (ConflictMode::Fail, usize::MAX);
    let mut table = Table::read(connection, actor.workspace_id, &drafts, limits).await?;
    let mut outcomes = Vec::with_capacity(ids.len());
    for id in ids {
        outcomes.push(match table.change(*id, body.clone()) {
            Ok(_) if table.is_changed(*id) => Outcome::Changed,
            Ok(_) => Outcome::Unchanged,
            Err(error) => Outcome::Refused(error),
        });
    }
    if !dry_run {
        table.write(connection, actor, &[]).await?;
    }
    Ok(outcomes)
}
