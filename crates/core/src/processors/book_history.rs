//! The history of books on a tape of this machine.

use std::path::Path;

use crate::book::{BookHistory, BookTape};
use crate::error::{Error, Result};
use crate::tape::{Reader, TapeKind};

/// Opens the history on the book tape at `path`.
///
/// # Errors
/// `Error::Io`: there is no tape, or it may not be read. `Error::Invalid`: its items are not
/// records.
pub fn open_book_history(path: &Path) -> Result<BookHistory<Reader>> {
    let reader = Reader::open(path)?;
    if reader.kind() != TapeKind::Records {
        return Err(Error::invalid(format!(
            "expected a book tape at {}, got blobs",
            path.display()
        )));
    }
    BookHistory::new(reader)
}

impl BookTape for Reader {
    fn path(&self) -> &Path {
        Self::path(self)
    }

    fn first(&self) -> Result<u64> {
        Self::first(self)
    }

    fn end(&mut self) -> Result<u64> {
        Self::end(self)
    }

    fn seek(&mut self, offset: u64) -> Result<()> {
        Self::seek(self, offset)
    }

    fn read(&mut self) -> Result<Option<(u64, &[u8])>> {
        Ok(Self::read(self, usize::MAX)?.map(|batch| (batch.first_offset, batch.bytes)))
    }
}
