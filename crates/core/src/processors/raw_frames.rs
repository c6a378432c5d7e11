//! Frames of the raw tape, read by their offsets for records that name them.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::record::{blob, Blob};
use crate::tape::Reader;

/// The raw tape of a source.
#[derive(Debug)]
pub struct RawFrames {
    path: PathBuf,
    /// Opened with the first frame: most sources have none that is asked for.
    reader: Option<Reader>,
}

impl RawFrames {
    /// The tape in the folder `path`, which is not opened yet.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, reader: None }
    }

    /// Calls `take` with the frame at `offset`; none: retention took it.
    ///
    /// # Errors
    /// `Error::Invalid`: the tape ends before it; and what reading gives, and `take`.
    pub fn with<T>(
        &mut self,
        offset: u64,
        take: impl FnOnce(Option<Blob<'_>>) -> Result<T>,
    ) -> Result<T> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(Reader::open(&self.path)?),
        };
        match reader.seek(offset) {
            Err(Error::OutOfRange { wanted, first, .. }) if wanted < first => return take(None),
            sought => sought?,
        }
        let frame = reader.read(1)?.and_then(|batch| blob::iterate(batch.bytes).next());
        let Some(frame) = frame else {
            return Err(Error::invalid(format!(
                "expected a frame at offset {offset} of {}, got the end of the tape",
                self.path.display()
            )));
        };
        take(Some(frame))
    }
}
