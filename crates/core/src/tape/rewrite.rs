//! Writing once more what the disk may not have.
//!
//! After a failed sync the kernel calls pages clean that never reached the disk, and a later sync
//! that succeeds says nothing of them. So everything past the last good sync is written again, from
//! the bytes that are still in memory and only while their checksums hold; then it is synced.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::create::open_file;
use super::head::{Head, DURABLE, EPOCH, HEAD, PUBLISHED};
use super::index;
use super::map::{Map, PAGE};
use super::segment::{doing, file_length, list};
use super::space;
use super::sync::Live;
use crate::codec::Frame;
use crate::error::{Error, Result};
use crate::record::Plain;

/// So much is copied at a time.
const PIECE: usize = 1 << 20;

/// Writes again the head of the segment `live` and all its published frames that reach beyond
/// offset `durable`, and syncs them.
///
/// # Errors
/// `Error::Corrupt`: memory no longer holds what was published; nothing is called durable.
/// `Error::Io`, `Error::DiskFull`: the disk still refuses; call again.
pub(crate) fn rewrite(live: &Live, durable: u64) -> Result<()> {
    let Live { file, map, path, .. } = live;
    let last = (map.word(PUBLISHED).load(Ordering::Acquire) & !7) as usize;
    let head = Head::read(map.bytes(0, HEAD), path)?;
    // A damaged length must not lead beyond the end of the file.
    let length = file_length(file, path)?.min(map.length());
    let (start, end) = reach(map.bytes(0, length), &head, last, durable, path)?;
    map.intact(path)?;
    let io = |error| refused(error, path);
    // The index is the writer's alone; the words of the first page are shared with readers, so that
    // the page is written through one of them.
    write_piece(file, map, PAGE, HEAD).map_err(io)?;
    map.word(EPOCH).fetch_add(1, Ordering::AcqRel);
    // Whole pages: of one that is written in part the kernel might have to read the rest first.
    let mut at = start / PAGE * PAGE;
    while at < end {
        let to = (at + PIECE).min(end);
        write_piece(file, map, at, to).map_err(io)?;
        at = to;
    }
    map.intact(path)?;
    sync_file(file).map_err(io)
}

/// Writes again what the closed segments before offset `newest` hold beyond `durable`.
pub(crate) fn rewrite_closed(tape: &Path, newest: u64, durable: u64) -> Result<()> {
    let mut next = newest;
    for of in list(tape)?.iter().rev().filter(|of| of.first < newest) {
        if next <= durable {
            break;
        }
        next = of.first;
        // A compressed one was synced before it got its name.
        if !of.is_cold {
            let file = open_file(&of.path)?;
            let map = Map::writable(&file, file_length(&file, &of.path)?, &of.path)?;
            rewrite(&Live { first: of.first, file, map, path: of.path.clone() }, durable)?;
        }
    }
    Ok(())
}

/// The segment before offset `newest`, unless its head says already that something at or behind
/// that offset is durable: then it is not to be written, and need not be writable.
pub(crate) fn before(tape: &Path, newest: u64) -> Result<Option<Live>> {
    let Some(of) = list(tape)?.into_iter().rfind(|of| of.first < newest) else { return Ok(None) };
    let file =
        File::open(&of.path).map_err(|error| Error::io(error, doing("opening", &of.path)))?;
    let map = Map::read_only(&file, HEAD, &of.path)?;
    if map.word(DURABLE).load(Ordering::Acquire) > newest {
        return Ok(None);
    }
    let file = open_file(&of.path)?;
    let map = Map::writable(&file, HEAD, &of.path)?;
    Ok(Some(Live { first: of.first, file, map, path: of.path }))
}

/// Where the first frame starts that reaches beyond offset `durable`, and where the one at `last`
/// ends: all between is checked.
fn reach(
    segment: &[u8],
    head: &Head,
    last: usize,
    durable: u64,
    path: &Path,
) -> Result<(usize, usize)> {
    let (mut at, mut next) = (HEAD, head.first_offset);
    let entry = index::find(segment, last, |entry| entry.first_offset <= durable);
    if let Some(entry) = entry.filter(|entry| (HEAD..=last).contains(&entry.position())) {
        let position = entry.position();
        let frame = segment.get(position..).and_then(Frame::read_from);
        if frame.is_some_and(|frame| frame.first_offset == entry.first_offset) {
            (at, next) = (position, entry.first_offset);
        }
    }
    let mut start = None;
    while last >= HEAD && at <= last {
        match segment.get(at..).and_then(Frame::read) {
            Some((frame, _)) if frame.first_offset == next => {
                // Frames without items cover input; they are written with what follows.
                if start.is_none() && frame.end_offset() >= durable {
                    start = Some(at);
                }
                at += frame.size();
                next = frame.end_offset();
            }
            _ => {
                return Err(Error::corrupt(
                    path,
                    at as u64,
                    format!(
                        "the disk refused to sync, and the frame of offset {next}, which was not \
                         on it, is no longer in memory; {durable} was durable. `tape repair` \
                         makes the tape writable"
                    ),
                ));
            }
        }
    }
    Ok((start.unwrap_or(at), at))
}

fn write_piece(file: &File, map: &Map, from: usize, to: usize) -> std::io::Result<()> {
    // A copy: the kernel may drop the mapped page while it takes the bytes in.
    let copy = map.bytes(from, to).to_vec();
    file.write_all_at(&copy, from as u64)
}

fn refused(error: std::io::Error, path: &Path) -> Error {
    if space::is_full(&error) {
        Error::DiskFull { path: path.to_owned() }
    } else {
        Error::io(error, doing("writing again", path))
    }
}

/// Puts the bytes of `file` on the disk.
pub(crate) fn sync_file(file: &File) -> std::io::Result<()> {
    // SAFETY: a call on a descriptor that `file` owns.
    if unsafe { libc::fdatasync(file.as_raw_fd()) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
