//! Repeats among events without a number: what two lines say alike, times and all, is one event.
//!
//! The venue may say the same twice, and then each line says it twice. So it is counted how often a
//! line said it: where that is more often than it was passed on, it is passed on once more. Only
//! while two lines carry the same streams, and for a while after, is anything remembered.

use std::collections::{HashMap, VecDeque};

use super::event::Event;
use super::foretold::Foretold;
use super::lateness::Lateness;
use super::lines::Line;
use super::live::LiveEvents;
use super::retold::Retold;
use super::source_delay::SourceDelay;
use super::stories::Stories;
use super::streams::{Stream, Streams, SEEN};
use super::Arbiter;
use crate::error::{Error, Result};
use crate::instrument::FastHash;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Header, Plain};

/// For so long an event is remembered, in ns: a line is never further behind another.
const WINDOW_NS: i64 = 10_000_000_000;
/// So many are remembered at most; the oldest are forgotten first.
const SAID_MAX: usize = 1 << 16;

/// One thing that lines said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    passed: u32,
    /// How often each line said it, by its serial.
    lines: Vec<(u32, u32)>,
}

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Alike {
    has_copies: bool,
    said: HashMap<u64, Said, FastHash>,
    /// When each was said first, in that order.
    order: VecDeque<(i64, u64)>,
}

impl Alike {
    /// Says whether two lines carry the same streams.
    pub(super) fn watch(&mut self, has_copies: bool) {
        self.has_copies = has_copies;
    }

    /// Whether an event may be a repeat.
    #[inline]
    pub(super) fn is_watching(&self) -> bool {
        self.has_copies || !self.order.is_empty()
    }

    /// Whether the event of these records, from the line of that serial, was passed on already.
    pub(super) fn repeats(&mut self, bytes: &[u8], line: u32, now: i64) -> bool {
        self.forget(now);
        if !self.is_watching() {
            return false;
        }
        let identity = identity_of(bytes);
        if !self.said.contains_key(&identity) {
            self.order.push_back((now, identity));
        }
        let said = self.said.entry(identity).or_default();
        let at = said.lines.iter().position(|&(serial, _)| serial == line).unwrap_or_else(|| {
            said.lines.push((line, 0));
            said.lines.len() - 1
        });
        said.lines[at].1 += 1;
        if said.lines[at].1 <= said.passed {
            return true;
        }
        said.passed = said.lines[at].1;
        false
    }

    fn forget(&mut self, now: i64) {
        while let Some(&(since, identity)) = self.order.front() {
            if now.saturating_sub(since) <= WINDOW_NS && self.order.len() <= SAID_MAX {
                break;
            }
            self.order.pop_front();
            self.said.remove(&identity);
        }
    }

    /// Writes all to a snapshot.
    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.order.len());
        for &(since, identity) in &self.order {
            let said = &self.said[&identity];
            state.i64(since);
            state.u64(identity);
            state.u32(said.passed);
            state.length(said.lines.len());
            for &(serial, count) in &said.lines {
                state.u32(serial);
                state.u32(count);
            }
        }
    }

    /// Reads what [`Alike::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut alike = Self::default();
        for _ in 0..state.length(24)? {
            let (since, identity) = (state.i64()?, state.u64()?);
            let mut said = Said { passed: state.u32()?, lines: Vec::new() };
            for _ in 0..state.length(8)? {
                said.lines.push((state.u32()?, state.u32()?));
            }
            alike.order.push_back((since, identity));
            alike.said.insert(identity, said);
        }
        Ok(alike)
    }
}

impl Stream {
    /// Whether events with a sequence were passed on.
    pub const fn is_numbered(&self) -> bool {
        self.state & SEEN != 0 && self.last != 0
    }
}

impl Arbiter {
    /// Whether an event that is known by all that it says was passed on already.
    pub(super) fn is_told(&mut self, event: &Event, bytes: &[u8]) -> bool {
        let line = self.lines.line().serial;
        if event.historical {
            let is_known =
                self.retold.repeats(bytes, event.is_numbered, line) || self.came_live(event);
            if !is_known {
                self.foretell(event);
            }
            return is_known;
        }
        self.alike.repeats(bytes, line, self.elapsed) || self.was_foretold(event)
    }

    /// Begins an answer to the request `path`: a further page of one before, or not.
    pub fn begin_answer(&mut self, path: &[u8]) {
        let mark = self.feed.page_mark;
        let is_page = !mark.is_empty() && path.windows(mark.len()).any(|part| part == mark);
        let end = path.iter().position(|&byte| byte == b'?').unwrap_or(path.len());
        self.retold.begin_answer(&path[..end], is_page);
    }

    /// Writes what is remembered of events without a sequence to the end of a snapshot: nothing for
    /// feeds that have none, so that their snapshots are as they were before there was this. So it
    /// is with what of the venue's history may be told again, with what of gaps is not known any
    /// more, with stories, with the delay of the source, with how late its events were, and with
    /// what may still come live.
    pub fn snapshot_alike(&self, state: &mut StateWriter<'_>) {
        let has = [
            !self.alike.order.is_empty(),
            !self.retold.is_empty(),
            !self.live.is_empty(),
            self.streams.has_forgotten(),
            !self.stories.is_empty(),
            !self.streams.delay.is_empty(),
            !self.lateness.is_empty(),
            !self.foretold.is_empty(),
        ];
        // Each stands behind those before it.
        let count = has.iter().rposition(|&has| has).map_or(0, |last| last + 1);
        if count > 0 {
            self.alike.write(state);
        }
        if count > 1 {
            self.retold.write(state);
        }
        if count > 2 {
            self.live.write(state);
        }
        if count > 3 {
            self.streams.write_forgotten(state);
        }
        if count > 4 {
            self.stories.write(state);
        }
        if count > 5 {
            self.streams.delay.write(state);
        }
        if count > 6 {
            self.lateness.write(state);
        }
        if count > 7 {
            self.foretold.write(state);
        }
    }

    /// Takes in what [`Arbiter::snapshot_alike`] wrote, behind all else. In states of before, live
    /// events were known by less: one that remembers some is not used.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole, or of before and not to be used.
    pub fn restore_alike(&mut self, state: &mut StateReader<'_>, is_of_before: bool) -> Result<()> {
        self.alike = if state.is_at_end() { Alike::default() } else { Alike::read(state)? };
        self.retold =
            if state.is_at_end() { Retold::default() } else { Retold::read(state, !is_of_before)? };
        self.live =
            if state.is_at_end() { LiveEvents::default() } else { LiveEvents::read(state)? };
        if is_of_before && !self.live.is_empty() {
            return Err(Error::invalid(
                "the snapshot knows events that came live by less than is asked now",
            ));
        }
        if !state.is_at_end() {
            self.streams.read_forgotten(state)?;
        }
        self.stories = if state.is_at_end() { Stories::default() } else { Stories::read(state)? };
        if !state.is_at_end() {
            self.streams.delay = SourceDelay::read(state)?;
        }
        self.lateness =
            if state.is_at_end() { Lateness::default() } else { Lateness::read(state)? };
        self.foretold =
            if state.is_at_end() { Foretold::default() } else { Foretold::read(state)? };
        self.alike.watch(self.lines.has_copies());
        Ok(())
    }
}

impl Streams {
    /// Notes that the stream carried an event without a sequence.
    pub fn pass_unnumbered(&mut self, place: usize, event: &Event, line: Line) {
        let ts_last = self.clock.bounded(event.ts_event, event.ts_recv);
        let stream = self.at(place);
        stream.state |= SEEN;
        stream.ts_last = stream.ts_last.max(ts_last);
        (stream.line, stream.group) = (line.serial, line.group);
    }
}

/// Mixes one more word into a hash.
#[inline]
pub(super) const fn mixed(hash: u64, word: u64) -> u64 {
    let hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash ^ (hash >> 29)
}

/// A hash of all that records say but for their receipt.
pub(super) fn identity_of(bytes: &[u8]) -> u64 {
    const SIZE: usize = std::mem::size_of::<Header>();
    let mut hash = 0u64;
    let mut rest = bytes;
    while let Some(header) = Header::read_from(rest) {
        let (record, after) = rest.split_at(header.byte_length().clamp(SIZE, rest.len()));
        let header = Header { ts_recv: 0, flags: 0, ..header };
        for chunk in header.as_bytes().chunks(8).chain(record[SIZE..].chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mixed(hash, u64::from_le_bytes(word));
        }
        rest = after;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Quote;

    fn quote(price: i64, ts_recv: i64) -> Vec<u8> {
        let header = Header { ts_event: 7, ts_recv, ..Header::of::<Quote>() };
        let quote = Quote { header, bid_price: price, bid_size: 1, ask_price: 9, ask_size: 1 };
        quote.as_bytes().to_vec()
    }

    #[test]
    fn what_two_lines_say_is_passed_on_as_often_as_one_of_them_says_it() {
        // One line says a thing twice, then the other does; another thing in between, and a third
        // time on the second line alone.
        let mut alike = Alike::default();
        assert!(!alike.repeats(&quote(1, 10), 1, 0));
        assert!(!alike.is_watching());
        alike.watch(true);
        let mut say = |price, line, ts| alike.repeats(&quote(price, ts), line, ts);
        assert_eq!([say(1, 1, 10), say(1, 1, 11), say(2, 1, 12)], [false; 3]);
        assert_eq!([say(1, 2, 13), say(2, 2, 14), say(1, 2, 15)], [true; 3]);
        assert_eq!([say(1, 2, 16), say(1, 1, 17)], [false, true]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        // More things than are kept; then one line is left, and time passes.
        let mut alike = Alike::default();
        alike.watch(true);
        let most = SAID_MAX as i64;
        for price in 0..2 * most {
            assert!(!alike.repeats(&quote(price, 0), 1, price));
        }
        assert!(alike.said.len() <= SAID_MAX + 1 && alike.said.len() == alike.order.len());
        alike.watch(false);
        assert!(alike.repeats(&quote(2 * most - 1, 0), 2, 2 * most));
        assert!(!alike.repeats(&quote(2 * most - 1, 0), 2, 2 * most + WINDOW_NS + 1));
        assert!(!alike.is_watching());
    }

    #[test]
    fn a_snapshot_holds_what_was_said() {
        let mut alike = Alike::default();
        alike.watch(true);
        let repeats = (0..50).filter(|&at| alike.repeats(&quote(at % 40, 0), 1, at)).count();
        assert_eq!(repeats, 0, "one line repeats nothing");
        let mut bytes = Vec::new();
        alike.write(&mut StateWriter::new(&mut bytes, "test", 1));
        let mut state = StateReader::new(&bytes, "test", 1).unwrap();
        let read = Alike::read(&mut state).unwrap();
        state.finish().unwrap();
        assert_eq!((&read.said, &read.order), (&alike.said, &alike.order));
    }
}
