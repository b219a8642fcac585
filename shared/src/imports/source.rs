//! From the bytes of a file, whatever its format, to the text of its records.

use std::io::Write;

use super::decode::Decoder;
use super::file_kind::{self, Container};
use super::format::Format;
use super::gzip::Unzip;
use super::head::HEAD;
use super::json_lines::JsonLines;
use super::options::HeaderRow;
use super::{Options, packed, spool, xlsx};
use crate::error::{Error, FieldError, FieldErrors, Result};
use crate::platform::config::Imports;

/// The most bytes of a workbook as it is uploaded: 512 MiB.
const MAX_WORKBOOK: u64 = 512 << 20;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Source {
    options: Options,
    settings: Imports,
    unzip: Unzip,
    /// How many more bytes the file may have: as it is uploaded, unpacked, and as records.
    room: [u64; 3],
    decoder: Decoder,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first bytes, which show whether the file is a container.
    Start(Vec<u8>),
    /// Decoded text, up to the first character that shows the format.
    Text(Vec<u8>),
    Csv,
    Jsonl(Box<JsonLines>),
    /// A workbook is stored until it is complete.
    Workbook(Spooled),
    /// The rows of the sheet are read.
    Sheet(xlsx::Rows),
}

#[derive(Debug)]
struct Spooled {
    file: std::fs::File,
    size: u64,
}

impl Source {
    pub fn new(options: Options, settings: &Imports) -> Self {
        Self {
            decoder: Decoder::new(options.encoding),
            options,
            settings: settings.clone(),
            unzip: Unzip::default(),
            room: [settings.max_bytes; 3],
            state: State::Start(Vec::new()),
        }
    }

    /// The format of the file. A file of which too little has arrived counts as CSV.
    pub fn format(&self) -> Format {
        match self.state {
            State::Jsonl(_) => Format::Jsonl,
            State::Workbook(_) | State::Sheet(_) => Format::Xlsx,
            State::Start(_) | State::Text(_) | State::Csv => Format::Csv,
        }
    }

    /// The name of the encoding in the WHATWG standard.
    pub fn encoding(&self) -> &'static str {
        self.decoder.encoding()
    }

    /// The names of the workbook's sheets.
    pub fn sheets(&self) -> Vec<String> {
        match &self.state {
            State::Sheet(rows) => rows.sheets().to_vec(),
            _ => Vec::new(),
        }
    }

    /// The options by which the text of the records is read. `is_whole` once the whole file is known.
    pub fn options(&self, is_whole: bool) -> Options {
        let mut options = self.options.clone();
        if self.format().is_packed() {
            options.delimiter = Some(packed::DELIMITER);
        }
        if let State::Jsonl(lines) = &self.state {
            options.header = HeaderRow::Columns(lines.columns().to_vec());
            // A header of the mapping may be a key of a later line.
            if let Some(mapping) = options.mapping.as_mut().filter(|_| !is_whole) {
                mapping.retain(|header, _| lines.columns().contains(header));
            }
        }
        options
    }

    /// Adds the next piece of the file.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn push(&mut self, piece: &[u8]) -> Result<()> {
        take(&mut self.room[0], piece)?;
        self.unzip.push(piece);
        Ok(())
    }

    /// Returns the next piece of the text, or nothing if more of the file is needed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for files of other kinds, and [`Error::TooLarge`].
    pub fn pull(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(piece) = self.unzip.pull()? else { return Ok(None) };
        self.read(&piece).map(Some)
    }

    /// Ends the file. Returns the text after the pieces that were pulled; [`Source::rest`] returns what follows.
    ///
    /// # Errors
    /// As [`Source::pull`].
    pub fn finish(&mut self) -> Result<Vec<u8>> {
        let last = self.unzip.finish()?;
        let mut text = self.read(&last)?;
        if let State::Start(start) = &mut self.state {
            let start = std::mem::take(start);
            text.extend(self.begin(&start)?);
        }
        let decoded = self.decoder.finish();
        text.extend(self.read_text(&decoded)?);
        if let State::Text(held) = &mut self.state {
            let held = std::mem::take(held);
            text.extend(self.begin_text(held, true)?);
        }
        match &mut self.state {
            State::Jsonl(lines) => text.extend(lines.finish()?),
            State::Workbook(spooled) => {
                let file = spooled.file.try_clone().map_err(|error| spool::failed(&error))?;
                self.state = State::Sheet(xlsx::Rows::read(file, self.options.sheet.clone(), &self.settings.temp_dir));
            }
            _ => {}
        }
        Ok(text)
    }

    /// Returns the next piece of the text after the end of the file: the rows of a workbook.
    ///
    /// # Errors
    /// [`Error::Invalid`] for workbooks that cannot be read, and [`Error::TooLarge`].
    pub async fn rest(&mut self) -> Result<Option<Vec<u8>>> {
        let State::Sheet(rows) = &mut self.state else { return Ok(None) };
        let Some(text) = rows.next().await? else { return Ok(None) };
        take(&mut self.room[2], &text)?;
        Ok(Some(text))
    }

    fn read(&mut self, piece: &[u8]) -> Result<Vec<u8>> {
        take(&mut self.room[1], piece)?;
        match &mut self.state {
            State::Start(start) => {
                start.extend_from_slice(piece);
                if start.len() < file_kind::ENOUGH {
                    return Ok(Vec::new());
                }
                let start = std::mem::take(start);
                self.begin(&start)
            }
            State::Workbook(spooled) => {
                spooled.size += piece.len() as u64;
                if spooled.size > MAX_WORKBOOK {
                    let message = "is a workbook of more than 512 MiB; save the sheet as CSV UTF-8";
                    return Err(Error::invalid("file", "too_large", message));
                }
                spooled.file.write_all(piece).map_err(|error| spool::failed(&error))?;
                Ok(Vec::new())
            }
            _ => {
                let text = self.decoder.feed(piece);
                self.read_text(&text)
            }
        }
    }

    /// Decides by the first bytes what the file is, and reads them.
    fn begin(&mut self, start: &[u8]) -> Result<Vec<u8>> {
        match file_kind::container(start)? {
            Container::None => self.state = State::Text(Vec::new()),
            Container::Zip => {
                self.refuse(Format::Xlsx)?;
                let file = spool::create(&self.settings.temp_dir)?;
                self.state = State::Workbook(Spooled { file, size: 0 });
            }
        }
        // The room was taken when the bytes arrived.
        self.room[1] += start.len() as u64;
        self.read(start)
    }

    fn read_text(&mut self, text: &[u8]) -> Result<Vec<u8>> {
        let text = match &mut self.state {
            State::Jsonl(lines) => lines.feed(text)?,
            State::Text(held) => {
                held.extend_from_slice(text);
                let held = std::mem::take(held);
                return self.begin_text(held, false);
            }
            _ => text.to_vec(),
        };
        take(&mut self.room[2], &text)?;
        Ok(text)
    }

    /// Decides by the first characters whether the file is CSV or JSON Lines.
    fn begin_text(&mut self, text: Vec<u8>, is_whole: bool) -> Result<Vec<u8>> {
        let format = match file_kind::text_format(&text)? {
            Some(format) => format,
            None if is_whole || text.len() >= HEAD => Format::Csv,
            None => {
                self.state = State::Text(text);
                return Ok(Vec::new());
            }
        };
        self.refuse(format)?;
        self.state = match format {
            Format::Jsonl => State::Jsonl(Box::default()),
            _ => State::Csv,
        };
        self.read_text(&text)
    }

    /// Refuses options that have no meaning for the format.
    fn refuse(&self, format: Format) -> Result<()> {
        let options = &self.options;
        let is_csv = format == Format::Csv;
        let given = [
            ("sheet", options.sheet.is_some() && format != Format::Xlsx, "must be given only for workbooks"),
            ("delimiter", options.delimiter.is_some() && !is_csv, "must be given only for CSV files"),
            ("encoding", options.encoding.is_some() && format == Format::Xlsx, "must not be given for workbooks"),
            (
                "header_row",
                matches!(options.header, HeaderRow::At(_)) && format == Format::Jsonl,
                "must not be given for JSON Lines, whose keys are the headers",
            ),
            (
                "columns",
                matches!(options.header, HeaderRow::Columns(_)) && format == Format::Jsonl,
                "must not be given for JSON Lines, whose keys are the headers",
            ),
        ];
        let mut errors = FieldErrors::default();
        errors.extend(
            given
                .into_iter()
                .filter(|(_, is_wrong, _)| *is_wrong)
                .map(|(field, _, message)| FieldError::new(field, "invalid", message)),
        );
        errors.check()
    }
}

fn take(room: &mut u64, piece: &[u8]) -> Result<()> {
    *room = room.checked_sub(piece.len() as u64).ok_or(Error::TooLarge)?;
    Ok(())
}
