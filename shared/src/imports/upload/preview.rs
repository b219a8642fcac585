//! How an import would read a stored upload.

use csv::ByteRecord;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::format::Format;
use super::super::grammar::{Records, is_blank_record};
use super::super::head::HEAD;
use super::super::packed;
use super::super::plan::MappingSource;
use super::super::stored::StoredReader;
use super::Upload;
use crate::error::Result;
use crate::platform::db::Pool;
use crate::values::json_schema::Shape;

/// How many rows are shown.
const ROWS: usize = 20;

/// How a file would be read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UploadPreview)]
pub struct Preview {
    /// The format of the file.
    #[schema(schema_with = Format::shape)]
    format: Format,
    /// The name of the encoding, as far as the file was read.
    encoding: String,
    /// The delimiter of the cells of a CSV file.
    delimiter: Option<String>,
    /// The line of the header, or the row of a sheet; `null` for JSON Lines.
    header_row: Option<u64>,
    /// The names of a workbook's sheets.
    sheets: Vec<String>,
    /// What becomes of each header: a field, `custom_fields.key`, `suppression`, `deleted`, or `null` for a column that
    /// is ignored.
    #[schema(value_type = HashMap<String, Option<String>>)]
    mapping: Value,
    /// Where the mapping comes from.
    #[schema(schema_with = MappingSource::shape)]
    mapping_source: MappingSource,
    /// The first 20 rows, by header.
    #[schema(value_type = Vec<HashMap<String, String>>)]
    rows: Vec<Value>,
}

impl Upload {
    /// Reads the head of a stored upload.
    ///
    /// # Errors
    /// Those of an import of the file.
    pub async fn preview(mut self, pool: &Pool, reader: &mut StoredReader) -> Result<Preview> {
        let (head, is_whole) = self.head(pool, reader).await?;
        let (plan, length) = self.plan(&head, is_whole, pool).await?;
        let mut records = Records::new(&head[length..], plan.delimiter, false, 1);
        let (mut record, mut rows) = (ByteRecord::new(), Vec::new());
        while rows.len() < ROWS && records.read(&mut record).is_some() {
            // The last record may go on after the head.
            if !is_whole && length + records.at() == head.len() {
                break;
            }
            if is_blank_record(records.raw(), plan.delimiter) {
                continue;
            }
            if plan.format.is_packed() {
                packed::unpack(&mut record);
            }
            let text = |cell: &[u8]| Value::from(String::from_utf8_lossy(cell).replace('\0', ""));
            let row: Map<_, _> = plan.headers.iter().cloned().zip(record.iter().map(text)).collect();
            rows.push(Value::Object(row));
        }
        Ok(Preview {
            format: plan.format,
            encoding: self.source.encoding().to_ascii_lowercase(),
            delimiter: plan.shown_delimiter(),
            header_row: plan.header_row,
            sheets: self.source.sheets(),
            mapping: plan.mapping(),
            mapping_source: plan.mapping_source,
            rows,
        })
    }

    /// The beginning of the text, and whether it is all of it.
    async fn head(&mut self, pool: &Pool, reader: &mut StoredReader) -> Result<(Vec<u8>, bool)> {
        let mut text = Vec::new();
        while let Some(data) = reader.next(pool).await? {
            for piece in data.chunks(super::PIECE) {
                self.source.push(piece)?;
                while let Some(piece) = self.source.pull()? {
                    text.extend(piece);
                    if text.len() > HEAD {
                        text.truncate(HEAD);
                        return Ok((text, false));
                    }
                }
            }
        }
        text.extend(self.source.finish()?);
        while let Some(piece) = self.source.rest().await? {
            text.extend(piece);
            if text.len() > HEAD {
                break;
            }
        }
        let is_whole = text.len() <= HEAD;
        text.truncate(HEAD);
        Ok((text, is_whole))
    }
}
