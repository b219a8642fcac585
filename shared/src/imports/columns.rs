//! Matching the headers of a file to fields.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Importable;
use super::dictionary::{Dictionary, Flag, HeaderEntry, Language, Meaning, dictionary, normal};
use super::parents;
use crate::error::{FieldError, FieldErrors, Result};
use crate::string_enum;
use crate::values::json_schema::Mode;

/// Where the values of a file's column go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This field of the record.
    Field(String),
    /// `custom_fields`, under the header.
    Custom,
    /// `custom_fields`, under this key.
    CustomAs(String),
    /// No field: the cells decide about the person.
    Flag(Flag),
    /// Nowhere.
    Ignored,
}

impl Target {
    /// Whether the column sets the field.
    pub fn supplies(&self, field: &str) -> bool {
        matches!(self, Self::Field(name) if name == field)
    }

    /// Whether the column means something to the program.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Field(_) | Self::Flag(_))
    }
}

string_enum! {
    /// How to handle columns that match no field.
    Unmapped {
        /// Stores their values in `custom_fields`.
        Keep = "keep",
        /// Ignores them.
        Ignore = "ignore",
    }
}

/// The field of everything else.
pub const CUSTOM_FIELDS: &str = "custom_fields";
/// The field of further addresses, a key of `custom_fields`.
pub(super) const OTHER_EMAILS: &str = "other_emails";
/// Read-only fields that files of other systems may have, too.
const TIMES_AND_ID: [&str; 3] = ["id", "created_at", "updated_at"];
const SUPPRESSION: &str = "suppression";
const DELETED: &str = "deleted";

/// The columns that a file of rejected rows has after its own. A corrected file may still have them; an
/// import ignores them.
pub const FAULT_COLUMNS: [&str; 3] = ["_line", "_outcome", "_faults"];

/// Whether a header is one of [`FAULT_COLUMNS`], or a numbered repetition of one: `_line (2)`.
pub fn is_fault_column(header: &str) -> bool {
    let digits = |text: &str| text.strip_suffix(')').is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
    let name = header.split_once(" (").filter(|(_, rest)| digits(rest)).map_or(header, |(name, _)| name);
    FAULT_COLUMNS.contains(&name)
}

/// The header of a custom field in an export with a column for each. It names the field where the key alone would
/// mean something else to an import.
pub fn custom_header<R: Importable>(key: &str) -> String {
    let form = normal(key);
    let names_field = R::COLUMNS.iter().chain(R::JOINED).any(|field| normal(field) == form);
    if names_field || !dictionary().header(R::HEADERS, &form).is_empty() || key.trim() != key || is_fault_column(key) {
        format!("{CUSTOM_FIELDS}.{key}")
    } else {
        key.to_owned()
    }
}

/// The targets of a file's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// The target of each column.
    pub targets: Vec<Target>,
    /// The place of each column among those with the same target; the lowest is the best.
    pub ranks: Vec<usize>,
    /// The language of most of the headers.
    pub language: Option<Language>,
}

impl Matched {
    /// The number of columns that mean something to the program.
    pub fn known(&self) -> usize {
        self.targets.iter().filter(|target| target.is_known()).count()
    }

    /// Whether a column sets the field.
    pub fn supplies(&self, field: &str) -> bool {
        self.targets.iter().any(|target| target.supplies(field))
    }
}

/// Matches the headers of a file to the fields of a record. The caller's mapping takes precedence; other
/// headers are matched by name and alias. Several columns may mean the same field.
pub fn match_headers<R: Importable>(headers: &[String], unmapped: Unmapped, given: &Mapping) -> Matched {
    let forms: Vec<String> = headers.iter().map(|header| normal(header)).collect();
    let present: HashSet<String> = forms.iter().cloned().collect();
    let signed = dictionary().signed(R::HEADERS, &present);
    let detected = Detected::of::<R>(headers, &forms, &signed);
    let rest = match unmapped {
        Unmapped::Keep if R::COLUMNS.contains(&CUSTOM_FIELDS) => Target::Custom,
        Unmapped::Keep | Unmapped::Ignore => Target::Ignored,
    };
    let columns = headers.iter().zip(&forms).zip(detected.meanings);
    let (targets, ranks) = columns
        .map(|((header, form), detected)| match given.target(header, form) {
            Some((target, rank)) => (target, rank),
            None => detected
                .filter(|(target, _)| !matches!(target, Target::Field(field) if given.supplies(field)))
                .unwrap_or_else(|| (rest.clone(), 0)),
        })
        .unzip();
    Matched { targets, ranks, language: detected.language }
}

/// The headers as the dictionary understands them.
struct Detected {
    /// The target of each column with its rank, if it has one.
    meanings: Vec<Option<(Target, usize)>>,
    language: Option<Language>,
}

impl Detected {
    fn of<R: Importable>(headers: &[String], forms: &[String], signed: &HashMap<String, Option<&str>>) -> Self {
        let words = dictionary();
        let candidates: Vec<Vec<&HeaderEntry>> = forms
            .iter()
            .map(|form| if signed.contains_key(form) { vec![] } else { entries::<R>(words, form) })
            .collect();
        let weights = weights(words, &candidates);
        let chosen: Vec<Option<&HeaderEntry>> = candidates
            .into_iter()
            // The first of the languages with the most headers; `max_by_key` returns the last one.
            .map(|entries| entries.into_iter().rev().max_by_key(|entry| weights[entry.language]))
            .collect();
        let has = |field: &str| chosen.iter().flatten().any(|entry| entry.meaning == Meaning::Field(field.to_owned()));
        let has_either = |meaning: &Meaning| chosen.iter().flatten().any(|entry| entry.meaning == *meaning);
        let has_first = has("first_name") || has_either(&Meaning::FirstNameOrName);
        let has_last = has("last_name") || has_either(&Meaning::LastNameOrName);
        let target = |entry: &HeaderEntry| match &entry.meaning {
            Meaning::Field(field) => Target::Field(renamed::<R>(field).to_owned()),
            Meaning::LastNameOrName => Target::Field(if has_first { "last_name" } else { "name" }.to_owned()),
            Meaning::FirstNameOrName => Target::Field(if has_last { "first_name" } else { "name" }.to_owned()),
            Meaning::Flag(flag) => Target::Flag(*flag),
            Meaning::PersonEmail | Meaning::PersonId => parents::target::<R>(&entry.meaning),
        };
        let columns = headers.iter().zip(forms).zip(&chosen);
        let meanings = columns
            .map(|((header, form), chosen)| {
                if let Some(field) = signed.get(form) {
                    return field.map(|field| (Target::Field(field.to_owned()), 0));
                }
                let own = own_name::<R>(header).map(|target| (target, 0));
                let own = own.or_else(|| chosen.map(|entry| (target(entry), entry.rank + 1)));
                own.or_else(|| near_name::<R>(form).map(|target| (target, 0)))
            })
            .collect();
        let language = (0..words.languages()).rev().max_by_key(|language| weights[*language]);
        Self { meanings, language: language.filter(|language| weights[*language] > 0) }
    }
}

/// The target of a header that is one of the program's own: the name of a field, or a custom field as an
/// export writes it.
fn own_name<R: Importable>(header: &str) -> Option<Target> {
    if is_fault_column(header) || R::JOINED.contains(&header) || R::NOT_EXPORTED.contains(&header) {
        return Some(Target::Ignored);
    }
    if let Some(key) = header.strip_prefix("custom_fields.").filter(|key| !key.is_empty()) {
        return R::COLUMNS.contains(&CUSTOM_FIELDS).then(|| Target::CustomAs(key.to_owned()));
    }
    is_column::<R>(header).then(|| Target::Field(header.to_owned()))
}

/// Whether files have the field: one of the record's, or one by which a row names the record's owner.
fn is_column<R: Importable>(field: &str) -> bool {
    R::COLUMNS.contains(&field) || parents::of::<R>().is_some_and(|parent| parent.names().contains(&field))
}

/// The field whose name the header is but for case and punctuation. A name such as `customer_id`, which has no
/// aliases, may mean something else in other systems.
fn near_name<R: Importable>(form: &str) -> Option<Target> {
    let is_near = |field: &&&str| dictionary().has_aliases(field) && normal(field) == form;
    R::COLUMNS.iter().find(is_near).map(|field| Target::Field((*field).to_owned()))
}

/// The meanings of a header for the kind of record.
fn entries<'d, R: Importable>(words: &'d Dictionary, form: &str) -> Vec<&'d HeaderEntry> {
    let is_of_kind = |entry: &&HeaderEntry| match &entry.meaning {
        Meaning::Field(field) => {
            R::COLUMNS.contains(&renamed::<R>(field)) || (field == OTHER_EMAILS && has_email::<R>())
        }
        Meaning::LastNameOrName | Meaning::FirstNameOrName => R::COLUMNS.contains(&"name"),
        Meaning::PersonEmail | Meaning::PersonId => R::OWNER.is_some(),
        Meaning::Flag(Flag::Converted) => R::CONVERTED.is_some(),
        Meaning::Flag(Flag::Cancelled) => R::CANCELLED.is_some(),
        Meaning::Flag(_) => true,
    };
    words.header(R::HEADERS, form).iter().filter(is_of_kind).collect()
}

/// The kind's name of a field in `config/import/`.
fn renamed<R: Importable>(field: &str) -> &str {
    R::RENAMED.iter().find(|(name, _)| *name == field).map_or(field, |(_, own)| *own)
}

/// How many headers each language knows.
fn weights(words: &Dictionary, candidates: &[Vec<&HeaderEntry>]) -> Vec<usize> {
    let mut weights = vec![0; words.languages()];
    for entries in candidates {
        let languages: HashSet<Language> = entries.iter().map(|entry| entry.language).collect();
        languages.into_iter().for_each(|language| weights[language] += 1);
    }
    weights
}

/// The caller's mapping of headers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    targets: HashMap<String, (Given, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Given {
    Target(Target),
    /// A suppression, as the header says.
    Suppression,
}

impl Mapping {
    /// Reads a mapping from header to field, `custom_fields.key`, `suppression`, `deleted`, or `null` for a column
    /// that is ignored. If several headers map to a field, the first is the best.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the mapping names an unknown field.
    pub fn parse<R: Importable>(mapping: &Map<String, Value>) -> Result<Self> {
        let mut errors = FieldErrors::default();
        let mut targets = HashMap::new();
        for (rank, (header, field)) in mapping.iter().enumerate() {
            match given::<R>(header, field) {
                Some(given) => _ = targets.insert(header.clone(), (given, rank)),
                None => errors.push(FieldError::new(
                    format!("mapping.{header}"),
                    "unknown",
                    "is not a field that can be imported",
                )),
            }
        }
        errors.check()?;
        Ok(Self { targets })
    }

    /// Checks that the file has every header.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every header that it does not have.
    pub fn check(&self, headers: &[String]) -> Result<()> {
        let unknown = self.targets.keys().filter(|header| !headers.contains(header));
        let mut unknown: Vec<(&String, usize)> = unknown.map(|header| (header, self.targets[header].1)).collect();
        unknown.sort_by_key(|(_, rank)| *rank);
        let mut errors = FieldErrors::default();
        errors.extend(
            unknown.into_iter().map(|(header, _)| {
                FieldError::new(format!("mapping.{header}"), "unknown", "is not a header of the file")
            }),
        );
        errors.check()
    }

    fn supplies(&self, field: &str) -> bool {
        self.targets.values().any(|(given, _)| matches!(given, Given::Target(target) if target.supplies(field)))
    }

    fn target(&self, header: &str, form: &str) -> Option<(Target, usize)> {
        let (given, rank) = self.targets.get(header)?;
        let flags = || dictionary().flags(form);
        let target = match given {
            Given::Suppression => Target::Flag(
                flags()
                    .find(|flag| !matches!(flag, Flag::Converted | Flag::Cancelled | Flag::Deleted))
                    .unwrap_or(Flag::OptedOut),
            ),
            // A result names the status as the field of such a column.
            Given::Target(target) if target.supplies("status") => flags()
                .find(|flag| matches!(flag, Flag::Converted | Flag::Cancelled))
                .map_or_else(|| target.clone(), Target::Flag),
            Given::Target(target) => target.clone(),
        };
        Some((target, *rank))
    }
}

fn given<R: Importable>(header: &str, field: &Value) -> Option<Given> {
    let Some(field) = field.as_str() else { return Some(Given::Target(Target::Ignored)) };
    // Read-only fields are those of an export, under their own names.
    let is_read_only = |name: &str| {
        let property = R::properties().into_iter().find(|property| property.name == name);
        property.is_some_and(|property| matches!(property.mode, Mode::Fixed))
            && !TIMES_AND_ID.contains(&name)
            && R::OWNER != Some(name)
    };
    if field != header && is_read_only(field) {
        return None;
    }
    Some(match field.strip_prefix("custom_fields.").filter(|key| !key.is_empty()) {
        Some(OTHER_EMAILS) if has_email::<R>() => Given::Target(Target::Field(OTHER_EMAILS.to_owned())),
        Some(key) if R::COLUMNS.contains(&CUSTOM_FIELDS) => Given::Target(Target::CustomAs(key.to_owned())),
        _ if field == SUPPRESSION => Given::Suppression,
        _ if field == DELETED => Given::Target(Target::Flag(Flag::Deleted)),
        _ if is_column::<R>(field) || (field == OTHER_EMAILS && has_email::<R>()) => {
            Given::Target(Target::Field(field.to_owned()))
        }
        _ => return None,
    })
}

/// What a mapping can make of a column, besides custom fields: the fields of the kind, those that name the record's
/// owner, and what the cells say about the person.
pub fn targets<R: Importable>() -> Vec<&'static str> {
    let owner = parents::of::<R>().into_iter().flat_map(|parent| parent.names());
    let fields = owner.filter(|name| !R::COLUMNS.contains(name)).chain(R::COLUMNS.iter().copied());
    let is_target = |field: &&str| *field != CUSTOM_FIELDS && given::<R>("", &Value::from(*field)).is_some();
    fields.chain([SUPPRESSION, DELETED]).filter(is_target).collect()
}

/// The mapping for the API: header → field, `null` for a column that is ignored.
pub fn as_json(headers: &[String], targets: &[Target]) -> Value {
    let entry = |(header, target): (&String, &Target)| {
        let field = match target {
            Target::Field(field) if field == OTHER_EMAILS => Value::from(format!("{CUSTOM_FIELDS}.{OTHER_EMAILS}")),
            Target::Field(field) => Value::from(field.as_str()),
            Target::Custom => Value::from(format!("{CUSTOM_FIELDS}.{header}")),
            Target::CustomAs(key) => Value::from(format!("{CUSTOM_FIELDS}.{key}")),
            Target::Flag(Flag::Converted | Flag::Cancelled) => Value::from("status"),
            Target::Flag(Flag::Deleted) => Value::from(DELETED),
            Target::Flag(_) => Value::from(SUPPRESSION),
            Target::Ignored => Value::Null,
        };
        (header.clone(), field)
    };
    Value::Object(headers.iter().zip(targets).map(entry).collect::<Map<_, _>>())
}

fn has_email<R: Importable>() -> bool {
    R::COLUMNS.contains(&"email")
}
