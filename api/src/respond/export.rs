//! Files of all records of a list, as CSV or JSON Lines.

use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde_json::Value;
use shared::error::FieldError;
use shared::events::{self, EventType, NewEvent, Subject, SubjectType};
use shared::imports::Importable;
use shared::imports::columns::custom_header;
use shared::query::parameters::Parameters;
use shared::query::{self, Item, List};
use shared::records::Record;
use shared::records::csv::{CsvRows, Layout, delimiter};
use shared::string_enum;

use crate::AppState;
use crate::extract::Query;
use crate::http::auth::Caller;
use crate::respond::streams::{self, Format, Source};
use crate::respond::{Problem, Result};

/// The parameters of pages, which an export has not.
const PAGED: [&str; 3] = ["limit", "cursor", "count"];
/// The parameters of an export besides those of its list.
const OWN: [&str; 4] = ["format", "custom", "delimiter", "bom"];
/// The maximum number of custom fields that are columns of their own.
pub const MAX_CUSTOM_COLUMNS: u32 = 500;

string_enum! {
    /// The format of an exported file.
    FileFormat {
        /// Comma-separated values.
        Csv = "csv",
        /// A JSON object on each line.
        JsonLines = "jsonl",
    }
}

string_enum! {
    /// How an exported file has the custom fields.
    CustomFields {
        /// As one column of JSON.
        Json = "json",
        /// As a column for each.
        Columns = "columns",
    }
}

/// How a file is written.
struct Options {
    format: FileFormat,
    custom: CustomFields,
    delimiter: u8,
    bom: bool,
}

/// Responds with a file of all records that match the query string's filters.
///
/// # Errors
/// 400 for invalid parameters.
pub async fn export<R: Importable>(state: &AppState, caller: &Caller, Query(parameters): Query) -> Result {
    let workspace_id = caller.workspace_id;
    let (own, parameters): (Vec<_>, Vec<_>) =
        parameters.into_iter().partition(|(name, _)| OWN.contains(&name.as_str()));
    let options = Options::parse(&own)?;
    let (spec, columns) = (const { &R::EXPORT }, R::columns());
    let paged = parameters.iter().filter(|(name, _)| PAGED.contains(&name.as_str()));
    let errors: Vec<FieldError> =
        paged.map(|(name, _)| FieldError::new(name, "unknown", "is not a parameter of an export")).collect();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let list = List::parse(spec, workspace_id, &parameters)?;
    let fields = list.fields.clone().or_else(stored::<R>);
    report::<R>(state, caller).await?;
    let (kind, body) = match options.format {
        FileFormat::JsonLines => {
            let source = Source::new(state, workspace_id, columns, list);
            ("application/jsonl", streams::all::<R>(source, JsonLines::new::<R>(fields)).await?)
        }
        FileFormat::Csv => {
            let custom = match options.custom {
                CustomFields::Json => Vec::new(),
                // The kind has none.
                CustomFields::Columns if !spec.has_custom_fields() => Vec::new(),
                CustomFields::Columns => {
                    let mut connection = state.connection().await?;
                    query::custom_keys(&mut connection, &list, workspace_id, MAX_CUSTOM_COLUMNS).await?
                }
            };
            // A header must not mean another field to an import.
            let custom = custom.into_iter().map(|key| (key.clone(), custom_header::<R>(&key))).collect();
            let layout = Layout::new::<R>(fields.as_deref(), custom);
            let format = Csv { layout, delimiter: options.delimiter, bom: options.bom };
            let source = Source::new(state, workspace_id, columns, list);
            ("text/csv; charset=utf-8; header=present", streams::all::<R>(source, format).await?)
        }
    };
    let disposition = format!("attachment; filename=\"{}.{}\"", spec.table, options.format.as_str());
    Ok(([(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, &disposition)], body).into_response())
}

/// Records in the audit log that the caller exports records of a kind, before the first of them is sent.
async fn report<R: Record>(state: &AppState, caller: &Caller) -> Result<()> {
    let exported = EventType::from_word(&format!("{}.exported", R::TYPE.as_str()));
    let exported = exported.ok_or_else(|| Problem::internal("the export of a kind of record has no event"))?;
    let subject = Subject { kind: SubjectType::Workspace, id: caller.workspace_id };
    let event = NewEvent::new(exported, subject, &Value::Null).map_err(Problem::from)?;
    Ok(events::record(&mut *state.connection().await?, &caller.actor(), vec![event]).await?)
}

/// The fields that a file has by default, if these are not all that are stored.
fn stored<R: Importable>() -> Option<Vec<&'static str>> {
    let is_read = |field: &&&str| !R::NOT_EXPORTED.contains(*field);
    (!R::NOT_EXPORTED.is_empty()).then(|| R::COLUMNS.iter().filter(is_read).copied().collect())
}

impl Options {
    fn parse(pairs: &[(String, String)]) -> Result<Self> {
        let mut parameters = Parameters::new(pairs);
        let format = parameters.take("format").unwrap_or(FileFormat::Csv);
        let custom: Option<CustomFields> = parameters.take("custom");
        let delimiter = parameters.take_as("delimiter", delimiter);
        let bom: Option<bool> = parameters.take("bom");
        if format == FileFormat::JsonLines {
            let given = [("custom", custom.is_some()), ("delimiter", delimiter.is_some()), ("bom", bom.is_some())];
            for (name, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                parameters.refuse(FieldError::new(name, "unknown", "is only a parameter of CSV"));
            }
        }
        parameters.finish()?;
        Ok(Self {
            format,
            custom: custom.unwrap_or(CustomFields::Json),
            delimiter: delimiter.unwrap_or(b','),
            bom: bom.unwrap_or(false),
        })
    }
}

/// CSV with a header row.
#[derive(Debug)]
struct Csv {
    layout: Layout,
    delimiter: u8,
    /// Whether the file begins with a byte order mark, by which Excel recognizes UTF-8.
    bom: bool,
}

impl Csv {
    fn write(&self, piece: &mut Vec<u8>, write: impl FnOnce(&mut CsvRows)) -> shared::Result<()> {
        let mut rows = CsvRows::delimited(std::mem::take(piece), self.delimiter);
        write(&mut rows);
        *piece = rows.into_bytes()?;
        Ok(())
    }
}

impl<R: Record> Format<R> for Csv {
    fn begin(&mut self, piece: &mut Vec<u8>) -> shared::Result<()> {
        if self.bom {
            piece.extend_from_slice("\u{feff}".as_bytes());
        }
        self.write(piece, |rows| self.layout.write_header(rows))
    }

    fn records(&mut self, records: &[R], piece: &mut Vec<u8>) -> shared::Result<()> {
        self.write(piece, |rows| records.iter().for_each(|record| self.layout.write(rows, record)))
    }

    fn end(&mut self, _: &mut Vec<u8>) {}
}

/// A JSON object on each line.
#[derive(Debug)]
struct JsonLines {
    /// The only fields to send, if not all.
    fields: Option<Vec<&'static str>>,
}

impl JsonLines {
    /// Lines with only these fields, or with all that an import reads.
    fn new<R: Record>(fields: Option<Vec<&'static str>>) -> Self {
        let stored = || (!R::JOINED.is_empty()).then(|| R::COLUMNS.to_vec());
        Self { fields: fields.or_else(stored) }
    }
}

impl<R: Record> Format<R> for JsonLines {
    fn begin(&mut self, _: &mut Vec<u8>) -> shared::Result<()> {
        Ok(())
    }

    fn records(&mut self, records: &[R], piece: &mut Vec<u8>) -> shared::Result<()> {
        for record in records {
            record.write_json(self.fields.as_deref(), piece)?;
            piece.push(b'\n');
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) {}
}
