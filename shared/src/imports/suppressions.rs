//! Files of addresses that get no email: each row is a suppression, and writes no record.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::outcomes::Outcome;
use super::plan::OnConflict;
use super::rows::{Given, Row};
use super::write::ChunkWriter;
use super::{Importable, known, opt_outs};
use crate::error::{Error, Result};
use crate::mail::suppressions::{self, NewSuppression};
use crate::platform::db;
use crate::values::Fault;

/// Suppresses the addresses of a chunk. One that is suppressed already stays as it is: an import lifts and changes
/// none.
pub(super) async fn write<R: Importable>(
    step: &mut ChunkWriter<'_>,
    connection: &mut PgConnection,
    rows: Vec<Row<R::Changes>>,
) -> Result<()> {
    let (workspace_id, dry_run) = (step.import.workspace_id, step.import.plan.dry_run);
    let keys: Vec<String> = rows.iter().filter_map(|row| row.key.clone()).collect();
    let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.given.id).collect();
    let (mut known_keys, mut known_ids) = suppressions::taken(connection, workspace_id, (&keys, &ids)).await?;
    if dry_run {
        known_keys.extend(opt_outs::seen(connection, step.import, &keys).await?);
    }
    let mut new: HashMap<String, NewSuppression> = HashMap::new();
    for mut row in rows {
        let Some(key) = row.key.clone() else { continue };
        if known_keys.contains(&key) {
            match step.import.plan.on_conflict {
                OnConflict::Update => step.unchanged(row),
                OnConflict::Skip => step.turn_down(row, Outcome::Skipped, "email", known::taken("email")),
                OnConflict::Fail => step.turn_down(row, Outcome::Failed, "email", known::taken("email")),
            }
            continue;
        }
        if row.given.id.is_some_and(|id| known_ids.contains(&id)) {
            let fault = Fault::new("taken", "is the id of a suppression of another address");
            step.turn_down(row, Outcome::Failed, "id", fault);
            continue;
        }
        if !step.import.plan.create {
            let fault = Fault::new("not_found", "no suppression has this email");
            step.turn_down(row, Outcome::Failed, "email", fault);
            continue;
        }
        R::complete(&mut row.changes, &mut row.given);
        known_ids.extend(row.given.id);
        known_keys.insert(key.clone());
        let Given { id, created_at, updated_at } = row.given;
        let (id, created_at) = (id.unwrap_or_else(Uuid::now_v7), created_at.unwrap_or_else(db::now));
        let record = R::new(id, created_at, std::mem::take(&mut row.changes)).and_then(R::into_suppression);
        if let Some(suppression) = record {
            let proof = Some((step.import.id, row.line));
            let updated_at = updated_at.unwrap_or(created_at);
            new.insert(key, NewSuppression { proof, updated_at, ..suppression });
            step.import.counts.created += 1;
        }
        step.warn(row);
    }
    step.import.counts.suppressed += i64::try_from(new.len()).unwrap_or(i64::MAX);
    if dry_run {
        return opt_outs::remember(connection, step.import, new.into_keys().collect()).await.map(|_| ());
    }
    let mut new: Vec<(String, NewSuppression)> = new.into_iter().collect();
    // The fixed order prevents deadlocks with other imports.
    new.sort_by(|(one, _), (other, _)| one.cmp(other));
    let new: Vec<NewSuppression> = new.into_iter().map(|(_, suppression)| suppression).collect();
    let added = suppressions::add_all(connection, workspace_id, &new).await?;
    match added.new == new.len() {
        true => Ok(()),
        false => Err(Error::Repeat("an address was suppressed in the meantime".to_owned())),
    }
}
