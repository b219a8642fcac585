//! One step of a bulk change: changes the records of a chunk.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{BulkAction, BulkChange, BulkChanged, BulkResult, Enrolment};
use crate::error::{Error, FieldError, NOT_FOUND, Result};
use crate::imports::outcomes::{self, Report};
use crate::imports::rows::RowFault;
use crate::platform::db::Savepoint;
use crate::records::history::Actor;
use crate::records::{self, Outcome, Record};
use crate::values::json_body::Object;

/// The number of records that are in memory at once.
pub(super) const SLICE: usize = 250;

impl<R: BulkChanged> BulkChange<R> {
    /// Changes records, and returns what became of each.
    pub(super) async fn change(
        &self,
        connection: &mut PgConnection,
        actor: &Actor,
        ids: &[Uuid],
    ) -> Result<Vec<Outcome>> {
        let set = Object::new(self.set.clone());
        let mut outcomes = Vec::with_capacity(ids.len());
        // A dry run restores records, too, so that it finds conflicts between them.
        let part = match self.dry_run && self.action == BulkAction::Restore {
            true => Some(Savepoint::begin(connection).await?),
            false => None,
        };
        for ids in ids.chunks(SLICE) {
            match self.action {
                BulkAction::Update | BulkAction::Assign => {
                    outcomes.extend(records::change_all::<R>(connection, actor, ids, &set, self.dry_run).await?);
                }
                BulkAction::Delete => outcomes.extend(self.delete(connection, actor, ids).await?),
                BulkAction::Restore => outcomes.extend(restore::<R>(connection, actor, ids).await?),
                BulkAction::Enroll => {
                    let enrolment = Enrolment::Enroll { again: self.again };
                    outcomes.extend(R::enroll(connection, actor, ids, enrolment, self.dry_run).await?);
                }
                BulkAction::Unenroll => {
                    outcomes.extend(R::enroll(connection, actor, ids, Enrolment::Unenroll, self.dry_run).await?);
                }
                BulkAction::Convert => {
                    for id in ids {
                        outcomes.push(R::convert(connection, actor, *id, set.clone(), self.dry_run).await?);
                    }
                }
            }
        }
        if let Some(part) = part {
            part.rollback(connection).await?;
        }
        Ok(outcomes)
    }

    async fn delete(&self, connection: &mut PgConnection, actor: &Actor, ids: &[Uuid]) -> Result<Vec<Outcome>> {
        let found: HashSet<Uuid> = match self.dry_run {
            true => records::existing::<R>(connection, actor.workspace_id, ids).await?,
            false => records::delete_all::<R>(connection, actor, ids).await?.iter().map(R::id).collect(),
        };
        let outcome = |id| if found.contains(id) { Outcome::Changed } else { Outcome::Refused(Error::NotFound) };
        Ok(ids.iter().map(outcome).collect())
    }
}

async fn restore<R: BulkChanged>(connection: &mut PgConnection, actor: &Actor, ids: &[Uuid]) -> Result<Vec<Outcome>> {
    let restored = records::restore_all::<R>(connection, actor, ids).await?;
    let mut refused: HashMap<Uuid, Error> = restored.refused.into_iter().collect();
    Ok(ids.iter().map(|id| refused.remove(id).map_or(Outcome::Changed, Outcome::Refused)).collect())
}

/// Adds what became of records to the result, and stores the reasons of those that were rejected.
pub(super) async fn tally<R: BulkChanged>(
    connection: &mut PgConnection,
    job: &Actor,
    outcomes: impl Iterator<Item = (Uuid, Outcome)>,
    result: &mut BulkResult,
) -> Result<()> {
    let mut rejected = Vec::new();
    for (id, outcome) in outcomes {
        match outcome {
            Outcome::Changed => result.changed += 1,
            Outcome::Unchanged => result.unchanged += 1,
            Outcome::Refused(error) => rejected.push((id, faults(error)?)),
        }
    }
    report::<R>(connection, job, rejected, &mut result.failed).await
}

/// Lists records that a job could not change, each with the reasons. `listed` is the number of those before.
pub(super) async fn report<R: BulkChanged>(
    connection: &mut PgConnection,
    job: &Actor,
    rejected: Vec<(Uuid, Vec<RowFault>)>,
    listed: &mut i64,
) -> Result<()> {
    if rejected.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = rejected.iter().map(|(id, _)| *id).collect();
    let emails = emails::<R>(connection, job.workspace_id, &ids).await?;
    let mut reports = Vec::with_capacity(rejected.len());
    for (id, faults) in rejected {
        *listed += 1;
        let cells = std::iter::once(id.to_string()).chain(emails.get(&id).cloned()).collect();
        reports.push(Report::of_record(*listed, faults, cells));
    }
    outcomes::keep(connection, (job.workspace_id, job.id), &reports).await
}

/// The emails of the records that exist, by which people know them.
async fn emails<R: Record>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, String>> {
    let Some(email) = R::UNIQUE.iter().find(|key| key.field == "email") else { return Ok(HashMap::new()) };
    let keys = records::keys_of(connection, workspace_id, email, ids).await?;
    Ok(keys.into_iter().filter_map(|(id, key)| Some((id, key?))).collect())
}

/// The reasons why a record was rejected.
///
/// # Errors
/// An error that says nothing about the record.
pub(super) fn faults(error: Error) -> Result<Vec<RowFault>> {
    let fault = |FieldError { field, code, message, .. }| RowFault { field: field.into(), code, message };
    match error {
        Error::NotFound => Ok(vec![fault(FieldError::new("id", NOT_FOUND, "no record has this id"))]),
        Error::Missing(reason) => Ok(vec![fault(*reason)]),
        Error::Conflict(conflict) => Ok(vec![fault(conflict.error)]),
        Error::Invalid(errors) => Ok(errors.into_iter().map(fault).collect()),
        other => Err(other),
    }
}
