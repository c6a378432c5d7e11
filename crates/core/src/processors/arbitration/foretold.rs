//! What the venue's history told before it came live.
//!
//! A silence ends with an event, and the history is asked for a while behind it. A line that lags
//! brings later what the history told by then. For feeds whose numbers prove nothing such an event
//! is known as one that came live is: see `live`.

use std::collections::{HashMap, VecDeque};

use super::event::Event;
use super::Arbiter;
use crate::error::Result;
use crate::instrument::FastHash;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

/// So many events are remembered at most; the oldest are forgotten first.
const EVENTS_MAX: usize = 1 << 18;
/// What happened so long before the answer that tells it, in ns, does not come live any more.
const AGE_NS_MAX: i64 = 3_600_000_000_000;

/// Events of the history that may still come live.
#[derive(Debug, Default)]
pub(super) struct Foretold {
    order: VecDeque<u64>,
    /// How often each of `order` is still to come; none that came.
    counts: HashMap<u64, u32, FastHash>,
    /// The greatest of their times.
    until: i64,
}

impl Foretold {
    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether a live event of that time may have been told before.
    #[inline]
    pub(super) fn may_have(&self, ts_event: i64) -> bool {
        !self.order.is_empty() && ts_event <= self.until
    }

    fn note(&mut self, identity: u64, ts_event: i64) {
        if self.order.is_empty() || ts_event > self.until.saturating_add(AGE_NS_MAX) {
            *self = Self { until: ts_event, ..Self::default() };
        }
        if self.order.len() >= EVENTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.take(oldest);
            }
        }
        self.order.push_back(identity);
        *self.counts.entry(identity).or_insert(0) += 1;
        self.until = self.until.max(ts_event);
    }

    /// Takes one out; whether it was there.
    fn take(&mut self, identity: u64) -> bool {
        let Some(count) = self.counts.get_mut(&identity) else { return false };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&identity);
        }
        true
    }

    /// Writes all to a snapshot.
    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.until);
        state.length(self.order.len());
        self.order.iter().for_each(|&identity| state.u64(identity));
        let mut counts: Vec<_> = self.counts.iter().map(|(&one, &count)| (one, count)).collect();
        counts.sort_unstable();
        state.length(counts.len());
        for (identity, count) in counts {
            state.u64(identity);
            state.u32(count);
        }
    }

    /// Reads what [`Foretold::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut found = Self { until: state.i64()?, ..Self::default() };
        for _ in 0..state.length(8)? {
            found.order.push_back(state.u64()?);
        }
        for _ in 0..state.length(12)? {
            found.counts.insert(state.u64()?, state.u32()?.max(1));
        }
        Ok(found)
    }
}

impl Arbiter {
    /// Remembers an event of the history that is passed on, if it may still come live.
    pub(super) fn foretell(&mut self, event: &Event) {
        let age = event.ts_recv.saturating_sub(event.ts_event);
        if event.ts_event != NONE && age <= AGE_NS_MAX && super::live::is_told_again(event) {
            let identity = self.identity(event);
            self.foretold.note(identity, event.ts_event);
        }
    }

    /// Whether a live event was passed on before, as the history told it.
    pub(super) fn was_foretold(&mut self, event: &Event) -> bool {
        event.is_live
            && self.foretold.may_have(event.ts_event)
            && super::live::is_told_again(event)
            && self.foretold.take(self.identity(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_often_as_it_was_told_it_is_known() {
        let mut foretold = Foretold::default();
        [(7, 1), (7, 2), (8, 2)].into_iter().for_each(|(one, ts)| foretold.note(one, ts));
        assert!(foretold.may_have(2) && !foretold.may_have(3));
        assert_eq!([7, 7, 7, 8, 9].map(|one| foretold.take(one)), [true, true, false, true, false]);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let mut foretold = Foretold::default();
        for one in 0..EVENTS_MAX as u64 + 5 {
            foretold.note(one, 1);
        }
        assert_eq!((foretold.order.len(), foretold.counts.len()), (EVENTS_MAX, EVENTS_MAX));
        assert!(!foretold.take(4) && foretold.take(5));
        foretold.note(1, AGE_NS_MAX + 2);
        assert_eq!(foretold.order, [1]);
    }

    #[test]
    fn a_snapshot_holds_what_is_still_to_come() {
        let mut foretold = Foretold::default();
        [5, 6, 6].into_iter().for_each(|one| foretold.note(one, 9));
        assert!(foretold.take(6));
        let mut bytes = Vec::new();
        foretold.write(&mut StateWriter::new(&mut bytes, "test", 1));
        let mut state = StateReader::new(&bytes, "test", 1).unwrap();
        let mut read = Foretold::read(&mut state).unwrap();
        state.finish().unwrap();
        assert_eq!((read.until, &read.order), (9, &foretold.order));
        assert_eq!([6, 6, 5].map(|one| read.take(one)), [true, false, true]);
    }
}
