//! The shared strings of a workbook: in memory as long as they are few, else in a temporary file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use crate::error::Result;
use crate::imports::spool;

/// The most bytes of strings in memory.
const IN_MEMORY: usize = 64 << 20;
/// The position of every string with a number that this divides is remembered.
const EVERY: u64 = 64;
/// The size and number of the cached blocks of the file.
const BLOCK: usize = 8 * 1024;
const BLOCKS: usize = 1_024;
/// How many bytes are collected before they are written to the file.
const WRITE: usize = 1 << 20;

/// Strings by their numbers. Each is stored with its length before it.
#[derive(Debug)]
pub(super) struct Strings {
    bytes: Bytes,
    marks: Vec<u64>,
    count: u64,
    /// The number and position of the string after the last one that was read.
    next: (u64, u64),
}

impl Strings {
    /// Without strings. A file is created in the directory when it is needed.
    pub fn new(temp_dir: &str) -> Self {
        let bytes = Bytes { held: Vec::new(), spilled: None, temp_dir: temp_dir.to_owned(), limit: IN_MEMORY };
        Self { bytes, marks: Vec::new(), count: 0, next: (0, 0) }
    }

    /// Adds a string.
    pub fn push(&mut self, text: &[u8]) -> Result<()> {
        if self.count.is_multiple_of(EVERY) {
            self.marks.push(self.bytes.len());
        }
        self.count += 1;
        let mut length = text.len();
        while length >= 0x80 {
            self.bytes.held.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.held.push(length as u8);
        self.bytes.held.extend_from_slice(text);
        self.bytes.spill()
    }

    /// Ends the strings; they are only read from now on.
    pub fn finish(&mut self) -> Result<()> {
        self.bytes.finish()
    }

    /// Reads the string with the number into `text`. Returns whether there is one.
    pub fn read(&mut self, number: u64, text: &mut Vec<u8>) -> Result<bool> {
        text.clear();
        if number >= self.count {
            return Ok(false);
        }
        let mark = || Some((number / EVERY * EVERY, *self.marks.get(usize::try_from(number / EVERY).ok()?)?));
        let next = Some(self.next).filter(|(next, _)| *next == number);
        let Some((mut at_number, mut at)) = next.or_else(mark) else { return Ok(false) };
        loop {
            let (length, start) = self.length(at)?;
            if at_number == number {
                self.bytes.read(start, length, text)?;
                self.next = (number + 1, start + length);
                return Ok(true);
            }
            (at_number, at) = (at_number + 1, start + length);
        }
    }

    /// The length of the string at a position, and where it begins.
    fn length(&mut self, mut at: u64) -> Result<(u64, u64)> {
        let (mut length, mut shift) = (0_u64, 0);
        loop {
            let byte = self.bytes.at(at)?.first().copied().unwrap_or(0);
            at += 1;
            length |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift > 56 {
                return Ok((length, at));
            }
        }
    }
}

/// Bytes in memory or in a file.
#[derive(Debug)]
struct Bytes {
    /// All bytes, or those that are not yet written to the file.
    held: Vec<u8>,
    spilled: Option<Spilled>,
    temp_dir: String,
    limit: usize,
}

#[derive(Debug)]
struct Spilled {
    file: File,
    length: u64,
    /// The number of the block in each place of the cache.
    cached: Vec<u64>,
    blocks: Vec<u8>,
}

impl Bytes {
    fn len(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.length) + self.held.len() as u64
    }

    /// Moves the bytes to the file if there are too many.
    fn spill(&mut self) -> Result<()> {
        match &self.spilled {
            None if self.held.len() > self.limit => {
                let file = spool::create(&self.temp_dir)?;
                let (cached, blocks) = (vec![u64::MAX; BLOCKS], vec![0; BLOCK * BLOCKS]);
                self.spilled = Some(Spilled { file, length: 0, cached, blocks });
                self.write()?;
                self.held = Vec::with_capacity(WRITE);
                Ok(())
            }
            Some(_) if self.held.len() > WRITE => self.write(),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        if self.spilled.is_some() { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.file.write_all(&self.held).map_err(|error| spool::failed(&error))?;
        spilled.length += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// The bytes at a position: all that are in memory, or those of its block.
    fn at(&mut self, at: u64) -> Result<&[u8]> {
        match &mut self.spilled {
            None => Ok(usize::try_from(at).ok().and_then(|at| self.held.get(at..)).unwrap_or_default()),
            Some(spilled) => spilled.at(at),
        }
    }

    fn read(&mut self, mut at: u64, length: u64, text: &mut Vec<u8>) -> Result<()> {
        let mut left = length as usize;
        while left > 0 {
            let bytes = self.at(at)?;
            let bytes = &bytes[..bytes.len().min(left)];
            if bytes.is_empty() {
                return Ok(());
            }
            text.extend_from_slice(bytes);
            (left, at) = (left - bytes.len(), at + bytes.len() as u64);
        }
        Ok(())
    }
}

impl Spilled {
    fn at(&mut self, at: u64) -> Result<&[u8]> {
        let (block, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
        let place = (block % BLOCKS as u64) as usize;
        let length = self.length.saturating_sub(block * BLOCK as u64).min(BLOCK as u64) as usize;
        let bytes = &mut self.blocks[place * BLOCK..][..length];
        if self.cached[place] != block {
            let mut read = || {
                self.file.seek(SeekFrom::Start(block * BLOCK as u64))?;
                self.file.read_exact(bytes)
            };
            read().map_err(|error| spool::failed(&error))?;
            self.cached[place] = block;
        }
        Ok(bytes.get(within..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_the_same_in_memory_and_in_a_file() {
        let text = |n: usize| format!("{n} {}", "ü".repeat(n * 7 % 300)).into_bytes();
        for limit in [IN_MEMORY, 10_000] {
            let mut strings = Strings::new("");
            strings.bytes.limit = limit;
            (0..20_000).for_each(|n| strings.push(&text(n)).unwrap());
            strings.finish().unwrap();
            assert_eq!(strings.bytes.spilled.is_some(), limit < IN_MEMORY);
            let mut read = Vec::new();
            for n in (0..20_000).chain((0..20_000).map(|n| n * 7_919 % 20_000)) {
                assert!(strings.read(n as u64, &mut read).unwrap());
                assert!(read == text(n), "{n}");
            }
            assert!(!strings.read(20_000, &mut read).unwrap());
        }
    }
}
