//! One segment file, to be read.
//!
//! Frames follow the head back to back. The published word of the head is the position of the
//! last whole frame: one release store by the writer makes that frame and all before it visible.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::cold::Cold;
use super::head::{
    covered_beyond, is_of_this_boot, opened_at, this_boot, Head, DURABLE, HEAD, PUBLISHED, WAITING,
};
use super::identity::Identity;
use super::map::Map;
use super::tail::Correction;
use super::wait;
use crate::codec::{Frame, FRAME_HEADER};
use crate::error::{Error, Result};
use crate::record::Plain;

/// Ending of a segment's file name.
pub(crate) const SUFFIX: &str = ".seg";
/// Ending of a compressed segment's file name.
pub(crate) const SUFFIX_COLD: &str = ".seg.lz4";

/// A segment file as its name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    pub(crate) is_cold: bool,
}

/// The path of the segment that starts with offset `first`.
pub(crate) fn segment_path(tape: &Path, first: u64) -> PathBuf {
    tape.join(format!("{first:020}{SUFFIX}"))
}

/// The path of the compressed segment that starts with offset `first`.
pub(crate) fn cold_path(tape: &Path, first: u64) -> PathBuf {
    tape.join(format!("{first:020}{SUFFIX_COLD}"))
}

/// The segments of a tape, oldest first. Other files are not looked at.
pub(crate) fn list(tape: &Path) -> Result<Vec<SegmentFile>> {
    let doing = || format!("listing the tape {}", tape.display());
    let mut files: Vec<SegmentFile> = Vec::new();
    for entry in std::fs::read_dir(tape).map_err(|error| Error::io(error, doing()))? {
        let entry = entry.map_err(|error| Error::io(error, doing()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_cold = name.ends_with(SUFFIX_COLD);
        let suffix = if is_cold { SUFFIX_COLD } else { SUFFIX };
        let Some(digits) = name.strip_suffix(suffix) else { continue };
        if digits.len() != 20 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            continue;
        }
        if let Ok(first) = digits.parse() {
            files.push(SegmentFile { first, path: entry.path(), is_cold });
        }
    }
    // While a segment is being replaced by its compressed form, both are there: either will do.
    files.sort_by_key(|file| (file.first, file.is_cold));
    files.dedup_by_key(|file| file.first);
    Ok(files)
}

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) head: Head,
    pub(super) file: File,
    pub(super) map: Map,
    /// The head again, writable, so that the writer learns who waits. Absent without permission.
    shared: Option<Map>,
    pub(super) correction: Option<Correction>,
    /// The last published frame and its position, once its checksum was verified.
    pub(super) checked_last: Option<(usize, Frame)>,
    /// The blocks, of a compressed segment.
    pub(super) cold: Option<Cold>,
}

impl Segment {
    /// Opens a segment, compressed or not.
    pub(crate) fn open(of: &SegmentFile) -> Result<Self> {
        let path = of.path.as_path();
        let opened = File::options().read(true).write(true).open(path);
        let (file, may_write) = match opened {
            Ok(file) => (file, true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::io(error, format!("opening {}", path.display())));
            }
            Err(_) => (File::open(path).map_err(|e| Error::io(e, doing("opening", path)))?, false),
        };
        let length = file_length(&file, path)?;
        if length < HEAD {
            return Err(Error::corrupt(
                path,
                length as u64,
                format!("expected a segment head of {HEAD} bytes, got {length}"),
            ));
        }
        let map = Map::read_only(&file, length, path)?;
        let head = Head::read(map.bytes(0, HEAD), path)?;
        if head.first_offset != of.first {
            return Err(Error::corrupt(path, 16, "the file's name and its head disagree"));
        }
        let cold = if of.is_cold { Some(Cold::open(map.bytes(0, length), path)?) } else { None };
        let shared = if may_write { Map::writable(&file, HEAD, path).ok() } else { None };
        let path = path.to_owned();
        let mut segment =
            Self { path, head, file, map, shared, correction: None, checked_last: None, cold };
        segment.check_published()?;
        Ok(segment)
    }

    /// Offset after the last durable item, as the writer last said.
    pub(crate) fn durable(&self) -> u64 {
        self.map.word(DURABLE).load(Ordering::Acquire)
    }

    /// Whether a writer opened it since this machine started, as far as the machine can tell.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        this_boot() == [0; 2] || is_of_this_boot(&self.map)
    }

    /// The input that the tape covers beyond what its frames say, if this is its newest segment.
    pub(crate) fn covered_beyond(&self) -> u64 {
        if self.cold.is_some() {
            return 0;
        }
        covered_beyond(&self.map)
    }

    /// Which tape it belongs to.
    pub(crate) fn identity(&self) -> Identity {
        // Opening has checked the block.
        let unknown = |_| Identity::new(None, None, self.head.first_offset);
        Identity::read(self.head_bytes(), &self.head, &self.path).unwrap_or_else(unknown)
    }

    /// Where the tape ended when a writer opened it first under this boot; `None` where none has.
    pub(crate) fn opened(&self) -> Option<u64> {
        opened_at(&self.map)
    }

    /// The head's bytes.
    pub(crate) fn head_bytes(&self) -> &[u8] {
        self.map.bytes(0, HEAD)
    }

    /// Makes sure that the bytes of the frame at `at` up to `end` are at hand: maps again if the
    /// file must have grown to hold them, unpacks the block of a compressed segment.
    #[inline]
    pub(super) fn ensure(&mut self, at: usize, end: usize) -> Result<()> {
        if let Some(cold) = &mut self.cold {
            let file = self.map.bytes(0, self.map.length());
            let unpacked = cold.unpack(file, &self.path, at, end);
            return self.map.intact(&self.path).and(unpacked);
        }
        if end <= self.map.length() {
            return Ok(());
        }
        self.map_more(at, end)
    }

    #[cold]
    fn map_more(&mut self, at: usize, end: usize) -> Result<()> {
        self.map_grown()?;
        let length = self.map.length();
        if end > length {
            let reason = format!("the frame needs {end} bytes of a file of {length}");
            return Err(self.wrong(at, reason));
        }
        Ok(())
    }

    /// Maps the file anew if it is longer now. Says whether it is.
    pub(super) fn map_grown(&mut self) -> Result<bool> {
        let length = file_length(&self.file, &self.path)?;
        let has_grown = length > self.map.length();
        if has_grown {
            self.map = Map::read_only(&self.file, length, &self.path)?;
        }
        Ok(has_grown)
    }

    /// The header of the published frame at `at`, of which the first offset must be `expected`.
    #[inline]
    pub(crate) fn frame(&mut self, at: usize, expected: u64) -> Result<Frame> {
        self.ensure(at, at.saturating_add(FRAME_HEADER))?;
        let frame = Frame::read_from(self.bytes(at, at + FRAME_HEADER));
        match frame {
            Some(frame) if frame.is_plausible() && frame.first_offset == expected => {
                self.ensure(at, at + frame.size())?;
                self.intact()?;
                Ok(frame)
            }
            _ => {
                let reason = format!("expected the frame of offset {expected}, got other bytes");
                Err(self.wrong(at, reason))
            }
        }
    }

    /// As [`Segment::frame`], with its checksum verified.
    #[inline]
    pub(crate) fn checked_frame(&mut self, at: usize, expected: u64) -> Result<Frame> {
        let frame = self.frame(at, expected)?;
        let payload = self.bytes(at + FRAME_HEADER, at + frame.size());
        if frame.checksum_with(payload) != frame.checksum {
            let reason = format!("the checksum of the frame of offset {expected} is wrong");
            return Err(self.wrong(at, reason));
        }
        if !self.head.kind().holds(payload, frame.count as usize) {
            return Err(self.wrong(at, "items and frame disagree on lengths"));
        }
        self.intact()?;
        Ok(frame)
    }

    /// Bytes of the frame that was looked at last.
    #[inline]
    pub(crate) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        match &self.cold {
            None => self.map.bytes(from, to),
            Some(cold) => cold.bytes(from, to),
        }
    }

    /// Bytes of any published frame of a segment that is not compressed.
    pub(crate) fn published_bytes(&self, from: usize, to: usize) -> &[u8] {
        self.map.bytes(from, to)
    }

    /// Sleeps while the published word is `(last, closed)`, at most for `timeout`.
    pub(crate) fn sleep(&self, tail: (usize, bool), timeout: std::time::Duration) {
        let Some(shared) = &self.shared else {
            // Without permission to register, looking again soon is all that can be done.
            std::thread::sleep(timeout.min(std::time::Duration::from_millis(1)));
            return;
        };
        // The writer publishes, then looks at this word; a reader sets it, then looks at the
        // published word. Both are sequentially consistent, so one of them sees the other.
        shared.word(WAITING).store(1, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        let word = shared.word(PUBLISHED).load(Ordering::SeqCst);
        if self.tail() == tail {
            wait::sleep_while(shared.half_word(PUBLISHED), word as u32, timeout);
        }
    }

    /// Drops the mapped pages from `from` to `to` from this process's memory.
    pub(crate) fn forget(&self, from: usize, to: usize) {
        if self.cold.is_none() {
            self.map.advise(from, to, libc::MADV_DONTNEED);
        }
    }
}

pub(crate) fn doing(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

pub(crate) fn file_length(file: &File, path: &Path) -> Result<usize> {
    let metadata = file.metadata().map_err(|error| Error::io(error, doing("measuring", path)))?;
    usize::try_from(metadata.len()).map_err(|_| Error::corrupt(path, 0, "the file is too long"))
}
