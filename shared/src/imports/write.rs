//! One step of an import: the rows of a chunk go into the database.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::rows::{Refused, Row, Rows};
use super::{Import, Importable, OnConflict};
use crate::db;
use crate::error::{Error, Result};
use crate::fields::{CustomFields, Fault};
use crate::patch::Patch;

/// Writes the rows of a chunk, keeps the refused ones, moves the counts of the import and drops the
/// chunk. The caller's transaction makes it one step, and fences it.
///
/// # Errors
/// [`Error::Superseded`] if the chunk is gone already; [`Error::Repeat`] if another transaction
/// slipped in between: the step must be run again, and will see its rows.
pub async fn write<R: Importable>(
    connection: &mut PgConnection,
    import: &mut Import,
    seq: i64,
    rows: Rows<R::Changes>,
) -> Result<()> {
    drop_chunk(connection, import.id, seq).await?;
    let Rows { rows, mut refused } = rows;
    import.counts.rows += count(rows.len() + refused.len());
    let written = match import.plan.on_conflict {
        OnConflict::Skip | OnConflict::Fail => insert::<R>(connection, import, rows, &mut refused).await,
        OnConflict::Update => merge::<R>(connection, import, rows, &mut refused).await,
    };
    written.map_err(|error| match error {
        Error::Conflict(constraint) => Error::Repeat(format!("{constraint} was taken meanwhile")),
        other => other,
    })?;
    import.counts.failed += count(refused.len());
    keep_refused(connection, import.id, &refused).await?;
    sqlx::query("UPDATE imports SET counts = $3 WHERE workspace_id = $1 AND id = $2")
        .bind(import.workspace_id)
        .bind(import.id)
        .bind(json!(import.counts))
        .execute(connection)
        .await?;
    Ok(())
}

/// New emails become records; the others are skipped or refused.
async fn insert<R: Importable>(
    connection: &mut PgConnection,
    import: &mut Import,
    rows: Vec<Row<R::Changes>>,
    refused: &mut Vec<Refused>,
) -> Result<()> {
    let now = db::now();
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    let mut taken: std::collections::HashSet<String> =
        R::taken(connection, import.workspace_id, &keys).await?.into_iter().collect();
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        if taken.insert(row.key) {
            import.counts.warnings += count_u64(row.warnings);
            records.extend(R::new(Uuid::now_v7(), now, row.changes));
        } else if import.plan.on_conflict == OnConflict::Skip {
            import.counts.skipped += 1;
        } else {
            let fault = Fault::new("taken", "another record has this email");
            refused.push(Refused { line: row.line, field: "email".into(), fault, cells: row.cells });
        }
    }
    import.counts.created += count(records.len());
    R::insert_all(connection, import.workspace_id, &records).await
}

/// New emails become records; the others change theirs. Rows of one email are applied in the order
/// of the file, so a chunk folds its own duplicates.
async fn merge<R: Importable>(
    connection: &mut PgConnection,
    import: &mut Import,
    rows: Vec<Row<R::Changes>>,
    refused: &mut Vec<Refused>,
) -> Result<()> {
    let now = db::now();
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    let present = R::lock(connection, import.workspace_id, &keys).await?;
    let mut records: Vec<R> = present.clone();
    let mut places: HashMap<String, usize> =
        present.iter().enumerate().map(|(i, record)| (record.email().key(), i)).collect();
    for row in rows {
        let mut changes = row.changes;
        match places.get(&row.key) {
            Some(&at) => {
                if let Err(fault) = merge_custom::<R>(&records[at], &mut changes) {
                    refused.push(Refused { line: row.line, field: "custom_fields".into(), fault, cells: row.cells });
                    continue;
                }
                records[at].apply(changes);
                import.counts.updated += 1;
            }
            None => {
                places.insert(row.key, records.len());
                records.extend(R::new(Uuid::now_v7(), now, changes));
                import.counts.created += 1;
            }
        }
        import.counts.warnings += count_u64(row.warnings);
    }
    let created = records.split_off(present.len());
    let mut changed: Vec<R> = records
        .into_iter()
        .zip(&present)
        .filter(|(record, before)| record != *before)
        .map(|(record, _)| record)
        .collect();
    for record in &mut changed {
        record.touch(now);
    }
    R::update_all(connection, import.workspace_id, &changed).await?;
    R::insert_all(connection, import.workspace_id, &created).await
}

/// A row's custom fields are added to the record's, key by key.
fn merge_custom<R: Importable>(record: &R, changes: &mut R::Changes) -> Result<(), Fault> {
    let fields = R::custom_fields_mut(changes);
    if let Patch::Set(new) = fields {
        let mut all = record.custom_fields().as_map().clone();
        all.extend(new.as_map().clone());
        *fields = Patch::Set(CustomFields::new(all, CustomFields::IMPORT_LIMITS)?);
    }
    Ok(())
}

async fn drop_chunk(connection: &mut PgConnection, import_id: Uuid, seq: i64) -> Result<()> {
    let dropped = sqlx::query("DELETE FROM import_chunks WHERE import_id = $1 AND seq = $2")
        .bind(import_id)
        .bind(seq)
        .execute(connection)
        .await?;
    if dropped.rows_affected() == 1 { Ok(()) } else { Err(Error::Superseded) }
}

async fn keep_refused(connection: &mut PgConnection, job_id: Uuid, refused: &[Refused]) -> Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    let row = |refused: &Refused| {
        json!({
            "job_id": job_id, "line": refused.line, "field": refused.field, "code": refused.fault.code,
            // PostgreSQL's text has no NUL; the cell is readable without it.
            "message": refused.fault.message, "cells": refused.cells.iter().map(|cell| cell.replace('\0', "")).collect::<Vec<_>>(),
        })
    };
    sqlx::query("INSERT INTO job_errors SELECT * FROM jsonb_populate_recordset(NULL::job_errors, $1)")
        .bind(Value::Array(refused.iter().map(row).collect()))
        .execute(connection)
        .await?;
    Ok(())
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn count_u64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
