//! Cuts a stream of CSV at record boundaries, into chunks of about 1 MiB.
//!
//! The boundaries are found by the same grammar that later reads the records (`csv-core`), so both
//! agree on every quote. No more is held than the chunk in the making and one record.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// The size of a chunk, in bytes: a step of about a tenth of a second.
pub const CHUNK: usize = 1 << 20;
/// The longest record that is read, in bytes.
pub const MAX_RECORD: usize = 1 << 20;

/// Whole records of the file, or one that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The line of the file on which it begins, counted from 1.
    pub first_line: u64,
    /// Why it is not read; its data is then the beginning of its first line.
    pub refusal: Option<String>,
    /// The records as they stand in the file.
    pub data: Vec<u8>,
}

/// What of a refused record is kept.
const EXCERPT: usize = 1000;

/// The state between two pieces of the stream.
#[derive(Debug)]
pub struct Splitter {
    delimiter: u8,
    reader: Reader,
    /// What was not handed out yet; it begins with a record.
    buffer: Vec<u8>,
    /// Up to where the reader has seen the buffer.
    read: usize,
    /// Where the last whole record ended.
    boundary: usize,
    /// The line on which the buffer begins.
    line: u64,
    /// The rest of a line that was refused is being passed over.
    skipping: bool,
    records: u64,
}

impl Splitter {
    /// Begins at the given line of a file, counted from 1.
    pub fn new(delimiter: u8, line: u64) -> Self {
        let reader = reader(delimiter);
        Self { delimiter, reader, buffer: Vec::new(), read: 0, boundary: 0, line, skipping: false, records: 0 }
    }

    /// Takes the next piece of the stream and hands out the chunks that became full.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<Chunk> {
        self.buffer.extend_from_slice(piece);
        let mut chunks = Vec::new();
        self.advance(&mut chunks);
        chunks
    }

    /// Ends the stream and hands out what is left, with the number of records in all, the refused
    /// among them.
    pub fn finish(mut self) -> (Vec<Chunk>, u64) {
        let mut chunks = Vec::new();
        while !self.skipping && self.boundary < self.buffer.len() {
            // A line break ends the last record, unless a quote is still open.
            if self.scan(b"\n").1 && self.buffer.len() - self.boundary <= MAX_RECORD {
                self.boundary = self.buffer.len();
                self.records += 1;
            } else {
                self.refuse(&mut chunks);
                self.advance(&mut chunks);
            }
        }
        self.cut(&mut chunks);
        (chunks, self.records)
    }

    /// Finds the records in what was not read yet.
    fn advance(&mut self, chunks: &mut Vec<Chunk>) {
        loop {
            if self.skipping && !self.skip_line() {
                return;
            }
            self.pass_blank_lines();
            if self.boundary >= CHUNK && !self.is_between_cr_and_lf() {
                self.cut(chunks);
            }
            let unread = std::mem::take(&mut self.buffer);
            let (read, ended) = self.scan(&unread[self.read..]);
            self.buffer = unread;
            self.read += read;
            if self.read - self.boundary > MAX_RECORD {
                self.refuse(chunks);
            } else if ended {
                self.boundary = self.read;
                self.records += 1;
            } else {
                return;
            }
        }
    }

    /// Reads on in a record: how many bytes were taken, and whether it ended with them.
    fn scan(&mut self, mut input: &[u8]) -> (usize, bool) {
        // The fields are not wanted here, only where they end.
        let (mut fields, mut ends) = ([0; 4096], [0; 64]);
        let mut taken = 0;
        while !input.is_empty() {
            let (result, read, _, _) = self.reader.read_record(input, &mut fields, &mut ends);
            taken += read;
            input = &input[read..];
            if matches!(result, ReadRecordResult::Record) {
                return (taken, true);
            }
        }
        (taken, false)
    }

    /// Passes over line breaks between records.
    fn pass_blank_lines(&mut self) {
        while self.read == self.boundary && self.buffer.get(self.read).is_some_and(|&byte| is_break(byte)) {
            self.read += 1;
            self.boundary += 1;
        }
    }

    fn is_between_cr_and_lf(&self) -> bool {
        self.boundary == self.buffer.len() && self.buffer.last() == Some(&b'\r')
    }

    /// Hands out the whole records of the buffer.
    fn cut(&mut self, chunks: &mut Vec<Chunk>) {
        let rest = self.buffer.split_off(self.boundary);
        let data = std::mem::replace(&mut self.buffer, rest);
        self.read -= self.boundary;
        self.boundary = 0;
        let first_line = self.line;
        self.line += count_lines(&data);
        if data.iter().any(|&byte| !is_break(byte)) {
            chunks.push(Chunk { first_line, refusal: None, data });
        }
    }

    /// Gives up the record that the buffer holds behind the boundary, and goes on with the line
    /// after the one it began on: an open quote must not swallow what follows.
    fn refuse(&mut self, chunks: &mut Vec<Chunk>) {
        self.cut(chunks);
        let excerpt = &self.buffer[..self.buffer.len().min(EXCERPT)];
        let end = excerpt.iter().position(|&byte| is_break(byte)).unwrap_or(excerpt.len());
        let refusal = format!("a record of more than {} KiB, or a quote that is not closed", MAX_RECORD / 1024);
        chunks.push(Chunk { first_line: self.line, refusal: Some(refusal), data: excerpt[..end].to_vec() });
        self.records += 1;
        self.reader = reader(self.delimiter);
        self.read = 0;
        self.skipping = true;
    }

    /// Drops the line that the buffer begins with; `false` if its end is not there yet.
    fn skip_line(&mut self) -> bool {
        let Some(end) = self.buffer.iter().position(|&byte| is_break(byte)) else {
            self.buffer.clear();
            return false;
        };
        let crlf = self.buffer[end] == b'\r';
        if crlf && end + 1 == self.buffer.len() {
            self.buffer.drain(..end);
            return false;
        }
        let length = if crlf && self.buffer[end + 1] == b'\n' { 2 } else { 1 };
        self.buffer.drain(..end + length);
        self.line += 1;
        self.skipping = false;
        true
    }
}

fn reader(delimiter: u8) -> Reader {
    ReaderBuilder::new().delimiter(delimiter).build()
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// How many lines end in the data; CR, LF and CRLF each end one.
pub fn count_lines(data: &[u8]) -> u64 {
    let ends = |i: usize| data[i] == b'\n' || (data[i] == b'\r' && data.get(i + 1) != Some(&b'\n'));
    (0..data.len()).filter(|&i| ends(i)).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Chunk>, u64) {
        let mut splitter = Splitter::new(b',', 2);
        let mut chunks: Vec<Chunk> = pieces.iter().flat_map(|piece| splitter.feed(piece)).collect();
        let (rest, records) = splitter.finish();
        chunks.extend(rest);
        (chunks, records)
    }

    fn records(data: &[u8]) -> Vec<csv::ByteRecord> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(data)
            .into_byte_records()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn a_quote_that_never_closes_costs_its_own_line_only() {
        let (chunks, _) = split(&[b"a,1\n\"b,2\nc,3\r\nd,4"]);
        let seen: Vec<_> = chunks
            .iter()
            .map(|c| (c.first_line, c.refusal.is_some(), String::from_utf8_lossy(&c.data).into_owned()))
            .collect();
        assert_eq!(seen, [(2, false, "a,1\n".into()), (3, true, "\"b,2".into()), (4, false, "c,3\r\nd,4".into())]);
    }

    #[test]
    fn a_record_without_end_is_refused_and_the_next_line_read() {
        let mut file = b"a,1\n".to_vec();
        file.extend(vec![b'x'; MAX_RECORD + 10]);
        file.extend(b"\r\nc,3\n");
        let pieces: Vec<&[u8]> = file.chunks(65_536).collect();
        let (chunks, _) = split(&pieces);
        let seen: Vec<_> = chunks.iter().map(|c| (c.first_line, c.refusal.is_some(), c.data.len())).collect();
        assert_eq!(seen, [(2, false, 4), (3, true, EXCERPT), (4, false, 4)]);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_chunks(file in "[ab,\"\r\n]{0,200}", cuts in prop::collection::vec(0_usize..200, 0..5)) {
            let file = file.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&cut| cut < file.len()).collect();
            cuts.extend([0, file.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &file[w[0]..w[1]]).collect();
            prop_assert_eq!(split(&pieces), split(&[file]));
        }

        #[test]
        fn chunks_hold_the_records_of_the_file(rows in prop::collection::vec(prop::collection::vec("[ -~\r\n]{0,20}", 1..5), 0..30)) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let file = writer.into_inner().unwrap();
            let (chunks, count) = split(&[&file]);
            prop_assert!(chunks.iter().all(|chunk| chunk.refusal.is_none()));
            let together: Vec<csv::ByteRecord> = chunks.iter().flat_map(|chunk| records(&chunk.data)).collect();
            prop_assert_eq!(together.len() as u64, count);
            prop_assert_eq!(together, records(&file));
        }
    }
}
