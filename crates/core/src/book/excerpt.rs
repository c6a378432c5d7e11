//! A part of a book tape in memory, such as the lake gives back.

use std::path::Path;

use super::history::BookTape;
use crate::error::Result;
use crate::record::records;

/// Records in the order of their tape, read as a tape that starts at offset 0.
#[derive(Debug)]
pub struct Excerpt<'a> {
    bytes: &'a [u8],
    count: u64,
    /// Offset of the record to be read next, and its first byte.
    next: (u64, usize),
}

impl<'a> Excerpt<'a> {
    /// The tape that `bytes`, whole records, make up.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, count: records::iterate(bytes).count() as u64, next: (0, 0) }
    }
}

impl BookTape for Excerpt<'_> {
    fn path(&self) -> &Path {
        Path::new("records in memory")
    }

    fn first(&self) -> Result<u64> {
        Ok(0)
    }

    fn end(&mut self) -> Result<u64> {
        Ok(self.count)
    }

    fn seek(&mut self, offset: u64) -> Result<()> {
        let before = records::iterate(self.bytes).take(offset as usize);
        self.next = (offset, before.map(|record| record.bytes().len()).sum());
        Ok(())
    }

    fn read(&mut self) -> Result<Option<(u64, &[u8])>> {
        let (offset, byte) = self.next;
        if offset >= self.count {
            return Ok(None);
        }
        self.next = (self.count, self.bytes.len());
        Ok(Some((offset, &self.bytes[byte..])))
    }
}
