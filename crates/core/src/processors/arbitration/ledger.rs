//! What the arbiter declares: gaps, repairs, resets and outages.

use super::event::Event;
use super::streams::{self, Stream, OUTAGE, STALE, UNDECODED};
use super::{Arbiter, Repair};
use crate::record::{GapCause, GapState, Header, Marker, MarkerCode, Records, NONE};
use crate::sequencing::Rule;

impl Arbiter {
    pub(super) fn marker(&self, place: usize, cause: GapCause, state: GapState) -> Marker {
        Marker {
            header: Header {
                feed: self.feed.number(),
                instrument: (place / streams::CHANNELS) as u32,
                ..Header::of::<Marker>()
            },
            code: MarkerCode::Gap as u8,
            cause: cause as u8,
            state: state as u8,
            channel: (place % streams::CHANNELS) as u8,
            count: u32::MAX,
            first: 0,
            last: 0,
            ts_start: NONE,
        }
    }

    pub(super) fn declare_gap(&mut self, place: usize, event: &Event, now: i64, out: &mut Records) {
        let stream = *self.streams.at(place);
        let (first, last) = (stream.last.saturating_add(1), event.previous);
        let mut gap = self.marker(place, GapCause::Sequence, GapState::Closed);
        (gap.first, gap.last, gap.ts_start) = (first, last, stream.ts_last);
        gap.count = self.count_missing(&stream, event);
        gap.header.ts_event = event.ts_event;
        gap.header.ts_recv = now;
        gap.header.sequence = event.sequence;
        out.push(&gap);
        self.streams.miss(place, first, last);
        self.counts.gap(event.channel);
    }

    /// A gap of which nothing is known but when it was: the venue began to count anew. It covers
    /// all that was dropped by then.
    pub(super) fn declare_reset(&mut self, place: usize, event: &Event, out: &mut Records) {
        let mut gap = self.marker(place, GapCause::Reset, GapState::Closed);
        // Where the last event was one of those that led the stream astray, its time may be, too.
        let stream = *self.streams.at(place);
        gap.ts_start = stream.ts_last.min(event.ts_event);
        if stream.state & STALE != 0 {
            gap.ts_start = gap.ts_start.min(self.streams.trouble(place).stale.ts_first);
        }
        gap.header.ts_event = event.ts_event;
        if event.rule == Rule::Window {
            // Its time is that of the window's start; what was dropped is later.
            let now = event.ts_recv.saturating_add(self.streams.clock.ahead().unwrap_or(0));
            gap.header.ts_event = now.max(event.ts_event);
        }
        gap.header.ts_recv = event.ts_recv;
        gap.header.sequence = event.sequence;
        out.push(&gap);
        self.counts.gap(event.channel);
    }

    pub(super) fn note_repair(&mut self, place: usize, event: &Event, out: &mut Records) {
        if let Some(run) = &mut self.repair {
            if run.place == place && run.last.saturating_add(1) == event.sequence {
                run.last = event.sequence;
                run.ts_last = event.ts_event;
                return;
            }
            self.declare_repair(out);
        }
        self.repair = Some(Repair {
            place,
            first: event.sequence,
            last: event.sequence,
            ts_first: event.ts_event,
            ts_last: event.ts_event,
            ts_recv: event.ts_recv,
        });
    }

    pub(super) fn declare_repair(&mut self, out: &mut Records) {
        let Some(run) = self.repair.take() else { return };
        let mut gap = self.marker(run.place, GapCause::Sequence, GapState::Repaired);
        (gap.first, gap.last, gap.ts_start) = (run.first, run.last, run.ts_first);
        gap.count = u32::try_from(run.last - run.first + 1).unwrap_or(u32::MAX - 1);
        gap.header.ts_event = run.ts_last;
        gap.header.ts_recv = run.ts_recv;
        gap.header.sequence = run.last;
        out.push(&gap);
        self.counts.repaired += u64::from(gap.count);
    }

    /// No line carries `group` (or anything) any more: its streams are declared to be losing, as
    /// none of them may ever speak again. Where the recorder stopped in good order, that is `told`
    /// only once it records again: until then nothing was meant to be recorded, and streams that
    /// show their losses by sequence show what they missed by then.
    pub(super) fn begin_outage(
        &mut self,
        group: Option<u16>,
        cause: &Marker,
        told: bool,
        out: &mut Records,
    ) {
        let rules = self.feed.rules;
        let losing: Vec<_> = self
            .streams
            .seen()
            .filter(|(_, _, channel, stream)| {
                let can_tell = match rules.of(*channel) {
                    Rule::Rising | Rule::Window | Rule::Alike => true,
                    Rule::Contiguous => told,
                    Rule::Snapshot | Rule::Free => false,
                };
                can_tell
                    && stream.state & OUTAGE == 0
                    && group.is_none_or(|group| group == stream.group)
            })
            .map(|(place, _, _, stream)| (place, stream.ts_last))
            .collect();
        for (place, ts_last) in losing {
            let mut gap = self.marker(place, GapCause::Disconnect, GapState::Open);
            gap.ts_start = ts_last;
            gap.header.ts_event = cause.header.ts_event.max(ts_last);
            gap.header.ts_recv = cause.header.ts_recv;
            self.streams.at(place).state |= OUTAGE;
            if told {
                out.push(&gap);
                self.counts.gap((place % streams::CHANNELS) as u8);
            }
        }
    }

    /// The first event after an outage tells how long it was, and, where events name the one
    /// before them, how many are missing. `before` is the stream as it stood until then.
    pub(super) fn end_outage(
        &mut self,
        place: usize,
        before: &Stream,
        event: &Event,
        out: &mut Records,
    ) {
        if !event.is_live || event.rule == Rule::Free {
            return;
        }
        if self.streams.at(place).state & UNDECODED != 0 {
            self.end_undecoded(place, before, event, out);
        }
        let stream = self.streams.at(place);
        if stream.state & OUTAGE == 0 {
            return;
        }
        stream.state &= !OUTAGE;
        let mut gap = self.marker(place, GapCause::Disconnect, GapState::Closed);
        gap.ts_start = before.ts_last;
        gap.header.ts_event = event.ts_event.max(before.ts_last);
        gap.header.ts_recv = event.ts_recv;
        gap.header.sequence = event.sequence;
        if event.rule == Rule::Contiguous && event.sequence > before.last {
            gap.count = self.count_missing(before, event);
        }
        out.push(&gap);
    }

    /// How many events are missing between `stream` and `event`; `u32::MAX` if that cannot be told.
    fn count_missing(&self, stream: &Stream, event: &Event) -> u32 {
        // Update ids of futures are shared between instruments: how many of this one are missing
        // cannot be told. Those of trades and of spot books have no holes.
        let missing = event.previous.saturating_sub(stream.last);
        if missing == 0 || event.is_trade() || self.feed.counts_updates {
            u32::try_from(missing).unwrap_or(u32::MAX - 1)
        } else {
            u32::MAX
        }
    }
}
