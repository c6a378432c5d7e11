//! Whether an event can be what it says, given its receipt and the events before it.

use super::event::Event;
use super::lines::Line;
use super::streams::{Stream, Streams, Verdict, SEEN};
use crate::error::DecodeReason;
use crate::record::{Channel, NONE};
use crate::sequencing::Rule;

const NS_PER_S: i64 = 1_000_000_000;
/// An event may say that it happens so much after what it is compared with.
pub const AHEAD_NS: i64 = 60 * NS_PER_S;
/// An event may say that it happened so much before what it is compared with.
pub(super) const BEHIND_NS: i64 = 86_400 * NS_PER_S;
/// A window of the venue may have begun so long ago: a month, and what a venue is late.
const WINDOW_NS: i64 = 40 * 86_400 * NS_PER_S;
/// A step of a sequence is usual up to so many bits more than the largest before it.
pub(super) const USUAL_BITS: u8 = 10;
/// Sequences that one instrument can use up in a second.
const TRADES_PER_S: u64 = 1_000;
/// The same for updates, whose ids a venue may share between instruments.
const UPDATES_PER_S: u64 = 1_000_000;
/// Steps may be as large as if so much more time had passed.
const SLACK_S: u64 = 4;

/// Whether `ts` can be the time of an event that is compared with the time `other`. An absent time
/// says nothing.
#[inline]
pub(super) const fn is_near(ts: i64, other: i64) -> bool {
    let off = ts.wrapping_sub(other).wrapping_add(BEHIND_NS) as u64;
    off <= (BEHIND_NS + AHEAD_NS) as u64 || ts == NONE
}

/// Whether an event names one before it that comes after it.
pub(super) const fn is_contrary(event: &Event) -> bool {
    matches!(event.rule, Rule::Contiguous) && event.previous >= event.sequence
}

impl Streams {
    /// Whether the time of an event is one that it can have by its receipt: see [`VenueClock`].
    /// Windows tell their start, which may be long ago.
    ///
    /// [`VenueClock`]: super::venue_clock::VenueClock
    pub fn is_in_time(&self, event: &Event) -> bool {
        let (ts, recv) = (event.ts_event, event.ts_recv);
        if event.rule == Rule::Window {
            return self.clock.has_begun(ts, recv, WINDOW_NS);
        }
        self.clock.may_fit(ts, recv)
    }

    /// Whether an event is one of a venue that plays back faster than time: all that it sends runs
    /// ahead. Its place in its stream is that of its sequence, and nothing remembers more of its
    /// time than its receipt allows.
    pub fn is_played_back(&self, event: &Event) -> bool {
        let is_sequenced = matches!(event.rule, Rule::Contiguous | Rule::Rising);
        is_sequenced
            && event.channel != Channel::Mark as u8
            && self.clock.plays_back()
            && self.clock.is_modest(event.ts_event, event.ts_recv)
    }

    /// Whether a sequence is further ahead than can have been used up since the last event.
    pub fn is_far(&self, place: usize, event: &Event) -> bool {
        let stream = self.known(place);
        if event.channel == Channel::Mark as u8 {
            // Its sequence is its time, which was looked at.
            return false;
        }
        let step = event.sequence.saturating_sub(stream.last);
        let per_s = if event.is_trade() { TRADES_PER_S } else { UPDATES_PER_S };
        let elapsed_s = event.ts_event.saturating_sub(stream.ts_last).max(0) / NS_PER_S;
        let used_up = per_s.saturating_mul((elapsed_s as u64).saturating_add(SLACK_S));
        let is_usual = step.max(1).ilog2() <= u32::from(stream.stride) + u32::from(USUAL_BITS);
        !is_usual && step > used_up
    }

    /// A snapshot far ahead of the changes of its book would never be reached by them.
    pub(super) fn judge_snapshot(&mut self, event: &Event) -> Verdict {
        let place = self.place(event.instrument, Channel::Depth as u8);
        let stream = *self.at(place);
        let ahead = event.sequence.saturating_sub(stream.last);
        let elapsed_s = event.ts_event.saturating_sub(stream.ts_last).max(0) / NS_PER_S;
        let used_up = UPDATES_PER_S.saturating_mul((elapsed_s as u64).saturating_add(60));
        if stream.state & SEEN != 0 && event.channel == Channel::Snapshot as u8 && ahead > used_up {
            return Verdict::Suspect(DecodeReason::ImplausibleSequence);
        }
        Verdict::Pass
    }
}

/// Whether the venue counts anew: a lower sequence is later than all that was seen, or comes
/// on the very line that brought a higher one. A line that is behind does neither.
pub(super) fn steps_back(stream: &Stream, event: &Event, line: Line) -> bool {
    if event.sequence >= stream.last {
        return false;
    }
    let is_later = event.ts_event > stream.ts_last;
    let same_line = line.serial == stream.line && event.ts_event >= stream.ts_last;
    (event.is_timed() && is_later) || same_line
}
