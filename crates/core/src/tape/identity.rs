//! Which tape this is: an id for life, in the head of every segment, and the id of the tape that it
//! is made from. Who keeps a place on a tape keeps the id with it, so that a folder that was
//! replaced, copied or restored is noticed and never continued.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::head::{Head, IDENTITY};
use crate::error::{Error, Result};
use crate::record::Plain;

/// The id of a tape: 16 random bytes, drawn when the tape is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TapeId([u8; 16]);

impl TapeId {
    /// Draws the id of a new tape.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0_u8; 16];
        // SAFETY: the kernel writes at most as many bytes as there are. Sixteen are never split.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got != 16 || bytes == [0; 16] {
            let error = std::io::Error::last_os_error();
            return Err(Error::io(error, "drawing the id of a new tape"));
        }
        Ok(Self(bytes))
    }

    /// The id of these bytes; `None` for zeros, which stand for no id.
    pub fn known(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TapeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TapeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TapeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("expected a tape id of 32 hex digits, got {text:?}"));
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        Self::known(number.to_be_bytes()).ok_or_else(wrong)
    }
}

/// A flag of [`Identity`]: the segment was put together by a repair, not by the writer.
pub(crate) const REPAIRED: u32 = 1;

/// The identity block of a segment's head, 56 bytes at byte 320, little-endian. Version 1 has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Identity {
    /// The tape; zeros where a tape of version 1 goes on.
    id: [u8; 16],
    /// The tape that it is made from; zeros for none, or where that is of version 1.
    origin: [u8; 16],
    /// All segments that start before this offset had their place in the hash chain when this one
    /// was made.
    pub(crate) linked: u64,
    /// Items from this offset up to the first of this segment are lost: a repair gave them up.
    /// The first offset itself where none are.
    pub(crate) lost_from: u64,
    pub(crate) flags: u32,
    /// CRC-32C of the 52 bytes before.
    checksum: u32,
}

// SAFETY: `repr(C)` of integers and bytes, 56 bytes without padding.
unsafe impl Plain for Identity {}
const _: () = assert!(size_of::<Identity>() == 56);

impl Identity {
    /// The identity of a segment that starts with offset `first` and follows without loss.
    pub(crate) fn new(id: Option<TapeId>, origin: Option<TapeId>, first: u64) -> Self {
        let bytes = |id: Option<TapeId>| id.map_or([0; 16], TapeId::bytes);
        Self {
            id: bytes(id),
            origin: bytes(origin),
            linked: 0,
            lost_from: first,
            flags: 0,
            checksum: 0,
        }
    }

    /// The block with its checksum.
    pub(crate) fn sealed(mut self) -> Self {
        self.checksum = crc32c::crc32c(&self.as_bytes()[..52]);
        self
    }

    /// Reads and checks the block in `bytes`, the front of the segment `path` whose head is `head`.
    pub(crate) fn read(bytes: &[u8], head: &Head, path: &Path) -> Result<Self> {
        if head.version < 2 {
            return Ok(Self::new(None, None, head.first_offset));
        }
        match bytes.get(IDENTITY..).and_then(Self::read_from) {
            Some(found) if found.sealed() == found && found.lost_from <= head.first_offset => {
                Ok(found)
            }
            _ => Err(Error::corrupt(path, IDENTITY as u64, "the identity block is damaged")),
        }
    }

    /// The tape.
    pub(crate) fn id(&self) -> Option<TapeId> {
        TapeId::known(self.id)
    }

    /// The tape that it is made from.
    pub(crate) fn origin(&self) -> Option<TapeId> {
        TapeId::known(self.origin)
    }
}

/// Whether two ids may be of one tape: they are the same, or one of them is not known.
pub(crate) fn may_be_same(one: Option<TapeId>, other: Option<TapeId>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}
