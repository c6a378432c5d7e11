//! The append-only spine.
//!
//! A tape is a folder of segment files, written by one process and read by any number. A segment
//! is written once, front to back; what is published never changes. Bytes are drawn in
//! `docs/formats/tape.md`.

mod chain;
mod cold;
mod create;
mod direct;
mod fault;
mod gate;
mod head;
mod identity;
mod index;
mod keeper;
mod lock;
mod map;
mod offsets;
mod place;
mod reader;
mod recovery;
mod repair;
mod rewrite;
mod segment;
mod space;
mod sync;
mod tail;
mod undo;
mod verify;
mod wait;
mod writer;

pub use crate::codec::{TapeKind, NO_INPUT};
pub use identity::TapeId;
pub use keeper::Retention;
pub use lock::FolderLock;
pub use offsets::{list_offsets, load_offset, save_offset};
pub use place::Place;
pub use reader::Reader;
pub use repair::{remake, repair, LostItems, Repair};
pub use verify::{hash, verify, verify_against, Fault, Head, Report};
pub use writer::Tape;

/// A run of consecutive items of one tape, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Offset of the first item.
    pub first_offset: u64,
    /// Number of items.
    pub count: usize,
    /// The items, back to back: records, or blobs on a raw tape.
    pub bytes: &'a [u8],
}

/// When what is published becomes durable: survives a loss of power, not only of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before `append` returns.
    EveryFrame,
    /// Within so many milliseconds, by a thread of its own: `append` never waits for the disk.
    IntervalMs(u32),
    /// When the operating system likes, and on [`Tape::sync`].
    Never,
}

/// How a tape is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapeConfig {
    /// What its items are.
    pub kind: TapeKind,
    /// When what is published becomes durable.
    pub durability: Durability,
    /// A segment is closed before it grows beyond this. A larger frame gets one of its own.
    pub segment_bytes: usize,
    /// What is kept of closed segments, and how.
    pub retention: Retention,
}

impl TapeConfig {
    /// The defaults: durable every 50 ms, segments of 256 MiB, everything kept as it is.
    pub const fn new(kind: TapeKind) -> Self {
        Self {
            kind,
            durability: Durability::IntervalMs(50),
            segment_bytes: 256 << 20,
            retention: Retention {
                bytes_max: None,
                age_ms_max: None,
                wait_ms_max: None,
                compress_after: None,
            },
        }
    }
}

/// What opening a tape for writing found, and had to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Offset after the last item that was kept.
    pub end: u64,
    /// Bytes of a torn tail that were cut.
    pub cut_bytes: u64,
    /// Byte of the last segment at which was cut.
    pub cut_at: u64,
    /// Items that were taken back, as the input that they cover lost its tail with the power.
    pub undone: u64,
}
