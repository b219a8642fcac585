//! One step of an import: writes the rows of a chunk.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use csv::StringRecord;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::known::{Known, remember, taken};
use super::outcomes::{self, Outcome, Report};
use super::plan::{OnConflict, RowKey};
use super::rows::{OptOut, Row, RowFault, Rows, as_strings, required};
use super::{Import, Importable, lines, opt_outs, parents, suppressions};
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
    /// Assumes that the keys are new. If a unique key objects, the step is repeated with `Lookup`.
    Skip,
    /// Looks up the keys.
    Lookup,
}

/// Writes the rows of a chunk and the opt-outs, stores the reports of the other rows, updates the counts of the
/// import and deletes the chunk. The caller's transaction makes this one fenced step. Returns the check for the
/// next chunk: if no key of this chunk existed, the next chunk's keys are assumed to be new.
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
    let Rows { mut rows, reports, opt_outs, unmatched } = rows;
    lines::number::<R>(connection, import, &mut rows).await?;
    let faults = parents::resolve::<R>(connection, import, &mut rows).await?;
    let plan = &import.plan;
    import.counts.rows += count(rows.len() + reports.len());
    import.counts.add_unmatched(&plan.headers, unmatched);
    // A row that must find a record, or may have no address, cannot be assumed to be new.
    let looks_up = plan.dry_run || !plan.create || plan.key != RowKey::Email;
    let check = if looks_up { KeyCheck::Lookup } else { check };
    let required = required::<R>();
    let mut step = ChunkWriter { actor, import, check, met: 0, required, reports, opt_outs };
    let rows = step.without_faults::<R>(rows, faults);
    let written = match step.import.plan.on_conflict {
        _ if R::SUPPRESSES => suppressions::write::<R>(&mut step, connection, rows).await,
        OnConflict::Skip | OnConflict::Fail => step.insert::<R>(connection, rows).await,
        OnConflict::Update => step.merge::<R>(connection, rows).await,
    };
    written.map_err(|error| match error {
        Error::Conflict(conflict) => conflict.repeat(),
        Error::Missing(error) => Error::Repeat(format!("the record of {} was deleted in the meantime", error.field)),
        other => other,
    })?;
    let ChunkWriter { met, mut reports, opt_outs, .. } = step;
    import.counts.suppressed += opt_outs::keep(connection, import, &opt_outs).await?;
    reports.sort_by_key(|report| report.line);
    for report in &reports {
        match report.outcome {
            Outcome::Failed => import.counts.failed += 1,
            Outcome::Skipped => import.counts.skipped += 1,
            Outcome::Warned => import.counts.warnings += count(report.faults.len()),
        }
    }
    outcomes::keep(connection, (import.workspace_id, import.id), &reports).await?;
    sqlx::query("UPDATE imports SET counts = $3 WHERE workspace_id = $1 AND id = $2")
        .bind(import.workspace_id)
        .bind(import.id)
        .bind(json!(import.counts))
        .execute(connection)
        .await?;
    Ok(if met == 0 { KeyCheck::Skip } else { KeyCheck::Lookup })
}

/// Writes one chunk.
pub(super) struct ChunkWriter<'a> {
    actor: &'a Actor,
    pub import: &'a mut Import,
    check: KeyCheck,
    /// The number of records that already had a key of the chunk.
    met: usize,
    /// The fields without which no record is created.
    required: Vec<&'static str>,
    reports: Vec<Report>,
    opt_outs: Vec<OptOut>,
}

/// The row that wrote a record, for its report.
struct Source {
    line: u64,
    cells: StringRecord,
    warnings: Vec<RowFault>,
}

impl Source {
    fn take<C>(row: &mut Row<C>) -> Self {
        let (cells, warnings) = (std::mem::take(&mut row.cells), std::mem::take(&mut row.warnings));
        Self { line: row.line, cells, warnings }
    }

    fn report(self, outcome: Outcome) -> Report {
        Report { line: self.line, outcome, faults: self.warnings, cells: as_strings(&self.cells) }
    }
}

/// The fault of a link that was not created.
fn no_link(column: &'static str) -> RowFault {
    RowFault::new(column, Fault::new("not_found", "is no record that could be linked; the link was dropped"))
}

impl ChunkWriter<'_> {
    /// Rejects the rows with faults, given by their index, and returns the others.
    fn without_faults<R: Importable>(
        &mut self,
        rows: Vec<Row<R::Changes>>,
        mut faults: HashMap<usize, FieldFault>,
    ) -> Vec<Row<R::Changes>> {
        if faults.is_empty() {
            return rows;
        }
        let mut others = Vec::with_capacity(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            match faults.remove(&at) {
                None => others.push(row),
                Some((field, fault)) => {
                    self.note_opt_out::<R>(&row, None);
                    self.turn_down(row, Outcome::Failed, field, fault);
                }
            }
        }
        others
    }

    /// Creates a record for each new key; the other rows are skipped or rejected.
    async fn insert<R: Importable>(&mut self, connection: &mut PgConnection, rows: Vec<Row<R::Changes>>) -> Result<()> {
        let mut known = self.known::<R>(connection, &rows).await?;
        let mut created = Created::with_capacity(rows.len());
        for row in rows {
            let target = known.target(&row);
            self.note_opt_out::<R>(&row, None);
            if let Err((field, fault)) = known.check::<R>(&row, target) {
                self.turn_down(row, Outcome::Failed, field, fault);
            } else if target.is_some() {
                let outcome = match self.import.plan.on_conflict {
                    OnConflict::Skip => Outcome::Skipped,
                    OnConflict::Update | OnConflict::Fail => Outcome::Failed,
                };
                let field = self.import.plan.key.as_str();
                self.turn_down(row, outcome, field, taken(field));
            } else {
                self.create::<R>(&mut known, row, &mut created);
            }
        }
        self.store(connection, created).await
    }

    /// Creates a record for each new key; the other rows update their record. Rows with the same key
    /// are applied in the order of the file.
    async fn merge<R: Importable>(&mut self, connection: &mut PgConnection, rows: Vec<Row<R::Changes>>) -> Result<()> {
        let mut known = self.known::<R>(connection, &rows).await?;
        let mut targets: Vec<Uuid> = rows.iter().filter_map(|row| known.target(row)).collect();
        targets.sort_unstable();
        targets.dedup();
        let present: Vec<R> = match targets.is_empty() {
            true => Vec::new(),
            false => records::lock(connection, self.import.workspace_id, &targets).await?,
        };
        let mut records: Vec<R> = present.clone();
        let mut places: HashMap<Uuid, usize> = present.iter().map(R::id).zip(0..).collect();
        let mut sources: Vec<(usize, Source)> = Vec::new();
        let mut created = Created::with_capacity(0);
        for mut row in rows {
            let target = known.target(&row);
            let at = target.and_then(|id| places.get(&id).copied());
            // A record that this chunk creates is only changed in memory.
            let is_new = at.is_some_and(|at| at >= present.len());
            self.note_opt_out::<R>(&row, at.map(|at| &records[at]));
            let checked = known.check::<R>(&row, target).and_then(|()| {
                let Some(at) = at else { return Ok(()) };
                R::compose(&mut row.changes, Some(&records[at]))?;
                merge_custom::<R>(&records[at], &mut row.changes)
            });
            match (checked, at) {
                (Err((field, fault)), _) => self.turn_down(row, Outcome::Failed, field, fault),
                (Ok(()), Some(at)) => {
                    known.claim::<R>(&row.changes, records[at].id());
                    if !is_new || !row.warnings.is_empty() {
                        sources.push((at, Source::take(&mut row)));
                    }
                    records[at].apply(row.changes);
                    self.import.counts.updated += 1;
                }
                // An earlier chunk of this dry run has the key.
                (Ok(()), None) if target.is_some() && self.import.plan.dry_run => self.unchanged(row),
                (Ok(()), None) => {
                    if self.create::<R>(&mut known, row, &mut created)
                        && let Some(record) = created.records.pop()
                    {
                        places.insert(record.id(), records.len());
                        records.push(record);
                    }
                }
            }
        }
        created.records = records.split_off(present.len());
        self.change(connection, (present, records), sources, known.now).await?;
        self.store(connection, created).await
    }

    /// The keys and ids that the chunk meets.
    async fn known<R: Importable>(&mut self, connection: &mut PgConnection, rows: &[Row<R::Changes>]) -> Result<Known> {
        let mut known = Known::read::<R>(connection, self.import, rows).await?;
        if self.check == KeyCheck::Lookup || known.has_ids() {
            self.met = known.look_up::<R>(connection, self.import, rows).await?;
        }
        Ok(known)
    }

    /// Notes that a person gets no email, whatever becomes of the row.
    fn note_opt_out<R: Importable>(&mut self, row: &Row<R::Changes>, record: Option<&R>) {
        let Some(reason) = row.opt_out else { return };
        let named = R::email(&row.changes).or(row.parent.email.as_ref());
        if let Some(email) = named.or_else(|| record.and_then(R::address)) {
            self.opt_outs.push(OptOut { email: email.clone(), reason, line: row.line });
        }
    }

    /// Skips or rejects a row.
    pub fn turn_down<C>(&mut self, row: Row<C>, outcome: Outcome, field: &'static str, fault: Fault) {
        self.turn_down_for(row, outcome, vec![RowFault::new(field, fault)]);
    }

    /// Counts a row that finds what it says.
    pub fn unchanged<C>(&mut self, row: Row<C>) {
        self.import.counts.updated += 1;
        self.warn(row);
    }

    /// Reports the warnings of a row, if it has any.
    pub fn warn<C>(&mut self, mut row: Row<C>) {
        let source = Source::take(&mut row);
        if !source.warnings.is_empty() {
            self.reports.push(source.report(Outcome::Warned));
        }
    }

    fn turn_down_for<C>(&mut self, mut row: Row<C>, outcome: Outcome, mut faults: Vec<RowFault>) {
        let mut source = Source::take(&mut row);
        faults.append(&mut source.warnings);
        source.warnings = faults;
        self.reports.push(source.report(outcome));
    }

    /// Creates the record of a row. Returns whether that was possible.
    fn create<R: Importable>(&mut self, known: &mut Known, mut row: Row<R::Changes>, created: &mut Created<R>) -> bool {
        let key = self.import.plan.key.as_str();
        if !self.import.plan.create {
            self.turn_down(row, Outcome::Failed, key, Fault::new("not_found", format!("no record has this {key}")));
            return false;
        }
        if let Err((field, fault)) = R::compose(&mut row.changes, None) {
            self.turn_down(row, Outcome::Failed, field, fault);
            return false;
        }
        R::complete(&mut row.changes, &mut row.given);
        let missing = self.required.iter().filter(|field| !R::sets(&row.changes, field));
        let fault =
            |field: &&'static str| RowFault::new(*field, Fault::new("required", "is required for a new record"));
        let missing: Vec<RowFault> = missing.map(fault).collect();
        if !missing.is_empty() {
            self.turn_down_for(row, Outcome::Failed, missing);
            return false;
        }
        let has_key = row.key.is_some();
        let source = Source::take(&mut row);
        let record = known.create::<R>(row);
        let is_created = record.is_some();
        created.records.extend(record);
        created.sources.push(source);
        self.import.counts.created += i64::from(is_created);
        self.import.counts.without_key += i64::from(is_created && !has_key);
        is_created
    }

    /// Writes the records that the rows changed, given before and after.
    async fn change<R: Importable>(
        &mut self,
        connection: &mut PgConnection,
        (before, mut after): (Vec<R>, Vec<R>),
        mut sources: Vec<(usize, Source)>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let mut lost: Vec<usize> = Vec::new();
        for (at, (record, before)) in after.iter_mut().zip(&before).enumerate() {
            // An import adds links, but never changes an existing one.
            if before.link().is_some() && record.link() != before.link() {
                record.set_link(before.link());
                lost.push(at);
            }
        }
        lost.extend(self.keep_free(connection, &mut after).await?);
        for at in lost {
            if let Some((_, source)) = sources.iter_mut().rfind(|(of, _)| *of == at) {
                source.warnings.push(no_link(R::LINK));
            }
        }
        let warned = sources.into_iter().map(|(_, source)| source).filter(|source| !source.warnings.is_empty());
        self.reports.extend(warned.map(|source| source.report(Outcome::Warned)));
        let changed = before.into_iter().zip(after).filter(|(before, after)| before != after);
        let mut changed: Vec<(R, R)> = changed.collect();
        changed.iter_mut().for_each(|(before, after)| records::mark_changed(before, after, now));
        if self.import.plan.dry_run {
            return Ok(());
        }
        records::update_all(connection, self.actor, &changed).await?;
        let after: Vec<R> = changed.into_iter().map(|(_, after)| after).collect();
        link::restore::<R::Other>(connection, self.actor, &link::pairs(&after)).await
    }

    /// Writes new records. A dry run only stores their keys, to find conflicts within the file.
    async fn store<R: Importable>(&mut self, connection: &mut PgConnection, created: Created<R>) -> Result<()> {
        let Created { mut records, mut sources } = created;
        for at in self.keep_free(connection, &mut records).await? {
            if let Some(source) = sources.get_mut(at) {
                source.warnings.push(no_link(R::LINK));
            }
        }
        let warned = sources.into_iter().filter(|source| !source.warnings.is_empty());
        self.reports.extend(warned.map(|source| source.report(Outcome::Warned)));
        if self.import.plan.dry_run {
            return remember(connection, self.import, &records).await;
        }
        // Concurrent imports with the same keys wait for each other. The fixed order of the keys
        // prevents deadlocks.
        records.sort_by_cached_key(R::EMAIL.unwrap_or(R::EXTERNAL_ID).of);
        let import = &self.import;
        records::insert_all(connection, import.workspace_id, Creator::import(import.id), &records).await?;
        link::restore::<R::Other>(connection, self.actor, &link::pairs(&records)).await
    }

    /// Drops links that are not possible. Returns the records that lost theirs.
    async fn keep_free<R: Importable>(&self, connection: &mut PgConnection, records: &mut [R]) -> Result<Vec<usize>> {
        let linked: Vec<bool> = records.iter().map(|record| record.link().is_some()).collect();
        if !linked.contains(&true) {
            return Ok(Vec::new());
        }
        link::keep_free(connection, self.import.workspace_id, records).await?;
        let lost = records.iter().zip(linked).enumerate();
        Ok(lost.filter(|(_, (record, linked))| *linked && record.link().is_none()).map(|(at, _)| at).collect())
    }
}

/// New records, each with the row that wrote it.
struct Created<R> {
    records: Vec<R>,
    sources: Vec<Source>,
}

impl<R> Created<R> {
    fn with_capacity(rows: usize) -> Self {
        Self { records: Vec::with_capacity(rows), sources: Vec::with_capacity(rows) }
    }
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

fn count(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
