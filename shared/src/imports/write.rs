//! One step of an import: writes the rows of a chunk.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::known::{Known, remember, taken};
use super::rows::{Refused, Row, Rows, as_strings};
use super::{Import, Importable, OnConflict};
use crate::error::{Error, Result};
use crate::platform::db;
use crate::records::history::{Actor, Creator};
use crate::records::link;
use crate::records::{self, FieldFault};
use crate::values::patch::Patch;
use crate::values::{CustomFields, Fault};

/// Whether a chunk's keys are looked up before its rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCheck {
    /// Assumes that the keys are new. If the unique key objects, the step is repeated with `Lookup`.
    Skip,
    /// Looks up the keys.
    Lookup,
}

/// Writes the rows of a chunk, stores the rejected rows, updates the counts of the import and
/// deletes the chunk. The caller's transaction makes this one fenced step. Returns the check for
/// the next chunk: if no key of this chunk existed, the next chunk's keys are assumed to be new.
///
/// # Errors
/// [`Error::Superseded`] if the chunk is already processed; [`Error::Repeat`] if a key exists that
/// was assumed to be new, or that another transaction just created. The caller then repeats the
/// step with [`KeyCheck::Lookup`].
pub async fn write<R: Importable>(
    connection: &mut PgConnection,
    actor: &Actor,
    import: &mut Import,
    (seq, rows): (i64, Rows<R::Changes>),
    check: KeyCheck,
) -> Result<KeyCheck> {
    db::plan_afresh(connection).await?;
    drop_chunk(connection, import, seq).await?;
    let Rows { rows, mut refused } = rows;
    import.counts.rows += count(rows.len() + refused.len());
    let check = if import.plan.dry_run { KeyCheck::Lookup } else { check };
    let step = ChunkWriter { actor, import, check, met: 0 };
    let written = match step.import.plan.on_conflict {
        OnConflict::Skip | OnConflict::Fail => step.insert::<R>(connection, rows, &mut refused).await,
        OnConflict::Update => step.merge::<R>(connection, rows, &mut refused).await,
    };
    let met = written.map_err(|error| match error {
        Error::Conflict(conflict) => conflict.repeat(),
        other => other,
    })?;
    import.counts.failed += count(refused.len());
    keep_refused(connection, (import.workspace_id, import.id), &refused).await?;
    sqlx::query("UPDATE imports SET counts = $3 WHERE workspace_id = $1 AND id = $2")
        .bind(import.workspace_id)
        .bind(import.id)
        .bind(json!(import.counts))
        .execute(connection)
        .await?;
    Ok(if met == 0 { KeyCheck::Skip } else { KeyCheck::Lookup })
}

/// Writes one chunk.
struct ChunkWriter<'a> {
    actor: &'a Actor,
    import: &'a mut Import,
    check: KeyCheck,
    /// The number of records that already had a key of the chunk.
    met: usize,
}

impl ChunkWriter<'_> {
    /// Creates a record for each new key; the other rows are skipped or rejected.
    async fn insert<R: Importable>(
        mut self,
        connection: &mut PgConnection,
        rows: Vec<Row<R::Changes>>,
        refused: &mut Vec<Refused>,
    ) -> Result<usize> {
        let mut known = Known::read::<R>(connection, self.import, &rows).await?;
        if self.check == KeyCheck::Lookup {
            let taken = records::owners(connection, self.import.workspace_id, R::KEY, &keys(&rows)).await?;
            self.met = taken.len() + known.look_up_external::<R>(connection, self.import, &rows).await?;
            known.keys.extend(taken);
        }
        let mut records = Vec::with_capacity(rows.len());
        for mut row in rows {
            if let Err((field, fault)) = known.check_id::<R>(&row) {
                refused.push(refuse(&row, field, fault));
            } else if known.keys.contains_key(&row.key) {
                match self.import.plan.on_conflict {
                    OnConflict::Skip => self.import.counts.skipped += 1,
                    _ => refused.push(refuse(&row, R::KEY.field, taken(R::KEY.field))),
                }
            } else if let Err((field, fault)) =
                known.check_external::<R>(&row, None).and_then(|()| R::compose(&mut row.changes, None))
            {
                refused.push(refuse(&row, field, fault));
            } else {
                self.import.counts.warnings += count(row.warnings);
                records.extend(known.create::<R>(row));
            }
        }
        self.import.counts.created += count(records.len());
        self.store(connection, records).await?;
        Ok(self.met)
    }

    /// Creates a record for each new key; the other rows update their record. Rows with the same key
    /// are applied in the order of the file.
    async fn merge<R: Importable>(
        mut self,
        connection: &mut PgConnection,
        rows: Vec<Row<R::Changes>>,
        refused: &mut Vec<Refused>,
    ) -> Result<usize> {
        let mut known = Known::read::<R>(connection, self.import, &rows).await?;
        let present: Vec<R> = match self.check {
            KeyCheck::Skip => Vec::new(),
            KeyCheck::Lookup => records::lock_by(connection, self.import.workspace_id, R::KEY, &keys(&rows)).await?,
        };
        self.met = present.len();
        if self.check == KeyCheck::Lookup {
            self.met += known.look_up_external::<R>(connection, self.import, &rows).await?;
        }
        let mut records: Vec<R> = present.clone();
        let mut places: HashMap<String, usize> =
            present.iter().enumerate().filter_map(|(i, record)| Some(((R::KEY.of)(record)?, i))).collect();
        for mut row in rows {
            let at = places.get(&row.key).copied();
            let id = at.map(|at| records[at].id()).or_else(|| known.keys.get(&row.key).copied());
            let checked = known.check_id::<R>(&row).and_then(|()| {
                known.check_external::<R>(&row, id)?;
                let present = at.map(|at| &records[at]);
                R::compose(&mut row.changes, present)?;
                present.map_or(Ok(()), |present| merge_custom::<R>(present, &mut row.changes))
            });
            if let Err((field, fault)) = checked {
                refused.push(refuse(&row, field, fault));
                continue;
            }
            let warnings = count(row.warnings);
            match at {
                Some(at) => {
                    known.claim_external::<R>(&row.changes, records[at].id());
                    records[at].apply(row.changes);
                    self.import.counts.updated += 1;
                }
                // An earlier chunk of this dry run has the key.
                None if known.keys.contains_key(&row.key) => self.import.counts.updated += 1,
                None => {
                    places.insert(row.key.clone(), records.len());
                    records.extend(known.create::<R>(row));
                    self.import.counts.created += 1;
                }
            }
            self.import.counts.warnings += warnings;
        }
        let created = records.split_off(present.len());
        self.change(connection, present, records, known.now).await?;
        self.store(connection, created).await?;
        Ok(self.met)
    }

    /// Writes the records that the rows changed.
    async fn change<R: Importable>(
        &mut self,
        connection: &mut PgConnection,
        before: Vec<R>,
        mut after: Vec<R>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        for (record, before) in after.iter_mut().zip(&before) {
            // An import adds links, but never changes an existing one.
            if before.link().is_some() && record.link() != before.link() {
                record.set_link(before.link());
                self.import.counts.warnings += 1;
            }
        }
        self.keep_free(connection, &mut after).await?;
        let changed = before.into_iter().zip(after).filter(|(before, after)| before != after);
        let mut changed: Vec<(R, R)> = changed.collect();
        changed.iter_mut().for_each(|(before, after)| records::mark_changed(before, after, now));
        if self.import.plan.dry_run {
            return Ok(());
        }
        records::update_all(connection, self.actor, &changed).await?;
        let after: Vec<R> = changed.into_iter().map(|(_, after)| after).collect();
        link::tie::<R::Other>(connection, self.actor, &link::pairs(&after)).await
    }

    /// Writes new records. A dry run only stores their keys, to find conflicts within the file.
    async fn store<R: Importable>(&mut self, connection: &mut PgConnection, mut records: Vec<R>) -> Result<()> {
        self.keep_free(connection, &mut records).await?;
        if self.import.plan.dry_run {
            return remember(connection, self.import, &records).await;
        }
        // Concurrent imports with the same keys wait for each other. The fixed order of the keys
        // prevents deadlocks.
        records.sort_by_cached_key(R::KEY.of);
        let import = &self.import;
        records::insert_all(connection, import.workspace_id, Creator::import(import.id), &records).await?;
        link::tie::<R::Other>(connection, self.actor, &link::pairs(&records)).await
    }

    /// Drops links that are not possible, and counts a warning for each.
    async fn keep_free<R: Importable>(&mut self, connection: &mut PgConnection, records: &mut [R]) -> Result<()> {
        let dropped = link::keep_free(connection, self.import.workspace_id, records).await?;
        self.import.counts.warnings += count(dropped);
        Ok(())
    }
}

fn keys<C>(rows: &[Row<C>]) -> Vec<String> {
    rows.iter().map(|row| row.key.clone()).collect()
}

fn refuse<C>(row: &Row<C>, field: &'static str, fault: Fault) -> Refused {
    Refused { line: row.line, field: field.into(), fault, cells: as_strings(&row.cells) }
}

/// Adds the row's custom fields to the record's, key by key.
fn merge_custom<R: Importable>(record: &R, changes: &mut R::Changes) -> Result<(), FieldFault> {
    let fields = R::custom_fields_mut(changes);
    if let (Some(present), Some(fields)) = (record.custom_fields(), fields)
        && let Patch::Set(new) = fields
    {
        let mut all = present.to_map();
        all.extend(new.to_map());
        let merged = CustomFields::new(all, CustomFields::IMPORT_LIMITS);
        *fields = Patch::Set(merged.map_err(|fault| ("custom_fields", fault))?);
    }
    Ok(())
}

async fn drop_chunk(connection: &mut PgConnection, import: &Import, seq: i64) -> Result<()> {
    let dropped = sqlx::query("DELETE FROM import_chunks WHERE workspace_id = $1 AND import_id = $2 AND seq = $3")
        .bind(import.workspace_id)
        .bind(import.id)
        .bind(seq)
        .execute(connection)
        .await?;
    if dropped.rows_affected() == 1 { Ok(()) } else { Err(Error::Superseded) }
}

pub(super) async fn keep_refused(
    connection: &mut PgConnection,
    (workspace_id, job_id): (Uuid, Uuid),
    refused: &[Refused],
) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let row = |refused: &Refused| {
        json!({
            "line": refused.line, "field": refused.field, "code": refused.fault.code,
            // PostgreSQL's text type cannot store NUL characters.
            "message": refused.fault.message, "cells": refused.cells.iter().map(|cell| cell.replace('\0', "")).collect::<Vec<_>>(),
        })
    };
    sqlx::query(
        "INSERT INTO job_errors (workspace_id, job_id, line, field, code, message, cells)
         SELECT $1, $2, line, field, code, message, cells FROM jsonb_to_recordset($3)
             AS refused (line bigint, field text, code text, message text, cells jsonb)",
    )
    .bind(workspace_id)
    .bind(job_id)
    .bind(Value::Array(refused.iter().map(row).collect()))
    .execute(connection)
    .await?;
    Ok(())
}

fn count(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
