//! Splits a stream of CSV at record boundaries, into chunks of about 1 MiB.
//!
//! The splitter holds only the current chunk and one record, and reads each byte at most twice.
//! Without care, a quote that is never closed would make every later line be read up to the limit
//! again. Therefore the splitter remembers the *frontier*: how far it read the rejected record. All
//! line breaks before the frontier were inside the quotes of the rejected record. When a record that
//! begins on a later line reaches such a line break inside its own quotes, its state is the same as
//! the rejected record's, so its scan continues at the frontier.

use std::collections::VecDeque;

use super::grammar::{Found, Scan, is_blank_record, is_break};

/// The size of a chunk, in bytes. A step takes about a tenth of a second.
pub const CHUNK: usize = 1 << 20;
/// The maximum number of records in a chunk, which bounds the cost of a step with tiny records.
pub const MAX_CHUNK_RECORDS: usize = 20_000;
/// The maximum length of a record, in bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// After this number of records that are too long, every line break ends a record.
pub const MAX_TOO_LONG: u32 = 20;

/// How many records at the end of a file may be its footer.
pub const TAIL: usize = 20;

/// How many bytes of a rejected record are stored.
const EXCERPT: usize = 1000;
/// How many bytes are added to the buffer before complete chunks are removed from it.
const PIECE: usize = 64 * 1024;

/// Whole records of the file, or one rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The line of the file on which the chunk begins, counted from 1.
    pub first_line: u64,
    /// Why the record is rejected; `data` is then the beginning of its first line.
    pub refusal: Option<String>,
    /// The records as they are in the file.
    pub data: Vec<u8>,
}

/// The state between two pieces of the stream.
#[derive(Debug)]
pub struct Splitter {
    delimiter: u8,
    buffer: Vec<u8>,
    /// Where the current chunk begins, and on which line.
    start: usize,
    first_line: u64,
    /// How many records the current chunk has, and may have.
    chunk_records: usize,
    max_chunk_records: usize,
    /// Where the current record begins, and on which line.
    boundary: usize,
    record_line: u64,
    /// How far the current record is scanned.
    read: usize,
    scan: Scan,
    /// Where the second line of the current record begins, if its quotes contain a line break.
    second_line: Option<(usize, Scan)>,
    /// How far an earlier, rejected record was scanned.
    frontier: Option<(usize, Scan)>,
    /// Whether the rest of a rejected line is being skipped.
    skipping: bool,
    too_long: u32,
    by_line_from: Option<u64>,
    records: u64,
    /// The lines on which the last records begin.
    tail: VecDeque<u64>,
    looked: u64,
}

/// The end of a stream, and its totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The last chunks.
    pub chunks: Vec<Chunk>,
    /// The number of records, including rejected ones. Records whose cells are all empty do not count.
    pub records: u64,
    /// The line on which the last [`TAIL`] records begin.
    pub tail_from: u64,
    /// The line after which every line break ends a record, because too many quotes were unclosed.
    pub by_line_from: Option<u64>,
    /// How many bytes were read; a byte that was read twice counts twice.
    pub looked: u64,
}

impl Splitter {
    /// Begins at the given line of a file, counted from 1.
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
            tail: VecDeque::with_capacity(TAIL + 1),
            looked: 0,
        }
    }

    /// Reads the next piece of the stream and returns the chunks that are full.
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
        let tail_from = self.tail.front().copied().unwrap_or(0);
        Split { chunks, records, tail_from, by_line_from, looked }
    }

    /// Finds the records in the part of the buffer that is not scanned yet.
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
                // Continues beyond the frontier, where no record was scanned yet.
                Found::Nothing if self.frontier.take().is_some() => {}
                Found::Nothing => return,
            }
        }
    }

    /// Continues the scan of the record up to its end, a line break between its quotes, the
    /// frontier, or the end of the buffer.
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
        if !self.is_blank() {
            self.count_record();
        }
        self.boundary = self.read;
        self.second_line = None;
        self.chunk_records += 1;
    }

    /// Whether all cells of the current record are empty. Most records begin with a letter.
    fn is_blank(&self) -> bool {
        let record = &self.buffer[self.boundary..self.read];
        record.first().is_some_and(|first| *first == self.delimiter || matches!(first, b' ' | b'\t' | b'"'))
            && is_blank_record(record, self.delimiter)
    }

    fn count_record(&mut self) {
        self.records += 1;
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(self.record_line);
    }

    /// Skips line breaks between records. A chunk does not begin with one.
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

    /// Moves the whole records of the buffer into a chunk.
    fn cut(&mut self, chunks: &mut Vec<Chunk>) {
        let data = &self.buffer[self.start..self.boundary];
        if !data.is_empty() {
            chunks.push(Chunk { first_line: self.first_line, refusal: None, data: data.to_vec() });
        }
        self.begin_chunk();
    }

    /// Rejects the current record and continues on the line after its first one, so that an open
    /// quote does not swallow the following rows.
    fn reject(&mut self, chunks: &mut Vec<Chunk>) {
        self.cut(chunks);
        self.count_record();
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
            // A record that begins on a later line may end here, too.
            self.read -= 1;
            self.scan = self.scan.before_end();
        }
        self.reject(chunks);
    }

    fn rejected(&self) -> Chunk {
        let record = &self.buffer[self.boundary..];
        let excerpt = &record[..record.len().min(EXCERPT)];
        let end = excerpt.iter().position(|&byte| is_break(byte)).unwrap_or(excerpt.len());
        let mut refusal = format!("is longer than {} KiB or has an unclosed quote", MAX_RECORD / 1024);
        if self.too_long == MAX_TOO_LONG {
            refusal += &format!("; after {MAX_TOO_LONG} such rows, every line break ends a row");
        }
        Chunk { first_line: self.record_line, refusal: Some(refusal), data: excerpt[..end].to_vec() }
    }

    /// Skips the rest of a line. Returns `false` if its end has not arrived yet.
    fn skip_line(&mut self) -> bool {
        let (taken, found) = self.scan.line(&self.buffer[self.read..]);
        self.looked += taken as u64;
        self.read += taken;
        self.boundary = self.read;
        self.begin_chunk();
        self.skipping = found == Found::Nothing;
        !self.skipping
    }

    /// Removes from the buffer what is in a returned chunk.
    fn compact(&mut self) {
        let removed = self.start;
        if removed == 0 {
            return;
        }
        self.buffer.drain(..removed);
        self.start = 0;
        self.boundary -= removed;
        self.read -= removed;
        for (at, _) in self.second_line.iter_mut().chain(&mut self.frontier) {
            *at -= removed;
        }
    }
}

/// Counts the line ends in the data: CR, LF and CRLF.
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
    fn an_unclosed_quote_rejects_only_its_own_line() {
        let (chunks, _) = split(&[b"a,1\n\"b,2\nc,3\r\nd,4"]);
        let seen: Vec<_> = chunks
            .iter()
            .map(|c| (c.first_line, c.refusal.is_some(), String::from_utf8_lossy(&c.data).into_owned()))
            .collect();
        assert_eq!(seen, [(2, false, "a,1\n".into()), (3, true, "\"b,2".into()), (4, false, "c,3\r\nd,4".into())]);
    }

    #[test]
    fn after_twenty_unclosed_quotes_every_line_break_ends_a_record() {
        let (count, line) = (30_u64, "a\",\"\n");
        let file = line.repeat(30);
        let split = split_all(&[file.as_bytes()]);
        let (rejected, rest) = split.chunks.split_at(20);
        assert!(rejected.iter().zip(2..).all(|(chunk, line)| chunk.refusal.is_some() && chunk.first_line == line));
        assert_eq!(rest, [Chunk { first_line: 22, refusal: None, data: line.repeat(10).into_bytes() }]);
        assert_eq!((split.records, split.by_line_from), (count, Some(22)));
    }

    #[test]
    fn unclosed_quotes_do_not_make_the_splitter_read_bytes_more_than_twice() {
        let line = "a\",\"\r\n";
        for length in [2 * MAX_RECORD, 3 * MAX_RECORD] {
            let mut file = line.repeat(length / line.len()).into_bytes();
            let lines = (length / line.len()) as u64;
            // The last quote is closed.
            file.extend(b"x,y\nlast\",1\n");
            let split = split_all(&file.chunks(65_536).collect::<Vec<_>>());
            assert_eq!(split.by_line_from, Some(22));
            assert_eq!(split.records, lines + 2);
            assert!(split.looked <= 2 * file.len() as u64 + 10, "{} of {}", split.looked, file.len());
        }
    }

    #[test]
    fn a_record_on_a_later_line_continues_at_the_frontier() {
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
    fn an_endless_record_is_rejected_and_the_next_line_is_read() {
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
            let is_blank = |record: &&csv::ByteRecord| record.iter().all(|cell| cell.trim_ascii().is_empty());
            prop_assert!(count >= together.iter().filter(|record| !is_blank(record)).count() as u64);
            prop_assert!(count <= together.len() as u64);
            prop_assert_eq!(together, records(&file));
        }
    }
}
