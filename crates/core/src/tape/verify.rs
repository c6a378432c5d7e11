//! Proving a tape: what it holds, whether all of it is whole, and one hash of its items.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::chain::{for_each_frame, SegmentHasher};
use super::head::{Chain, CHAIN_LINK, CHAIN_PENDING, IDENTITY};
use super::identity::{may_be_same, TapeId};
use super::reader::is_missing;
use super::segment::{list, Segment, SegmentFile};
use super::{Reader, TapeKind};
use crate::codec::FRAME_HEADER;
use crate::error::{Error, Result};

/// What is wrong with a tape, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// Byte in it.
    pub byte: u64,
    /// What was wanted and what was found.
    pub reason: String,
}

/// What a tape holds, up to its first fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What its items are.
    pub kind: TapeKind,
    /// Its id, if it has one.
    pub id: Option<TapeId>,
    /// The id of the tape that it is made from, if it is known.
    pub origin: Option<TapeId>,
    /// Number of segments.
    pub segments: u64,
    /// How many of them are compressed.
    pub segments_compressed: u64,
    /// Number of frames.
    pub frames: u64,
    /// Number of items.
    pub items: u64,
    /// Bytes of all items.
    pub bytes: u64,
    /// First offset that is kept.
    pub first: u64,
    /// Offset after the last item.
    pub end: u64,
    /// Offset after the last item that survives a loss of power.
    pub durable: u64,
    /// Hashes of the chain that were compared and found right.
    pub links: u64,
    /// Closed segments whose hash is not in the chain yet.
    pub links_pending: u64,
    /// The first fault. `None`: the tape is whole.
    pub fault: Option<Fault>,
}

/// Reads all of the tape at `path`: every checksum, every length, every offset, every hash.
/// What is wrong with the tape is in the report.
///
/// # Errors
/// `Error::Io`: there is no tape, or it may not be read. `Error::FutureVersion`.
pub fn verify(path: &Path) -> Result<Report> {
    // Opening finds out whether there is a tape; a damaged head is a matter for the report.
    let files = list(path)?;
    if files.is_empty() {
        Reader::open(path)?;
    }
    let mut report = Report {
        kind: TapeKind::Records,
        id: None,
        origin: None,
        segments: 0,
        segments_compressed: 0,
        frames: 0,
        items: 0,
        bytes: 0,
        first: files.first().map_or(0, |file| file.first),
        end: files.first().map_or(0, |file| file.first),
        durable: 0,
        links: 0,
        links_pending: 0,
        fault: None,
    };
    let mut hash = None;
    for (index, file) in files.iter().enumerate() {
        let is_last = index + 1 == files.len();
        let checked = match check(file, is_last, &mut hash, &mut report) {
            Err(error) if is_missing(&error) => match now(path, file)? {
                // Compressed since the tape was listed.
                Some(file) => check(&file, is_last, &mut hash, &mut report),
                // Removed since: the proof begins anew behind it.
                None => {
                    hash = None;
                    report.end = files.get(index + 1).map_or(report.end, |next| next.first);
                    if report.frames == 0 {
                        report.first = report.end;
                    }
                    continue;
                }
            },
            checked => checked,
        };
        match checked {
            Ok(()) => {}
            Err(Error::Corrupt { path, byte, reason }) => {
                report.fault = Some(Fault { path, byte, reason });
                break;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(report)
}

/// The segment that starts as `file` does, as it is named now.
fn now(tape: &Path, file: &SegmentFile) -> Result<Option<SegmentFile>> {
    Ok(list(tape)?.into_iter().find(|segment| segment.first == file.first))
}

/// Checks one segment. `hash` is that of the segment before, then that of this one.
fn check(
    file: &SegmentFile,
    is_last: bool,
    hash: &mut Option<[u8; 32]>,
    report: &mut Report,
) -> Result<()> {
    let wrong = |byte: usize, reason: String| Err(Error::corrupt(&file.path, byte as u64, reason));
    if file.first != report.end {
        return wrong(0, format!("wanted the segment of offset {}", report.end));
    }
    let mut segment = Segment::open(file)?;
    let identity = segment.identity();
    if !may_be_same(report.id, identity.id()) {
        return wrong(IDENTITY, "the segment belongs to another tape than the one before".into());
    }
    report.id = identity.id().or(report.id);
    report.origin = identity.origin().or(report.origin);
    report.kind = segment.head.kind();
    report.segments += 1;
    report.segments_compressed += u64::from(file.is_cold);
    report.durable = segment.durable();
    let chain = Chain::read(segment.head_bytes());
    match (chain.state, hash.take()) {
        (CHAIN_LINK, Some(hash)) if hash != chain.hash => {
            return wrong(64, "the hash of the segment before is another one".to_owned());
        }
        (CHAIN_LINK, Some(_)) => report.links += 1,
        (CHAIN_PENDING, Some(_)) => report.links_pending += 1,
        _ => {}
    }
    let mut hasher = SegmentHasher::new(&segment);
    let kind = report.kind;
    for_each_frame(&mut segment, |segment, at, frame| {
        let payload = segment.bytes(at + FRAME_HEADER, at + frame.size());
        if kind.items_length(payload, frame.count as usize) != Some(payload.len()) {
            return wrong(at, "items and frame disagree on lengths".to_owned());
        }
        hasher.add(segment.bytes(at, at + FRAME_HEADER));
        hasher.add(payload);
        report.frames += 1;
        report.items += u64::from(frame.count);
        report.bytes += payload.len() as u64;
        report.end = frame.end_offset();
        Ok(())
    })?;
    if let Some(byte) = segment.torn_at() {
        return wrong(byte, "frames that were published are missing or damaged".to_owned());
    }
    if !is_last && !segment.tail().1 {
        return wrong(super::head::PUBLISHED, "the segment is not closed".to_owned());
    }
    *hash = Some(hasher.finish());
    Ok(())
}

/// SHA-256 over the bytes of all items, in order. Frames do not matter: two tapes with the same
/// items have the same hash.
///
/// # Errors
/// As for [`Reader::read`].
pub fn hash(path: &Path) -> Result<[u8; 32]> {
    let mut reader = Reader::open(path)?;
    let mut hasher = Sha256::new();
    while let Some(batch) = reader.read(usize::MAX)? {
        hasher.update(batch.bytes);
    }
    Ok(hasher.finalize().into())
}
