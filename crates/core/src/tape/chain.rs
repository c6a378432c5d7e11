//! The hash chain over closed segments, which makes tampering evident.
//!
//! The hash of a segment is SHA-256 over its head (bytes 0 to 56), from version 2 on its identity
//! block (bytes 320 to 376), its chain field (bytes 64 to 104: the hash of the segment before) and
//! all its frames. It is kept in the chain field of the
//! next segment. Compressing a segment does not change its hash.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::head::{Chain, Head, CHAIN, CHAIN_LINK, CHAIN_PENDING, HEAD, IDENTITY};
use super::identity::Identity;
use super::segment::{doing, list, Segment, SegmentFile};
use crate::codec::{Frame, FRAME_HEADER};
use crate::error::{Error, Result};

/// Hashes a segment, frame by frame.
pub(crate) struct SegmentHasher(Sha256);

impl SegmentHasher {
    /// Starts the hash of `segment`, whose chain field is `chain`.
    pub(crate) fn new(segment: &Segment, chain: &Chain) -> Self {
        let head = segment.head_bytes();
        let mut hasher = Sha256::new();
        hasher.update(&head[..size_of::<Head>()]);
        if segment.head.version >= 2 {
            hasher.update(&head[IDENTITY..IDENTITY + size_of::<Identity>()]);
        }
        hasher.update(crate::record::Plain::as_bytes(chain));
        Self(hasher)
    }

    pub(crate) fn add(&mut self, frame_bytes: &[u8]) {
        self.0.update(frame_bytes);
    }

    /// The hash of what was added so far.
    pub(crate) fn so_far(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Calls `each` with every frame of `segment` and where it starts, checked. Returns the offset
/// after the last item.
pub(crate) fn for_each_frame(
    segment: &mut Segment,
    mut each: impl FnMut(&Segment, usize, &Frame) -> Result<()>,
) -> Result<u64> {
    let (last, _) = segment.tail();
    let (mut at, mut next) = (HEAD, segment.head.first_offset);
    let mut forgotten = HEAD;
    while at <= last {
        let frame = segment.checked_frame(at, next)?;
        each(segment, at, &frame)?;
        at += frame.size();
        next = frame.end_offset();
        if at > forgotten + (16 << 20) {
            segment.forget(forgotten, at);
            forgotten = at;
        }
    }
    Ok(next)
}

/// The hash of a closed segment.
pub(crate) fn hash_segment(segment: &mut Segment) -> Result<[u8; 32]> {
    let chain = Chain::read(segment.head_bytes(), &segment.path)?;
    let mut hasher = SegmentHasher::new(segment, &chain);
    for_each_frame(segment, |segment, at, frame| {
        hasher.add(segment.bytes(at, at + FRAME_HEADER));
        hasher.add(segment.bytes(at + FRAME_HEADER, at + frame.size()));
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// Fills in the hashes that are still missing from the chain of the tape at `tape`, up to the
/// segment that starts at `synced` or before: what is hashed is on the disk. Returns an offset
/// before which all segments have their place in the chain, on the disk too; `confirmed` is the
/// offset of which this was known before.
///
/// # Errors
/// `Error::Corrupt`: a closed segment is damaged, or its place in the chain is; nothing is linked
/// anew, as that would hide it. `Error::Io`.
pub(crate) fn link(tape: &Path, synced: u64, confirmed: u64) -> Result<u64> {
    let files = list(tape)?;
    let (mut pending, mut linked) = (Vec::new(), Vec::new());
    let mut linked_later = 0;
    for pair in files.windows(2).rev() {
        let segment = Segment::open(&pair[1])?;
        let chain = Chain::read(segment.head_bytes(), &segment.path);
        let is_pending = chain.as_ref().map_or(true, |chain| chain.state == CHAIN_PENDING);
        if is_pending && (!linked.is_empty() || pair[1].first < linked_later.max(confirmed)) {
            chain?;
            return Err(segment.wrong(CHAIN, "the hash of the segment before was taken away"));
        }
        if pair[1].first < confirmed {
            break;
        }
        match chain {
            Ok(chain) if !is_pending => linked.push((&pair[1], chain)),
            // What cannot be read may be a writing that the disk broke off: its hash will tell.
            chain => {
                linked_later = linked_later.max(segment.identity().linked);
                pending.push((pair, chain.err()));
            }
        }
    }
    let mut all_before = confirmed;
    // In memory they are there; a sync of them may have failed.
    for (file, chain) in linked.into_iter().rev() {
        if !file.is_cold {
            put(file, &chain)?;
        }
        all_before = file.first + 1;
    }
    for (pair, unreadable) in pending.into_iter().rev() {
        if pair[1].first > synced {
            break;
        }
        let hash = hash_segment(&mut Segment::open(&pair[0])?)?;
        let chain = Chain::sealed(hash, CHAIN_LINK);
        if let Some(error) = unreadable {
            if !chain.is_begun_in(Segment::open(&pair[1])?.head_bytes()) {
                return Err(error);
            }
        }
        put(&pair[1], &chain)?;
        all_before = pair[1].first + 1;
    }
    Ok(all_before)
}

/// Writes the chain field of the segment `of` and syncs it: a later segment says that this one is
/// linked, which must not reach the disk alone.
fn put(of: &SegmentFile, chain: &Chain) -> Result<()> {
    let write = || {
        let file = File::options().write(true).open(&of.path)?;
        file.write_all_at(crate::record::Plain::as_bytes(chain), CHAIN as u64)?;
        file.sync_data()
    };
    write().map_err(|error| Error::io(error, doing("writing", &of.path)))
}
