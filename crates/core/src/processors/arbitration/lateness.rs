//! How far behind their receipt the events of each channel were of late, for dating what was lost
//! among them.
//!
//! A line that lags brings what happened some time ago, and a host that was held up reads all at
//! once. Neither moves the clock or the delay of a source, which are of many events; yet what is
//! lost then happened as long before its receipt as what came beside it. So the least difference
//! of the last five to ten seconds with events counts: a gap that begins too early is true, and one
//! that begins behind the loss is not. One that tells another hour alone is not believed; three
//! are. The greatest difference says how late it happened at most, where a source that is behind
//! catches up. And what is lost behind an event that was passed on is no older than that one.

use super::event::Event;
use super::streams::CHANNELS;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Channel, NONE};

/// Events are looked at together for so long, on the arbiter's own clock, in ns.
const SPAN_NS: i64 = 5_000_000_000;
/// What is further behind than this, by the clock of the venue, in ns, counts if others agree.
const FAR_NS: i64 = 1_200_000_000_000;
/// So many of them.
const AGREEING: u32 = 3;

/// The least and the greatest differences of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    low: i64,
    high: i64,
    far: i64,
    far_count: u32,
}

impl Span {
    const EMPTY: Self = Self { low: i64::MAX, high: i64::MIN, far: i64::MAX, far_count: 0 };
}

/// Two spans of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Late {
    now: Span,
    before: Span,
    /// When the span of now is over, on the arbiter's own clock.
    until: i64,
    /// The greatest time of an event.
    ts_last: i64,
}

impl Late {
    const NEVER: Self =
        Self { now: Span::EMPTY, before: Span::EMPTY, until: i64::MIN, ts_last: NONE };

    #[cold]
    fn take(&mut self, off: i64, anchor: i64, elapsed: i64) {
        if elapsed >= self.until {
            (self.before, self.now) = (self.now, Span::EMPTY);
            self.until = elapsed.saturating_add(SPAN_NS);
        }
        self.now.high = self.now.high.max(off);
        if off < anchor.saturating_sub(FAR_NS) {
            self.now.far = self.now.far.min(off);
            self.now.far_count = self.now.far_count.saturating_add(1);
        } else {
            self.now.low = self.now.low.min(off);
        }
    }

    /// The least difference; `i64::MAX` if no event came.
    fn low(&self) -> i64 {
        let low = self.now.low.min(self.before.low);
        let is_far = self.now.far_count.saturating_add(self.before.far_count) >= AGREEING;
        if is_far {
            low.min(self.now.far).min(self.before.far)
        } else {
            low
        }
    }
}

/// How late the events of each channel were.
#[derive(Debug)]
pub(super) struct Lateness {
    channels: [Late; CHANNELS],
}

impl Default for Lateness {
    fn default() -> Self {
        Self { channels: [Late::NEVER; CHANNELS] }
    }
}

impl Lateness {
    /// Takes in a live event that is passed on at `elapsed`, where the venue is `anchor` ahead.
    #[inline]
    pub(super) fn note(&mut self, event: &Event, anchor: i64, elapsed: i64) {
        let Some(late) = self.channels.get_mut(usize::from(event.channel)) else { return };
        let off = event.ts_event.wrapping_sub(event.ts_recv);
        if off < late.now.low || off > late.now.high || elapsed >= late.until {
            late.take(off, anchor, elapsed);
        }
        if late.ts_last == NONE || event.ts_event > late.ts_last {
            late.ts_last = event.ts_event;
        }
    }

    fn of(&self, channel: u8) -> &[Late] {
        let at = usize::from(channel);
        let is_one = channel != Channel::None as u8 && channel != Channel::Session as u8;
        self.channels.get(at..=at).filter(|_| is_one).unwrap_or(&self.channels)
    }

    /// How far ahead of its receipt, at least, an event of `channel` may be, `low` by the clocks.
    pub(super) fn low(&self, channel: u8, low: i64) -> i64 {
        self.of(channel).iter().map(Late::low).fold(low, i64::min)
    }

    /// How far ahead of its receipt, at most, an event of `channel` may be, `high` by the clocks.
    pub(super) fn high(&self, channel: u8, high: i64) -> i64 {
        self.of(channel).iter().map(|late| late.now.high.max(late.before.high)).fold(high, i64::max)
    }

    /// When an event of `channel` that was received at `ts_recv` happened, at the earliest, behind
    /// those that were passed on.
    pub(super) fn earliest(&self, channel: u8, ts_recv: i64, low: i64) -> i64 {
        let start = ts_recv.saturating_add(self.low(channel, low));
        let known = self.of(channel).iter().map(|late| late.ts_last).filter(|&ts| ts != NONE);
        let ts_last = known.max().unwrap_or(start);
        start.min(ts_last.max(ts_recv.saturating_sub(FAR_NS)))
    }

    /// Receive times are those of another clock from here on.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing came.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.iter().all(|late| *late == Late::NEVER)
    }

    /// Writes all to a snapshot.
    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(CHANNELS);
        for late in &self.channels {
            for span in [late.now, late.before] {
                state.i64(span.low);
                state.i64(span.high);
                state.i64(span.far);
                state.u32(span.far_count);
            }
            state.i64(late.until);
            state.i64(late.ts_last);
        }
    }

    /// Reads what [`Lateness::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut found = Self::default();
        for at in 0..state.length(72)? {
            let mut late = Late::NEVER;
            for span in [&mut late.now, &mut late.before] {
                let (low, high, far) = (state.i64()?, state.i64()?, state.i64()?);
                *span = Span { low, high, far, far_count: state.u32()? };
            }
            (late.until, late.ts_last) = (state.i64()?, state.i64()?);
            if let Some(channel) = found.channels.get_mut(at) {
                *channel = late;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Header, Plain, Trade};
    use crate::sequencing::Rules;

    const SECOND: i64 = 1_000_000_000;
    const TRADE: u8 = Channel::Trade as u8;

    fn event(ts_event: i64, ts_recv: i64) -> Event {
        let header = Header { ts_event, ts_recv, ..Header::of::<Trade>() };
        let (channel, side, conditions) = (TRADE, 0, [0; 2]);
        let trade =
            Trade { header, price: 1, size: 1, trade_id: 0, count: 1, side, channel, conditions };
        Event::read(trade.as_bytes(), &Rules::USUAL).unwrap()
    }

    /// Events `(happened, received)` in seconds.
    fn lateness(events: &[(i64, i64)]) -> Lateness {
        let mut lateness = Lateness::default();
        for &(ts, recv) in events {
            lateness.note(&event(ts * SECOND, recv * SECOND), 0, recv * SECOND);
        }
        lateness
    }

    #[test]
    fn what_is_lost_behind_a_line_that_lags_is_as_old_as_what_it_brings() {
        let lagging = lateness(&[(100, 100), (101, 111), (110, 120)]);
        assert_eq!(lagging.earliest(TRADE, 121 * SECOND, 0), 110 * SECOND);
        // All channels, and one of which nothing came.
        assert_eq!(lagging.low(Channel::None as u8, 0), -10 * SECOND);
        assert_eq!(lagging.low(Channel::Quote as u8, -7), -7);
        // It has caught up since, ten seconds ago.
        let caught_up = lateness(&[(101, 111), (119, 120), (125, 126), (131, 132)]);
        assert_eq!(caught_up.low(TRADE, 0), -SECOND);
        // By a source that is behind by a quarter of an hour and catches up.
        let behind = lateness(&[(1_000, 1_900), (1_008, 1_902)]);
        assert_eq!(behind.high(TRADE, -900 * SECOND), -894 * SECOND);
        assert_eq!(behind.high(TRADE, 0), 0);
    }

    #[test]
    fn the_first_of_a_back_log_is_no_older_than_the_last_before_it() {
        let quick = lateness(&[(99, 99), (100, 100)]);
        assert_eq!(quick.earliest(TRADE, 250 * SECOND, 0), 100 * SECOND);
        assert_eq!(quick.earliest(TRADE, 5_000 * SECOND, 0), 3_800 * SECOND);
    }

    #[test]
    fn one_that_tells_another_hour_is_not_believed_and_three_are() {
        let mut events = vec![(9_000, 9_001), (1_000, 9_001), (1_000, 9_001)];
        assert_eq!(lateness(&events).low(TRADE, 0), -SECOND);
        events.push((1_001, 9_001));
        assert_eq!(lateness(&events).low(TRADE, 0), -8_001 * SECOND);
    }

    #[test]
    fn a_snapshot_holds_all() {
        let known = lateness(&[(1, 2), (0, 9_000), (1, 9_000), (2, 9_000)]);
        let mut bytes = Vec::new();
        known.write(&mut StateWriter::new(&mut bytes, "test", 1));
        let mut state = StateReader::new(&bytes, "test", 1).unwrap();
        assert_eq!(Lateness::read(&mut state).unwrap().channels, known.channels);
        state.finish().unwrap();
        assert!(Lateness::default().is_empty() && !known.is_empty());
    }
}
