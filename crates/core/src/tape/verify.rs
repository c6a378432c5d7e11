//! Verifying a tape: what it holds, whether all of it is whole, and one hash of its items.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::chain::{for_each_frame, SegmentHasher};
use super::head::{Chain, CHAIN, CHAIN_LINK, CHAIN_PENDING, IDENTITY};
use super::identity::{may_be_same, TapeId, REPAIRED};
use super::reader::is_missing;
use super::repair::UNFINISHED;
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
    /// What was expected and what was got.
    pub reason: String,
}

/// The hash of a tape up to an offset: of the frames before it, in their segment, and so, by the
/// chain, of all segments before. Kept outside the tape, it shows that nothing before was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Offset after the last item that it covers.
    pub offset: u64,
    /// SHA-256.
    pub hash: [u8; 32],
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.offset, hexadecimal(&self.hash))
    }
}

impl FromStr for Head {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(offset, digits)| {
            let is_hexadecimal = digits.len() == 64 && digits.is_ascii();
            let pairs = (0..64).step_by(2).filter(|_| is_hexadecimal).map(|at| &digits[at..at + 2]);
            let bytes = pairs
                .map(|pair| u8::from_str_radix(pair, 16))
                .collect::<std::result::Result<Vec<_>, _>>();
            Some(Self { offset: offset.parse().ok()?, hash: bytes.ok()?.try_into().ok()? })
        });
        parsed.ok_or_else(|| {
            Error::invalid(format!("expected OFFSET:HASH with 64 hex digits, got {text:?}"))
        })
    }
}

fn hexadecimal(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
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
    /// Items that a repair gave up: first and one after the last of each range.
    pub lost: Vec<(u64, u64)>,
    /// Hashes of the chain that were compared and found right.
    pub links: u64,
    /// Closed segments whose hash is not in the chain yet.
    pub links_pending: u64,
    /// The hash of all that the tape holds now. `None`: nothing.
    pub head: Option<Head>,
    /// From this offset on an unbroken chain leads to the head: what is before was put together
    /// by a repair.
    pub verified_from: u64,
    /// The first fault. `None`: the tape is whole.
    pub fault: Option<Fault>,
}

/// What the chain says so far, and what it is held against.
#[derive(Debug, Default)]
struct Proof {
    /// The hash of the segment before.
    hash: Option<[u8; 32]>,
    /// The first segment whose place in the chain is still empty.
    pending: Option<SegmentFile>,
    /// A head that was kept elsewhere.
    expected: Option<Head>,
    /// The hash that was found at its offset, and whether it was the one that is expected.
    found: Option<([u8; 32], bool)>,
}

/// Reads all of the tape at `path`: every checksum, every length, every offset, every hash.
/// What is wrong with the tape is in the report.
///
/// # Errors
/// `Error::Io`: there is no tape, or it may not be read. `Error::FutureVersion`.
pub fn verify(path: &Path) -> Result<Report> {
    verify_against(path, None)
}

/// As [`verify`], and holds the tape against `expected`, the [`Report::head`] of an earlier time
/// that was kept where nobody who can change the tape can change it. Without one the hash chain
/// shows damage and careless changes only: who can write the tape can write all its hashes anew.
///
/// # Errors
/// As [`verify`].
pub fn verify_against(path: &Path, expected: Option<Head>) -> Result<Report> {
    // Opening finds out whether there is a tape; a damaged head is a matter for the report.
    let files = list(path)?;
    let mut report = Report::new(files.first().map_or(0, |file| file.first));
    if report.note(check_repaired(path))? {
        return Ok(report);
    }
    if files.is_empty() {
        Reader::open(path)?;
    }
    let mut proof = Proof { expected, ..Proof::default() };
    for (index, file) in files.iter().enumerate() {
        let is_last = index + 1 == files.len();
        let checked = match check(file, is_last, &mut proof, &mut report) {
            Err(error) if is_missing(&error) => match now(path, file)? {
                // Compressed since the tape was listed.
                Some(file) => check(&file, is_last, &mut proof, &mut report),
                // Removed since: the proof begins anew behind it.
                None => {
                    proof.hash = None;
                    report.end = files.get(index + 1).map_or(report.end, |next| next.first);
                    report.verified_from = report.end;
                    if report.frames == 0 {
                        report.first = report.end;
                    }
                    continue;
                }
            },
            checked => checked,
        };
        if report.note(checked)? {
            return Ok(report);
        }
    }
    let end = files.last().map_or(Ok(()), |file| check_ends(file, &proof, &report));
    report.note(end)?;
    Ok(report)
}

impl Report {
    fn new(first: u64) -> Self {
        Self {
            kind: TapeKind::Records,
            id: None,
            origin: None,
            segments: 0,
            segments_compressed: 0,
            frames: 0,
            items: 0,
            bytes: 0,
            first,
            end: first,
            durable: 0,
            lost: Vec::new(),
            links: 0,
            links_pending: 0,
            head: None,
            verified_from: first,
            fault: None,
        }
    }

    /// Takes in what a check said. Says whether it is a fault.
    fn note(&mut self, checked: Result<()>) -> Result<bool> {
        match checked {
            Ok(()) => Ok(false),
            Err(Error::Corrupt { path, byte, reason }) => {
                self.fault = Some(Fault { path, byte, reason });
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }
}

/// Checks that no repair was interrupted: all items may be there, but no writer opens the tape.
fn check_repaired(tape: &Path) -> Result<()> {
    let unfinished = tape.join(UNFINISHED);
    if unfinished.exists() {
        let reason = "a repair was interrupted: run `tape repair` again, which finishes it";
        return Err(Error::corrupt(&unfinished, 0, reason));
    }
    Ok(())
}

/// Checks what only the whole tape can say: that it reaches what was durable, and the head.
fn check_ends(last: &SegmentFile, proof: &Proof, report: &Report) -> Result<()> {
    let wrong = |reason: String| Err(Error::corrupt(&last.path, 0, reason));
    let Report { durable, end, first, .. } = report;
    if durable > end {
        return wrong(format!(
            "expected items up to offset {durable}, which was durable, got them up to {end}"
        ));
    }
    // What readers refuse is a fault: above all a newest segment that is gone.
    let tape = last.path.parent().unwrap_or(&last.path);
    Reader::open(tape)?.end()?;
    let Some(Head { offset, hash }) = proof.expected else { return Ok(()) };
    match proof.found {
        Some((_, true)) => Ok(()),
        Some((found, false)) => wrong(format!(
            "expected the hash {} at offset {offset}, got {}: items before it were changed",
            hexadecimal(&hash),
            hexadecimal(&found)
        )),
        None if offset <= *first => wrong(format!(
            "the expected hash is that of offset {offset}, and the tape starts at {first}: \
             retention took what it covers; keep a newer one"
        )),
        None => wrong(format!(
            "the expected hash is that of offset {offset}, where no frame of the tape ends, which \
             ends at {end}: it was cut or rewritten"
        )),
    }
}

/// The segment that starts as `file` does, as it is named now.
fn now(tape: &Path, file: &SegmentFile) -> Result<Option<SegmentFile>> {
    Ok(list(tape)?.into_iter().find(|segment| segment.first == file.first))
}

/// Checks one segment.
fn check(file: &SegmentFile, is_last: bool, proof: &mut Proof, report: &mut Report) -> Result<()> {
    let wrong = |byte: usize, reason: String| Err(Error::corrupt(&file.path, byte as u64, reason));
    let mut segment = Segment::open(file)?;
    let identity = segment.identity();
    if file.first != report.end {
        if identity.lost_from != report.end || file.first < report.end {
            return wrong(0, format!("expected the segment of offset {}", report.end));
        }
        report.lost.push((report.end, file.first));
        report.end = file.first;
    }
    if !may_be_same(report.id, identity.id()) {
        return wrong(IDENTITY, "the segment belongs to another tape than the one before".into());
    }
    report.id = identity.id().or(report.id);
    report.origin = identity.origin().or(report.origin);
    report.kind = segment.head.kind();
    report.segments += 1;
    report.segments_compressed += u64::from(file.is_cold);
    report.durable = report.durable.max(segment.durable());
    if identity.flags & REPAIRED != 0 {
        // What was put together anew says nothing of what was there.
        report.verified_from = file.first;
        proof.hash = None;
    }
    let chain = check_link(file, &segment, proof, report)?;
    check_frames(file, &mut segment, &chain, proof, report)?;
    if let Some(byte) = segment.torn_at() {
        return wrong(byte, "frames that were published are missing or damaged".to_owned());
    }
    if !is_last && !segment.tail().1 {
        return wrong(super::head::PUBLISHED, "the segment is not closed".to_owned());
    }
    if identity.flags & REPAIRED != 0 {
        proof.hash = None;
        report.verified_from = report.end;
    }
    Ok(())
}

/// Compares the place of a segment in the chain with the hash of the one before. Returns what
/// stands there, or is to stand there.
fn check_link(
    file: &SegmentFile,
    segment: &Segment,
    proof: &mut Proof,
    report: &mut Report,
) -> Result<Chain> {
    // A writer may be putting it there at this moment.
    let read = Chain::read(segment.head_bytes(), &segment.path).or_else(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Chain::read(segment.head_bytes(), &segment.path)
    });
    // The disk may have broken it off: the next look of a writer makes it whole.
    let is_begun = |hash| Chain::sealed(hash, CHAIN_LINK).is_begun_in(segment.head_bytes());
    let chain = match read {
        Err(_) if proof.hash.is_some_and(is_begun) => Chain::sealed([0; 32], CHAIN_PENDING),
        read => read?,
    };
    let is_late = |pending: &SegmentFile| {
        chain.state != CHAIN_PENDING || pending.first < segment.identity().linked
    };
    if let Some(pending) = proof.pending.as_ref().filter(|pending| is_late(pending)) {
        return Err(Error::corrupt(
            &pending.path,
            CHAIN as u64,
            "the hash of the segment before was taken away",
        ));
    }
    match (chain.state, proof.hash.take()) {
        (CHAIN_LINK, Some(hash)) if hash != chain.hash => Err(Error::corrupt(
            &file.path,
            CHAIN as u64,
            "the hash of the segment before is another one",
        )),
        (CHAIN_LINK, Some(_)) => {
            report.links += 1;
            Ok(chain)
        }
        (CHAIN_PENDING, Some(hash)) => {
            report.links_pending += 1;
            proof.pending.get_or_insert_with(|| file.clone());
            Ok(Chain::sealed(hash, CHAIN_LINK))
        }
        _ => Ok(chain),
    }
}

/// Checks all frames of a segment, and takes them into the hash.
fn check_frames(
    file: &SegmentFile,
    segment: &mut Segment,
    chain: &Chain,
    proof: &mut Proof,
    report: &mut Report,
) -> Result<()> {
    let mut hasher = SegmentHasher::new(segment, chain);
    let kind = report.kind;
    for_each_frame(segment, |segment, at, frame| {
        let payload = segment.bytes(at + FRAME_HEADER, at + frame.size());
        if kind.items_length(payload, frame.count as usize) != Some(payload.len()) {
            let reason = "items and frame disagree on lengths";
            return Err(Error::corrupt(&file.path, at as u64, reason));
        }
        hasher.add(segment.bytes(at, at + FRAME_HEADER));
        hasher.add(payload);
        report.frames += 1;
        report.items += u64::from(frame.count);
        report.bytes += payload.len() as u64;
        report.end = frame.end_offset();
        // Frames without items end where the one before does; any of them may be the one.
        if let Some(head) = proof.expected.filter(|head| head.offset == report.end) {
            if !proof.found.is_some_and(|(_, is_right)| is_right) {
                let found = hasher.so_far();
                proof.found = Some((found, found == head.hash));
            }
        }
        Ok(())
    })?;
    let hash = hasher.finish();
    report.head = Some(Head { offset: report.end, hash });
    proof.hash = Some(hash);
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
    loop {
        match reader.read(usize::MAX) {
            Ok(Some(batch)) => hasher.update(batch.bytes),
            Ok(None) => return Ok(hasher.finalize().into()),
            // A repair gave up what is before.
            Err(Error::OutOfRange { wanted, first, .. }) if wanted < first => reader.seek(first)?,
            Err(error) => return Err(error),
        }
    }
}
