//! How far the venue's clock is ahead of that of receipt, and which times an event can so have.
//!
//! The receive time bounds the event time, never the event before it: what happened cannot have
//! been received before. The two clocks may differ, so the first events of a session set the
//! anchor: no difference where they are near their receipt, else the one in which several agree.
//! From then on the bound is fixed. What the events show moves it by a minute at most, and by
//! little each, so that a few that lie move nothing. The next session begins with what is known;
//! until an event of it agrees, others that agree with each other set the clock. A venue of which
//! dozens of events more are further ahead than in time plays back faster than time: its
//! sequenced events are passed on where they are, up to twenty minutes off, and move no bound.
//!
//! In a capture that is imported, the receive times are those of the capture; where it has none,
//! the event times stand for them, as far as those around them agree. Such receipts are flagged as
//! suspect, as are those of a host whose clock is being put right: then the anchor follows the
//! events, by a quarter of the time that passes.

use super::plausible::{is_near, AHEAD_NS, BEHIND_NS};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

/// An event may be so far ahead of its receipt by the venue's clock, in ns.
const SLACK_NS: i64 = 5_000_000_000;
/// What came by a receipt is so far ahead of it at most, in ns.
const MARGIN_NS: i64 = 1_000_000_000;
/// One event moves what is known of the difference by this at most, in ns.
const STEP_NS: i64 = 50_000_000;
/// Where so many more events are further ahead than can be than are in time, of whatever streams,
/// the venue plays back faster than time.
const PLAYED_BACK: u32 = 48;
/// The events of one stream that agree on a time this far off are passed on, in ns, and those of a
/// venue that plays back.
const MODEST_NS: i64 = 1_200_000_000_000;
/// Where no event was in time for so long, in ns, those that agree on another time set the clock.
const QUIET_NS: i64 = 30_000_000_000;

/// What is known of the difference between two clocks in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VenueClock {
    /// The difference by which times are judged. None before the first events.
    anchor: Option<i64>,
    /// The difference that events show on average, a minute from the anchor at most.
    ahead: i64,
    /// The difference by what the venue told of its time, for as long as no event showed it.
    told: Option<i64>,
    /// When an event was last in time, on the arbiter's own clock.
    agreed: i64,
    /// Whether the receive times are suspect, and since when the anchor did not follow.
    drifts: Option<i64>,
    /// How many more events were further ahead than can be than in time, of late.
    beyond: u32,
}

/// When no event agreed yet.
const NEVER: i64 = i64::MIN;

impl Default for VenueClock {
    fn default() -> Self {
        Self { anchor: None, ahead: 0, told: None, agreed: NEVER, drifts: None, beyond: 0 }
    }
}

impl VenueClock {
    /// How far the venue is ahead, for dating what the host itself noted.
    pub const fn ahead(&self) -> Option<i64> {
        match self.anchor {
            Some(_) => Some(self.ahead),
            None => None,
        }
    }

    /// How far the venue is ahead, as it was when its first events came.
    #[inline]
    pub const fn anchor(&self) -> Option<i64> {
        self.anchor
    }

    /// The least and the most that the venue may be ahead, by what its events showed.
    pub fn range(&self) -> Option<(i64, i64)> {
        self.anchor.map(|anchor| (anchor.min(self.ahead), anchor.max(self.ahead)))
    }

    /// The most that an event is taken to be ahead of its receipt by the clocks alone.
    #[inline]
    fn lead(&self) -> i64 {
        self.anchor.map_or(0, |anchor| anchor.max(self.ahead))
    }

    /// Whether `ts` can be the time of an event received at `recv`.
    #[inline]
    pub fn fits(&self, ts: i64, recv: i64) -> bool {
        let Some(anchor) = self.anchor else {
            return is_near(ts, recv);
        };
        let off = ts.wrapping_sub(recv);
        (off >= anchor - BEHIND_NS && off <= anchor.max(self.ahead) + SLACK_NS) || ts == NONE
    }

    /// The same for an event that does not simply follow: by the host's clock, or by what the venue
    /// told, it may be in time as well.
    pub fn may_fit(&self, ts: i64, recv: i64) -> bool {
        let by_host = Self { anchor: self.anchor.and(Some(0)), ..Self::default() };
        let by_told = || {
            let told = self.told.filter(|_| self.agreed == NEVER);
            told.is_some_and(|told| is_near(ts, recv.saturating_add(told)))
        };
        self.fits(ts, recv) || by_host.fits(ts, recv) || by_told()
    }

    /// Whether a window of the venue that began at `open` can be told of at `recv`. It may have
    /// begun `longest` ago.
    pub fn has_begun(&self, open: i64, recv: i64, longest: i64) -> bool {
        let slack = if self.anchor.is_none() { AHEAD_NS } else { SLACK_NS };
        let begun = |lead: i64| {
            let off = open.saturating_sub(recv).saturating_sub(lead);
            (-longest..=slack).contains(&off)
        };
        let told = self.told.filter(|_| self.agreed == NEVER);
        begun(0) || begun(self.lead()) || told.is_some_and(begun) || open == NONE
    }

    /// The newest time by the venue's clock that can have come by `recv`.
    pub fn now(&self, recv: i64) -> i64 {
        recv.saturating_add(self.lead()).saturating_add(MARGIN_NS)
    }

    /// The time of an event as a stream remembers it: of one that is ahead, that of its receipt.
    /// What is lost behind it is looked for from there on.
    #[inline]
    pub fn bounded(&self, ts: i64, recv: i64) -> i64 {
        ts.min(recv.wrapping_add(self.lead()))
    }

    /// How far the remembered time of an event can be ahead of when it happened.
    pub fn margin(&self) -> i64 {
        let (low, high) = self.range().unwrap_or((0, 0));
        MARGIN_NS + high.saturating_sub(low)
    }

    /// Takes in an event that was in time, at `elapsed` on the arbiter's own clock.
    #[inline]
    pub fn agree(&mut self, ts: i64, recv: i64, elapsed: i64) {
        let off = ts.wrapping_sub(recv);
        let Some(anchor) = self.anchor else {
            return self.begin(off, elapsed);
        };
        if self.beyond > 0 {
            if self.is_beyond(ts, recv) {
                return self.count_beyond(ts, recv);
            }
            self.beyond -= 1;
        }
        let step = ((off - self.ahead) / 8).clamp(-STEP_NS, STEP_NS);
        let low = anchor - AHEAD_NS;
        let high = anchor + AHEAD_NS;
        if off >= low {
            self.ahead = (self.ahead + step).clamp(low, high);
            self.agreed = elapsed;
        } else {
            self.doubt(off, elapsed);
        }
        if self.drifts.is_some() {
            self.drift(off, elapsed);
        }
    }

    /// The first event of a session.
    #[cold]
    fn begin(&mut self, off: i64, elapsed: i64) {
        let anchor = if (-BEHIND_NS..=AHEAD_NS).contains(&off) { 0 } else { off };
        self.set(anchor, elapsed);
        self.ahead = off.clamp(anchor - AHEAD_NS, anchor + AHEAD_NS);
    }

    /// An event that is in time and far behind: it was held up, or is by the host's clock where the
    /// venue's was taken to be another.
    #[cold]
    fn doubt(&mut self, off: i64, elapsed: i64) {
        let is_of_host = self.anchor != Some(0) && (-BEHIND_NS..=SLACK_NS).contains(&off);
        if is_of_host && self.is_quiet(elapsed) {
            self.begin(off, elapsed);
        } else if !is_of_host {
            self.agreed = elapsed;
        }
    }

    /// The anchor follows an event while the clock of the host is put right.
    #[cold]
    fn drift(&mut self, off: i64, elapsed: i64) {
        let since = self.drifts.replace(elapsed).unwrap_or(elapsed);
        let room = (elapsed - since).max(0) / 4;
        if let Some(anchor) = &mut self.anchor {
            *anchor += (off - *anchor).clamp(-room, room);
        }
    }

    /// Says whether the receive times are suspect from here on.
    #[cold]
    pub fn suspect(&mut self, is_suspect: bool, elapsed: i64) {
        self.drifts = is_suspect.then_some(elapsed);
    }

    /// Whether receive times are suspect.
    #[inline]
    pub const fn is_suspect(&self) -> bool {
        self.drifts.is_some()
    }

    /// Takes in the time that the venue told in an answer received at `recv`.
    pub fn tell(&mut self, time: i64, recv: i64) {
        self.told = Some(time.saturating_sub(recv));
    }

    /// Events agree that the venue is `off` ahead.
    pub fn set(&mut self, off: i64, elapsed: i64) {
        // Not so close to the ends that sums of it run over.
        let off = off.clamp(i64::MIN / 4, i64::MAX / 4);
        (self.anchor, self.ahead, self.agreed) = (Some(off), off, elapsed);
        self.beyond = 0;
    }

    /// The clock of this host was set: the next events show the difference anew.
    pub fn forget(&mut self) {
        (self.anchor, self.agreed, self.beyond) = (None, NEVER, 0);
    }

    /// A session ends.
    pub fn renew(&mut self) {
        (self.told, self.drifts, self.agreed, self.beyond) = (None, None, NEVER, 0);
    }

    /// Whether the difference is known.
    pub const fn is_set(&self) -> bool {
        self.anchor.is_some()
    }

    /// Whether no event was in time for a while.
    pub const fn is_quiet(&self, elapsed: i64) -> bool {
        elapsed.saturating_sub(self.agreed) >= QUIET_NS
    }

    /// Whether an event is off by no more than a venue's clock may honestly be.
    pub fn is_modest(&self, ts: i64, recv: i64) -> bool {
        ts.saturating_sub(recv).abs_diff(self.anchor.unwrap_or(0)) <= MODEST_NS as u64
    }

    /// Whether an event is further ahead than can be.
    #[inline]
    fn is_beyond(&self, ts: i64, recv: i64) -> bool {
        self.anchor.is_some() && ts.saturating_sub(recv) > self.lead() + SLACK_NS
    }

    /// Counts an event that is further ahead than can be, though it is no other year's.
    pub fn count_beyond(&mut self, ts: i64, recv: i64) {
        if self.is_beyond(ts, recv) && self.is_modest(ts, recv) {
            self.beyond = (self.beyond + 1).min(2 * PLAYED_BACK);
        }
    }

    /// How many more events were further ahead than can be than in time, of late.
    pub const fn beyond(&self) -> u32 {
        self.beyond
    }

    /// Whether the venue plays back faster than time: of late, nearly nothing was in time. Those
    /// that are end it one by one, so that no few that lie among true ones are taken for it; of two
    /// lines that play back, one may begin while the other is ahead.
    pub const fn plays_back(&self) -> bool {
        self.beyond >= PLAYED_BACK
    }

    /// Writes it to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        for known in [self.anchor, self.told, self.drifts] {
            state.flag(known.is_some());
            state.i64(known.unwrap_or(0));
        }
        state.i64(self.ahead);
        state.i64(self.agreed);
        state.u32(self.beyond);
    }

    /// Reads it from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut known = [None; 3];
        for one in &mut known {
            let is_known = state.flag()?;
            let value = state.i64()?;
            *one = is_known.then_some(value);
        }
        let [anchor, told, drifts] = known;
        let (ahead, agreed, beyond) = (state.i64()?, state.i64()?, state.u32()?);
        Ok(Self { anchor, told, drifts, ahead, agreed, beyond })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn events_that_step_ahead_move_no_bound() {
        // Each is as far ahead as is let through: after ten thousand of them the bound is a minute
        // and the slack from the receipt, and one true event in ten keeps it far below that.
        for (honest, most) in [(0, 66), (10, 12)] {
            let mut clock = VenueClock::default();
            clock.agree(0, 0, 0);
            for at in 0..10_000_i64 {
                let lie = clock.ahead + SLACK_NS;
                if clock.fits(lie, 0) {
                    clock.agree(lie, 0, at);
                }
                for _ in 0..honest {
                    clock.agree(-SECOND / 100, 0, at);
                }
            }
            assert!(!clock.fits(most * SECOND, 0), "{clock:?}");
            assert!(clock.fits(0, 0) && clock.fits(-3600 * SECOND, 0));
        }
    }

    #[test]
    fn what_a_stream_remembers_is_never_behind_what_was_lost() {
        // One event tells four seconds ahead, which is let through: a cut right behind it begins
        // no later than by what the others show, also where the venue's clock is ahead.
        for ahead in [0, 30 * SECOND] {
            let mut clock = VenueClock::default();
            for at in 0..50 {
                clock.agree(at * SECOND + ahead, at * SECOND, at * SECOND);
            }
            let (recv, lie) = (50 * SECOND, 54 * SECOND + ahead);
            assert!(clock.fits(lie, recv));
            let remembered = clock.bounded(lie, recv);
            assert!((0..SECOND / 10).contains(&(remembered - recv - ahead)), "{clock:?}");
        }
    }

    #[test]
    fn clock_of_a_host_that_is_put_right_is_followed() {
        // Receive times go at seven eighths for two hours, flagged as suspect.
        let mut clock = VenueClock::default();
        clock.agree(0, 0, 0);
        clock.suspect(true, 0);
        for at in 1..7_200_i64 {
            let (ts, recv) = (at * SECOND, at * SECOND / 8 * 7);
            assert!(clock.fits(ts, recv), "{at} {clock:?}");
            clock.agree(ts, recv, recv);
        }
    }
}
