//! What a segment really holds, by its checksums.
//!
//! After a crash the shared words of a segment may promise more than the disk kept, or less.
//! Only frames count: each names the offset that the one before leads to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::head::{is_of_this_boot, Head, CLOSED, DURABLE, HEAD, PUBLISHED};
use super::identity::Identity;
use super::map::Map;
use super::segment::{doing, file_length, list, SegmentFile};
use super::undo::unpack;
use super::{wait, Recovery};
use crate::codec::{Frame, FRAME_HEADER, NO_INPUT};
use crate::error::{Error, Result};
use crate::record::Plain;

/// How far the frames of a segment are whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan {
    /// Position of the last whole frame, 0 for none.
    pub(crate) last: usize,
    /// Byte after it.
    pub(crate) end: usize,
    /// Offset after its last item.
    pub(crate) end_offset: u64,
    /// Input offset that it covers.
    pub(crate) input: u64,
    /// Newest receive time up to it.
    pub(crate) ts_max: i64,
    /// Number of frames.
    pub(crate) frames: u64,
}

/// Walks the frames of `segment`, a whole file whose head is `head`, up to the first that is not
/// whole.
pub(crate) fn scan(segment: &[u8], head: &Head) -> Scan {
    scan_within(segment, head, u64::MAX)
}

/// As [`scan`], up to the first frame that covers input after `input_end`.
pub(crate) fn scan_within(segment: &[u8], head: &Head, input_end: u64) -> Scan {
    let mut found = Scan {
        last: 0,
        end: HEAD,
        end_offset: head.first_offset,
        input: head.input_before,
        ts_max: head.ts_before,
        frames: 0,
    };
    while let Some(bytes) = segment.get(found.end..) {
        match Frame::read(bytes) {
            Some((frame, _))
                if frame.first_offset == found.end_offset
                    && (frame.input_offset <= input_end || frame.input_offset == NO_INPUT) =>
            {
                found.take(&frame);
            }
            _ => break,
        }
    }
    found
}

impl Scan {
    fn take(&mut self, frame: &Frame) {
        self.last = self.end;
        self.end += frame.size();
        self.end_offset = frame.end_offset();
        self.input = frame.input_offset;
        self.ts_max = self.ts_max.max(frame.ts_recv);
        self.frames += 1;
    }
}

/// Whether a whole frame with an offset after `end_offset` starts in `bytes` after its first byte
/// and before byte `tail`. A frame that is not whole starts at its first byte.
pub(crate) fn holds_frame(bytes: &[u8], tail: usize, end_offset: u64) -> bool {
    let mut at = 8;
    while at < tail && at + FRAME_HEADER <= bytes.len() {
        if let Some(frame) = Frame::read_from(&bytes[at..]) {
            // The offset is a cheap filter: items are 24 bytes at least, so that the frame at
            // this byte can be only so far ahead.
            let ahead = frame.first_offset.wrapping_sub(end_offset);
            if ahead <= (at as u64 + 1) << 8
                && frame.is_plausible()
                && Frame::read(&bytes[at..]).is_some()
            {
                return true;
            }
        }
        at += 8;
    }
    false
}

/// The end of a tape, from which writing goes on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) head: Head,
    pub(crate) identity: Identity,
    pub(crate) scan: Scan,
    pub(crate) recovery: Recovery,
}

/// Finds where the tape at `tape` ends. `None` if it has no segment yet. Segments that never held
/// anything are removed, and those that a loss of power cut off from what is before them.
///
/// # Errors
/// `Error::Corrupt`: something is wrong that a crash does not explain.
pub(crate) fn recover(tape: &Path) -> Result<Option<Found>> {
    let mut files = list(tape)?;
    while let Some(file) = files.last() {
        let (map, length) = map_file(file)?;
        if !is_unborn(&map, length) {
            break;
        }
        // Power was lost between naming a new segment and its first sync.
        remove(file)?;
        files.pop();
    }
    let mut cut_bytes = settle_closed(&mut files)?;
    let Some(mut file) = files.pop() else { return Ok(None) };
    if file.is_cold {
        file = unpack(tape, file)?;
    }
    let (map, length) = map_file(&file)?;
    let segment = map.bytes(0, length);
    let head = Head::read(segment, &file.path)?;
    if head.first_offset != file.first {
        return Err(Error::corrupt(&file.path, 16, "the file's name and its head disagree"));
    }
    let identity = Identity::read(segment, &head, &file.path)?;
    let scan = scan(segment, &head);
    let mut recovery = judge(&file, &map, length, &scan)?;
    cut_bytes += recovery.cut_bytes;
    recovery.cut_bytes = cut_bytes;
    Ok(Some(Found { path: file.path, head, identity, scan, recovery }))
}

/// Makes sure that each segment before the last leads to the next and says that it is closed.
/// Where one does not, because power was lost before it was on the disk, what follows is cut off.
/// Returns how many bytes that were.
fn settle_closed(files: &mut Vec<SegmentFile>) -> Result<u64> {
    let Some(newest) = files.last() else { return Ok(0) };
    let (map, length) = map_file(newest)?;
    let durable = if length < HEAD { 0 } else { map.word(DURABLE).load(Ordering::Acquire) };
    drop(map);
    let mut first = files.len() - 1;
    while first > 0 && !is_settled(&files[first - 1], files[first].first, durable)? {
        first -= 1;
    }
    for index in first..files.len().saturating_sub(1) {
        let (file, next) = (&files[index], files[index + 1].first);
        let (map, length) = map_file(file)?;
        let head = Head::read(map.bytes(0, length), &file.path)?;
        let found = scan(map.bytes(0, length), &head);
        if found.end_offset == next {
            close(file, found.last)?;
            continue;
        }
        let follows = found.end < length
            && holds_frame(map.bytes(found.end, length), length - found.end, found.end_offset);
        if follows || is_of_this_boot(&map) {
            let reason = format!("wanted the frame of offset {}", found.end_offset);
            return Err(Error::corrupt(&file.path, found.end as u64, reason));
        }
        let mut cut_bytes = 0;
        for lost in files.drain(index + 1..).rev() {
            cut_bytes += std::fs::metadata(&lost.path).map_or(0, |metadata| metadata.len());
            remove(&lost)?;
        }
        return Ok(cut_bytes);
    }
    Ok(0)
}

/// Whether `file` is known to lead to offset `next`, and says that it is closed.
fn is_settled(file: &SegmentFile, next: u64, durable: u64) -> Result<bool> {
    if file.is_cold {
        return Ok(true);
    }
    let (map, length) = map_file(file)?;
    if length < HEAD {
        return Ok(false);
    }
    let word = map.word(PUBLISHED).load(Ordering::Acquire);
    let last = (word & !7) as usize;
    if word & CLOSED == 0 || last < HEAD || last >= length {
        return Ok(false);
    }
    let leads = Frame::read(map.bytes(last, length)).is_some_and(|(f, _)| f.end_offset() == next);
    // Of another boot, the pages before the last frame may be missing, unless it was durable.
    Ok(leads && (durable >= next || is_of_this_boot(&map)))
}

/// Says in the head of `file` that it is closed after the frame at `last`.
fn close(file: &SegmentFile, last: usize) -> Result<()> {
    let opened = File::options().read(true).write(true).open(&file.path);
    let opened = opened.map_err(|error| Error::io(error, doing("opening", &file.path)))?;
    let map = Map::writable(&opened, HEAD, &file.path)?;
    map.word(PUBLISHED).store(last as u64 | CLOSED, Ordering::Release);
    wait::wake_all(map.half_word(PUBLISHED));
    Ok(())
}

pub(crate) fn remove(file: &SegmentFile) -> Result<()> {
    std::fs::remove_file(&file.path)
        .map_err(|error| Error::io(error, doing("removing", &file.path)))
}

pub(crate) fn map_file(file: &SegmentFile) -> Result<(Map, usize)> {
    let opened = File::open(&file.path);
    let opened = opened.map_err(|error| Error::io(error, doing("opening", &file.path)))?;
    let length = file_length(&opened, &file.path)?;
    Ok((Map::read_only(&opened, length, &file.path)?, length))
}

/// Whether the head was never written.
fn is_unborn(map: &Map, length: usize) -> bool {
    length == 0 || (map.bytes(0, length.min(128)).iter().all(|&byte| byte == 0))
}

/// Decides whether what lies after the last whole frame is a torn tail, and measures it.
fn judge(file: &SegmentFile, map: &Map, length: usize, scan: &Scan) -> Result<Recovery> {
    let whole = Recovery { end: scan.end_offset, cut_bytes: 0, cut_at: scan.end as u64, undone: 0 };
    if length < HEAD {
        return Ok(whole);
    }
    let rest = map.bytes(scan.end, length);
    let tail = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let published = (map.word(PUBLISHED).load(Ordering::Acquire) & !7) as usize;
    let missing = published > scan.last && published >= length;
    if tail == 0 && !missing {
        return Ok(whole);
    }
    let corrupt = |reason: &str| Err(Error::corrupt(&file.path, scan.end as u64, reason));
    // Of this boot, all that was published is still in memory; below the durable mark, all is on
    // the disk. There a bad frame is damage and not a torn tail, unless the file just ends in it.
    let is_durable = map.word(DURABLE).load(Ordering::Acquire) > scan.end_offset;
    let size = Frame::read_from(rest).map_or(usize::MAX, |frame| frame.size());
    if tail > 0 && is_durable && size <= rest.len() {
        return corrupt("the checksum of a frame that was durable is wrong");
    }
    let is_kept = is_durable || is_of_this_boot(map);
    if is_kept && holds_frame(rest, tail, scan.end_offset) {
        return corrupt("the checksum of a frame is wrong, and whole frames follow");
    }
    Ok(Recovery { cut_bytes: tail as u64, ..whole })
}
