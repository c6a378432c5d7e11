//! Which of the decoded events go on: the first copy of each, in order, with every loss declared.
//!
//! Per (instrument, channel) the sequence of the last event is known. A repeat is dropped. When a
//! sequence jumps and another open line may still bring what is missing, later events wait for it,
//! at most `hold_ms` on the clock of `ts_recv`; then the loss is declared. What comes after it was
//! declared lost is passed on as out of order (trades), or dropped (changes of a book, which has
//! moved on). What no line carries any more may never speak again: that outage is declared at once,
//! and closed by the next event, which shows what it cost where it names the one before it.
//!
//! One bad message must not poison what follows. An event whose time or sequence cannot be, given
//! its receipt and the events before it, is set aside and moves nothing (see `quarantine`).
//!
//! Everything is decided from the blobs alone, so that the same raw tape gives the same records.

use crate::error::{DecodeReason, Result};
use crate::record::blob::BlobHeader;
use crate::record::{
    BlobKind, Channel, Marker, MarkerCode, Plain, Records, FLAG_OUT_OF_ORDER, FLAG_RECV_SUSPECT,
    SESSION_ENDS,
};

mod alike;
pub mod counts;
pub mod event;
mod foretold;
mod history;
pub mod hold;
mod lateness;
mod ledger;
pub mod lines;
mod live;
mod plausible;
pub mod quarantine;
pub mod ranges;
pub mod recent;
mod retold;
mod run;
pub mod source_delay;
mod stale;
mod stories;
pub mod streams;
pub mod trouble;
pub mod undecoded;
pub mod venue_clock;
mod window;

use self::alike::Alike;
use self::counts::Counts;
use self::event::Event;
use self::foretold::Foretold;
use self::lateness::Lateness;
use self::lines::Lines;
use self::live::LiveEvents;
use self::quarantine::Quarantine;
use self::retold::Retold;
use self::stories::Stories;
use self::streams::{Streams, Verdict, HOLDING, SUSPECT};
use self::undecoded::Undecoded;
use super::state::{StateReader, StateWriter};
use crate::feeds::Descriptor;
use crate::sequencing::Rule;

/// The number under which the recorder itself counts as a connection.
pub(super) const RECORDER: u16 = u16::MAX;
/// Between two blobs the arbiter's clock goes on by at most so much, in ns: longer than any wait
/// that must not be cut, and short enough that one wrong receive time does no harm.
const TICK_NS_MAX: i64 = 10_000_000_000;
/// Receive times that fall by more than this, in ns, are those of another clock.
const FALL_NS: i64 = 60_000_000_000;

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
    feed: Descriptor,
    hold_ns: i64,
    streams: Streams,
    lines: Lines,
    alike: Alike,
    retold: Retold,
    live: LiveEvents,
    foretold: Foretold,
    lateness: Lateness,
    stories: Stories,
    /// Streams in which events wait, in order of start.
    holding: Vec<u32>,
    /// The earliest moment at which a wait ends; `i64::MAX` if nothing waits.
    deadline: i64,
    repair: Option<Repair>,
    quarantine: Quarantine,
    undecoded: Undecoded,
    /// Time that has passed by the receive times, none of whose steps is followed, in ns.
    elapsed: i64,
    /// Receive time of the current blob.
    ts_recv: i64,
    /// Offset of the current blob on its tape.
    offset: u64,
    /// What was counted so far.
    pub counts: Counts,
}

impl Arbiter {
    /// An arbiter of `feed`, which waits `hold_ns` for another line.
    pub fn new(feed: Descriptor, hold_ns: i64) -> Self {
        Self {
            feed,
            hold_ns,
            streams: Streams::default(),
            lines: Lines::default(),
            alike: Alike::default(),
            retold: Retold::default(),
            live: LiveEvents::default(),
            foretold: Foretold::default(),
            lateness: Lateness::default(),
            stories: Stories::default(),
            holding: Vec::new(),
            deadline: i64::MAX,
            repair: None,
            quarantine: Quarantine::default(),
            undecoded: Undecoded::default(),
            elapsed: 0,
            ts_recv: i64::MIN,
            offset: 0,
            counts: Counts::default(),
        }
    }

    /// How long events wait for another line, in ns.
    pub const fn hold_ns(&self) -> i64 {
        self.hold_ns
    }

    /// Begins the blob at `offset`, of that header: ends the waits that are over by then.
    ///
    /// # Errors
    /// As [`Arbiter::decide`].
    #[inline]
    pub fn enter(&mut self, header: &BlobHeader, offset: u64, out: &mut Records) -> Result<()> {
        let ts_recv = header.ts_recv;
        self.lines.enter(header.connection);
        let is_of_venue = header.kind != BlobKind::Records as u8;
        self.offset = offset;
        let is_suspect = header.flags & u16::from(FLAG_RECV_SUSPECT) != 0;
        if is_suspect != self.streams.clock.is_suspect() {
            self.streams.clock.suspect(is_suspect, self.elapsed);
        }
        if ts_recv != self.ts_recv {
            self.elapsed += ts_recv.saturating_sub(self.ts_recv).clamp(0, TICK_NS_MAX);
            if ts_recv < self.ts_recv.saturating_sub(FALL_NS) {
                // Of another clock, or another capture.
                self.forget_clock();
            }
            self.ts_recv = ts_recv;
            if self.elapsed >= self.deadline {
                self.release_all(out)?;
                self.declare_due_undecoded(false, out);
                self.expire(out)?;
            }
        }
        if is_of_venue {
            self.lines.hear(self.elapsed);
        }
        if self.streams.delay.has_news() {
            self.tell_delay(out);
        }
        Ok(())
    }

    /// Whether the event simply follows, and stays where it is.
    #[inline]
    pub fn follows(&mut self, event: &Event) -> bool {
        let may_repeat = event.rule == Rule::Alike
            && (self.alike.is_watching() || self.foretold.may_have(event.ts_event));
        let follows = !may_repeat && self.streams.follows(event, self.lines.line());
        if follows {
            self.counts.pass(event);
            self.note_time(event);
            if event.rule == Rule::Alike {
                self.note_live(event);
            }
        }
        follows
    }

    /// Decides on an event that does not simply follow, and writes to `out` what goes on.
    ///
    /// # Errors
    /// `Error::Invalid`: `bytes` are not whole records.
    pub fn decide(&mut self, event: &Event, bytes: &[u8], out: &mut Records) -> Result<()> {
        if event.rule == Rule::Alike && self.is_told(event, bytes) {
            self.counts.duplicate(event.channel);
            return Ok(());
        }
        let place = self.streams.place(event.instrument, event.channel);
        if self.streams.at(place).state & SUSPECT != 0 && self.review(place, event, bytes, out)? {
            return Ok(());
        }
        let before = *self.streams.at(place);
        match self.streams.judge(place, event, bytes, self.lines.line()) {
            Verdict::Pass => {
                self.disprove(place, &before, event, out)?;
                self.end_outage(place, &before, event, out);
                self.write(event, bytes, 0, out)?;
                self.note_time(event);
                if event.rule == Rule::Alike {
                    self.note_live(event);
                }
                if self.streams.at(place).state & HOLDING != 0 {
                    self.release(place, Force::Nothing, out)?;
                }
            }
            Verdict::Fill => {
                self.note_repair(place, event, out);
                self.write(event, bytes, FLAG_OUT_OF_ORDER, out)?;
            }
            Verdict::Early => self.write(event, bytes, FLAG_OUT_OF_ORDER, out)?,
            Verdict::Duplicate => self.counts.duplicate(event.channel),
            Verdict::Late | Verdict::Stale if self.begins_anew(place, event, bytes, out)? => {}
            Verdict::Late => self.counts.late(event.channel),
            Verdict::Stale => self.counts.stale(event.channel),
            Verdict::Jump => {
                self.disprove(place, &before, event, out)?;
                self.jump(place, event, bytes, out)?;
            }
            Verdict::Conflict => {
                self.counts.conflict(event.channel);
                self.letter(event, self.offset, DecodeReason::Contradiction, out);
            }
            Verdict::Suspect(reason) => self.suspect(place, event, bytes, reason, out)?,
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
        if bytes[1] == crate::Kind::Subscription as u8 {
            self.undecoded.note_subscription(bytes);
        }
        let marker = Marker::read_from(bytes).filter(|_| bytes[1] == crate::Kind::Marker as u8);
        let code = marker.and_then(|marker| MarkerCode::try_from(marker.code).ok());
        let (Some(marker), Some(code)) = (marker, code) else {
            return out.extend_from_bytes(bytes);
        };
        if !self.is_true(&marker) {
            return Ok(());
        }
        let connection = marker.first as u16;
        let marker = self.in_venue_time(marker);
        let bytes = marker.as_bytes();
        match code {
            MarkerCode::Connected => {
                if connection == RECORDER && self.lines.is_live(connection) {
                    // The recorder was killed, and counts its connections anew.
                    self.end_session(out)?;
                    self.begin_outage(None, &marker, true, out);
                } else if self.lines.is_live(connection) {
                    // Its end is not on the tape. The other lines are as they were.
                    let ended = self.end_line(connection, out)?;
                    self.lose_line(ended, &marker, out);
                }
                self.lines.connect(connection, marker.last as u16);
                self.alike.watch(self.lines.has_copies());
                out.extend_from_bytes(bytes)
            }
            // What was received before the marker stands before it.
            MarkerCode::Disconnected => {
                let ended = self.end_line(connection, out)?;
                out.extend_from_bytes(bytes)?;
                self.lose_line(ended, &marker, out);
                Ok(())
            }
            MarkerCode::EndOfSession => {
                self.end_session(out)?;
                out.extend_from_bytes(bytes)?;
                self.begin_outage(None, &marker, false, out);
                Ok(())
            }
            MarkerCode::ClockStep => {
                self.forget_clock();
                out.extend_from_bytes(bytes)
            }
            _ => out.extend_from_bytes(bytes),
        }
    }

    /// Ends a line. Returns the group of streams that no line carries any more.
    fn end_line(&mut self, connection: u16, out: &mut Records) -> Result<Option<u16>> {
        self.undecoded.forget_healed(&self.lines);
        let ended = self.lines.disconnect(connection);
        self.alike.watch(self.lines.has_copies());
        self.release_all(out)?;
        self.lose_undecoded(out);
        Ok(ended)
    }

    fn lose_line(&mut self, ended: Option<u16>, marker: &Marker, out: &mut Records) {
        if ended.is_some() {
            self.begin_outage(ended, marker, marker.state != SESSION_ENDS, out);
        }
    }

    fn end_session(&mut self, out: &mut Records) -> Result<()> {
        self.undecoded.forget_healed(&self.lines);
        self.lines.clear();
        self.alike.watch(false);
        self.release_all(out)?;
        self.settle_all(out)?;
        self.lose_undecoded(out);
        self.declare_due_undecoded(true, out);
        self.streams.clock.renew();
        self.streams.delay.renew();
        Ok(())
    }

    fn write(&mut self, event: &Event, bytes: &[u8], flags: u8, out: &mut Records) -> Result<()> {
        let start = out.mark().0;
        out.extend_from_bytes(bytes)?;
        if flags != 0 {
            out.flag_from(start, flags);
        }
        self.counts.pass(event);
        Ok(())
    }

    // Waiting for another line.

    fn jump(&mut self, place: usize, event: &Event, bytes: &[u8], out: &mut Records) -> Result<()> {
        let line = self.lines.line();
        let is_holding = self.streams.at(place).state & HOLDING != 0;
        let is_redundant = self.lines.of(line.group).nth(1).is_some();
        if !is_holding && (!is_redundant || self.hold_ns == 0) {
            let before = *self.streams.at(place);
            self.declare_gap(place, event, event.ts_recv, out);
            self.end_outage(place, &before, event, out);
            self.streams.pass(place, event, line);
            return self.write(event, bytes, 0, out);
        }
        let deadline = self.elapsed.saturating_add(self.hold_ns);
        let from = (self.lines.connection(), line.serial);
        if self.streams.trouble(place).hold.add(event, bytes, from, deadline) {
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
        self.release(place, force, out)
    }

    /// Writes what need not wait any more. Where no line is open, nothing does.
    fn release(&mut self, place: usize, mut force: Force, out: &mut Records) -> Result<()> {
        let now = self.ts_recv;
        let instrument = (place / streams::CHANNELS) as u32;
        let group = self.streams.at(place).group;
        loop {
            let before = *self.streams.at(place);
            let last = before.last;
            let hold = &mut self.streams.trouble(place).hold;
            let Some(first) = hold.first() else {
                hold.clear();
                break;
            };
            let follows = first.previous <= last;
            let is_over = self.elapsed >= first.deadline || hold.is_past(&self.lines, group);
            if !(follows || is_over || force != Force::Nothing) {
                break;
            }
            let Some(held) = hold.take() else { break };
            let line = lines::Line { serial: held.line, group };
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
            self.end_outage(place, &before, &event, out);
            self.streams.pass(place, &event, line);
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
        let others = self.quarantine.deadline().min(self.undecoded.deadline());
        self.deadline = ends.min().unwrap_or(i64::MAX).min(others);
    }

    /// Ends the waits that are over.
    #[cold]
    fn release_all(&mut self, out: &mut Records) -> Result<()> {
        for place in self.holding.clone() {
            self.release(place as usize, Force::Nothing, out)?;
        }
        Ok(())
    }

    /// Writes all to a snapshot. Must be called between blobs.
    pub fn snapshot(&self, state: &mut StateWriter<'_>) {
        debug_assert!(self.repair.is_none(), "a blob is finished before a snapshot is taken");
        self.streams.write(state);
        self.lines.write(state);
        state.length(self.holding.len());
        self.holding.iter().for_each(|&place| state.u32(place));
        state.i64(self.deadline);
        state.i64(self.elapsed);
        state.i64(self.ts_recv);
        self.quarantine.write(state);
        self.undecoded.write(state);
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
            self.holding.push(state.place()?);
        }
        self.deadline = state.i64()?;
        self.elapsed = state.i64()?;
        self.ts_recv = state.i64()?;
        self.quarantine = Quarantine::read(state)?;
        self.undecoded = Undecoded::read(state)?;
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
