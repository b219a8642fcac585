//! Cuts a stream of CSV at record boundaries, into chunks of about 1 MiB.
//!
//! No more is held than the chunk in the making and one record, and each byte is looked at twice at
//! most. A quote that is never closed would have every line after it read up to the limit again:
//! instead, how far the rejected record was read is kept. Each line break up to there stood between
//! its quotes, so a record of a later line that crosses one between quotes, too, is in the same place
//! as the rejected one, and goes on where that one has stopped.

use super::grammar::{Found, Scan, is_break};

/// The size of a chunk, in bytes: a step of about a tenth of a second.
pub const CHUNK: usize = 1 << 20;
/// The most records of a chunk, which bounds what a step of tiny ones costs.
pub const MAX_CHUNK_RECORDS: usize = 20_000;
/// The longest record that is read, in bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// After so many longer ones a line break ends every record.
pub const MAX_TOO_LONG: u32 = 20;

/// What of a rejected record is kept.
const EXCERPT: usize = 1000;
/// The most that is taken into the buffer before what is complete leaves it.
const PIECE: usize = 64 * 1024;

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

/// The state between two pieces of the stream.
#[derive(Debug)]
pub struct Splitter {
    delimiter: u8,
    buffer: Vec<u8>,
    /// Where the chunk in the making begins, and on which line.
    start: usize,
    first_line: u64,
    /// How many records it has, and may have.
    chunk_records: usize,
    max_chunk_records: usize,
    /// Where the last whole record ended and the next begins, and on which line.
    boundary: usize,
    record_line: u64,
    /// Up to where the record was scanned.
    read: usize,
    scan: Scan,
    /// The place after its first line, if its quotes hold more than one.
    second_line: Option<(usize, Scan)>,
    /// How far a rejected record was scanned that began before this one.
    frontier: Option<(usize, Scan)>,
    /// The rest of a line that was rejected is being passed over.
    skipping: bool,
    too_long: u32,
    by_line_from: Option<u64>,
    records: u64,
    looked: u64,
}

/// A stream that was split to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The last chunks.
    pub chunks: Vec<Chunk>,
    /// How many records there were in all, the rejected ones among them.
    pub records: u64,
    /// From which line on a line break ends every record, as too many quotes were not closed.
    pub by_line_from: Option<u64>,
    /// How many bytes were looked at, counted each time.
    pub looked: u64,
}

impl Splitter {
    /// Begins at the given line of a file, counted from 1. A chunk has at most so many records.
    pub fn new(delimiter: u8, line: u64, max_chunk_records: usize) -> Self {
        Self {
            delimiter,
            buffer: Vec::new(),
            start: 0,
            first_line: line,
            chunk_records: 0,
            max_chunk_records,
            boundary: 0,
            record_line: line,
            read: 0,
            scan: Scan::new(line),
            second_line: None,
            frontier: None,
            skipping: false,
            too_long: 0,
            by_line_from: None,
            records: 0,
            looked: 0,
        }
    }

    /// Takes the next piece of the stream and returns the chunks that became full.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for piece in piece.chunks(PIECE) {
            self.buffer.extend_from_slice(piece);
            self.advance(&mut chunks);
            self.compact();
        }
        chunks
    }

    /// Ends the stream.
    pub fn finish(mut self) -> Split {
        let mut chunks = Vec::new();
        self.advance(&mut chunks);
        while !self.skipping && self.boundary < self.buffer.len() {
            // The end of the file ends the last record, unless a quote is still open.
            if self.by_line_from.is_some() || !self.scan.is_quoted() {
                self.end_record();
            } else {
                self.reject(&mut chunks);
                self.advance(&mut chunks);
            }
        }
        self.cut(&mut chunks);
        let Self { records, by_line_from, looked, .. } = self;
        Split { chunks, records, by_line_from, looked }
    }

    /// Finds the records in what was not scanned yet.
    fn advance(&mut self, chunks: &mut Vec<Chunk>) {
        loop {
            if self.skipping && !self.skip_line() {
                return;
            }
            if self.read == self.boundary {
                self.pass_blank_lines();
                if self.is_full() && !self.is_between_cr_and_lf() {
                    self.cut(chunks);
                }
            }
            let found = self.scan();
            if found == Found::QuotedBreak && self.second_line.is_none() {
                self.second_line = Some((self.read, self.scan.at_record()));
                if let Some((read, scan)) = self.frontier.take() {
                    (self.read, self.scan) = (read, scan);
                }
            }
            if self.read - self.boundary > MAX_RECORD {
                self.reject_after(found, chunks);
                continue;
            }
            match found {
                Found::Record => self.end_record(),
                Found::QuotedBreak => {}
                // At the frontier it goes on with what no record was read into.
                Found::Nothing if self.frontier.take().is_some() => {}
                Found::Nothing => return,
            }
        }
    }

    /// Scans on in the record, up to its end, a line break in it, the frontier or the end of the
    /// buffer.
    fn scan(&mut self) -> Found {
        let end = self.frontier.map_or(self.buffer.len(), |(end, _)| end);
        let input = &self.buffer[self.read..end];
        let (taken, found) = match self.by_line_from {
            None => self.scan.record(self.delimiter, input),
            Some(_) => self.scan.line(input),
        };
        self.read += taken;
        self.looked += taken as u64;
        found
    }

    fn end_record(&mut self) {
        self.boundary = self.read;
        self.second_line = None;
        self.records += 1;
        self.chunk_records += 1;
    }

    /// Passes over line breaks between records. A chunk does not begin with any.
    fn pass_blank_lines(&mut self) {
        let passed = self.scan.blank_lines(&self.buffer[self.read..]);
        let is_first = self.start == self.boundary;
        self.looked += passed as u64;
        self.read += passed;
        self.boundary = self.read;
        self.record_line = self.scan.line;
        self.frontier = self.frontier.filter(|(end, _)| *end > self.read);
        if is_first {
            self.begin_chunk();
        }
    }

    fn begin_chunk(&mut self) {
        self.start = self.boundary;
        self.first_line = self.scan.line;
        self.chunk_records = 0;
    }

    fn is_full(&self) -> bool {
        self.boundary - self.start >= CHUNK || self.chunk_records >= self.max_chunk_records
    }

    fn is_between_cr_and_lf(&self) -> bool {
        self.boundary == self.buffer.len() && self.scan.is_after_cr()
    }

    /// Hands out the whole records of the buffer.
    fn cut(&mut self, chunks: &mut Vec<Chunk>) {
        let data = &self.buffer[self.start..self.boundary];
        if !data.is_empty() {
            chunks.push(Chunk { first_line: self.first_line, refusal: None, data: data.to_vec() });
        }
        self.begin_chunk();
    }

    /// Gives up the record after the boundary, and goes on with the line after the one it began on: an
    /// open quote must not swallow what follows.
    fn reject(&mut self, chunks: &mut Vec<Chunk>) {
        self.cut(chunks);
        self.records += 1;
        self.too_long += 1;
        chunks.push(self.rejected());
        match self.second_line.take() {
            Some((at, scan)) => {
                self.frontier = Some((self.read, self.scan));
                (self.read, self.scan) = (at, scan);
            }
            None => self.skipping = true,
        }
        self.boundary = self.read;
        self.begin_chunk();
        if self.too_long == MAX_TOO_LONG {
            self.by_line_from = Some(self.scan.line);
            self.frontier = None;
        }
    }

    fn reject_after(&mut self, found: Found, chunks: &mut Vec<Chunk>) {
        if found == Found::Record {
            // Its end may be that of a record of a later line.
            self.read -= 1;
            self.scan = self.scan.before_end();
        }
        self.reject(chunks);
    }

    fn rejected(&self) -> Chunk {
        let record = &self.buffer[self.boundary..];
        let excerpt = &record[..record.len().min(EXCERPT)];
        let end = excerpt.iter().position(|&byte| is_break(byte)).unwrap_or(excerpt.len());
        let mut refusal = format!("is longer than {} KiB, or has a quote that is not closed", MAX_RECORD / 1024);
        if self.too_long == MAX_TOO_LONG {
            refusal += &format!("; as it is the {MAX_TOO_LONG}th, each line break after it ends a record");
        }
        Chunk { first_line: self.record_line, refusal: Some(refusal), data: excerpt[..end].to_vec() }
    }

    /// Passes over the rest of a line; `false` if its end is not there yet.
    fn skip_line(&mut self) -> bool {
        let (taken, found) = self.scan.line(&self.buffer[self.read..]);
        self.looked += taken as u64;
        self.read += taken;
        self.boundary = self.read;
        self.begin_chunk();
        self.skipping = found == Found::Nothing;
        !self.skipping
    }

    /// Drops what has left the buffer.
    fn compact(&mut self) {
        let gone = self.start;
        if gone == 0 {
            return;
        }
        self.buffer.drain(..gone);
        self.start = 0;
        self.boundary -= gone;
        self.read -= gone;
        for (at, _) in self.second_line.iter_mut().chain(&mut self.frontier) {
            *at -= gone;
        }
    }
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

    fn split_all(pieces: &[&[u8]]) -> Split {
        let mut splitter = Splitter::new(b',', 2, MAX_CHUNK_RECORDS);
        let mut chunks: Vec<Chunk> = pieces.iter().flat_map(|piece| splitter.feed(piece)).collect();
        let split = splitter.finish();
        chunks.extend(split.chunks);
        Split { chunks, ..split }
    }

    fn split(pieces: &[&[u8]]) -> (Vec<Chunk>, u64) {
        let Split { chunks, records, .. } = split_all(pieces);
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
    fn after_twenty_open_quotes_a_line_break_ends_every_record() {
        let (count, line) = (30_u64, "a\",\"\n");
        let file = line.repeat(30);
        let split = split_all(&[file.as_bytes()]);
        let (rejected, rest) = split.chunks.split_at(20);
        assert!(rejected.iter().zip(2..).all(|(chunk, line)| chunk.refusal.is_some() && chunk.first_line == line));
        assert_eq!(rest, [Chunk { first_line: 22, refusal: None, data: line.repeat(10).into_bytes() }]);
        assert_eq!((split.records, split.by_line_from), (count, Some(22)));
    }

    #[test]
    fn quotes_that_are_not_closed_within_a_mebibyte_are_no_reason_to_read_it_again() {
        let line = "a\",\"\r\n";
        for length in [2 * MAX_RECORD, 3 * MAX_RECORD] {
            let mut file = line.repeat(length / line.len()).into_bytes();
            let lines = (length / line.len()) as u64;
            // After the last record that leaves it open, the quote is closed.
            file.extend(b"x,y\nlast\",1\n");
            let split = split_all(&file.chunks(65_536).collect::<Vec<_>>());
            assert_eq!(split.by_line_from, Some(22));
            assert_eq!(split.records, lines + 2);
            assert!(split.looked <= 2 * file.len() as u64 + 10, "{} of {}", split.looked, file.len());
        }
    }

    #[test]
    fn a_record_of_a_later_line_goes_on_where_the_rejected_one_was_stopped() {
        // Both records have their last quote on the last line; only the second is short enough.
        let mut file = format!("a,\"{}\nb\",\"\n", "x".repeat(100)).into_bytes();
        file.resize(MAX_RECORD - 20, b'z');
        file.extend(b"\nmore of it\nthe end\",1\nnext,2\n");
        let split = split_all(&file.chunks(1000).collect::<Vec<_>>());
        let seen: Vec<_> = split.chunks.iter().map(|c| (c.first_line, c.refusal.is_some())).collect();
        assert_eq!(seen, [(2, true), (3, false)]);
        assert_eq!(split.records, 3);
        assert!(split.chunks[1].data.ends_with(b"the end\",1\nnext,2\n"));
        assert!(split.looked <= 2 * file.len() as u64);
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
