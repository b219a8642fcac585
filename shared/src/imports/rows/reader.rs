//! The columns of a file as cells are read: every decision that does not depend on a cell is made here, once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use chrono_tz::Tz;
use csv::StringRecord;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::draft::Draft;
use super::{OptOut, Row, RowFault, Rows, as_strings, required};
use crate::error::Result;
use crate::imports::cells::dates::DateForm;
use crate::imports::cells::numbers::NumberForm;
use crate::imports::columns::{CUSTOM_FIELDS, OTHER_EMAILS, Target};
use crate::imports::dictionary::{Flag, Language, Table, dictionary};
use crate::imports::outcomes::{Outcome, Report};
use crate::imports::owners::Owners;
use crate::imports::packed::CellKind;
use crate::imports::parents::{self, ParentNames};
use crate::imports::plan::{Plan, RowKey};
use crate::imports::{Importable, set};
use crate::mail::suppressions::Reason;
use crate::platform::db;
use crate::values::kind::Kind;
use crate::values::{Fault, Field, Time, is_blank};

/// How the cells of a column are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// Into `custom_fields`.
    Custom,
    /// Into the field, as its type reads text.
    Plain(&'static str),
    Date(&'static str, DateForm),
    Number(&'static str, NumberForm),
    Words(&'static str, &'static [&'static str], Table),
    Email,
    OtherEmails,
    Owner,
    Id,
    /// An id under a header of another system, which may write an apostrophe before digits.
    ForeignId,
    /// An id of another system, named by any text.
    NamedId(&'static str),
    /// A rating of five.
    Rating(&'static str),
    /// The id of the record that the row belongs to, ours or that of another system.
    ParentId(&'static str),
    /// The id of that record in another system.
    ParentExternalId(&'static str),
    /// The address of that record.
    ParentEmail(&'static str),
    /// `is_own` for the exact name, as exports write it.
    CreatedAt(DateForm, bool),
    UpdatedAt,
    Flag(Flag),
}

/// A column of the file.
#[derive(Debug)]
pub(super) struct ColumnReader<'p> {
    pub at: usize,
    /// The key under which the text of a cell is kept in `custom_fields`.
    pub key: &'p str,
    pub reading: Reading,
    /// The bit of the field, if other columns may set it, too.
    pub rivals: u64,
}

/// Reads the cells of rows into fields.
pub(super) struct RowReader<'p, R: Importable> {
    plan: &'p Plan,
    pub owners: &'p Owners,
    /// The columns whose cells are read, the best of each field first.
    columns: Vec<ColumnReader<'p>>,
    /// The fields that every record has, so that a cell that they cannot have rejects the row.
    required: Vec<&'static str>,
    /// The changes and custom fields of every row, as the caller set them, and the bits of these fields.
    template: R::Changes,
    custom: Map<String, Value>,
    /// The record that all rows belong to, as the caller set it.
    parent: Option<Uuid>,
    taken: u64,
    /// The bit of the status, which a flag may set.
    pub status: u64,
    pub tz: Tz,
    language: Option<Language>,
    /// New records are not created after this.
    pub now: Time,
    /// The values that were looked up, by the column.
    words: RefCell<HashMap<usize, HashMap<String, Option<&'static str>>>>,
}

/// A row that can be written, with its key if it has one.
type Judged<R> = (Draft<R>, Option<String>);

/// How many values of a column are remembered.
const REMEMBERED: usize = 1_000;

impl<'p, R: Importable> RowReader<'p, R> {
    pub fn new(plan: &'p Plan, owners: &'p Owners) -> Result<Self> {
        let mut bits = Bits::default();
        for field in plan.set.keys() {
            bits.share(field);
        }
        for target in &plan.targets {
            match target {
                Target::Field(field) => bits.count(field),
                Target::Flag(Flag::Converted | Flag::Cancelled) => bits.share("status"),
                _ => {}
            }
        }
        let targets = plan.targets.iter().enumerate();
        let mut columns: Vec<ColumnReader<'p>> =
            targets.filter_map(|(at, target)| column::<R>(plan, at, target, &bits)).collect();
        let rank = |column: &ColumnReader<'_>| match column.reading {
            // A flag decides before the columns of its field.
            Reading::Flag(_) => (0, 0),
            _ if column.rivals != 0 => (1, plan.ranks.get(column.at).copied().unwrap_or(0)),
            _ => (2, 0),
        };
        columns.sort_by_key(rank);
        let (template, custom) = set::template::<R>(&plan.set)?;
        let taken = plan.set.keys().fold(0, |taken, field| taken | bits.of(field));
        Ok(Self {
            plan,
            owners,
            columns,
            required: required::<R>().into_iter().filter(|field| !R::SUPPLIED.contains(field)).collect(),
            template,
            custom,
            parent: R::OWNER.and_then(|owner| Uuid::from_text(plan.set.get(owner)?.as_str()?).ok()),
            taken,
            status: bits.of("status"),
            tz: plan.tz.get(),
            language: plan.language.as_deref().and_then(|name| dictionary().language(name)),
            now: db::now(),
            words: RefCell::default(),
        })
    }

    /// Reads a row into `rows`: as a row to write, or with the reason why it is none. Cells beyond the `kinds` are
    /// plain text.
    pub fn read(
        &self,
        line: u64,
        cells: &StringRecord,
        kinds: &[CellKind],
        has_stray_quote: bool,
        rows: &mut Rows<R::Changes>,
    ) {
        let mut draft = Draft::<R>::new(self.template.clone(), self.taken);
        for column in &self.columns {
            let Some(text) = cells.get(column.at).map(str::trim).filter(|text| !text.is_empty()) else { continue };
            let text = self.plan.unguard(text);
            if !is_blank(&text) {
                draft.read(self, column, &text, kinds.get(column.at).copied().unwrap_or_default());
            }
        }
        if self.parent.is_some() {
            draft.parent = ParentNames { id: self.parent, ..ParentNames::default() };
        }
        for (column, text) in draft.unmatched.drain(..) {
            *rows.unmatched.entry(column).or_default().entry(text).or_default() += 1;
        }
        let email = R::email(&draft.changes).or(draft.parent.email.as_ref()).cloned();
        let opt_out = draft.opt_out.zip(email).map(|(reason, email)| OptOut { email, reason, line });
        match self.judge(draft, cells, line) {
            Ok((draft, key)) => {
                if R::SUPPRESSES {
                    // The further addresses of a cell are suppressed like the first.
                    let others = draft.other_emails.iter().cloned();
                    rows.opt_outs.extend(others.map(|email| OptOut { email, reason: Reason::Imported, line }));
                }
                let Draft { changes, given, parent, opt_out, mut warnings, .. } = draft;
                if has_stray_quote {
                    let message = "has a quote where none may stand; it was kept";
                    warnings.push(RowFault::new("file", Fault::new("quote", message)));
                }
                rows.rows.push(Row { line, changes, given, key, parent, opt_out, warnings, cells: cells.clone() });
            }
            Err((outcome, faults)) => {
                rows.opt_outs.extend(opt_out);
                rows.reports.push(Report { line, outcome, faults, cells: as_strings(cells) });
            }
        }
    }

    /// Returns a row that can be written, with its key, or why it is skipped or rejected.
    fn judge(
        &self,
        mut draft: Draft<R>,
        cells: &StringRecord,
        line: u64,
    ) -> Result<Judged<R>, (Outcome, Vec<RowFault>)> {
        let key = super::key::<R>(self.plan.key, &draft.changes, draft.given);
        if key.is_none() && draft.parent.is_empty() && self.is_trailing(cells, line) {
            let fault = Fault::new("trailing", "is a total or a remark after the last record");
            return Err((Outcome::Skipped, vec![RowFault::new("file", fault)]));
        }
        if draft.is_deleted {
            let fault = Fault::new("deleted", "is marked as deleted");
            return Err((Outcome::Skipped, vec![RowFault::new("file", fault)]));
        }
        let columns = self.plan.headers.len();
        let has_surplus = cells.len() > columns && cells.iter().skip(columns).any(|cell| !cell.trim().is_empty());
        let mut faults = Vec::new();
        if has_surplus {
            let message = format!("has {} cells for {columns} columns", cells.len());
            faults.push(RowFault::new("file", Fault::new("too_many_cells", message)));
        }
        let field = self.plan.key.as_str();
        let needs_key = R::KEYS.contains(&RowKey::Email);
        if needs_key && key.is_none() && draft.warnings.iter().all(|fault| fault.field != field) {
            faults.push(RowFault::new(field, Fault::new("required", "is required")));
        }
        if let Err(fault) = draft.keep_custom(&self.custom) {
            faults.push(RowFault::new(CUSTOM_FIELDS, fault));
        }
        let is_fatal = |fault: &RowFault| {
            self.plan.strict || (self.required.contains(&&*fault.field) && !R::sets(&draft.changes, &fault.field))
        };
        let has_key = key.is_some() || !needs_key;
        match has_key && faults.is_empty() && !draft.warnings.iter().any(is_fatal) {
            true => Ok((draft, key)),
            false => {
                faults.append(&mut draft.warnings);
                // The fault of the key comes first: it is why the row is rejected.
                faults.sort_by_key(|fault| fault.field != "file" && fault.field != field);
                Err((Outcome::Failed, faults))
            }
        }
    }

    /// Whether a row without a key is not a record, but belongs to the end of the file.
    fn is_trailing(&self, cells: &StringRecord, line: u64) -> bool {
        if line < self.plan.tail_from || self.plan.headers.len() < 2 {
            return false;
        }
        let mut texts = cells.iter().map(str::trim).filter(|cell| !cell.is_empty());
        let first = texts.next();
        texts.next().is_none() || first.is_some_and(|first| dictionary().is_total(first))
    }

    /// The value that a cell of a column means.
    pub fn value(&self, column: usize, table: Table, text: &str) -> Option<&'static str> {
        let mut words = self.words.borrow_mut();
        let known = words.entry(column).or_default();
        if let Some(value) = known.get(text) {
            return *value;
        }
        let value = dictionary().value(table, text, self.language);
        if known.len() < REMEMBERED {
            known.insert(text.to_owned(), value);
        }
        value
    }

    /// The field of a column, or its header.
    pub fn field(&self, at: usize) -> Cow<'static, str> {
        match self.plan.targets.get(at) {
            Some(Target::Field(field)) => match R::COLUMNS.iter().find(|known| *known == field) {
                Some(known) => Cow::Borrowed(*known),
                None => field.clone().into(),
            },
            _ => self.plan.headers.get(at).map_or(Cow::Borrowed("file"), |header| header.clone().into()),
        }
    }
}

/// The bits of the fields that several columns may set.
#[derive(Default)]
struct Bits {
    fields: HashMap<String, u64>,
    counted: HashSet<String>,
}

impl Bits {
    /// Counts a column of the field.
    fn count(&mut self, field: &str) {
        // An id of another system becomes an external id.
        let field = if field == "id" { "external_id" } else { field };
        if !self.counted.insert(field.to_owned()) {
            self.share(field);
        }
    }

    /// Gives the field a bit.
    fn share(&mut self, field: &str) {
        let next = 1_u64.checked_shl(u32::try_from(self.fields.len()).unwrap_or(u32::MAX)).unwrap_or(0);
        self.fields.entry(field.to_owned()).or_insert(next);
    }

    /// The bit of the field; 0 if only one column sets it.
    fn of(&self, field: &str) -> u64 {
        self.fields.get(if field == "id" { "external_id" } else { field }).copied().unwrap_or(0)
    }
}

/// The reader of a column; `None` for one that is ignored.
fn column<'p, R: Importable>(plan: &'p Plan, at: usize, target: &'p Target, bits: &Bits) -> Option<ColumnReader<'p>> {
    let header = plan.headers.get(at)?.as_str();
    let form = plan.forms.get(at).copied().unwrap_or_default();
    let (key, reading, rivals) = match target {
        Target::Ignored => return None,
        Target::Custom => (header, Reading::Custom, 0),
        Target::CustomAs(key) => (key.as_str(), Reading::Custom, 0),
        Target::Flag(flag) => (header, Reading::Flag(*flag), 0),
        Target::Field(field) if field == OTHER_EMAILS => (header, Reading::OtherEmails, 0),
        Target::Field(field) if parents::of::<R>().is_some_and(|of| of.names().contains(&field.as_str())) => {
            let parents = parents::of::<R>()?;
            let reading = match field {
                field if field == parents.email => Reading::ParentEmail(parents.email),
                field if field == parents.external_id => Reading::ParentExternalId(parents.external_id),
                _ => Reading::ParentId(parents.id),
            };
            (header, reading, bits.of(field))
        }
        Target::Field(field) => {
            let known = R::FIELDS.iter().find(|known| known.name == field)?;
            let table = R::WORDS.iter().find(|(of, _)| of == field).map(|(_, table)| *table);
            let reading = match (known.name, known.kind) {
                ("id", _) => Reading::Id,
                ("external_id", _) if header != "external_id" => Reading::ForeignId,
                ("created_at", _) => Reading::CreatedAt(form.into(), header == "created_at"),
                ("updated_at", _) => Reading::UpdatedAt,
                ("email", _) => Reading::Email,
                ("assigned_to", _) => Reading::Owner,
                (name, _) if R::NAMED_IDS.contains(&name) => Reading::NamedId(name),
                (name, _) if R::RATINGS.contains(&name) => Reading::Rating(name),
                (name, Kind::Time) => Reading::Date(name, form.into()),
                (name, Kind::Number) => Reading::Number(name, form.into()),
                (name, Kind::Word(words)) => {
                    table.map_or(Reading::Plain(name), |table| Reading::Words(name, words, table))
                }
                (name, _) => Reading::Plain(name),
            };
            (header, reading, bits.of(field))
        }
    };
    Some(ColumnReader { at, key, reading, rivals })
}
