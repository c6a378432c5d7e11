//! Trades and quotes that came live, for when the venue's history tells them again.
//!
//! For feeds whose numbers prove nothing: what fills a gap overlaps with what came before and
//! behind it. An event is known by its instrument and channel, what it says, the id of a trade
//! among it, and its number and day, as numbers begin anew each day, or else its time: live ones
//! may tell times in a coarser unit than the history. A trade without an id is known by its time,
//! as the history of such trades (options of Massive) has no numbers. Where the history says one
//! more often than it came live, what is more is new. The last events are remembered.

use std::collections::{HashMap, VecDeque};

use super::alike::mixed;
use super::event::Event;
use super::Arbiter;
use crate::error::Result;
use crate::instrument::FastHash;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Channel;

/// So many live events of a source are remembered at most, in 8 MiB.
const EVENTS_MAX: usize = 1 << 20;
/// After so many live events since the history last told something, they are not counted any more.
const IDLE_MAX: usize = 1 << 16;
/// Length of a day, in ns.
const DAY_NS: i64 = 86_400_000_000_000;
/// A day begins so long after midnight UTC, in ns: midnight in New York or an hour later, when no
/// market trades whose numbers begin anew.
const DAY_START_NS: i64 = 5 * 3_600_000_000_000;

/// The last events that came live.
#[derive(Debug, Default)]
pub(super) struct LiveEvents {
    order: VecDeque<u64>,
    /// How often each of `order` is there. It follows from these: none while nobody asks.
    counts: Option<HashMap<u64, u32, FastHash>>,
    /// How often the history said one of them.
    retold: HashMap<u64, u32, FastHash>,
    idle: usize,
    capacity: Capacity,
}

/// How many events are remembered.
#[derive(Debug, Clone, Copy)]
struct Capacity(usize);

impl Default for Capacity {
    fn default() -> Self {
        Self(EVENTS_MAX)
    }
}

impl LiveEvents {
    /// Whether nothing came.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Remembers a live event.
    #[inline]
    pub(super) fn note(&mut self, identity: u64) {
        if self.order.len() >= self.capacity.0 {
            self.forget();
        }
        self.order.push_back(identity);
        if self.counts.is_some() {
            self.count(identity);
        }
    }

    /// Whether the history tells a live event again.
    pub(super) fn repeats(&mut self, identity: u64) -> bool {
        self.idle = 0;
        let counts = self.counts.get_or_insert_with(|| {
            let mut counts = HashMap::with_capacity_and_hasher(self.order.len(), FastHash);
            for &one in &self.order {
                *counts.entry(one).or_insert(0) += 1;
            }
            counts
        });
        let Some(&live) = counts.get(&identity) else { return false };
        let retold = self.retold.entry(identity).or_default();
        if *retold >= live {
            return false;
        }
        *retold += 1;
        true
    }

    #[cold]
    fn count(&mut self, identity: u64) {
        self.idle += 1;
        if self.idle > IDLE_MAX {
            self.counts = None;
        } else if let Some(counts) = &mut self.counts {
            *counts.entry(identity).or_insert(0) += 1;
        }
    }

    fn forget(&mut self) {
        let Some(oldest) = self.order.pop_front() else { return };
        if let Some(counts) = &mut self.counts {
            take_one(counts, oldest);
        }
        if !self.retold.is_empty() {
            take_one(&mut self.retold, oldest);
        }
    }

    /// Writes all to a snapshot.
    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.order.len());
        self.order.iter().for_each(|&identity| state.u64(identity));
        let mut retold: Vec<_> = self.retold.iter().map(|(&one, &times)| (one, times)).collect();
        retold.sort_unstable();
        state.length(retold.len());
        for (identity, times) in retold {
            state.u64(identity);
            state.u32(times);
        }
    }

    /// Reads what [`LiveEvents::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut live = Self::default();
        for _ in 0..state.length(8)? {
            live.order.push_back(state.u64()?);
        }
        for _ in 0..state.length(12)? {
            live.retold.insert(state.u64()?, state.u32()?);
        }
        Ok(live)
    }
}

fn take_one(counts: &mut HashMap<u64, u32, FastHash>, identity: u64) {
    if let Some(count) = counts.get_mut(&identity) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&identity);
        }
    }
}

impl Arbiter {
    /// Remembers a live event that is passed on, if the history may tell it again.
    #[inline]
    pub(super) fn note_live(&mut self, event: &Event) {
        if event.is_live && is_told_again(event) {
            self.live.note(self.identity(event));
        }
    }

    /// Whether an event of the history came live.
    pub(super) fn came_live(&mut self, event: &Event) -> bool {
        is_told_again(event) && !self.live.is_empty() && self.live.repeats(self.identity(event))
    }

    #[inline]
    pub(super) const fn identity(&self, event: &Event) -> u64 {
        let stream = (event.instrument as u64) << 8 | event.channel as u64;
        let place = if event.is_known_by_number {
            let day = event.ts_event.saturating_sub(DAY_START_NS).div_euclid(DAY_NS);
            mixed(day as u64, event.sequence)
        } else {
            event.ts_event.div_euclid(self.feed.live_unit_ns) as u64
        };
        mixed(mixed(mixed(0, stream), place), event.content as u64)
    }
}

#[inline]
pub(super) const fn is_told_again(event: &Event) -> bool {
    event.channel == Channel::Trade as u8 || event.channel == Channel::Quote as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(events: &[u64], capacity: usize) -> LiveEvents {
        let mut live = LiveEvents { capacity: Capacity(capacity), ..LiveEvents::default() };
        events.iter().for_each(|&event| live.note(event));
        live
    }

    #[test]
    fn what_the_history_says_more_often_is_new() {
        let mut live = live(&[1, 2, 2], 9);
        let told = [1, 1, 2, 2, 2, 3].map(|event| live.repeats(event));
        assert_eq!(told, [true, false, true, true, false, false]);
        // One that comes live behind the history counts as well.
        live.note(3);
        assert_eq!([3, 3].map(|event| live.repeats(event)), [true, false]);
    }

    #[test]
    fn the_oldest_are_forgotten_with_what_was_told_of_them() {
        // Whatever the history asked in between, the answer is that of the events remembered.
        for asked in [false, true] {
            let mut live = live(&[1, 2], 3);
            if asked {
                assert!(live.repeats(1));
            }
            [3, 4, 1].into_iter().for_each(|event| live.note(event));
            assert_eq!(live.order, [3, 4, 1]);
            assert_eq!([2, 1, 1].map(|event| live.repeats(event)), [false, true, false]);
        }
    }

    #[test]
    fn counting_ends_where_nobody_asks() {
        let mut live = live(&[7], EVENTS_MAX);
        assert!(live.repeats(7));
        (0..=IDLE_MAX as u64 + 1).for_each(|event| live.note(event + 8));
        assert!(live.counts.is_none());
        assert_eq!([7, 8].map(|event| live.repeats(event)), [false, true]);
    }

    #[test]
    fn a_snapshot_holds_what_was_told() {
        let mut live = live(&[5, 6, 6], 9);
        assert!(live.repeats(6));
        let mut bytes = Vec::new();
        live.write(&mut StateWriter::new(&mut bytes, "test", 1));
        let mut state = StateReader::new(&bytes, "test", 1).unwrap();
        let mut read = LiveEvents::read(&mut state).unwrap();
        state.finish().unwrap();
        assert_eq!([6, 6, 5].map(|event| read.repeats(event)), [true, false, true]);
    }
}
