//! Reads a sheet of an Excel workbook (.xlsx), in bounded memory.
//!
//! A workbook is a ZIP archive of XML parts. Its shared strings are read first, because cells refer to them by
//! number; the cells are then read one after the other. No number in the file decides how much is allocated.

mod archive;
mod sheet;
mod strings;
mod styles;
mod workbook;
mod xml;

use std::fs::File;
use std::io;

use tokio::sync::{Semaphore, mpsc};

use crate::error::{Error, Result};
use archive::Archive;
use sheet::SheetReader;
use workbook::Workbook;

/// How many bytes of text are read before they are handed over.
const PIECE: usize = 64 * 1024;
/// How many workbooks a process reads at once; others wait. Each may need about 100 MiB.
static READING: Semaphore = Semaphore::const_new(2);

/// The rows of a sheet that is being read, as packed records.
#[derive(Debug)]
pub(super) struct Rows {
    pieces: mpsc::Receiver<Piece>,
    sheets: Vec<String>,
}

#[derive(Debug)]
enum Piece {
    Sheets(Vec<String>),
    Text(Vec<u8>),
    Failed(Error),
    /// The sheet was read to its end.
    End,
}

impl Rows {
    /// Begins to read the sheet with the name, or the first one.
    pub fn read(file: File, sheet: Option<String>, temp_dir: &str) -> Self {
        let (sender, pieces) = mpsc::channel(4);
        let temp_dir = temp_dir.to_owned();
        tokio::spawn(async move {
            // The semaphore is never closed.
            let Ok(permit) = READING.acquire().await else { return };
            let read = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                // If the receiver is gone, nobody needs the rest.
                let mut send = |piece| sender.blocking_send(piece).is_ok();
                let ended = read(file, sheet.as_deref(), &temp_dir, &mut send);
                send(ended.map_or_else(Piece::Failed, |()| Piece::End));
            });
            if let Err(error) = read.await {
                tracing::error!(%error, "reading a workbook panicked");
            }
        });
        Self { pieces, sheets: Vec::new() }
    }

    /// The names of the sheets, once the first piece was returned.
    pub fn sheets(&self) -> &[String] {
        &self.sheets
    }

    /// Returns the next piece of the text.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the workbook cannot be read, or has no such sheet.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.pieces.recv().await {
                Some(Piece::Sheets(sheets)) => self.sheets = sheets,
                Some(Piece::Text(text)) => return Ok(Some(text)),
                Some(Piece::Failed(error)) => return Err(error),
                Some(Piece::End) => return Ok(None),
                None => return Err(Error::internal("a workbook was not read to its end")),
            }
        }
    }
}

fn read(file: File, sheet: Option<&str>, temp_dir: &str, send: &mut dyn FnMut(Piece) -> bool) -> Result<()> {
    let archive = Archive::open(file).map_err(damaged)?;
    if !archive.has("[Content_Types].xml") || !archive.has_prefix("xl/") || archive.has("xl/workbook.bin") {
        return Err(Error::invalid("file", "unsupported", other_archive(&archive)));
    }
    let workbook = Workbook::read(&archive).map_err(damaged)?;
    let sheet = workbook.sheet(sheet)?;
    if !send(Piece::Sheets(workbook.sheets.iter().map(|sheet| sheet.name.clone()).collect())) {
        return Ok(());
    }
    let styles = workbook.styles(&archive).map_err(damaged)?;
    let mut strings = workbook.strings(&archive, temp_dir)?;
    let part = archive.part(&sheet.part).map_err(damaged)?;
    SheetReader::new(&mut strings, &styles, workbook.is_1904).read(part, PIECE, |text| send(Piece::Text(text)))
}

/// What an archive is, and what to do, if it is no workbook.
fn other_archive(archive: &Archive) -> &'static str {
    if archive.has("xl/workbook.bin") {
        "is a binary workbook (.xlsb); save it as .xlsx"
    } else if archive.has_prefix("word/") || archive.has_prefix("ppt/") {
        "is a document or a presentation; export the table as CSV or .xlsx"
    } else if archive.has("content.xml") && archive.has("mimetype") {
        "is a workbook of OpenDocument (.ods); save it as .xlsx or CSV UTF-8"
    } else if archive.has_prefix("index/") || archive.has("index.zip") {
        "is a workbook of Numbers (.numbers); export it as CSV or .xlsx"
    } else {
        "is a ZIP archive; unpack it and upload the file in it"
    }
}

/// The error of a workbook that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "it is used as a function of `map_err`")]
fn damaged(error: io::Error) -> Error {
    Error::invalid(
        "file",
        "malformed",
        format!("is a workbook that cannot be read: {error}; save it again as .xlsx or CSV"),
    )
}

#[cfg(test)]
mod tests;
