//! For which instants a replay takes all events so far.
//!
//! A replay up to an instant counts events of a later time up and others down, never below zero. It
//! ends where [`BELIEVED`] more are later, or where it holds too many. Where the count is zero, it
//! has taken in all events. For a later instant the count is never higher, so that one time for
//! each count says where all instants stand: it is at least `n` for those before `below[n - 1]`.

use super::{BELIEVED, HELD_MAX};

/// Events of a block. Where the count is zero in every block, fewer than [`HELD_MAX`] are held.
const BLOCK: u32 = HELD_MAX as u32 / 2;
const COUNTS: usize = BELIEVED as usize;

/// What is known of all instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// By count, from 1 on: instants before this time, in ns, have it or a higher one.
    pub(super) below: [i64; COUNTS],
    /// Instants before this time may have held too many events.
    pub(super) floor: i64,
    /// The least of `below[0]` in this block of events, and how many events it has.
    pub(super) block_least: i64,
    pub(super) block_events: u32,
    /// The latest receipt, in ns.
    pub(super) received: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            below: [i64::MIN; COUNTS],
            floor: i64::MIN,
            block_least: i64::MAX,
            block_events: 0,
            received: i64::MIN,
        }
    }
}

impl Limits {
    /// Takes in an event that happened at `ts` and was received at `recv`.
    #[inline]
    pub(super) fn take(&mut self, ts: i64, recv: i64) {
        let before = self.below;
        for count in 0..COUNTS {
            let lower = if count == 0 { i64::MAX } else { before[count - 1] };
            // The highest count ends a replay: it is never left.
            let higher = before[(count + 1).min(COUNTS - 1)];
            self.below[count] = ts.min(lower).max(higher);
        }
        self.received = self.received.max(recv);
        self.block_least = self.block_least.min(self.below[0]);
        self.block_events += 1;
        if self.block_events == BLOCK {
            self.floor = self.floor.max(self.block_least);
            (self.block_least, self.block_events) = (i64::MAX, 0);
        }
    }

    pub(super) fn complete_from(&self) -> i64 {
        self.below[0].max(self.floor)
    }

    pub(super) const fn received(&self) -> i64 {
        self.received
    }
}
