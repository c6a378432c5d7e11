//! Items to framed bytes and back: length, checksum, version.
//!
//! A frame is the unit of publishing: its items become visible together or not at all. What is
//! decoded here comes from a file that anything may have happened to, so nothing is believed
//! before its checksum.

use crate::numbered;
use crate::record::blob::BlobHeader;
use crate::record::Plain;

/// The newest version of the tape format, and the one that is written.
pub const VERSION: u32 = 2;
/// Bytes before the payload of a frame.
pub const FRAME_HEADER: usize = 40;
/// Longest payload of a frame in bytes.
pub const FRAME_PAYLOAD_MAX: usize = 1 << 30;
/// The input offset of a frame that covers no input, as on a raw tape.
pub const NO_INPUT: u64 = u64::MAX;

/// What a frame starts with, 40 bytes, little-endian, at a multiple of 8. The payload follows:
/// whole items back to back, each a multiple of 8 bytes.
/// ```text
/// offset  size  field
///      0     4  length of the payload in bytes, a multiple of 8
///      4     4  CRC-32C of this header with zeros here, then the payload
///      8     8  offset of the first item
///     16     8  input offset covered: the next one to read, or 2^64 - 1 for none
///     24     4  number of items, 0 when the frame only says what input it covers
///     28     4  zero
///     32     8  ts_recv of the newest item, ns
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// Length of the payload in bytes, a multiple of 8.
    pub length: u32,
    /// CRC-32C of the header with zeros here, then the payload.
    pub checksum: u32,
    /// Offset of the first item.
    pub first_offset: u64,
    /// Input offset covered, exclusive; [`NO_INPUT`] for none.
    pub input_offset: u64,
    /// Number of items.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// Receive time of the newest item, in ns.
    pub ts_recv: i64,
}

// SAFETY: `repr(C)` of integers, 40 bytes without padding.
unsafe impl Plain for Frame {}
const _: () = assert!(size_of::<Frame>() == FRAME_HEADER);

impl Frame {
    /// The header of a frame around `payload`, with its checksum.
    #[inline]
    pub fn seal(
        payload: &[u8],
        count: u32,
        first_offset: u64,
        input_offset: u64,
        ts_recv: i64,
    ) -> Self {
        let mut frame = Self {
            length: payload.len() as u32,
            checksum: 0,
            first_offset,
            input_offset,
            count,
            reserved: 0,
            ts_recv,
        };
        frame.checksum = frame.checksum_with(payload);
        frame
    }

    /// The checksum that the frame must have around `payload`.
    #[inline]
    pub fn checksum_with(&self, payload: &[u8]) -> u32 {
        let bare = Self { checksum: 0, ..*self };
        crc32c::crc32c_append(crc32c::crc32c(bare.as_bytes()), payload)
    }

    /// Header and payload in bytes.
    pub const fn size(&self) -> usize {
        FRAME_HEADER + self.length as usize
    }

    /// Offset after the last item.
    pub const fn end_offset(&self) -> u64 {
        self.first_offset.saturating_add(self.count as u64)
    }

    /// Whether a frame may hold `count` items in `length` bytes.
    #[inline]
    pub const fn may_hold(length: usize, count: u32) -> bool {
        length % 8 == 0
            && length <= FRAME_PAYLOAD_MAX
            && count as usize <= length / 8
            && (count == 0) == (length == 0)
    }

    /// Whether the header alone could be that of a frame: what costs nothing to look at.
    #[inline]
    pub const fn is_plausible(&self) -> bool {
        self.reserved == 0 && Self::may_hold(self.length as usize, self.count)
    }

    /// Reads the whole frame at the front of `bytes`: its header and payload, checked.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let frame = Self::read_from(bytes)?;
        if !frame.is_plausible() {
            return None;
        }
        let payload = bytes.get(FRAME_HEADER..frame.size())?;
        (frame.checksum_with(payload) == frame.checksum).then_some((frame, payload))
    }
}

numbered! {
    /// What the items of a tape are.
    pub enum TapeKind {
        /// Records of `record.rs`.
        Records = 1, "records";
        /// Blobs of `record/blob.rs`.
        Blobs = 2, "blobs";
    }
}

impl TapeKind {
    /// The kind with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        u8::try_from(number).ok().and_then(|number| Self::try_from(number).ok())
    }

    /// The length of the item at the front of `bytes`, if it is whole.
    #[inline]
    pub fn item_length(self, bytes: &[u8]) -> Option<usize> {
        let length = match self {
            Self::Records => {
                let length = *bytes.first()? as usize * 8;
                if length == 0 || length % 64 != 0 {
                    return None;
                }
                length
            }
            Self::Blobs => {
                let header = BlobHeader::read_from(bytes)?;
                let length = size_of::<BlobHeader>()
                    + header.context_length as usize
                    + header.body_length as usize;
                length.next_multiple_of(8)
            }
        };
        (length <= bytes.len()).then_some(length)
    }

    /// Whether `bytes` are exactly `count` whole items.
    #[inline]
    pub fn holds(self, bytes: &[u8], count: usize) -> bool {
        // Nearly all records are of 64 bytes: to see that, no record waits for the one before.
        let is_plain = self == Self::Records
            && bytes.len() == count * 64
            && bytes.chunks_exact(64).all(|record| record[0] == 8);
        is_plain || self.items_length(bytes, count) == Some(bytes.len())
    }

    /// The length of the first `count` items of `bytes`, if they are whole.
    pub fn items_length(self, bytes: &[u8], count: usize) -> Option<usize> {
        let mut at = 0;
        for _ in 0..count {
            at += self.item_length(&bytes[at..])?;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_noticed() {
        // Flip every bit of a sealed frame in turn: none may be read.
        let payload = [7u8; 64];
        let frame = Frame::seal(&payload, 1, 41, NO_INPUT, 5);
        let mut bytes = frame.as_bytes().to_vec();
        bytes.extend_from_slice(&payload);
        assert_eq!(Frame::read(&bytes), Some((frame, &payload[..])));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::read(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_and_cut_frames_are_not_frames() {
        // Preallocated space is zeros, a torn tail is a prefix: neither may look like a frame.
        assert_eq!(Frame::read(&[0; 4096]), None);
        let frame = Frame::seal(&[1; 8], 1, 0, 9, 9);
        let mut bytes = frame.as_bytes().to_vec();
        bytes.extend_from_slice(&[1; 8]);
        for length in 0..bytes.len() {
            assert_eq!(Frame::read(&bytes[..length]), None, "length {length}");
        }
    }

    #[test]
    fn a_frame_without_items_is_a_frame() {
        // A stage that gave no output still says what input it covers.
        let frame = Frame::seal(&[], 0, 12, 99, 5);
        assert_eq!(Frame::read(frame.as_bytes()), Some((frame, &[][..])));
    }
}
