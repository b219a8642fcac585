//! Tables as files of other formats than CSV.

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Map, Value};

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Csv,
    Jsonl,
    Xlsx,
}

impl Format {
    /// Writes a CSV file in this format beside it, and returns the new file.
    pub fn convert(self, csv: &Path) -> Result<PathBuf> {
        if self == Self::Csv {
            return Ok(csv.to_owned());
        }
        let path = csv.with_extension(if self == Self::Jsonl { "jsonl" } else { "xlsx" });
        let read = || File::open(csv).map(BufReader::new);
        read()?;
        self.write(BufWriter::new(File::create(&path)?), || read().ok())?;
        Ok(path)
    }

    /// The text of a CSV file in this format.
    pub fn of_text(self, csv: &str) -> Result<Vec<u8>> {
        if self == Self::Csv {
            return Ok(csv.as_bytes().to_vec());
        }
        let mut file = Cursor::new(Vec::new());
        self.write(&mut file, || Some(csv.as_bytes()))?;
        Ok(file.into_inner())
    }

    /// Writes a table in JSON Lines or as a workbook. `open` opens its CSV file.
    fn write<R: Read>(self, mut file: impl Write + Seek, open: impl Fn() -> Option<R>) -> Result<()> {
        let rows = || open().into_iter().flat_map(rows);
        if self == Self::Xlsx {
            return testing::workbook::write_table(file, rows);
        }
        let mut rows = rows();
        let headers = rows.next().context("the file has no header")?;
        for row in rows {
            let object: Map<String, Value> = headers.iter().cloned().zip(row.into_iter().map(Value::from)).collect();
            writeln!(file, "{}", Value::Object(object))?;
        }
        Ok(file.flush()?)
    }
}

fn rows(csv: impl Read) -> impl Iterator<Item = Vec<String>> {
    let reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv);
    reader.into_records().map_while(Result::ok).map(|row| row.iter().map(str::to_owned).collect())
}
