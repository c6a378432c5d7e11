//! Where the checkpoints and state changes of a book tape lie.
//!
//! Found by scanning the tape once; each scan goes on where the last one ended. What was found is
//! kept in a file beside the tape, so that the next process need not scan again. The file is only a
//! cache: it is replaced whole by renaming, and one that is damaged or of another version is made
//! anew.
//!
//! The file, little-endian:
//! ```text
//! offset  size  field
//!      0     8  "TWCKPT" and the version as u16
//!      8     8  offset of the first record scanned
//!     16     8  offset after the last record scanned
//!     24     4  number of entries
//!     28     4  CRC-32C of all other bytes
//!     32    40  each entry, in order of offset: see `BookPlace`
//! ```

use super::SyncState;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::record::{records, Kind, Marker, MarkerCode, Plain, NONE};

const MAGIC: [u8; 8] = *b"TWCKPT\x01\x00";
const HEAD: usize = 32;
/// The file is written again when so many more records were scanned.
const SAVE_RECORDS: u64 = 1 << 18;

/// One checkpoint or state change, 40 bytes.
/// ```text
/// offset  size  field
///      0     8  offset of its first record on the tape
///      8     4  instrument
///     12     1  the state from here on; 255 is a checkpoint
///     13     3  zero
///     16     8  ts_event, ns
///     24     8  ts_recv, ns
///     32     8  sequence of the book
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct BookPlace {
    pub(super) offset: u64,
    pub(super) instrument: u32,
    what: u8,
    reserved: [u8; 3],
    pub(super) ts_event: i64,
    pub(super) ts_recv: i64,
    pub(super) sequence: u64,
}

const CHECKPOINT: u8 = 255;

// SAFETY: `repr(C)` of integers, 40 bytes without padding.
unsafe impl Plain for BookPlace {}
const _: () = assert!(size_of::<BookPlace>() == 40);

impl BookPlace {
    fn new(offset: u64, marker: &Marker, what: u8) -> Self {
        let header = &marker.header;
        // The end of a session has no time of the venue.
        let ts_event = if header.ts_event == NONE { header.ts_recv } else { header.ts_event };
        Self {
            offset,
            instrument: header.instrument,
            what,
            reserved: [0; 3],
            ts_event,
            ts_recv: header.ts_recv,
            sequence: header.sequence,
        }
    }

    /// The state from here on; `None` for a checkpoint.
    pub(super) fn state(&self) -> Option<SyncState> {
        // A number of a later version is no state in which a book is shown.
        (self.what != CHECKPOINT)
            .then(|| SyncState::try_from(self.what).unwrap_or(SyncState::Empty))
    }
}

/// The places of one tape.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// None: what was found is not kept.
    path: Option<PathBuf>,
    /// First offset scanned.
    first: u64,
    /// Offset from which to scan on.
    next: u64,
    saved: u64,
    entries: HashMap<u32, Vec<BookPlace>>,
    count: usize,
    /// A checkpoint of which the end was not seen yet.
    open: Option<BookPlace>,
}

impl Checkpoints {
    /// What the file at `path` holds; nothing if it is not there or not whole.
    ///
    /// # Errors
    /// `Error::Io`: the file is there and cannot be read.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let mut this = Self { path: Some(path.to_owned()), ..Self::default() };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(this),
            Err(error) => {
                return Err(Error::io(error, format!("reading checkpoints {}", path.display())))
            }
        };
        if let Some((first, next, entries)) = parse(&bytes) {
            (this.first, this.next, this.saved) = (first, next, next);
            entries.for_each(|entry| this.push(entry));
        }
        Ok(this)
    }

    /// Forgets all that was found: the next scan starts at `first`.
    pub(super) fn restart(&mut self, first: u64) {
        (self.first, self.next, self.saved) = (first, first, first);
        self.entries.clear();
        self.count = 0;
        self.open = None;
    }

    /// Offsets scanned: from, and up to.
    pub(super) const fn scanned(&self) -> (u64, u64) {
        (self.first, self.next)
    }

    /// The places of `instrument`, in order of offset.
    pub(super) fn of(&self, instrument: u32) -> &[BookPlace] {
        self.entries.get(&instrument).map_or(&[], Vec::as_slice)
    }

    /// The instruments of which there is any, in order of id.
    pub(super) fn instruments(&self) -> Vec<u32> {
        let mut ids: Vec<_> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Takes in records that start at `offset`, which is where the last ones ended.
    pub(super) fn scan(&mut self, offset: u64, bytes: &[u8]) {
        let mut place = offset;
        for record in records::iterate(bytes) {
            if record.kind() == Kind::Marker as u8 {
                if let Some(marker) = record.as_marker() {
                    self.scan_marker(place, &marker);
                }
            }
            place += 1;
        }
        self.next = place;
    }

    /// Writes the file, if enough was scanned since it was last written. Where that is not allowed,
    /// what was found stays in memory only.
    ///
    /// # Errors
    /// `Error::Io`: writing failed for another reason than permission.
    pub(super) fn save(&mut self) -> Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.next - self.saved >= SAVE_RECORDS)
        else {
            return Ok(());
        };
        // A reader of the file scans on after its last whole checkpoint.
        let next = self.open.map_or(self.next, |open| open.offset);
        let mut entries: Vec<_> = self.entries.values().flatten().collect();
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut bytes = Vec::with_capacity(HEAD + entries.len() * size_of::<BookPlace>());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        entries.iter().for_each(|entry| bytes.extend_from_slice(entry.as_bytes()));
        let checksum = checksum(&bytes).to_le_bytes();
        bytes[HEAD - 4..HEAD].copy_from_slice(&checksum);
        // Other processes may do the same: each writes a file of its own, and renames it.
        let aside = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = std::fs::write(&aside, &bytes).and_then(|()| std::fs::rename(&aside, path));
        match written {
            Ok(()) => {}
            Err(error) if may_not_write(&error) => {}
            Err(error) => {
                let doing = format!("writing checkpoints {}", path.display());
                return Err(Error::io(error, doing));
            }
        }
        self.saved = self.next;
        Ok(())
    }

    fn scan_marker(&mut self, place: u64, marker: &Marker) {
        match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::BookState) => self.push(BookPlace::new(place, marker, marker.state)),
            Ok(MarkerCode::CheckpointBegin) => {
                self.open = Some(BookPlace::new(place, marker, CHECKPOINT));
            }
            Ok(MarkerCode::CheckpointEnd) => {
                if let Some(open) = self.open.take() {
                    self.push(open);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, entry: BookPlace) {
        self.count += 1;
        self.entries.entry(entry.instrument).or_default().push(entry);
    }
}

fn may_not_write(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEAD - 4]), &bytes[HEAD..])
}

/// First offset, next offset and entries of a whole file.
fn parse(bytes: &[u8]) -> Option<(u64, u64, impl Iterator<Item = BookPlace> + '_)> {
    let head = bytes.get(..HEAD)?;
    let number = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let count = u32::from_le_bytes(head[24..28].try_into().ok()?) as usize;
    let stored = u32::from_le_bytes(head[28..32].try_into().ok()?);
    let whole = head[..8] == MAGIC
        && bytes.len() == HEAD + count * size_of::<BookPlace>()
        && checksum(bytes) == stored;
    let entries =
        bytes[HEAD..].chunks_exact(size_of::<BookPlace>()).filter_map(BookPlace::read_from);
    whole.then_some((number(8)?, number(16)?, entries))
}
