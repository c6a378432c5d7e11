//! The venue's history told again: files and answers that hold the same events.
//!
//! For feeds whose numbers prove nothing an event is known by all that it says: instrument, time,
//! number, id, price, size. One that has no number of its own may be said twice by one file and
//! mean two; so that the second of a file, or of an answer and its pages, is the second of another.
//! Repeats are dropped as long as their first is remembered: of so many events, in two halves, of
//! which the older is forgotten at once.

use std::collections::{HashMap, HashSet};

use super::alike::{identity_of, mixed};
use crate::error::Result;
use crate::instrument::FastHash;
use crate::processors::state::{StateReader, StateWriter};

/// So many events are remembered at most: 64 MiB, and half as much in a snapshot.
const EVENTS_MAX: usize = 1 << 22;
/// Of so many events without a number of one line it is counted how often each was said. Where
/// there are more, no repeat of theirs is dropped any more.
const UNNUMBERED_MAX: usize = 1 << 20;

/// The events of the venue's history that were passed on.
#[derive(Debug, Default)]
pub(super) struct Retold {
    young: HashSet<u64, FastHash>,
    old: HashSet<u64, FastHash>,
    /// The line whose events without a number are counted.
    line: u32,
    times: HashMap<u64, u32, FastHash>,
    /// The path of the answer whose events are counted, as a hash.
    counted: u64,
    /// That of the answer which came last.
    answer: u64,
}

impl Retold {
    /// Whether nothing was passed on.
    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// An answer begins to a request of that path, without its query. If it is no further page of
    /// one before, what it says once more is nothing new: the second of an answer is the second of
    /// another. Answers to other paths that have no events, as those of news, may come between two
    /// pages and change nothing; a page without events is one all the same.
    pub(super) fn begin_answer(&mut self, path: &[u8], is_page: bool) {
        self.answer = path.chunks(8).fold(0, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mixed(hash, u64::from_le_bytes(word))
        });
        if !is_page && self.answer == self.counted {
            self.times.clear();
        }
    }

    /// Whether the event of these records, from the line of that serial, was passed on already.
    pub(super) fn repeats(&mut self, bytes: &[u8], is_numbered: bool, line: u32) -> bool {
        let mut identity = identity_of(bytes);
        if !is_numbered {
            if self.answer != self.counted || line != self.line {
                (self.counted, self.line) = (self.answer, line);
                self.times.clear();
            }
            if self.times.len() >= UNNUMBERED_MAX {
                return false;
            }
            let times = self.times.entry(identity).or_default();
            *times += 1;
            identity = mixed(identity, u64::from(*times));
        }
        if self.old.contains(&identity) || !self.young.insert(identity) {
            return true;
        }
        if self.young.len() >= EVENTS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        false
    }

    /// Whether the event of these records, which has a number, was passed on already.
    pub(super) fn has(&self, bytes: &[u8]) -> bool {
        let identity = identity_of(bytes);
        self.old.contains(&identity) || self.young.contains(&identity)
    }

    /// Writes all to a snapshot.
    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        for half in [&self.old, &self.young] {
            let mut sorted: Vec<_> = half.iter().copied().collect();
            sorted.sort_unstable();
            state.length(sorted.len());
            sorted.into_iter().for_each(|identity| state.u64(identity));
        }
        state.u32(self.line);
        state.u64(self.counted);
        state.u64(self.answer);
        let mut times: Vec<_> = self.times.iter().map(|(&one, &times)| (one, times)).collect();
        times.sort_unstable();
        state.length(times.len());
        for (identity, times) in times {
            state.u64(identity);
            state.u32(times);
        }
    }

    /// Reads what [`Retold::write`] wrote; states of before had no paths.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read(state: &mut StateReader<'_>, has_paths: bool) -> Result<Self> {
        let mut retold = Self::default();
        for half in [&mut retold.old, &mut retold.young] {
            for _ in 0..state.length(8)? {
                half.insert(state.u64()?);
            }
        }
        retold.line = state.u32()?;
        if has_paths {
            (retold.counted, retold.answer) = (state.u64()?, state.u64()?);
        }
        for _ in 0..state.length(12)? {
            retold.times.insert(state.u64()?, state.u32()?);
        }
        Ok(retold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Channel, Header, Plain, Trade};

    fn trade(id: u64, ts_recv: i64) -> Vec<u8> {
        let header = Header { ts_event: 7, ts_recv, sequence: id, ..Header::of::<Trade>() };
        let (channel, side, conditions) = (Channel::Trade as u8, 0, [0; 2]);
        let trade =
            Trade { header, price: 1, size: 2, trade_id: id, count: 1, side, channel, conditions };
        trade.as_bytes().to_vec()
    }

    #[test]
    fn what_another_answer_tells_again_is_a_repeat() {
        // On one line, an event without a number: twice on two pages, then once, and three times.
        let mut retold = Retold::default();
        let say = |retold: &mut Retold| retold.repeats(&trade(0, 1), false, 1);
        retold.begin_answer(b"/trades", false);
        assert_eq!([say(&mut retold), say(&mut retold)], [false, false]);
        retold.begin_answer(b"/trades", false);
        assert!(say(&mut retold));
        // An answer whose first page has no events.
        retold.begin_answer(b"/trades", false);
        retold.begin_answer(b"/trades", true);
        assert_eq!([(); 2].map(|()| say(&mut retold)), [true, true]);
        // News, which have no events, and then a further page.
        retold.begin_answer(b"/news", false);
        retold.begin_answer(b"/trades", true);
        assert!(!say(&mut retold));
        // An answer of another path, and its first page has no events either.
        retold.begin_answer(b"/others", false);
        retold.begin_answer(b"/others", true);
        assert_eq!([(); 3].map(|()| say(&mut retold)), [true; 3]);
    }

    #[test]
    fn what_another_file_tells_again_is_a_repeat() {
        // Numbered ones even of one line: an answer may overlap with the one before it.
        let mut retold = Retold::default();
        let mut say = |id, line| retold.repeats(&trade(id, i64::from(line)), true, line);
        assert_eq!([say(1, 1), say(2, 1), say(1, 1)], [false, false, true]);
        assert_eq!([say(1, 2), say(2, 2), say(3, 2)], [true, true, false]);
    }

    #[test]
    fn events_without_a_number_are_counted_by_file() {
        let mut retold = Retold::default();
        let mut say = |line| retold.repeats(&trade(0, 1), false, line);
        assert_eq!([say(1), say(1)], [false, false]);
        assert_eq!([say(2), say(2), say(2)], [true, true, false]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stay() {
        let mut retold = Retold::default();
        for id in 1..=EVENTS_MAX as u64 + 9 {
            assert!(!retold.repeats(&trade(id, 1), true, 1));
        }
        assert!(retold.young.len() + retold.old.len() <= EVENTS_MAX);
        assert!(retold.repeats(&trade(EVENTS_MAX as u64 / 2 + 9, 1), true, 1));
        assert!(!retold.repeats(&trade(1, 1), true, 1));
    }

    #[test]
    fn a_snapshot_holds_what_was_told() {
        let mut retold = Retold::default();
        for id in 0..50 {
            retold.repeats(&trade(id % 40, 1), id % 3 > 0, 1);
        }
        retold.begin_answer(b"/trades", false);
        assert!(retold.repeats(&trade(0, 1), false, 1));
        let mut bytes = Vec::new();
        retold.write(&mut StateWriter::new(&mut bytes, "test", 1));
        let mut state = StateReader::new(&bytes, "test", 1).unwrap();
        let read = Retold::read(&mut state, true).unwrap();
        state.finish().unwrap();
        assert_eq!((&read.young, &read.times), (&retold.young, &retold.times));
        assert_eq!((read.counted, read.answer), (retold.counted, retold.answer));
    }
}
