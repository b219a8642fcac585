//! The parts of a ZIP archive, read one after the other.
//!
//! Nothing is allocated because a number in the file says so: the directory is read up to a limit, and parts
//! are unpacked as they are read.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use flate2::bufread::DeflateDecoder;

/// The most bytes of the parts, unpacked: 4 GiB.
const MAX_UNPACKED: u64 = 4 << 30;
/// The most bytes of the directory.
const MAX_DIRECTORY: u64 = 4 << 20;
/// The most bytes in which the end of the directory is searched: its length and that of a comment.
const MAX_END: u64 = 22 + 65_535;

/// A ZIP archive.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
    /// How many more bytes may be unpacked.
    room: Cell<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where the header before the data begins.
    at: u64,
    packed: u64,
    crc: u32,
    is_deflated: bool,
}

/// The fault of an archive, for people.
pub(super) fn fault(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Archive {
    /// Reads the directory of the archive.
    pub fn open(file: File) -> io::Result<Self> {
        let mut archive = Self { file, entries: HashMap::new(), room: Cell::new(MAX_UNPACKED) };
        let (at, size) = archive.directory()?;
        if size > MAX_DIRECTORY {
            return Err(fault("it has too many parts"));
        }
        let directory = archive.bytes(at, size)?;
        let mut rest = directory.as_slice();
        while rest.starts_with(b"PK\x01\x02") {
            rest = archive.add(rest).ok_or_else(|| fault("its directory is damaged"))??;
        }
        Ok(archive)
    }

    /// Whether the archive has a part.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(&normal(name))
    }

    /// The first name that begins with a prefix.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.entries.keys().any(|name| name.starts_with(prefix))
    }

    /// Reads a part. Only one part is read at a time.
    pub fn part(&self, name: &str) -> io::Result<Part<'_>> {
        let entry = *self.entries.get(&normal(name)).ok_or_else(|| fault(format!("its part {name:?} is missing")))?;
        let header = self.bytes(entry.at, 30)?;
        let lengths = header.starts_with(b"PK\x03\x04").then(|| Some((u16_at(&header, 26)?, u16_at(&header, 28)?)));
        let (name, extra) = lengths.flatten().ok_or_else(|| fault("a part is damaged"))?;
        (&self.file).seek(SeekFrom::Start(entry.at.saturating_add(30 + u64::from(name) + u64::from(extra))))?;
        let packed = BufReader::with_capacity(64 * 1024, (&self.file).take(entry.packed));
        let data = if entry.is_deflated { Data::Deflated(DeflateDecoder::new(packed)) } else { Data::Stored(packed) };
        Ok(Part { data, room: &self.room, crc: crc32fast::Hasher::new(), expected: entry.crc })
    }

    /// Where the directory begins, and its size.
    fn directory(&self) -> io::Result<(u64, u64)> {
        let length = (&self.file).seek(SeekFrom::End(0))?;
        let start = length.saturating_sub(MAX_END);
        let tail = self.bytes(start, MAX_END)?;
        let at = memchr::memmem::rfind(&tail, b"PK\x05\x06").ok_or_else(|| fault("it is incomplete"))?;
        let end = &tail[at..];
        let places = u32_at(end, 12).zip(u32_at(end, 16)).ok_or_else(|| fault("it is incomplete"))?;
        let (size, begin) = (u64::from(places.0), u64::from(places.1));
        if size != u64::from(u32::MAX) && begin != u64::from(u32::MAX) {
            return Ok((begin, size));
        }
        let locator = at.checked_sub(20).map(|at| &tail[at..]).filter(|bytes| bytes.starts_with(b"PK\x06\x07"));
        let large = locator.and_then(|bytes| u64_at(bytes, 8)).ok_or_else(|| fault("its directory is damaged"))?;
        let large = self.bytes(large, 56)?;
        let places = u64_at(&large, 40).zip(u64_at(&large, 48)).filter(|_| large.starts_with(b"PK\x06\x06"));
        let (size, begin) = places.ok_or_else(|| fault("its directory is damaged"))?;
        Ok((begin, size))
    }

    /// Adds the first entry of the directory, and returns the others.
    fn add<'d>(&mut self, directory: &'d [u8]) -> Option<io::Result<&'d [u8]>> {
        let (flags, method, crc) = (u16_at(directory, 8)?, u16_at(directory, 10)?, u32_at(directory, 16)?);
        let [name, extra, comment] = [28, 30, 32].map(|at| u16_at(directory, at).map(usize::from));
        let (name, extra, comment) = (name?, extra?, comment?);
        let text = directory.get(46..46 + name)?;
        let mut entry = Entry {
            at: u32_at(directory, 42)?.into(),
            packed: u32_at(directory, 20)?.into(),
            crc,
            is_deflated: method == 8,
        };
        entry.enlarge(u32_at(directory, 24)?, directory.get(46 + name..46 + name + extra)?);
        if flags & 1 != 0 {
            return Some(Err(fault("it is encrypted; save it without a password")));
        }
        if method != 0 && method != 8 {
            return Some(Err(fault("it is compressed in an unknown way; save it again")));
        }
        self.entries.insert(normal(&String::from_utf8_lossy(text)), entry);
        Some(Ok(directory.get(46 + name + extra + comment..)?))
    }

    /// Reads up to `length` bytes.
    fn bytes(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).seek(SeekFrom::Start(at))?;
        (&self.file).take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Entry {
    /// Takes the sizes that do not fit into 32 bits from the extra field (ZIP64).
    fn enlarge(&mut self, unpacked: u32, mut extra: &[u8]) {
        while let Some((id, length)) = u16_at(extra, 0).zip(u16_at(extra, 2)) {
            let (_, rest) = extra.split_at(4);
            let (mut field, rest) = rest.split_at(rest.len().min(length.into()));
            extra = rest;
            if id != 1 {
                continue;
            }
            let mut next = || {
                let number = u64_at(field, 0);
                field = field.get(8..).unwrap_or_default();
                number
            };
            if unpacked == u32::MAX {
                next();
            }
            for number in [&mut self.packed, &mut self.at] {
                if *number == u64::from(u32::MAX) {
                    *number = next().unwrap_or(*number);
                }
            }
        }
    }
}

/// A part that is being read.
pub(super) struct Part<'a> {
    data: Data<'a>,
    room: &'a Cell<u64>,
    crc: crc32fast::Hasher,
    expected: u32,
}

enum Data<'a> {
    Stored(BufReader<Take<&'a File>>),
    Deflated(DeflateDecoder<BufReader<Take<&'a File>>>),
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.data {
            Data::Stored(data) => data.read(buffer)?,
            Data::Deflated(data) => data.read(buffer)?,
        };
        if read == 0 && !buffer.is_empty() && self.crc.clone().finalize() != self.expected {
            return Err(fault("a part is damaged"));
        }
        self.crc.update(&buffer[..read]);
        let room = self.room.get().checked_sub(read as u64);
        self.room.set(room.ok_or_else(|| fault("it has more than 4 GiB when it is unpacked"))?);
        Ok(read)
    }
}

/// The name of a part as it is compared: parts differ in more than case.
fn normal(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_ascii_lowercase()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
