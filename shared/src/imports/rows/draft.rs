//! A row while its cells are read.

use chrono::SecondsFormat;
use serde_json::{Map, Value};

use super::reader::{ColumnReader, Reading, RowReader};
use super::{Given, RowFault};
use crate::imports::Importable;
use crate::imports::cells::dates::{self, DateEvidence, DateForm};
use crate::imports::cells::emails;
use crate::imports::cells::numbers::{self, NumberForm};
use crate::imports::cells::ratings;
use crate::imports::columns::{CUSTOM_FIELDS, OTHER_EMAILS};
use crate::imports::dictionary::{DO_NOT_CONTACT, Flag, Table, dictionary};
use crate::imports::packed::CellKind;
use crate::imports::parents::ParentNames;
use crate::mail::suppressions::Reason;
use crate::values::patch::Patch;
use crate::values::{CustomFields, Email, EmailHash, Fault, Field, Time};
use uuid::Uuid;

/// The namespace of the ids that are made of texts (UUID v5).
const NAMED_IDS: Uuid = Uuid::from_u128(0x6d0c_55a1_9f0e_4f5b_8a3e_3b1d_2c47_9e60);

/// What the cells of a row said so far.
pub(super) struct Draft<R: Importable> {
    pub changes: R::Changes,
    pub given: Given,
    pub parent: ParentNames,
    custom: Map<String, Value>,
    pub warnings: Vec<RowFault>,
    /// Values that a field does not know, with the index of their column.
    pub unmatched: Vec<(usize, String)>,
    pub other_emails: Vec<Email>,
    pub opt_out: Option<Reason>,
    pub is_deleted: bool,
    /// The bits of the fields that are set.
    taken: u64,
}

impl<R: Importable> Draft<R> {
    pub fn new(changes: R::Changes, taken: u64) -> Self {
        Self {
            changes,
            given: Given::default(),
            parent: ParentNames::default(),
            custom: Map::new(),
            warnings: Vec::new(),
            unmatched: Vec::new(),
            other_emails: Vec::new(),
            opt_out: None,
            is_deleted: false,
            taken,
        }
    }

    /// Reads a cell that is not empty.
    pub fn read(&mut self, reader: &RowReader<'_, R>, column: &ColumnReader<'_>, text: &str, kind: CellKind) {
        match kind {
            CellKind::Text | CellKind::Number => self.read_text(reader, column, text, kind),
            CellKind::Json => self.read_json(reader, column, text),
            CellKind::Error => {
                let fault = Fault::new("invalid", "is an error of the workbook, or a formula without a result");
                self.warnings.push(RowFault::new(reader.field(column.at), fault));
                self.keep(column, text);
            }
        }
    }

    /// Reads a JSON value that is no string. Fields have single values, except custom fields and addresses.
    fn read_json(&mut self, reader: &RowReader<'_, R>, column: &ColumnReader<'_>, json: &str) {
        let is_single = !json.starts_with(['{', '[']);
        match (column.reading, serde_json::from_str(json)) {
            (Reading::Custom, Ok(value)) => _ = self.custom.insert(column.key.to_owned(), value),
            (Reading::Email | Reading::OtherEmails, Ok(Value::Array(values))) => {
                let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
                self.read_text(reader, column, &texts.join("; "), CellKind::Text);
            }
            (Reading::Plain(CUSTOM_FIELDS), _) => self.read_text(reader, column, json, CellKind::Text),
            _ if is_single => self.read_text(reader, column, json, CellKind::Number),
            (_, value) => {
                let fault = Fault::new("invalid", "must be a single value, not an object or a list");
                self.warnings.push(RowFault::new(reader.field(column.at), fault));
                self.custom.insert(column.key.to_owned(), value.unwrap_or_else(|_| Value::from(json)));
            }
        }
    }

    fn read_text(&mut self, reader: &RowReader<'_, R>, column: &ColumnReader<'_>, text: &str, kind: CellKind) {
        if self.taken & column.rivals != 0 && !matches!(column.reading, Reading::Id) {
            return self.unused(reader, column, text);
        }
        let (field, read) = match column.reading {
            Reading::Custom => return self.keep(column, text),
            Reading::Plain(field) => (field, R::set(&mut self.changes, field, text)),
            Reading::Date(field, form) => (field, self.date(field, text, form, reader)),
            Reading::Number(field, _) if kind == CellKind::Number => {
                (field, self.number(field, text, NumberForm::POINT))
            }
            Reading::Number(field, form) => (field, self.number(field, text, form)),
            Reading::Words(field, words, table) => {
                return self.word(reader, column, (field, words, table), text);
            }
            Reading::Email => return self.email(column, text),
            Reading::OtherEmails => return self.further_emails(column, text),
            Reading::Owner => return self.owner(reader, column, text),
            Reading::Id => return self.id(column, text),
            Reading::ForeignId => ("external_id", R::set(&mut self.changes, "external_id", bare_id(text))),
            Reading::NamedId(field) => (field, self.named_id(column, field, text)),
            Reading::Rating(field) => (field, R::set(&mut self.changes, field, &ratings::read(text))),
            Reading::ParentId(field) => (field, self.parent.read_id(bare_id(text))),
            Reading::ParentExternalId(field) => (field, self.parent.read_external_id(bare_id(text))),
            Reading::ParentEmail(field) => return self.parent_email(column, field, text),
            Reading::CreatedAt(form, is_own) => {
                let time = dates::read(text, form, reader.tz).and_then(|time| match is_own || time <= reader.now {
                    true => Ok(time),
                    false => Err(Fault::new("out_of_range", "must not be in the future")),
                });
                ("created_at", time.map(|time| self.given.created_at = Some(time)))
            }
            Reading::UpdatedAt => {
                let time = dates::read(text, DateEvidence::default().form(false), reader.tz);
                ("updated_at", time.map(|time| self.given.updated_at = Some(time)))
            }
            Reading::Flag(flag) => return self.flag(reader, column, flag, text),
        };
        match read {
            Ok(()) => self.taken |= column.rivals,
            Err(fault) => self.bad(column, field, fault, text),
        }
    }

    /// Keeps the text of a cell in `custom_fields`.
    fn keep(&mut self, column: &ColumnReader<'_>, text: &str) {
        self.custom.insert(column.key.to_owned(), Value::from(text));
    }

    /// A cell that its field cannot have costs the cell, not the row.
    fn bad(&mut self, column: &ColumnReader<'_>, field: &'static str, fault: Fault, text: &str) {
        self.warnings.push(RowFault::new(field, fault));
        // Custom fields cannot have this character, which may be why the field cannot.
        self.keep(column, &text.replace('\0', ""));
    }

    /// Keeps the cell of a column whose field a better column has set.
    fn unused(&mut self, reader: &RowReader<'_, R>, column: &ColumnReader<'_>, text: &str) {
        match column.reading {
            Reading::Email => self.further_emails(column, text),
            Reading::Words(field, _, table) => {
                self.keep(column, text);
                // What is cancelled stays so, whatever a better column says.
                if let Some(cancelled) = R::CANCELLED.filter(|word| reader.value(column.at, table, text) == Some(*word))
                {
                    self.set_word(column, field, cancelled);
                }
            }
            _ => self.keep(column, text),
        }
    }

    fn date(
        &mut self,
        field: &'static str,
        text: &str,
        form: DateForm,
        reader: &RowReader<'_, R>,
    ) -> Result<(), Fault> {
        let time: Time = dates::read(text, form, reader.tz)?;
        R::set(&mut self.changes, field, &time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    fn number(&mut self, field: &'static str, text: &str, form: NumberForm) -> Result<(), Fault> {
        match numbers::read(text, form) {
            Ok(number) => R::set(&mut self.changes, field, &number),
            // Three digits after the column's decimal separator are a group only if that is a value of the field.
            Err(fault) => match form.decimal.and_then(|decimal| numbers::either(text, decimal)) {
                Some((with_decimals, whole)) if R::set(&mut R::Changes::default(), field, &whole).is_err() => {
                    R::set(&mut self.changes, field, &with_decimals)
                }
                _ => Err(fault),
            },
        }
    }

    /// Reads a value of a fixed set. Its text is kept, unless it is the value itself.
    fn word(
        &mut self,
        reader: &RowReader<'_, R>,
        column: &ColumnReader<'_>,
        (field, words, table): (&'static str, &[&'static str], Table),
        text: &str,
    ) {
        if let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
            self.set_word(column, field, word);
            return;
        }
        self.keep(column, text);
        match reader.value(column.at, table, text) {
            Some(DO_NOT_CONTACT) => {
                self.opt_out(Reason::Imported);
                if let Some(lost) = words.iter().find(|word| **word == "lost") {
                    self.set_word(column, field, lost);
                }
            }
            Some(word) => self.set_word(column, field, word),
            None if table == Table::CustomerStatuses
                && reader.value(column.at, Table::Statuses, text) == Some(DO_NOT_CONTACT) =>
            {
                self.opt_out(Reason::Imported);
            }
            None => {
                self.warnings.push(RowFault::new(field, Fault::new("unknown", "is not a known value of the field")));
                self.unmatched.push((column.at, text.to_owned()));
            }
        }
    }

    fn set_word(&mut self, column: &ColumnReader<'_>, field: &'static str, word: &str) {
        let word = R::NEAREST_WORDS.iter().find(|(other, _)| *other == word).map_or(word, |(_, nearest)| *nearest);
        if R::set(&mut self.changes, field, word).is_ok() {
            self.taken |= column.rivals;
        }
    }

    fn email(&mut self, column: &ColumnReader<'_>, text: &str) {
        if R::SUPPRESSES && text.len() == EmailHash::LENGTH && R::set(&mut self.changes, "email_hash", text).is_ok() {
            self.taken |= column.rivals;
            return;
        }
        if text.is_ascii() && R::set(&mut self.changes, "email", text).is_ok() {
            self.taken |= column.rivals;
            return;
        }
        let mut found = emails::read(text);
        if found.valid.is_empty() {
            let fault = R::set(&mut R::Changes::default(), "email", text).err();
            let fault = fault.unwrap_or_else(|| Fault::new("invalid", "must be an email address"));
            return self.bad(column, "email", fault, text);
        }
        let others = found.valid.split_off(1);
        if found.valid.iter().all(|email| R::set(&mut self.changes, "email", email.as_ref()).is_ok()) {
            self.taken |= column.rivals;
        }
        self.other_emails.extend(others);
        if found.has_rest {
            self.bad(column, "email", Fault::new("invalid", "has text that is not an email address"), text);
        }
    }

    /// Reads an id of another system. A text that is none always has the same id, and is kept.
    fn named_id(&mut self, column: &ColumnReader<'_>, field: &'static str, text: &str) -> Result<(), Fault> {
        if Uuid::from_text(text).is_ok() {
            return R::set(&mut self.changes, field, text);
        }
        self.keep(column, text);
        R::set(&mut self.changes, field, &Uuid::new_v5(&NAMED_IDS, text.as_bytes()).to_string())
    }

    /// Reads the address of the record that the row belongs to.
    fn parent_email(&mut self, column: &ColumnReader<'_>, field: &'static str, text: &str) {
        let found = emails::read(text);
        match found.valid.into_iter().next() {
            Some(email) => {
                self.parent.email.get_or_insert(email);
                self.taken |= column.rivals;
            }
            None => self.bad(column, field, Fault::new("invalid", "must be an email address"), text),
        }
    }

    fn further_emails(&mut self, column: &ColumnReader<'_>, text: &str) {
        let found = emails::read(text);
        if found.has_rest || found.valid.is_empty() {
            self.keep(column, text);
        }
        self.other_emails.extend(found.valid);
    }

    fn owner(&mut self, reader: &RowReader<'_, R>, column: &ColumnReader<'_>, text: &str) {
        let user = reader.owners.find(text);
        if user.is_some_and(|id| R::set(&mut self.changes, "assigned_to", &id.to_string()).is_ok()) {
            self.taken |= column.rivals;
        } else {
            self.keep(column, text);
            self.unmatched.push((column.at, text.to_owned()));
        }
    }

    /// Reads an id. One of another system is an external id.
    fn id(&mut self, column: &ColumnReader<'_>, text: &str) {
        if let Ok(id) = Uuid::from_text(text) {
            self.given.id = Some(id);
            return;
        }
        if self.taken & column.rivals != 0 {
            return self.keep(column, text);
        }
        match R::set(&mut self.changes, "external_id", text) {
            Ok(()) => self.taken |= column.rivals,
            Err(fault) => self.bad(column, "external_id", fault, text),
        }
    }

    fn flag(&mut self, reader: &RowReader<'_, R>, column: &ColumnReader<'_>, flag: Flag, text: &str) {
        let said = said(flag, text);
        match (flag, said) {
            (_, None) => {
                self.keep(column, text);
                self.warnings.push(RowFault::new(
                    reader.field(column.at),
                    Fault::new("unknown", "does not say yes or no; nothing was concluded from it"),
                ));
                self.unmatched.push((column.at, text.to_owned()));
            }
            (Flag::OptedOut, Some(true)) | (Flag::Consent | Flag::MarketingStatus, Some(false)) => {
                self.opt_out(Reason::Imported);
            }
            (Flag::Bounced, Some(true)) => self.opt_out(Reason::Bounced),
            (Flag::Converted, Some(true))
                if R::CONVERTED.is_some_and(|word| R::set(&mut self.changes, "status", word).is_ok()) =>
            {
                self.taken |= reader.status;
            }
            (Flag::Cancelled, Some(true))
                if R::CANCELLED.is_some_and(|word| R::set(&mut self.changes, "status", word).is_ok()) =>
            {
                self.keep(column, text);
                self.taken |= reader.status;
            }
            (Flag::Deleted, Some(true)) => self.is_deleted = true,
            _ => {}
        }
    }

    /// A bounce outweighs a person's wish: nothing at all can be sent.
    fn opt_out(&mut self, reason: Reason) {
        if self.opt_out != Some(Reason::Bounced) {
            self.opt_out = Some(reason);
        }
    }

    /// Adds the kept cells to the custom fields that a column of JSON may have set; `set` are those of every row.
    pub fn keep_custom(&mut self, set: &Map<String, Value>) -> Result<(), Fault> {
        let own = R::email_key(&self.changes);
        let mut others: Vec<&Email> = Vec::new();
        for email in &self.other_emails {
            let key = email.key();
            if Some(&key) != own.as_ref() && others.iter().all(|other| other.key() != key) {
                others.push(email);
            }
        }
        if !others.is_empty() {
            let others: Vec<Value> = others.into_iter().map(|email| Value::from(email.as_ref())).collect();
            self.custom.insert(OTHER_EMAILS.to_owned(), Value::from(others));
        }
        if self.custom.is_empty() && set.is_empty() {
            return Ok(());
        }
        // A kind without custom fields loses the text, which the row's report still has.
        let Some(fields) = R::custom_fields_mut(&mut self.changes) else { return Ok(()) };
        let mut all = match std::mem::take(fields) {
            Patch::Set(fields) => fields.to_map(),
            Patch::Clear | Patch::Keep => Map::new(),
        };
        all.append(&mut self.custom);
        all.extend(set.clone());
        *fields = Patch::Set(CustomFields::new(all, CustomFields::IMPORT_LIMITS)?);
        Ok(())
    }
}

/// An id without the apostrophe by which some systems keep spreadsheets from reading it as a number.
fn bare_id(text: &str) -> &str {
    let digits =
        text.strip_prefix('\'').filter(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    digits.unwrap_or(text)
}

/// What the cell of a flag says: yes or no, or neither.
fn said(flag: Flag, text: &str) -> Option<bool> {
    let words = dictionary();
    let is_subscribed = words.is_subscribed(text);
    let yes_or_no = || words.yes_or_no(text);
    let by_date = || dates::is_date(text).then_some(true);
    match flag {
        // A word such as "refused" is no answer to "no emails?", but says the same in each of these columns.
        Flag::OptedOut => is_subscribed.map(|is| !is).or_else(yes_or_no).or_else(by_date),
        Flag::Consent => is_subscribed.or_else(yes_or_no).or_else(by_date),
        Flag::MarketingStatus => is_subscribed.or_else(yes_or_no),
        Flag::Bounced => Some(yes_or_no().unwrap_or(true)),
        Flag::Converted | Flag::Cancelled | Flag::Deleted => yes_or_no().or_else(by_date),
    }
}
