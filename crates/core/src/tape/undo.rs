//! Undoing output whose input no longer exists.
//!
//! A derived tape and its input are written to disk separately. After a loss of power the derived
//! tape may hold output of input that is gone: it is undone, back to the last frame whose input is
//! still there. Durable output is never undone: its input was durable before it.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::chain::for_each_frame;
use super::create::open_file;
use super::head::{Head, BOOT, DURABLE, HEAD, PUBLISHED};
use super::identity::Identity;
use super::map::Map;
use super::recovery::{map_file, remove, scan_within, Found};
use super::segment::{doing, list, segment_path, Segment, SegmentFile};
use super::{wait, Reader, Recovery};
use crate::codec::{FRAME_HEADER, NO_INPUT};
use crate::error::{Error, Result};

/// Fails if `input` is not the tape that the one at `path` was made from.
pub(crate) fn check_origin(path: &Path, identity: &Identity, input: &mut Reader) -> Result<()> {
    let (kept, found) = (identity.origin(), input.id()?);
    match kept.zip(found).filter(|(kept, found)| kept != found) {
        None => Ok(()),
        Some((kept, found)) => Err(Error::Replaced {
            path: path.to_owned(),
            expected: format!("the input {kept}, which this tape was made from"),
            found: format!("{found} at {}", input.path().display()),
            advice: "the input was replaced. Bring it back, or remove this tape and its states to \
                     make them anew from the input that is there",
        }),
    }
}

/// Takes back the frames of the tape at `tape`, which ends as `found` says, that cover input after
/// `input_end`. Killed at any point, it is done by the next opening.
///
/// # Errors
/// `Error::Invalid`: durable items cover input that is gone, which no loss of power explains;
/// nothing was changed.
pub(crate) fn undo(tape: &Path, found: Found, input_end: u64) -> Result<Found> {
    if found.scan.input == NO_INPUT || found.scan.input <= input_end {
        return Ok(found);
    }
    let mut files = list(tape)?;
    let is_kept = |file: &SegmentFile| {
        let before = Segment::open(file)?.head.input_before;
        Ok::<_, Error>(before == NO_INPUT || before <= input_end)
    };
    let mut lost = Vec::new();
    while let Some(file) = files.last() {
        if is_kept(file)? {
            break;
        }
        lost.extend(files.pop());
    }
    let newest = lost.first().or(files.last());
    let durable = match newest {
        Some(newest) => map_file(newest)?.0.word(DURABLE).load(Ordering::Acquire),
        None => 0,
    };
    let refuse = || {
        let covered = found.scan.input;
        Error::invalid(format!(
            "expected the input that {} covers, up to {covered}, got what is before {input_end}, \
             and what was made of the rest is durable: the input was damaged or replaced, which \
             no loss of power does. Bring the input back, or remove this tape and its states to \
             make them anew",
            tape.display()
        ))
    };
    let file = files.pop().ok_or_else(refuse)?;
    let (map, length) = map_file(&file)?;
    let head = Head::read(map.bytes(0, length), &file.path)?;
    let identity = Identity::read(map.bytes(0, length), &head, &file.path)?;
    let warm = if file.is_cold { Some(unpacked(&file, input_end)?) } else { None };
    let bytes = warm.as_deref().unwrap_or_else(|| map.bytes(0, length));
    let scan = scan_within(bytes, &head, input_end);
    if scan.end_offset < durable {
        return Err(refuse());
    }
    if let Some(bytes) = &warm {
        place(tape, &file, bytes)?;
    }
    // It is the newest from here on: were it called closed, the ones after it would be missed.
    reopen_word(&segment_path(tape, file.first), scan.last)?;
    for segment in &lost {
        remove(segment)?;
    }
    let undone = found.scan.end_offset - scan.end_offset;
    let recovery =
        Recovery { end: scan.end_offset, cut_at: scan.end as u64, undone, ..found.recovery };
    let path = segment_path(tape, file.first);
    Ok(Found { path, head, identity, scan, recovery, durable: found.durable, opened: found.opened })
}

/// Says in the head of the segment `path` that `last` is its last frame and no other follows.
fn reopen_word(path: &Path, last: usize) -> Result<()> {
    let map = Map::writable(&open_file(path)?, HEAD, path)?;
    map.word(PUBLISHED).store(last as u64, Ordering::Release);
    wait::wake_all(map.half_word(PUBLISHED));
    Ok(())
}

/// Puts the segment that the compressed `file` stands for in its place, to be written again, as
/// nothing is left of those after it.
///
/// # Errors
/// `Error::Corrupt`: it is damaged. `Error::Io`.
pub(crate) fn unpack(tape: &Path, file: SegmentFile) -> Result<SegmentFile> {
    place(tape, &file, &unpacked(&file, NO_INPUT)?)?;
    Ok(SegmentFile { path: segment_path(tape, file.first), is_cold: false, ..file })
}

/// The segment that the compressed `file` stands for, up to the input that is there.
fn unpacked(file: &SegmentFile, input_end: u64) -> Result<Vec<u8>> {
    let mut segment = Segment::open(file)?;
    let mut bytes = segment.head_bytes().to_vec();
    for_each_frame(&mut segment, |segment, at, frame| {
        if frame.input_offset <= input_end || frame.input_offset == NO_INPUT {
            bytes.extend_from_slice(segment.bytes(at, at + FRAME_HEADER));
            bytes.extend_from_slice(segment.bytes(at + FRAME_HEADER, at + frame.size()));
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Puts the segment `bytes` in the place of its compressed form.
fn place(tape: &Path, cold: &SegmentFile, bytes: &[u8]) -> Result<()> {
    let path = segment_path(tape, cold.first);
    let aside = path.with_extension("new");
    let write = || {
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(bytes)?;
        // The last frame is found by the writer that opens it; until then none is promised, and
        // it is of no boot.
        file.write_all_at(&[0; 8], PUBLISHED as u64)?;
        file.write_all_at(&[0; 16], BOOT as u64)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        std::fs::remove_file(&cold.path)
    };
    debug_assert!(bytes.len() >= HEAD);
    write().map_err(|error| Error::io(error, doing("unpacking", &cold.path)))
}
