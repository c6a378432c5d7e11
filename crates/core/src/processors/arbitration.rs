//! Which of the decoded events go on: the first copy of each, in order, with every loss declared.
//!
//! Per (instrument, channel) the sequence of the last event is known. A repeat is dropped. When a
//! sequence jumps and another open line may still bring what is missing, later events wait for it,
//! at most `hold_ms` on the clock of `ts_recv`; then the loss is declared. What comes after it was
//! declared lost is passed on as out of order (trades), or dropped (changes of a book, which has
//! moved on). Streams without a sequence lose events only while no line carries them: that outage
//! is declared instead.
//!
//! Everything is decided from the blobs alone, so that the same raw tape gives the same records.

use crate::error::Result;
use crate::record::{
    Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain, Records, FLAG_OUT_OF_ORDER,
    NONE, SESSION_ENDS,
};

pub mod counts;
pub mod event;
pub mod hold;
pub mod lines;
pub mod ranges;
pub mod streams;

use self::counts::Counts;
use self::event::{Event, Rule};
use self::lines::Lines;
use self::streams::{Streams, Verdict, HOLDING, OUTAGE};
use super::state::{StateReader, StateWriter};

/// A run of missing trades that came in after all.
#[derive(Debug, Clone, Copy)]
struct Repair {
    place: usize,
    first: u64,
    last: u64,
    ts_first: i64,
    ts_last: i64,
    ts_recv: i64,
}

/// How much of what waits is written although it may still be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    Nothing,
    FirstHole,
    All,
}

/// Decides on each event of one feed.
#[derive(Debug)]
pub struct Arbiter {
    feed: u8,
    hold_ns: i64,
    streams: Streams,
    lines: Lines,
    /// Streams in which events wait, in order of start.
    holding: Vec<u32>,
    /// The earliest moment at which a wait ends; `i64::MAX` if nothing waits.
    deadline: i64,
    repair: Option<Repair>,
    /// What was counted so far.
    pub counts: Counts,
}

impl Arbiter {
    /// An arbiter of the feed with that number, which waits `hold_ns` for another line.
    pub fn new(feed: u8, hold_ns: i64) -> Self {
        Self {
            feed,
            hold_ns,
            streams: Streams::default(),
            lines: Lines::default(),
            holding: Vec::new(),
            deadline: i64::MAX,
            repair: None,
            counts: Counts::default(),
        }
    }

    /// How long events wait for another line, in ns.
    pub const fn hold_ns(&self) -> i64 {
        self.hold_ns
    }

    /// Begins a blob that came on `connection` at `ts_recv`: ends the waits that are over by then.
    ///
    /// # Errors
    /// As [`Arbiter::settle`].
    #[inline]
    pub fn enter(&mut self, connection: u16, ts_recv: i64, out: &mut Records) -> Result<()> {
        self.lines.enter(connection);
        if ts_recv >= self.deadline {
            self.release_all(ts_recv, out)?;
        }
        Ok(())
    }

    /// Whether the event simply follows, and stays where it is.
    #[inline]
    pub fn follows(&mut self, event: &Event) -> bool {
        let follows = self.streams.follows(event, self.lines.group());
        if follows {
            self.counts.pass(event);
        }
        follows
    }

    /// Decides on an event that does not simply follow, and writes to `out` what goes on.
    ///
    /// # Errors
    /// `Error::Invalid`: `bytes` are not whole records.
    pub fn settle(&mut self, event: &Event, bytes: &[u8], out: &mut Records) -> Result<()> {
        let place = self.streams.place(event.instrument, event.channel);
        match self.streams.judge(place, event, bytes, self.lines.group()) {
            Verdict::Pass => {
                self.end_outage(place, event, out);
                self.write(event, bytes, 0, out)?;
                if self.streams.at(place).state & HOLDING != 0 {
                    self.release(place, event.ts_recv, Force::Nothing, out)?;
                }
            }
            Verdict::Fill => {
                self.note_repair(place, event, out);
                self.write(event, bytes, FLAG_OUT_OF_ORDER, out)?;
            }
            Verdict::Early => self.write(event, bytes, FLAG_OUT_OF_ORDER, out)?,
            Verdict::Duplicate => self.counts.duplicate(event.channel),
            Verdict::Late => self.counts.late(event.channel),
            Verdict::Jump => self.jump(place, event, bytes, out)?,
            Verdict::Reset => {
                self.release(place, event.ts_recv, Force::All, out)?;
                self.end_outage(place, event, out);
                self.declare_reset(place, event, out);
                self.streams.reset(place, event);
                self.write(event, bytes, 0, out)?;
            }
        }
        Ok(())
    }

    /// Ends a blob: declares what it repaired.
    #[inline]
    pub fn finish(&mut self, out: &mut Records) {
        if self.repair.is_some() {
            self.declare_repair(out);
        }
    }

    /// Takes in a record that the session itself wrote, and passes it on.
    ///
    /// # Errors
    /// `Error::Invalid`: `bytes` are not one whole record.
    pub fn session(&mut self, bytes: &[u8], out: &mut Records) -> Result<()> {
        let marker = Marker::read_from(bytes).filter(|_| bytes[1] == crate::Kind::Marker as u8);
        let code = marker.and_then(|marker| MarkerCode::try_from(marker.code).ok());
        let (Some(marker), Some(code)) = (marker, code) else {
            return out.extend_from_bytes(bytes);
        };
        let connection = marker.first as u16;
        match code {
            MarkerCode::Connected => {
                if self.lines.is_live(connection) {
                    // The recorder was killed, and counts its connections anew.
                    self.end_session(&marker, true, out)?;
                }
                self.lines.connect(connection, marker.last as u16);
                out.extend_from_bytes(bytes)
            }
            MarkerCode::Disconnected => {
                let ended = self.lines.disconnect(connection);
                self.release_all(marker.header.ts_recv, out)?;
                out.extend_from_bytes(bytes)?;
                if let Some(group) = ended {
                    self.begin_outage(Some(group), &marker, marker.state != SESSION_ENDS, out);
                }
                Ok(())
            }
            MarkerCode::EndOfSession => {
                out.extend_from_bytes(bytes)?;
                self.end_session(&marker, false, out)
            }
            _ => out.extend_from_bytes(bytes),
        }
    }

    fn end_session(&mut self, marker: &Marker, told: bool, out: &mut Records) -> Result<()> {
        self.lines.clear();
        self.release_all(marker.header.ts_recv, out)?;
        self.begin_outage(None, marker, told, out);
        Ok(())
    }

    fn write(&mut self, event: &Event, bytes: &[u8], flags: u8, out: &mut Records) -> Result<()> {
        let start = out.mark().0;
        out.extend_from_bytes(bytes)?;
        if flags != 0 {
            out.as_bytes_mut(start)[2] |= flags;
        }
        self.counts.pass(event);
        Ok(())
    }

    // Waiting for another line.

    fn jump(&mut self, place: usize, event: &Event, bytes: &[u8], out: &mut Records) -> Result<()> {
        let group = self.lines.group();
        let is_holding = self.streams.at(place).state & HOLDING != 0;
        let is_redundant = self.lines.of(group).nth(1).is_some();
        if !is_holding && (!is_redundant || self.hold_ns == 0) {
            self.declare_gap(place, event, event.ts_recv, out);
            self.streams.pass(place, event);
            return self.write(event, bytes, 0, out);
        }
        let deadline = event.ts_recv.saturating_add(self.hold_ns);
        let connection = self.lines.connection();
        if self.streams.trouble(place).hold.add(event, bytes, connection, deadline) {
            self.counts.held += 1;
        } else {
            self.counts.duplicate(event.channel);
        }
        if !is_holding {
            self.streams.at(place).state |= HOLDING;
            self.holding.push(place as u32);
            self.deadline = self.deadline.min(deadline);
        }
        let is_full = self.streams.trouble(place).hold.is_full();
        let force = if is_full { Force::FirstHole } else { Force::Nothing };
        self.release(place, event.ts_recv, force, out)
    }

    /// Writes what need not wait any more. Where no line is open, nothing does.
    fn release(
        &mut self,
        place: usize,
        now: i64,
        mut force: Force,
        out: &mut Records,
    ) -> Result<()> {
        let instrument = (place / streams::CHANNELS) as u32;
        let group = self.streams.at(place).group;
        loop {
            let last = self.streams.at(place).last;
            let hold = &mut self.streams.trouble(place).hold;
            let Some(first) = hold.first() else {
                hold.clear();
                break;
            };
            let follows = first.previous <= last;
            let is_over = now >= first.deadline || hold.is_past(&self.lines, group);
            if !(follows || is_over || force != Force::Nothing) {
                break;
            }
            let Some(held) = hold.take() else { break };
            let event = held.event(instrument, now);
            if event.sequence <= last {
                self.counts.duplicate(event.channel);
                continue;
            }
            if !follows {
                self.declare_gap(place, &event, now, out);
                if force == Force::FirstHole {
                    force = Force::Nothing;
                }
            }
            self.streams.pass(place, &event);
            self.write(&event, &held.bytes, 0, out)?;
        }
        self.settle_hold(place);
        Ok(())
    }

    /// Brings the list of waits up to date after `place` changed.
    fn settle_hold(&mut self, place: usize) {
        if self.streams.trouble(place).hold.first().is_none() {
            self.drop_hold(place);
        } else {
            self.renew_deadline();
        }
    }

    fn drop_hold(&mut self, place: usize) {
        self.streams.at(place).state &= !HOLDING;
        self.holding.retain(|&held| held as usize != place);
        self.renew_deadline();
    }

    fn renew_deadline(&mut self) {
        let streams = &mut self.streams;
        let ends = self.holding.iter().filter_map(|&place| {
            streams.trouble(place as usize).hold.first().map(|held| held.deadline)
        });
        self.deadline = ends.min().unwrap_or(i64::MAX);
    }

    /// Ends the waits that are over.
    #[cold]
    fn release_all(&mut self, now: i64, out: &mut Records) -> Result<()> {
        for place in self.holding.clone() {
            self.release(place as usize, now, Force::Nothing, out)?;
        }
        Ok(())
    }

    // Declaring what was lost and found.

    fn marker(&self, place: usize, cause: GapCause, state: GapState) -> Marker {
        Marker {
            header: Header {
                feed: self.feed,
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

    fn declare_gap(&mut self, place: usize, event: &Event, now: i64, out: &mut Records) {
        let stream = *self.streams.at(place);
        let (first, last) = (stream.last.saturating_add(1), event.previous);
        let mut gap = self.marker(place, GapCause::Sequence, GapState::Closed);
        (gap.first, gap.last, gap.ts_start) = (first, last, stream.ts_last);
        // Update ids of futures are shared between instruments: how many of this one are missing
        // cannot be told. Those of trades and of spot books have no holes.
        if event.is_trade() || self.feed == crate::FeedId::BinanceSpot as u8 {
            gap.count = u32::try_from(last - first + 1).unwrap_or(u32::MAX - 1);
        }
        gap.header.ts_event = event.ts_event;
        gap.header.ts_recv = now;
        gap.header.sequence = event.sequence;
        out.push(&gap);
        self.streams.miss(place, first, last);
        self.counts.gap(event.channel);
    }

    /// A gap of which nothing is known but when it was: the venue began to count anew.
    fn declare_reset(&mut self, place: usize, event: &Event, out: &mut Records) {
        let mut gap = self.marker(place, GapCause::Sequence, GapState::Closed);
        gap.ts_start = self.streams.at(place).ts_last;
        gap.header.ts_event = event.ts_event;
        gap.header.ts_recv = event.ts_recv;
        gap.header.sequence = event.sequence;
        out.push(&gap);
        self.counts.gap(event.channel);
    }

    fn note_repair(&mut self, place: usize, event: &Event, out: &mut Records) {
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

    fn declare_repair(&mut self, out: &mut Records) {
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

    /// No line carries `group` (or anything) any more: streams that cannot show their losses by
    /// sequence are declared to be losing. Where the recorder stopped in good order, that is `told`
    /// only once it records again: until then nothing was meant to be recorded.
    fn begin_outage(&mut self, group: Option<u16>, cause: &Marker, told: bool, out: &mut Records) {
        let losing: Vec<_> = self
            .streams
            .seen()
            .filter(|(_, _, channel, stream)| {
                Streams::is_silent(*channel)
                    && stream.state & OUTAGE == 0
                    && group.is_none_or(|group| group == stream.group)
            })
            .map(|(place, _, _, stream)| (place, stream.ts_last))
            .collect();
        for (place, ts_last) in losing {
            let mut gap = self.marker(place, GapCause::Disconnect, GapState::Open);
            gap.ts_start = ts_last;
            gap.header.ts_event = cause.header.ts_event;
            gap.header.ts_recv = cause.header.ts_recv;
            let stream = self.streams.at(place);
            stream.state |= OUTAGE;
            stream.first = ts_last as u64;
            if told {
                out.push(&gap);
                self.counts.gap((place % streams::CHANNELS) as u8);
            }
        }
    }

    /// The first event after an outage tells how long it was.
    fn end_outage(&mut self, place: usize, event: &Event, out: &mut Records) {
        let stream = self.streams.at(place);
        if event.rule == Rule::Free || stream.state & OUTAGE == 0 {
            return;
        }
        stream.state &= !OUTAGE;
        let ts_start = stream.first as i64;
        let mut gap = self.marker(place, GapCause::Disconnect, GapState::Closed);
        gap.ts_start = ts_start;
        gap.header.ts_event = event.ts_event;
        gap.header.ts_recv = event.ts_recv;
        gap.header.sequence = event.sequence;
        out.push(&gap);
    }

    /// Writes all to a snapshot. Must be called between blobs.
    pub fn snapshot(&self, state: &mut StateWriter<'_>) {
        debug_assert!(self.repair.is_none(), "a blob is finished before a snapshot is taken");
        self.streams.write(state);
        self.lines.write(state);
        state.length(self.holding.len());
        self.holding.iter().for_each(|&place| state.u32(place));
        state.i64(self.deadline);
        self.counts.write(state);
    }

    /// Takes in what [`Arbiter::snapshot`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.streams = Streams::read(state)?;
        self.lines = Lines::read(state)?;
        self.holding.clear();
        for _ in 0..state.length(4)? {
            self.holding.push(state.u32()?);
        }
        self.deadline = state.i64()?;
        self.counts = Counts::read(state)?;
        Ok(())
    }
}

/// The channel's place in per-channel tables.
pub(crate) const fn channel_index(channel: u8) -> usize {
    if channel as usize >= streams::CHANNELS {
        Channel::None as usize
    } else {
        channel as usize
    }
}
