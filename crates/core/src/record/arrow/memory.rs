//! Memory of columns that their receiver has released, kept for the next ones.
//!
//! A sink turns batch after batch into columns of the same size. Fresh pages for each cost more
//! than filling them.

use std::mem::{discriminant, take};
use std::sync::{Mutex, PoisonError};

use super::Buffer;

/// Buffers kept at most: two batches of the widest layout.
const KEPT_MAX: usize = 48;

/// Released buffers. Bounded by what two batches took.
#[derive(Debug, Default)]
pub struct Memory {
    free: Mutex<Vec<Buffer>>,
}

impl Memory {
    /// An empty buffer of the variant of `like`, with room for `count` values.
    pub(super) fn take(&self, like: Buffer, count: usize) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.iter().rposition(|kept| discriminant(kept) == discriminant(&like));
        let mut buffer = found.map_or(like, |index| free.swap_remove(index));
        drop(free);
        match &mut buffer {
            Buffer::None => {}
            Buffer::Bytes(values) => renew(values, count),
            Buffer::Halves(values) => renew(values, count),
            Buffer::Ints(values) => renew(values, count),
            Buffer::Words(values) => renew(values, count),
            Buffer::Wides(values) => renew(values, count),
        }
        buffer
    }

    /// Keeps what a receiver has released.
    pub(super) fn give(&self, buffers: &mut Vec<Buffer>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        for buffer in take(buffers) {
            if !matches!(buffer, Buffer::None) && free.len() < KEPT_MAX {
                free.push(buffer);
            }
        }
    }
}

fn renew<T>(values: &mut Vec<T>, count: usize) {
    values.clear();
    values.reserve_exact(count);
}
