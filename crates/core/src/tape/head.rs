//! The head of a segment file: what it is, and the words that processes share.
//!
//! The fixed part is written before the file gets its name and never changes. The words after it
//! change while the segment is the newest one. The two that change with every frame and every wait
//! of a reader lie on cache lines of their own.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::OnceLock;

use super::identity::Identity;
use super::map::Map;
use crate::codec::{TapeKind, VERSION};
use crate::error::{Error, Result};
use crate::record::Plain;

/// Bytes before the first frame.
pub(crate) const HEAD: usize = 16_384;
/// What a segment file starts with.
pub(crate) const MAGIC: [u8; 8] = *b"TAPESEG\0";
/// Where the hash of the segment before lies.
pub(crate) const CHAIN: usize = 64;
/// Where the published word lies: position of the last frame, bit 0 set when closed.
pub(crate) const PUBLISHED: usize = 128;
/// Where the word lies that a reader sets before it sleeps.
pub(crate) const WAITING: usize = 192;
/// Where the offset after the last durable item lies.
pub(crate) const DURABLE: usize = 256;
/// Where the machine's boot lies, 16 bytes: memory of another boot is lost.
pub(crate) const BOOT: usize = 264;
/// Where the number of times that a writer opened the segment lies.
pub(crate) const EPOCH: usize = 280;
/// Where the end of the tape lies at which a writer found it first under that boot, plus one; 0
/// where it is not known.
pub(crate) const OPENED: usize = 288;
/// Where the input offset lies that the tape covers beyond what its last frame says; 0 for none.
pub(crate) const COVERED: usize = 296;
/// Where the identity block lies.
pub(crate) const IDENTITY: usize = 320;
/// Bit of the published word: a newer segment goes on.
pub(crate) const CLOSED: u64 = 1;
/// State of the chain field: not yet known.
pub(crate) const CHAIN_PENDING: u32 = 0;
/// State of the chain field: this is the first segment of the tape.
pub(crate) const CHAIN_START: u32 = 1;
/// State of the chain field: holds the hash of the segment before.
pub(crate) const CHAIN_LINK: u32 = 2;

/// The fixed part of a segment's head, 56 bytes at byte 0, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) kind: u32,
    pub(crate) first_offset: u64,
    /// Input offset covered before the first frame.
    pub(crate) input_before: u64,
    /// Newest receive time before the first frame, `i64::MIN` if there is none.
    pub(crate) ts_before: i64,
    /// Receive time of the frame for which the segment was made: its day.
    pub(crate) ts_first: i64,
    /// Bytes between entries of the index, at least.
    pub(crate) stride: u32,
    /// CRC-32C of the 52 bytes before.
    pub(crate) checksum: u32,
}

// SAFETY: `repr(C)` of integers, 56 bytes without padding.
unsafe impl Plain for Head {}
const _: () = assert!(size_of::<Head>() == 56);

impl Head {
    /// The head with its checksum.
    pub(crate) fn sealed(mut self) -> Self {
        self.checksum = crc32c::crc32c(&self.as_bytes()[..52]);
        self
    }

    /// Reads and checks the head at the front of `bytes`, which came from `path`.
    pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        let Some(head) = Self::read_from(bytes).filter(|_| bytes.len() >= HEAD) else {
            return Err(Error::corrupt(
                path,
                bytes.len() as u64,
                format!("expected a segment head of {HEAD} bytes, got {}", bytes.len()),
            ));
        };
        if head.magic != MAGIC {
            return Err(Error::corrupt(path, 0, "expected a tape segment, got other bytes"));
        }
        if head.version > VERSION {
            return Err(Error::FutureVersion {
                path: path.to_owned(),
                found: head.version,
                supported: VERSION,
            });
        }
        if head.sealed().checksum != head.checksum {
            return Err(Error::corrupt(path, 52, "the checksum of the segment head is wrong"));
        }
        if head.version == 0 || TapeKind::from_number(head.kind).is_none() || head.stride == 0 {
            return Err(Error::corrupt(path, 8, "the segment head holds impossible values"));
        }
        Identity::read(bytes, &head, path)?;
        Ok(head)
    }

    /// What the items are.
    pub(crate) fn kind(&self) -> TapeKind {
        // `read` and the writer let only known kinds through.
        TapeKind::from_number(self.kind).unwrap_or(TapeKind::Records)
    }
}

/// The hash of the segment before, at byte 64, 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Chain {
    pub(crate) hash: [u8; 32],
    pub(crate) state: u32,
    /// CRC-32C of the 36 bytes before.
    pub(crate) checksum: u32,
}

// SAFETY: `repr(C)` of integers, 40 bytes without padding.
unsafe impl Plain for Chain {}
const _: () = assert!(size_of::<Chain>() == 40);

impl Chain {
    /// A chain field with its checksum.
    pub(crate) fn sealed(hash: [u8; 32], state: u32) -> Self {
        let mut chain = Self { hash, state, checksum: 0 };
        chain.checksum = crc32c::crc32c(&chain.as_bytes()[..36]);
        chain
    }

    /// Whether `head` holds this chain field up to some byte, and from there on the one that says
    /// that the hash is not yet known: as a disk leaves it that broke off the writing.
    pub(crate) fn is_begun_in(&self, head: &[u8]) -> bool {
        let (whole, before) = (self.as_bytes(), Self::sealed([0; 32], CHAIN_PENDING));
        let found = head.get(CHAIN..CHAIN + whole.len()).unwrap_or_default();
        let same = found.iter().zip(whole).take_while(|(found, whole)| found == whole).count();
        found.len() == whole.len() && found[same..] == before.as_bytes()[same..]
    }

    /// Reads and checks the field in `head`, the front of the segment `path`.
    pub(crate) fn read(head: &[u8], path: &Path) -> Result<Self> {
        match head.get(CHAIN..).and_then(Self::read_from) {
            Some(chain) if Self::sealed(chain.hash, chain.state) == chain => Ok(chain),
            _ => Err(Error::corrupt(
                path,
                CHAIN as u64,
                "the hash of the segment before was removed or damaged",
            )),
        }
    }
}

/// The boot of this machine, or zeros where the kernel does not tell.
pub(crate) fn this_boot() -> [u64; 2] {
    // No process outlives it, and readers ask each time that they come to the end of a tape.
    static KNOWN: OnceLock<[u64; 2]> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return *known;
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).unwrap_or(0);
    let found = [number as u64, (number >> 64) as u64];
    // What could not be read, as no file could be opened just then, is asked for again.
    if number == 0 {
        found
    } else {
        *KNOWN.get_or_init(|| found)
    }
}

/// Whether the shared words of `map` were last written under the boot of this machine, so that
/// all that a process stored is still there.
pub(crate) fn is_of_this_boot(map: &Map) -> bool {
    let boot = this_boot();
    boot != [0; 2]
        && map.word(BOOT).load(Ordering::Acquire) == boot[0]
        && map.word(BOOT + 8).load(Ordering::Acquire) == boot[1]
}

/// The input that the tape of the newest segment, in `map`, covers beyond what its frames say.
pub(crate) fn covered_beyond(map: &Map) -> u64 {
    let covered = map.word(COVERED).load(Ordering::Acquire);
    // Of another boot, the frames that were there with it may be gone.
    if is_of_this_boot(map) {
        covered
    } else {
        0
    }
}

/// Where the tape of the segment in `map` ended when a writer opened it first under this boot.
pub(crate) fn opened_at(map: &Map) -> Option<u64> {
    let known = map.word(OPENED).load(Ordering::Acquire).checked_sub(1);
    known.filter(|_| is_of_this_boot(map))
}
