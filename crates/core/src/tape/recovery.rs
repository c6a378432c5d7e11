//! What a segment really holds, by its checksums.
//!
//! After a crash the shared words of a segment may promise more than the disk kept, or less.
//! Only frames count: each names the offset that the one before leads to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::head::{is_of_this_boot, opened_at, Head, CLOSED, DURABLE, HEAD, IDENTITY, PUBLISHED};
use super::identity::{may_be_same, Identity};
use super::map::Map;
use super::segment::{doing, file_length, list, Segment, SegmentFile};
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
    let start = Scan {
        last: 0,
        end: HEAD,
        end_offset: head.first_offset,
        input: head.input_before,
        ts_max: head.ts_before,
        frames: 0,
    };
    walk(segment, start, input_end)
}

/// Walks the frames of `bytes` from byte `at` on, of which the first is to hold offset `next`; the
/// frames before cover `input` and reach `ts_max`.
pub(crate) fn scan_from(bytes: &[u8], at: usize, next: u64, input: u64, ts_max: i64) -> Scan {
    walk(bytes, Scan { last: 0, end: at, end_offset: next, input, ts_max, frames: 0 }, u64::MAX)
}

fn walk(segment: &[u8], start: Scan, input_end: u64) -> Scan {
    let mut found = start;
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
    /// The durable watermark: no segment says more.
    pub(crate) durable: u64,
    /// Where the tape ended when a writer opened it first under this boot; `None` where none has.
    pub(crate) opened: Option<u64>,
}

/// What an error of recovery ends with.
const WAY_OUT: &str = "Nothing was changed. `tape repair` moves what is damaged aside and says \
                       which offsets are lost";
/// So many of the newest segments are asked how far the tape is durable.
const ASKED: usize = 3;

/// The error that the byte `at` of `path` is wrong, which no crash explains.
fn damaged(path: &Path, at: usize, reason: impl std::fmt::Display) -> Error {
    Error::corrupt(path, at as u64, format!("{reason}. {WAY_OUT}"))
}

/// Finds where the tape at `tape` ends. `None` if it has no segment yet. Removed are segments that
/// never held anything, and those that a loss of power cut off from what is before them; nothing
/// that was durable ever is.
///
/// # Errors
/// `Error::Corrupt`: something is wrong that a crash does not explain.
pub(crate) fn recover(tape: &Path) -> Result<Option<Found>> {
    if tape.join(super::repair::UNFINISHED).exists() {
        return Err(Error::invalid(format!(
            "a repair of {} was interrupted: run `tape repair` again, which finishes it",
            tape.display()
        )));
    }
    let mut files = list(tape)?;
    let durable = durable_mark(&files)?;
    let mut cut_bytes = remove_unborn(&mut files, durable)?;
    cut_bytes += settle_closed(&mut files, durable)?;
    let Some(mut file) = files.pop() else { return Ok(None) };
    if file.is_cold {
        // It is made plain only where writing goes on behind it.
        let end = Segment::open(&file)?.last_frame()?.map_or(file.first, |it| it.end_offset());
        if durable > end {
            let (_, length) = map_file(&file)?;
            let reason = format!("frames end at offset {end}, and {durable} was durable");
            return Err(damaged(&file.path, length, reason));
        }
        file = unpack(tape, file)?;
    }
    let (map, length) = map_file(&file)?;
    let segment = map.bytes(0, length);
    let head = Head::read(segment, &file.path)?;
    if head.first_offset != file.first {
        return Err(damaged(&file.path, 16, "the file's name and its head disagree"));
    }
    let identity = Identity::read(segment, &head, &file.path)?;
    if let Some(before) = files.last() {
        let other = Segment::open(before)?.identity();
        if !may_be_same(identity.id(), other.id()) {
            let reason = "the segment belongs to another tape than the one before";
            return Err(damaged(&file.path, IDENTITY, reason));
        }
    }
    let scan = scan(segment, &head);
    let mut recovery = judge(&file, &map, length, &scan, durable)?;
    cut_bytes += recovery.cut_bytes;
    recovery.cut_bytes = cut_bytes;
    let opened = opened_at(&map);
    Ok(Some(Found { path: file.path, head, identity, scan, recovery, durable, opened }))
}

/// How far the tape is durable, by the newest of its segments. The one before the newest is told
/// when something in the newest becomes durable, so that the loss of a whole file shows.
pub(crate) fn durable_mark(files: &[SegmentFile]) -> Result<u64> {
    let mut durable = 0;
    for file in files.iter().rev().take(ASKED) {
        let (map, length) = map_file(file)?;
        if length >= HEAD && Head::read(map.bytes(0, length), &file.path).is_ok() {
            durable = durable.max(map.word(DURABLE).load(Ordering::Acquire));
        }
    }
    Ok(durable)
}

/// Removes newest segments whose head never reached the disk, as power was lost before their first
/// sync. Returns how many bytes of them were not zero, up to the last.
fn remove_unborn(files: &mut Vec<SegmentFile>, durable: u64) -> Result<u64> {
    let mut cut_bytes = 0;
    while let Some(file) = files.last() {
        let (map, length) = map_file(file)?;
        if !is_unborn(&map, length) {
            break;
        }
        let before = files.len().checked_sub(2).map(|index| &files[index]);
        // The first segment of a tape is on the disk before it gets its name; any other one is
        // there in full while the machine runs.
        let is_explained = match before {
            Some(before) => durable <= file.first && !is_file_of_this_boot(before)?,
            None => false,
        };
        if !is_explained {
            return Err(damaged(&file.path, 0, "expected a segment, got a file without its head"));
        }
        cut_bytes += tail_of(map.bytes(0, length)) as u64;
        remove(file)?;
        files.pop();
    }
    Ok(cut_bytes)
}

fn is_file_of_this_boot(file: &SegmentFile) -> Result<bool> {
    let (map, length) = map_file(file)?;
    Ok(length >= HEAD && is_of_this_boot(&map))
}

/// Makes sure that each segment before the last leads to the next and says that it is closed.
/// Where one does not, because power was lost before it was on the disk, what follows is cut off.
/// Returns how many bytes that were.
fn settle_closed(files: &mut Vec<SegmentFile>, durable: u64) -> Result<u64> {
    let Some(mut first) = files.len().checked_sub(1) else { return Ok(0) };
    while first > 0 && !is_settled(&files[first - 1], lost_from(&files[first])?, durable)? {
        first -= 1;
    }
    // That a segment is closed may not have reached the disk with its last sync.
    for (index, file) in files[..first].iter().enumerate() {
        if !is_closed(file)? {
            first = index;
            break;
        }
    }
    for index in first..files.len().saturating_sub(1) {
        let (file, next) = (&files[index], lost_from(&files[index + 1])?);
        let (map, length) = map_file(file)?;
        let ends = if is_unborn(&map, length) {
            if index > 0 && is_file_of_this_boot(&files[index - 1])? {
                return Err(damaged(
                    &file.path,
                    0,
                    "expected a segment, got a file without its head",
                ));
            }
            None
        } else {
            let head = Head::read(map.bytes(0, length), &file.path)?;
            let found = scan(map.bytes(0, length), &head);
            if found.end_offset == next {
                close(file, found.last)?;
                continue;
            }
            // After a loss of power whole frames may follow on one that never reached the disk.
            if is_of_this_boot(&map) {
                let reason = format!("expected the frame of offset {}", found.end_offset);
                return Err(damaged(&file.path, found.end, reason));
            }
            Some(found)
        };
        let (end, byte) = ends.map_or((file.first, 0), |found| (found.end_offset, found.end));
        if durable > end || (index == 0 && ends.is_none()) {
            let reason = format!("frames end at offset {end}, and {durable} was durable");
            return Err(damaged(&file.path, byte, reason));
        }
        let kept = index + usize::from(ends.is_some());
        let mut cut_bytes = 0;
        for lost in files.drain(kept..).rev() {
            cut_bytes += std::fs::metadata(&lost.path).map_or(0, |metadata| metadata.len());
            remove(&lost)?;
        }
        return Ok(cut_bytes);
    }
    Ok(0)
}

/// Whether `file` says that it is closed.
fn is_closed(file: &SegmentFile) -> Result<bool> {
    if file.is_cold {
        return Ok(true);
    }
    let mut word = [0; 8];
    let read = File::open(&file.path).and_then(|f| f.read_exact_at(&mut word, PUBLISHED as u64));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Error::io(error, doing("reading", &file.path))),
        Ok(()) => Ok(u64::from_le_bytes(word) & CLOSED != 0),
    }
}

/// Where the segment before `file` ends: at its first item, unless a repair gave some up.
fn lost_from(file: &SegmentFile) -> Result<u64> {
    let (map, length) = map_file(file)?;
    let bytes = map.bytes(0, length);
    match Head::read(bytes, &file.path) {
        Ok(head) => Ok(Identity::read(bytes, &head, &file.path)?.lost_from),
        Err(_) => Ok(file.first),
    }
}

/// Whether `file` is known to lead to offset `next`, and says that it is closed.
fn is_settled(file: &SegmentFile, next: u64, durable: u64) -> Result<bool> {
    if file.is_cold {
        // It was made of a closed segment that was durable.
        return Ok(Segment::open(file)?.last_frame()?.is_some_and(|f| f.end_offset() == next));
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

/// How many bytes there are up to the last that is not zero.
fn tail_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// Decides whether what lies after the last whole frame is a torn tail, and measures it.
fn judge(
    file: &SegmentFile,
    map: &Map,
    length: usize,
    scan: &Scan,
    durable: u64,
) -> Result<Recovery> {
    let whole = Recovery { end: scan.end_offset, cut_bytes: 0, cut_at: scan.end as u64, undone: 0 };
    let corrupt = |reason: String| Err(damaged(&file.path, scan.end, reason));
    let end = scan.end_offset;
    if durable > end {
        return corrupt(format!("frames end at offset {end}, and {durable} was durable"));
    }
    let word = map.word(PUBLISHED).load(Ordering::Acquire);
    let is_here = is_of_this_boot(map);
    // Of this boot, all that was published is still in memory, and the next segment gets its name
    // before this one is closed.
    if is_here && (word & !7) as usize > scan.last {
        return corrupt(format!("expected the published frame of offset {end}, got other bytes"));
    }
    if is_here && word & CLOSED != 0 {
        return corrupt("the segment is closed, and the one that follows is missing".to_owned());
    }
    let rest = map.bytes(scan.end.min(length), length);
    let tail = tail_of(rest);
    if is_here && holds_frame(rest, tail, end) {
        return corrupt("the checksum of a frame is wrong, and whole frames follow".to_owned());
    }
    Ok(Recovery { cut_bytes: tail as u64, ..whole })
}
