//! The sparse index in a segment's head: where a frame starts, by offset and by receive time.
//!
//! The index is a hint and the frames are the truth: whoever jumps by it checks the frame on
//! which it lands. Entries are written before the frame that they point to is published.

use super::map::Map;
use crate::record::Plain;

/// Where the entries start in the head.
const START: usize = 4096;
/// Number of entries.
pub(crate) const SLOTS: usize = 512;

/// Bits of an entry's first word that hold the position; those above hold a checksum.
const POSITION_BITS: u32 = 48;

/// One entry, 24 bytes. A first word of 0 means that the entry is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Entry {
    /// Byte in the segment at which the frame starts; in the upper 16 bits the checksum of the
    /// entry without them, 0 in files of before.
    word: u64,
    /// Offset of its first item.
    pub(crate) first_offset: u64,
    /// Newest receive time of all frames before it.
    pub(crate) ts_before: i64,
}

impl Entry {
    fn sealed(position: usize, first_offset: u64, ts_before: i64) -> Self {
        let bare = Self { word: position as u64, first_offset, ts_before };
        Self { word: bare.word | bare.checksum() << POSITION_BITS, ..bare }
    }

    /// Never 0, for that says that there is none.
    fn checksum(&self) -> u64 {
        let bare = Self { word: self.position() as u64, ..*self };
        u64::from(crc32c::crc32c(bare.as_bytes()) as u16).max(1)
    }

    /// Byte in the segment at which the frame starts.
    pub(crate) const fn position(&self) -> usize {
        (self.word & ((1 << POSITION_BITS) - 1)) as usize
    }

    /// Whether its checksum is there and right. Only then its time can be believed: what a frame
    /// says of those before it is nowhere else.
    pub(crate) fn is_sealed(&self) -> bool {
        self.word >> POSITION_BITS == self.checksum()
    }

    /// Whether it may be used at all: damage of an entry that has a checksum shows.
    fn is_usable(&self) -> bool {
        self.word >> POSITION_BITS == 0 || self.is_sealed()
    }
}

// SAFETY: `repr(C)` of integers, 24 bytes without padding.
unsafe impl Plain for Entry {}
const _: () = assert!(START + SLOTS * size_of::<Entry>() <= super::head::HEAD);

/// The bytes of all entries in `head`.
fn slots(head: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    let bytes = head.get(START..START + SLOTS * size_of::<Entry>()).unwrap_or_default();
    bytes.chunks_exact(size_of::<Entry>()).filter_map(Entry::read_from)
}

/// The last usable entry up to byte `last` for which `wanted` holds, while it holds.
pub(crate) fn find(head: &[u8], last: usize, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
    slots(head)
        .take_while(|entry| entry.word != 0)
        .filter(Entry::is_usable)
        .take_while(|entry| entry.position() <= last && wanted(entry))
        .last()
}

/// Adds entries as a segment is written.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    used: usize,
    /// A frame at or after this byte gets an entry.
    pub(crate) next: usize,
    stride: usize,
}

impl IndexWriter {
    /// An index without entries whose next one is due at `position`.
    pub(crate) const fn new(position: usize, stride: usize) -> Self {
        Self { used: 0, next: position + stride, stride }
    }

    /// Goes on with the index in `map`, of which entries at and beyond `position` are removed.
    pub(crate) fn resume(map: &Map, head_length: usize, position: usize, stride: usize) -> Self {
        let head = map.bytes(0, head_length);
        let kept: Vec<Entry> = slots(head)
            .take_while(|entry| entry.word != 0 && entry.position() < position)
            .take_while(Entry::is_usable)
            .collect();
        let from = kept.last().map_or(head_length, Entry::position);
        let unused = Entry { word: 0, first_offset: 0, ts_before: 0 };
        for slot in kept.len()..SLOTS {
            map.write(START + slot * size_of::<Entry>(), unused.as_bytes());
        }
        Self { used: kept.len(), next: (from + stride).max(head_length + stride), stride }
    }

    /// Notes the frame at `position`.
    #[cold]
    pub(crate) fn add(&mut self, map: &Map, position: usize, first_offset: u64, ts_before: i64) {
        if self.used < SLOTS {
            let entry = Entry::sealed(position, first_offset, ts_before);
            map.write(START + self.used * size_of::<Entry>(), entry.as_bytes());
            self.used += 1;
        }
        self.next = position + self.stride;
    }
}
