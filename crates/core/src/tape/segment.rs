//! One segment file, to be read.
//!
//! Frames follow the head back to back. The published word of the head is the position of the
//! last whole frame: one release store by the writer makes that frame and all before it visible.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::cold::Cold;
use super::head::{
    is_of_this_boot, this_boot, Head, CLOSED, DURABLE, EPOCH, HEAD, PUBLISHED, WAITING,
};
use super::identity::Identity;
use super::map::Map;
use super::{recovery, wait};
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

/// What a published word that cannot be believed really stands for.
#[derive(Debug, Clone, Copy)]
struct Correction {
    epoch: u64,
    word: u64,
    real: u64,
}

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) head: Head,
    file: File,
    map: Map,
    /// The head again, writable, so that the writer learns who waits. Absent without permission.
    shared: Option<Map>,
    correction: Option<Correction>,
    /// The blocks, of a compressed segment.
    cold: Option<Cold>,
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
                format!("wanted a segment head of {HEAD} bytes, found {length}"),
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
        let mut segment = Self { path, head, file, map, shared, correction: None, cold };
        segment.settle();
        Ok(segment)
    }

    /// Finds out whether the published word can be believed: it can if this boot wrote it and the
    /// frame that it names is there. Else the frames themselves say how far they go.
    fn settle(&mut self) {
        if self.cold.is_some() {
            return;
        }
        let epoch = self.map.word(EPOCH).load(Ordering::Acquire);
        let word = self.map.word(PUBLISHED).load(Ordering::Acquire);
        let last = (word & !7) as usize;
        let is_there = last == 0 || (last >= HEAD && self.whole(last).is_some());
        if is_of_this_boot(&self.map) && is_there {
            return;
        }
        let found = recovery::scan(self.map.bytes(0, self.map.length()), &self.head);
        let real = found.last as u64 | (word & CLOSED);
        self.correction = Some(Correction { epoch, word, real });
    }

    /// The frame at `at`, if all of it is in the map and its checksum is right.
    fn whole(&self, at: usize) -> Option<Frame> {
        if at >= self.map.length() {
            return None;
        }
        Frame::read(self.map.bytes(at, self.map.length())).map(|(frame, _)| frame)
    }

    /// The position of the last published frame, 0 for none, and whether a newer segment goes on.
    #[inline]
    pub(crate) fn tail(&self) -> (usize, bool) {
        let mut word = self.map.word(PUBLISHED).load(Ordering::Acquire);
        if let Some(correction) = self.correction {
            let epoch = self.map.word(EPOCH).load(Ordering::Acquire);
            if word == correction.word && epoch == correction.epoch {
                word = correction.real;
            }
        }
        ((word & !7) as usize, word & CLOSED != 0)
    }

    /// The byte at which whole frames end although more was published.
    pub(crate) fn torn_at(&self) -> Option<usize> {
        let correction = self.correction?;
        let real = (correction.real & !7) as usize;
        let end = match self.whole(real) {
            Some(frame) if real >= HEAD => real + frame.size(),
            _ => HEAD,
        };
        (correction.word & !7 > correction.real & !7).then_some(end)
    }

    /// Offset after the last durable item, as the writer last said.
    pub(crate) fn durable(&self) -> u64 {
        self.map.word(DURABLE).load(Ordering::Acquire)
    }

    /// Whether a writer opened it since this machine started, as far as the machine can tell.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        this_boot() == [0; 2] || is_of_this_boot(&self.map)
    }

    /// Which tape it belongs to.
    pub(crate) fn identity(&self) -> Identity {
        // Opening has checked the block.
        let unknown = |_| Identity::new(None, None, self.head.first_offset);
        Identity::read(self.head_bytes(), &self.head, &self.path).unwrap_or_else(unknown)
    }

    /// The head's bytes.
    pub(crate) fn head_bytes(&self) -> &[u8] {
        self.map.bytes(0, HEAD)
    }

    /// Makes sure that the bytes of the frame at `at` up to `end` are at hand: maps again if the
    /// file must have grown to hold them, unpacks the block of a compressed segment.
    #[inline]
    fn ensure(&mut self, at: usize, end: usize) -> Result<()> {
        if let Some(cold) = &mut self.cold {
            let file = self.map.bytes(0, self.map.length());
            return cold.unpack(file, &self.path, at, end);
        }
        if end <= self.map.length() {
            return Ok(());
        }
        self.map_more(at, end)
    }

    #[cold]
    fn map_more(&mut self, at: usize, end: usize) -> Result<()> {
        let length = file_length(&self.file, &self.path)?;
        if end > length {
            return Err(Error::corrupt(
                &self.path,
                at as u64,
                format!("the frame needs {end} bytes of a file of {length}"),
            ));
        }
        self.map = Map::read_only(&self.file, length, &self.path)?;
        Ok(())
    }

    /// The header of the published frame at `at`, of which the first offset must be `expected`.
    #[inline]
    pub(crate) fn frame(&mut self, at: usize, expected: u64) -> Result<Frame> {
        self.ensure(at, at.saturating_add(FRAME_HEADER))?;
        let frame = Frame::read_from(self.bytes(at, at + FRAME_HEADER));
        match frame {
            Some(frame) if frame.is_plausible() && frame.first_offset == expected => {
                self.ensure(at, at + frame.size())?;
                Ok(frame)
            }
            _ => Err(Error::corrupt(
                &self.path,
                at as u64,
                format!("wanted the frame of offset {expected}, found other bytes"),
            )),
        }
    }

    /// As [`Segment::frame`], with its checksum verified.
    #[inline]
    pub(crate) fn checked_frame(&mut self, at: usize, expected: u64) -> Result<Frame> {
        let frame = self.frame(at, expected)?;
        let payload = self.bytes(at + FRAME_HEADER, at + frame.size());
        if frame.checksum_with(payload) != frame.checksum {
            return Err(Error::corrupt(
                &self.path,
                at as u64,
                format!("the checksum of the frame of offset {expected} is wrong"),
            ));
        }
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

    /// The last published frame, if there is one.
    pub(crate) fn last_frame(&mut self) -> Result<Option<Frame>> {
        let (last, _) = self.tail();
        if last == 0 {
            return Ok(None);
        }
        self.ensure(last, last.saturating_add(FRAME_HEADER))?;
        let frame = Frame::read_from(self.bytes(last, last + FRAME_HEADER));
        match frame {
            Some(frame) if last >= HEAD && frame.is_plausible() => Ok(Some(frame)),
            _ => Err(Error::corrupt(&self.path, last as u64, "wanted the last published frame")),
        }
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
