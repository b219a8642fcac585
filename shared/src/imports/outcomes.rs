//! What became of rows that were not simply written: rejected, skipped, or written with warnings.

use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::columns::is_fault_column;
use super::plan::Plan;
use super::revert::LEFT_HEADERS;
use super::rows::RowFault;
use crate::error::Result;
use crate::string_enum;

string_enum! {
    /// What became of a row.
    Outcome {
        /// It was rejected.
        Failed = "failed",
        /// It was skipped.
        Skipped = "skipped",
        /// It was written, without the values of some cells.
        Warned = "warned",
    }
}

/// What became of a row, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The line on which the row begins.
    pub line: u64,
    /// What became of the row.
    pub outcome: Outcome,
    /// The reasons, the most important first.
    pub faults: Vec<RowFault>,
    /// The cells as they are in the file.
    pub cells: Vec<String>,
}

impl Report {
    /// The report of a record that a job could not change. Records are numbered in the order of their reports.
    pub(crate) fn of_record(number: i64, faults: Vec<RowFault>, cells: Vec<String>) -> Self {
        Self { line: number.unsigned_abs(), outcome: Outcome::Failed, faults, cells }
    }
}

/// Stores reports, in the transaction of the rows.
pub(crate) async fn keep(
    connection: &mut PgConnection,
    (workspace_id, job_id): (Uuid, Uuid),
    reports: &[Report],
) -> Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let row = |report: &Report| {
        let first = report.faults.first();
        json!({
            "line": report.line, "outcome": report.outcome,
            "field": first.map_or("file", |fault| &fault.field), "code": first.map_or("", |fault| &fault.code),
            "message": first.map_or("", |fault| &fault.message), "faults": report.faults,
            // PostgreSQL's text type cannot store NUL characters.
            "cells": report.cells.iter().map(|cell| cell.replace('\0', "")).collect::<Vec<_>>(),
        })
    };
    sqlx::query(
        "INSERT INTO job_errors (workspace_id, job_id, line, outcome, field, code, message, faults, cells)
         SELECT $1, $2, line, outcome, field, code, message, faults, cells FROM jsonb_to_recordset($3)
             AS report (line bigint, outcome text, field text, code text, message text, faults jsonb, cells jsonb)",
    )
    .bind(workspace_id)
    .bind(job_id)
    .bind(Value::Array(reports.iter().map(row).collect()))
    .execute(connection)
    .await?;
    Ok(())
}

/// A row or a record that a job rejected, skipped, or wrote with warnings.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReportedRow {
    /// The line on which the record starts; the header has a line of its own. Records that are not of a file are
    /// numbered.
    pub line: i64,
    /// What became of the row.
    pub outcome: Outcome,
    /// The field of the first fault; `file` if the row as a whole has it.
    pub field: String,
    /// A stable code for the first fault.
    pub code: String,
    /// The first fault, for people.
    pub message: String,
    /// All faults of the row.
    pub faults: Vec<RowFault>,
    /// The row as it was in the file, by header; the `id` of a record that is not of a file, and its `email`.
    #[schema(value_type = HashMap<String, String>)]
    pub row: Value,
    /// The cells, in the order of the file.
    #[serde(skip)]
    pub cells: Vec<String>,
}

/// A page of a job's reported rows.
#[derive(Debug)]
pub struct ReportedRows {
    /// The headers of the file.
    pub headers: Vec<String>,
    /// The rows, in the order of the file.
    pub rows: Vec<ReportedRow>,
    /// Whether more rows follow.
    pub goes_on: bool,
}

/// Returns the job's rows with these outcomes after a line: at most `limit` rows, and at most `max_bytes` of
/// cells after the first row.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) if the job does not exist.
pub async fn reported(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    job_id: Uuid,
    outcomes: &[Outcome],
    after_line: i64,
    (limit, max_bytes): (usize, usize),
) -> Result<ReportedRows> {
    crate::queue::get(connection, workspace_id, job_id).await?;
    let plan: Option<Json<Plan>> =
        sqlx::query_scalar("SELECT plan FROM imports WHERE workspace_id = $1 AND job_id = $2")
            .bind(workspace_id)
            .bind(job_id)
            .fetch_optional(&mut *connection)
            .await?;
    let mut headers = plan.map_or_else(|| LEFT_HEADERS.map(str::to_owned).to_vec(), |Json(plan)| plan.headers);
    // Its index makes the usual question cheap, however many rows were skipped.
    let condition = if outcomes == [Outcome::Failed] { "outcome = 'failed'" } else { "outcome = ANY ($5)" };
    let sql = format!(
        "SELECT line, outcome, field, code, message, faults, cells FROM job_errors
         WHERE workspace_id = $1 AND job_id = $2 AND line > $3 AND {condition} ORDER BY line LIMIT $4"
    );
    let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
    // One row more than the limit shows whether more rows follow.
    let stored = sqlx::query_as::<_, StoredRow>(sqlx::AssertSqlSafe(sql))
        .bind(workspace_id)
        .bind(job_id)
        .bind(after_line)
        .bind(limit as i64 + 1);
    let stored = if outcomes == [Outcome::Failed] { stored } else { stored.bind(words) };
    let mut stored = stored.fetch(connection);
    let (mut rows, mut bytes, mut goes_on) = (Vec::new(), 0, false);
    while let Some(row) = stored.try_next().await? {
        bytes += row.cells.iter().map(String::len).sum::<usize>();
        goes_on |= rows.len() == limit || (!rows.is_empty() && bytes > max_bytes);
        if !goes_on {
            rows.push(row);
        }
    }
    // A corrected file may still have the reasons of an earlier import; they are not returned.
    let is_own: Vec<bool> = headers.iter().map(|header| !is_fault_column(header)).collect();
    headers.retain(|header| !is_fault_column(header));
    let rows = rows.into_iter().map(|row| row.named(&headers, &is_own)).collect();
    Ok(ReportedRows { headers, rows, goes_on })
}

#[derive(FromRow)]
struct StoredRow {
    line: i64,
    outcome: Outcome,
    field: String,
    code: String,
    message: String,
    #[sqlx(json)]
    faults: Vec<RowFault>,
    #[sqlx(json)]
    cells: Vec<String>,
}

impl StoredRow {
    /// Keeps the cells of the file's own columns, and the cells beyond the header.
    fn named(self, headers: &[String], is_own: &[bool]) -> ReportedRow {
        let Self { line, outcome, field, code, message, mut faults, cells } = self;
        if faults.is_empty() {
            // The row was stored by an older version.
            let (field, code, message) = (field.clone().into(), code.clone().into(), message.clone().into());
            faults.push(RowFault { field, code, message });
        }
        let is_own = is_own.iter().chain(std::iter::repeat(&true));
        let cells: Vec<String> = cells.into_iter().zip(is_own).filter(|(_, own)| **own).map(|(cell, _)| cell).collect();
        let row = Value::Object(headers.iter().cloned().zip(cells.iter().map(|cell| json!(cell))).collect());
        ReportedRow { line, outcome, field, code, message, faults, row, cells }
    }
}
