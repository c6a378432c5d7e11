//! How far behind its venue a source is: feeds that are sold a quarter of an hour late, servers
//! that let a recorder catch up.
//!
//! What the host notes is dated by its receipt. Of a source that is behind by more than a minute,
//! what was lost at that time happened long before. How long is measured: of the last events, one
//! each quarter of a second, the middle ones bound it; those that lie, or that were held up, are on
//! its outside. While they are few, the bounds are those of all of them, and of the receipt: a gap
//! that covers too much is true, and one beside the loss is not. What is found is told on the
//! normalised tape, in each session anew, and whenever it changes.

use std::collections::BTreeMap;

use super::event::Event;
use super::plausible::AHEAD_NS;
use super::Arbiter;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Channel, GapState, Header, Marker, MarkerCode, Records, NONE};
use crate::sequencing::Rule;

/// So many events are looked at.
const SAMPLES: usize = 128;
/// The time between two of them at least, on the arbiter's own clock, in ns.
const SPACING_NS: i64 = 250_000_000;
/// With fewer, the bounds are those of all of them, and of the receipt.
const CERTAIN: usize = 16;
/// So many must say that a source is behind.
const AGREEING: usize = 3;
/// The last ones count whatever the others say.
const LATEST: usize = 5;
/// What is further behind is no delay: a recording of the past is played back.
const DELAY_NS_MAX: i64 = 2 * 86_400_000_000_000;
/// Events may be further outside than those that were looked at by this, in ns, and an eighth.
const MARGIN_NS: i64 = 1_000_000_000;
/// Bounds that differ from those told by this, in ns, or by a part of 64, are told anew.
const CHANGE_NS: i64 = 5_000_000_000;
/// They are told after so long at the earliest, on the arbiter's own clock, in ns, unless more may
/// be missing by them.
const TELL_NS: i64 = 10_000_000_000;
/// So many gaps that are open are known by their start.
const OPEN_MOST: usize = 1 << 16;

/// Least and greatest of event time less receive time, in ns.
type Bounds = (i64, i64);
/// An open gap of the recorder: instrument, channel, cause and start as noted.
type OpenGap = (u32, u8, u8, i64);

/// How far behind its venue a source is.
#[derive(Debug, Default)]
pub struct SourceDelay {
    /// Event time less receive time of the last events, oldest first once they are many.
    samples: Vec<i64>,
    next: usize,
    /// When the next event is looked at, on the arbiter's own clock.
    due: i64,
    /// What was told last. None: the source was never behind, or is not any more.
    told: Option<Bounds>,
    /// When that was, on the arbiter's own clock.
    told_at: i64,
    /// Whether it was told in this session.
    is_of_session: bool,
    /// Whether it was told by enough events.
    is_certain: bool,
    /// What is to be told: `(0, 0)` where the source is behind no more.
    news: Option<Bounds>,
    /// The start of each gap that is open, as it was passed on: what ends it names it by that.
    open: BTreeMap<OpenGap, i64>,
}

impl SourceDelay {
    /// Takes in an event that was in time, `off` from its receipt.
    #[inline]
    pub fn note(&mut self, off: i64, elapsed: i64) {
        if elapsed >= self.due && off >= -DELAY_NS_MAX {
            self.sample(off, elapsed);
        }
    }

    #[cold]
    fn sample(&mut self, off: i64, elapsed: i64) {
        self.due = elapsed.saturating_add(SPACING_NS);
        if self.samples.len() < SAMPLES {
            self.samples.push(off);
            self.next = 0;
        } else {
            self.samples[self.next] = off;
            self.next = (self.next + 1) % SAMPLES;
        }
        self.news = self.change(elapsed);
    }

    /// The bounds by what was looked at in this session, if so many agree that it is behind.
    fn measured(&self) -> Option<Bounds> {
        let count = self.samples.len();
        if count < AGREEING {
            return None;
        }
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        if sorted[(AGREEING - 1).max(count / CERTAIN)] >= -AHEAD_NS {
            return None;
        }
        let outside = count / CERTAIN;
        let (mut low, mut high) = (sorted[outside], sorted[count - 1 - outside]);
        let mut latest: Vec<_> = (1..=LATEST.min(count))
            .map(|back| self.samples[(self.next + count - back) % count])
            .collect();
        latest.sort_unstable();
        let now = latest[latest.len() / 2];
        (low, high) = (low.min(now), high.max(now));
        let margin = MARGIN_NS + high.saturating_sub(low) / 8;
        (low, high) = (low.saturating_sub(margin), high.saturating_add(margin));
        Some((low, if count < CERTAIN { high.max(0) } else { high }))
    }

    /// Whether anything is to be told by now.
    fn change(&self, elapsed: i64) -> Option<Bounds> {
        let is_known = self.samples.len() >= CERTAIN;
        match (self.told, self.measured()) {
            (None, None) => None,
            (Some(_), None) => is_known.then_some((0, 0)),
            (None, Some(found)) => Some(found),
            (Some(_), Some(found)) if !self.is_of_session => Some(found),
            (Some(_), Some(found)) if is_known && !self.is_certain => Some(found),
            (Some(told), Some(found)) => {
                let is_more = found.0 < told.0.saturating_sub(MARGIN_NS);
                let slack = CHANGE_NS.max(found.0.saturating_abs() / 64);
                let differs = |(a, b): (i64, i64)| a.abs_diff(b) > slack as u64;
                let is_other = differs((found.0, told.0)) || differs((found.1, told.1));
                let is_due = elapsed.saturating_sub(self.told_at) >= TELL_NS;
                (is_more || (is_other && is_due)).then_some(found)
            }
        }
    }

    /// The bounds by which what the host notes is dated. None where the source is not behind.
    pub fn bounds(&self) -> Option<Bounds> {
        let (low, high) = self.told?;
        // What was told in another session may not hold any more.
        Some((low, if self.is_of_session { high } else { high.max(0) }))
    }

    /// Whether something is to be told.
    #[inline]
    pub const fn has_news(&self) -> bool {
        self.news.is_some()
    }

    /// Takes out what is to be told.
    fn take_news(&mut self, elapsed: i64) -> Option<Bounds> {
        let news = self.news.take()?;
        self.told = (news != (0, 0)).then_some(news);
        (self.told_at, self.is_of_session) = (elapsed, true);
        self.is_certain = self.samples.len() >= CERTAIN;
        Some(news)
    }

    /// The start of a gap that the recorder noted, `start` where it is the first that is told of
    /// it: what ends a gap names it by the same.
    pub fn start_of(&mut self, gap: &Marker, start: i64) -> i64 {
        let key = (gap.header.instrument, gap.channel, gap.cause, gap.ts_start);
        if gap.state != GapState::Open as u8 {
            return self.open.remove(&key).unwrap_or(start);
        }
        if self.open.len() >= OPEN_MOST {
            self.open.pop_first();
        }
        *self.open.entry(key).or_insert(start)
    }

    /// A session ends: the next one shows by itself how far it is behind.
    pub fn renew(&mut self) {
        (self.is_of_session, self.is_certain, self.news) = (false, false, None);
        self.forget();
    }

    /// Receive times are those of another clock from here on.
    pub fn forget(&mut self) {
        self.samples.clear();
        (self.next, self.due) = (0, i64::MIN);
    }

    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.told.is_none() && self.open.is_empty()
    }

    /// Writes all to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.samples.len());
        self.samples.iter().for_each(|&off| state.i64(off));
        state.length(self.next);
        state.i64(self.due);
        for bounds in [self.told, self.news] {
            state.flag(bounds.is_some());
            let (low, high) = bounds.unwrap_or_default();
            state.i64(low);
            state.i64(high);
        }
        state.i64(self.told_at);
        state.flag(self.is_of_session);
        state.flag(self.is_certain);
        state.length(self.open.len());
        for (&(instrument, channel, cause, noted), &start) in &self.open {
            state.u32(instrument);
            state.u8(channel);
            state.u8(cause);
            state.i64(noted);
            state.i64(start);
        }
    }

    /// Reads all from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut found = Self::default();
        for _ in 0..state.length(8)? {
            found.samples.push(state.i64()?);
        }
        found.samples.truncate(SAMPLES);
        found.next = state.length(0)? % SAMPLES;
        found.due = state.i64()?;
        for bounds in [&mut found.told, &mut found.news] {
            let is_known = state.flag()?;
            let known = (state.i64()?, state.i64()?);
            *bounds = is_known.then_some(known);
        }
        found.told_at = state.i64()?;
        found.is_of_session = state.flag()?;
        found.is_certain = state.flag()?;
        for _ in 0..state.length(22)? {
            let key = (state.u32()?, state.u8()?, state.u8()?, state.i64()?);
            found.open.insert(key, state.i64()?);
        }
        Ok(found)
    }
}

impl Arbiter {
    /// Takes in the time of an event that is passed on.
    #[inline]
    pub(super) fn note_time(&mut self, event: &Event) {
        if event.is_live && event.is_timed() && event.rule != Rule::Window {
            self.streams.clock.agree(event.ts_event, event.ts_recv, self.elapsed);
            self.streams.delay.note(event.ts_event.wrapping_sub(event.ts_recv), self.elapsed);
            let anchor = self.streams.clock.anchor().unwrap_or(0);
            self.lateness.note(event, anchor, self.elapsed);
        }
    }

    /// Receive times are those of another clock from here on.
    pub(super) fn forget_clock(&mut self) {
        self.streams.clock.forget();
        self.streams.delay.forget();
        self.lateness.forget();
    }

    /// Takes in the time that the venue told in an answer that was just received. It serves until
    /// the first event shows it, whose time would otherwise have to wait for others that agree.
    pub fn tell_time(&mut self, time: Option<i64>) {
        if let Some(time) = time {
            self.streams.clock.tell(time, self.ts_recv);
        }
    }

    /// How far ahead of their receipt events are, at least and at most, for dating what was lost.
    pub(super) fn venue_range(&self) -> Option<Bounds> {
        self.streams.delay.bounds().or_else(|| self.streams.clock.range())
    }

    /// Tells how far the source is behind.
    #[cold]
    pub(super) fn tell_delay(&mut self, out: &mut Records) {
        let Some((low, high)) = self.streams.delay.take_news(self.elapsed) else { return };
        out.push(&Marker {
            header: Header {
                feed: self.feed.number(),
                ts_event: self.ts_recv.saturating_add(low),
                ts_recv: self.ts_recv,
                ..Header::of::<Marker>()
            },
            code: MarkerCode::Delay as u8,
            cause: 0,
            state: u8::from(!self.streams.delay.is_certain),
            channel: Channel::Session as u8,
            count: 0,
            first: high.min(0).unsigned_abs(),
            last: low.min(0).unsigned_abs(),
            ts_start: NONE,
        });
    }

    /// The marker with its times on the venue's clock, as far as that is known: books and bars are
    /// looked up by it. The session knows the host's clock alone. A gap is as long as the
    /// difference of the clocks, and the delay of the source, leave open, as what it lacks must lie
    /// within it. A repair names a gap by its times, which are of the venue's clock already.
    pub(super) fn in_venue_time(&mut self, mut marker: Marker) -> Marker {
        let is_gap = marker.code == MarkerCode::Gap as u8;
        if is_gap && marker.state == GapState::Repaired as u8 {
            return marker;
        }
        let shift = |ts: i64, by: i64| if ts == NONE { ts } else { ts.saturating_add(by) };
        let (low, high) = self.venue_range().unwrap_or((0, 0));
        let ts = marker.header.ts_event;
        if is_gap {
            let start = shift(marker.ts_start, self.lateness.low(marker.channel, low));
            marker.ts_start = self.streams.delay.start_of(&marker, start);
            marker.header.ts_event = shift(ts, self.lateness.high(marker.channel, high));
            return marker;
        }
        let by = match self.streams.delay.told {
            // What a connection brings happened from then on at the latest.
            Some((_, high)) if marker.code == MarkerCode::Connected as u8 => high,
            Some((low, _)) => low,
            None => self.streams.clock.ahead().unwrap_or(0),
        };
        marker.header.ts_event = shift(ts, by);
        marker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// A delay by events that are this far from their receipts, one a second.
    fn delay(offs: impl IntoIterator<Item = i64>) -> SourceDelay {
        let mut delay = SourceDelay::default();
        for (at, off) in offs.into_iter().enumerate() {
            let elapsed = at as i64 * SECOND;
            delay.note(off, elapsed);
            delay.take_news(elapsed);
        }
        delay
    }

    #[test]
    fn a_delay_is_that_of_the_middle_events() {
        // A quarter of an hour, more or less; one event of 20 is a day behind, or is not behind.
        let lie = |at: i64| [-86_000, 0][at as usize % 2] * SECOND;
        let off = |at: i64| if at % 20 == 7 { lie(at / 20) } else { -(900 + at % 3) * SECOND };
        for count in [40, 400] {
            let (low, high) = delay((0..count).map(off)).bounds().unwrap();
            assert!((-905 * SECOND..=-902 * SECOND).contains(&low), "{low}");
            assert!((-900 * SECOND..=-897 * SECOND).contains(&high), "{high}");
        }
        // While they are few, the receipt is possible as well.
        let (low, high) = delay((0..4).map(off)).bounds().unwrap();
        assert!(low < -902 * SECOND && high == 0);
    }

    #[test]
    fn events_that_lie_make_no_delay_and_hide_none() {
        // One event in time is an hour behind, at each place; then a source that is behind no more.
        for at in 0..40 {
            let found = delay((0..40).map(|it| if it == at { -3_600 * SECOND } else { 0 }));
            assert_eq!(found.bounds(), None, "{at}");
        }
        let (late, live) = ((0..200).map(|_| -900 * SECOND), (0..200).map(|_| -SECOND / 50));
        assert_eq!(delay(late.chain(live)).bounds(), None);
    }

    #[test]
    fn a_recording_of_the_past_that_is_played_back_is_no_delay() {
        assert_eq!(delay((0..200).map(|at| (at * 60 - 3 * 86_400) * SECOND)).bounds(), None);
    }

    #[test]
    fn a_server_that_is_caught_up_with_is_followed() {
        // Six hours behind, and a minute less each second: never less behind than it is.
        let mut delay = SourceDelay::default();
        for at in 0..360 {
            let off = (at * 59 - 6 * 3_600) * SECOND;
            delay.note(off.min(0), at * SECOND);
            delay.take_news(at * SECOND);
            if let Some((low, _)) = delay.bounds() {
                assert!(low <= off, "{at}");
            }
        }
    }

    #[test]
    fn a_session_shows_by_itself_what_another_told() {
        // Behind, then another session of which nothing came yet, and which is not behind.
        let mut delay = delay((0..40).map(|_| -900 * SECOND));
        delay.renew();
        assert!(delay.bounds().is_some_and(|(low, high)| low < -900 * SECOND && high == 0));
        for at in 40..60 {
            delay.note(0, at * SECOND);
            delay.take_news(at * SECOND);
        }
        assert_eq!(delay.bounds(), None);
    }
}
