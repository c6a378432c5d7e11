//! Events that do not fit to those before them: set aside until their stream shows who was right.
//!
//! An event that says a time far from its receipt, or a sequence that cannot have been used up by
//! then, moves nothing. The next event of its stream that does fit disproves it: it becomes a dead
//! letter with its reason, whose bytes are those of the raw frame, and is declared lost where no
//! number shows that. Three in a row that fit to each other and to nothing else are believed: the
//! venue did begin anew. They are passed on, and the ledger says so. What neither happens to within
//! a minute becomes a dead letter as well.
//!
//! A time is no matter of one stream. Three that agree set the venue's clock where none is known
//! yet, or where no event of any stream was in time for half a minute. Else they are passed on if
//! they are off by twenty minutes at most, flagged as out of order, and set no clock.

use std::collections::BTreeMap;

use super::event::Event;
use super::lines::Line;
use super::plausible::AHEAD_NS;
use super::run::{Run, Suspect, LATE_MOST};
use super::streams::{Stream, SUSPECT};
use super::{Arbiter, Force};
use crate::error::{DecodeReason, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Channel, Header, Marker, MarkerCode, Records, FLAG_LAST, FLAG_OUT_OF_ORDER};
use crate::sequencing::Rule;

/// So many events that agree with each other are believed.
const AGREEING: usize = 3;
/// How long an event is set aside at most, on the arbiter's own clock, in ns.
const WAIT_NS: i64 = 60_000_000_000;
/// So many bytes of events wait at most, of all streams together: beyond that, the oldest of the
/// stream that one more comes of become dead letters.
const BYTES_MOST: usize = 32 << 20;
/// A venue that lost more than this at once is taken to count anew.
const MISSING_MOST: u64 = 1 << 32;

/// How an event that was set aside is passed on.
#[derive(Debug, Clone, Copy)]
struct Admission {
    line: Line,
    /// Whether the stream takes steps as large as the one to it.
    is_coarse: bool,
    flags: u8,
}

/// All that is set aside, by place of its stream.
#[derive(Debug, Default)]
pub struct Quarantine {
    runs: BTreeMap<u32, Run>,
    /// Bytes of all events that wait.
    bytes: usize,
}

impl Quarantine {
    /// The earliest moment at which something is to be decided.
    pub fn deadline(&self) -> i64 {
        let open = self.runs.values().filter(|run| !run.held.is_empty());
        open.map(|run| run.deadline).min().unwrap_or(i64::MAX)
    }

    /// Adds an event to those of a stream.
    fn add(&mut self, place: usize, event: &Event, suspect: Suspect, begun: Run) {
        self.bytes += suspect.bytes.len();
        let deadline = begun.deadline;
        let run = self.runs.entry(place as u32).or_insert(begun);
        run.said.push((event.sequence, event.ts_event, event.content));
        if run.held.is_empty() {
            run.deadline = deadline;
        }
        run.held.push(suspect);
    }

    /// Takes out the oldest event of a stream beyond those that may wait.
    fn trim(&mut self, place: usize) -> Option<(Suspect, DecodeReason)> {
        let run = self.runs.get_mut(&(place as u32))?;
        let oldest = run.trim(self.bytes > BYTES_MOST)?;
        self.bytes -= oldest.bytes.len();
        Some((oldest, run.reason))
    }

    /// Takes out the events of a stream that wait; what they said is still known.
    fn take_held(&mut self, place: u32) -> Option<(Vec<Suspect>, DecodeReason)> {
        let run = self.runs.get_mut(&place)?;
        let held = std::mem::take(&mut run.held);
        self.bytes -= bytes_of(&held);
        Some((held, run.reason))
    }

    /// Takes out the run of a stream.
    fn remove(&mut self, place: usize) -> Option<Run> {
        let run = self.runs.remove(&(place as u32))?;
        self.bytes -= bytes_of(&run.held);
        Some(run)
    }

    /// Writes all to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.runs.len());
        for (&place, run) in &self.runs {
            state.u32(place);
            run.write(state);
        }
    }

    /// Reads all from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut quarantine = Self::default();
        for _ in 0..state.length(29)? {
            let (place, run) = (state.place()?, Run::read(state)?);
            quarantine.bytes += bytes_of(&run.held);
            quarantine.runs.insert(place, run);
        }
        Ok(quarantine)
    }
}

fn bytes_of(held: &[Suspect]) -> usize {
    held.iter().map(|suspect| suspect.bytes.len()).sum()
}

impl Arbiter {
    /// Sets an event aside, unless it is a copy of the last one that was.
    pub(super) fn suspect(
        &mut self,
        place: usize,
        event: &Event,
        bytes: &[u8],
        reason: DecodeReason,
        out: &mut Records,
    ) -> Result<()> {
        if event.rule == Rule::Snapshot {
            // It is asked for again: there is nothing to wait for.
            self.counts.quarantine(event.channel);
            self.letter(event, self.offset, reason, out);
            return Ok(());
        }
        let last = self.streams.at(place).last;
        match self.quarantine.runs.get(&(place as u32)) {
            Some(run) if run.has(event) => {
                self.counts.duplicate(event.channel);
                return Ok(());
            }
            Some(run) if !run.is_continued_by(event, last) => {
                let stream = self.streams.known(place);
                self.reject(place, &stream, out);
            }
            _ => {}
        }
        let deadline = self.elapsed.saturating_add(WAIT_NS);
        let suspect =
            Suspect { offset: self.offset, line: self.lines.line().serial, bytes: bytes.to_vec() };
        let begun = Run { reason, held: Vec::new(), said: Vec::new(), deadline };
        self.quarantine.add(place, event, suspect, begun);
        let run = self.quarantine.runs.get(&(place as u32));
        let is_agreed = run.is_some_and(|run| run.said.len() >= AGREEING);
        if reason == DecodeReason::ImplausibleTime {
            self.streams.clock.count_beyond(event.ts_event, event.ts_recv);
        }
        if is_agreed && self.is_believed(place) {
            return self.admit(place, out);
        }
        self.streams.at(place).state |= SUSPECT;
        self.deadline = self.deadline.min(deadline);
        self.trim(place, out);
        if reason == DecodeReason::ImplausibleTime && self.streams.clock.plays_back() {
            return self.admit_cleared(out);
        }
        if reason == DecodeReason::ImplausibleTime && self.sets_clock() {
            return self.set_clock(event, out);
        }
        Ok(())
    }

    /// Whether events that agree are believed. For a time that is far off, other streams speak too.
    fn is_believed(&self, place: usize) -> bool {
        let Some(run) = self.quarantine.runs.get(&(place as u32)) else { return false };
        run.reason != DecodeReason::ImplausibleTime
            || self.sets_clock()
            || run.held.iter().all(|suspect| {
                let event = Event::read(&suspect.bytes, &self.feed.rules);
                event.is_some_and(|it| self.streams.clock.is_modest(it.ts_event, it.ts_recv))
            })
    }

    /// Whether events that agree on a time show that of the venue.
    fn sets_clock(&self) -> bool {
        !self.streams.clock.is_set() || self.streams.clock.is_quiet(self.elapsed)
    }

    /// Keeps what is set aside within its bounds.
    fn trim(&mut self, place: usize, out: &mut Records) {
        let stream = self.streams.known(place);
        while let Some((oldest, reason)) = self.quarantine.trim(place) {
            self.letters(place, &stream, &[oldest], reason, out);
        }
    }

    /// Looks whether all that a session began with agrees on the time, whatever streams it is of:
    /// then it is the host's clock that is off, and nobody waits for his own stream to show it.
    fn set_clock(&mut self, event: &Event, out: &mut Records) -> Result<()> {
        let ahead = event.ts_event.saturating_sub(event.ts_recv);
        let offset = |suspect: &Suspect| {
            let event = Event::read(&suspect.bytes, &self.feed.rules)?;
            Some(event.ts_event.saturating_sub(event.ts_recv))
        };
        // What waits for another reason says nothing of the clock.
        let is_timed = |run: &&Run| run.reason == DecodeReason::ImplausibleTime;
        let held = self.quarantine.runs.values().filter(is_timed).flat_map(|run| run.held.iter());
        let agreeing = held
            .filter_map(offset)
            .filter(|other| other.abs_diff(ahead) <= AHEAD_NS as u64)
            .count();
        if agreeing < AGREEING {
            return Ok(());
        }
        self.streams.clock.set(ahead, self.elapsed);
        self.admit_cleared(out)
    }

    /// Passes on what is set aside of all streams whose times are not suspect by now.
    fn admit_cleared(&mut self, out: &mut Records) -> Result<()> {
        for place in self.quarantine.runs.keys().copied().collect::<Vec<_>>() {
            if self.is_cleared(place as usize) {
                self.admit(place as usize, out)?;
            }
        }
        Ok(())
    }

    /// Looks at what is set aside of a stream before `event` of it is decided on. Says whether the
    /// event goes on from there, and so is set aside, too.
    pub(super) fn review(
        &mut self,
        place: usize,
        event: &Event,
        bytes: &[u8],
        out: &mut Records,
    ) -> Result<bool> {
        if self.is_cleared(place) {
            self.admit(place, out)?;
            return Ok(false);
        }
        let last = self.streams.at(place).last;
        let Some(run) = self.quarantine.runs.get(&(place as u32)) else { return Ok(false) };
        // An event that names the one before it says itself to which of the two it belongs.
        let belongs = event.rule == Rule::Contiguous
            && event.is_live
            && event.previous == run.last()
            && event.previous != last
            && run.is_continued_by(event, last);
        if belongs {
            let reason = run.reason;
            self.suspect(place, event, bytes, reason, out)?;
        }
        Ok(belongs)
    }

    /// Whether the times that were suspect are not by now: another stream showed how far the
    /// host's clock is off, or the venue plays back.
    fn is_cleared(&self, place: usize) -> bool {
        let Some(run) = self.quarantine.runs.get(&(place as u32)) else { return false };
        let in_time = |suspect: &Suspect| {
            Event::read(&suspect.bytes, &self.feed.rules)
                .is_some_and(|it| self.streams.is_in_time(&it) || self.streams.is_played_back(&it))
        };
        run.reason == DecodeReason::ImplausibleTime
            && !run.held.is_empty()
            && run.held.iter().all(in_time)
    }

    /// Passes on what is set aside of a stream: the venue began anew.
    fn admit(&mut self, place: usize, out: &mut Records) -> Result<()> {
        let Some(run) = self.quarantine.remove(place) else { return Ok(()) };
        self.streams.at(place).state &= !SUSPECT;
        let last = self.streams.at(place).last;
        let is_ahead = run.first() > last;
        let is_coarse = is_ahead && run.is_coarse(last);
        let is_timed = run.reason == DecodeReason::ImplausibleTime;
        let sets_clock = is_timed && self.sets_clock();
        for suspect in &run.held {
            let mut flags = 0;
            let Some(event) = Event::read(&suspect.bytes, &self.feed.rules) else { continue };
            let line = Line { serial: suspect.line, group: self.streams.at(place).group };
            if sets_clock && event.rule != Rule::Window {
                let ahead = event.ts_event.saturating_sub(event.ts_recv);
                self.streams.clock.set(ahead, self.elapsed);
            } else if is_timed
                && !self.streams.is_in_time(&event)
                && !self.streams.is_played_back(&event)
            {
                flags = FLAG_OUT_OF_ORDER;
            }
            let how = Admission { line, is_coarse, flags };
            self.admit_one(place, &event, &suspect.bytes, how, out)?;
        }
        if is_coarse && run.last() > run.first() {
            self.streams.at(place).stride = (run.last() - run.first()).ilog2() as u8;
        }
        self.renew_deadline();
        Ok(())
    }

    fn admit_one(
        &mut self,
        place: usize,
        event: &Event,
        bytes: &[u8],
        how: Admission,
        out: &mut Records,
    ) -> Result<()> {
        let Admission { line, is_coarse, flags } = how;
        if event.rule == Rule::Contiguous && event.previous > self.streams.at(place).last {
            self.release(place, Force::All, out)?;
        }
        let stream = *self.streams.at(place);
        let is_seen = stream.is_numbered();
        match event.rule {
            Rule::Free | Rule::Snapshot => return self.write(event, bytes, flags, out),
            Rule::Alike => {
                self.end_outage(place, &stream, event, out);
                self.streams.pass_unnumbered(place, event, line);
                return self.write(event, bytes, flags, out);
            }
            Rule::Window => {
                self.end_outage(place, &stream, event, out);
                if self.streams.takes_window(place, event, bytes, line) {
                    return self.write(event, bytes, flags, out);
                }
                self.counts.duplicate(event.channel);
                return Ok(());
            }
            _ if !is_seen => self.streams.at(place).first = event.sequence,
            _ if event.sequence < stream.last => {
                self.release(place, Force::All, out)?;
                self.end_outage(place, &stream, event, out);
                self.declare_reset(place, event, out);
                self.streams.reset(place, event, line);
                return self.write(event, bytes, flags, out);
            }
            Rule::Contiguous if event.previous > stream.last => {
                if event.previous - stream.last > MISSING_MOST {
                    self.declare_reset(place, event, out);
                    self.streams.reset(place, event, line);
                } else {
                    self.declare_gap(place, event, self.ts_recv, out);
                }
            }
            // Streams that take such steps show no loss by them; where one does not, something is.
            Rule::Rising if self.streams.is_far(place, event) && !is_coarse => {
                self.declare_reset(place, event, out);
            }
            _ => {}
        }
        self.end_outage(place, &stream, event, out);
        self.streams.pass(place, event, line);
        self.write(event, bytes, flags, out)
    }

    /// `event` goes on from what was passed on before: what is set aside of the stream is wrong,
    /// or was merely late. `before` is the stream as it stood until then.
    pub(super) fn disprove(
        &mut self,
        place: usize,
        before: &Stream,
        event: &Event,
        out: &mut Records,
    ) -> Result<()> {
        if self.streams.at(place).state & SUSPECT == 0 {
            return Ok(());
        }
        let is_late = |suspect: &Event| {
            suspect.rule == Rule::Rising
                && suspect.sequence < event.sequence
                && event.sequence - suspect.sequence <= LATE_MOST
        };
        let run = self.quarantine.runs.get(&(place as u32));
        let in_time = run.is_some_and(|run| run.reason == DecodeReason::ImplausibleSequence);
        let held = if in_time { self.quarantine.take_held(place as u32) } else { None };
        for suspect in held.map(|held| held.0).unwrap_or_default() {
            match Event::read(&suspect.bytes, &self.feed.rules) {
                Some(found) if is_late(&found) => {
                    self.write(&found, &suspect.bytes, FLAG_OUT_OF_ORDER, out)?;
                }
                Some(found) => {
                    let reason = DecodeReason::ImplausibleSequence;
                    self.counts.quarantine(found.channel);
                    self.letter(&found, suspect.offset, reason, out);
                    self.lose_event(place, before, &found, out);
                }
                None => {}
            }
        }
        self.reject(place, before, out);
        Ok(())
    }

    /// Makes dead letters of what is set aside of a stream, and forgets it.
    fn reject(&mut self, place: usize, before: &Stream, out: &mut Records) {
        self.streams.at(place).state &= !SUSPECT;
        if let Some(run) = self.quarantine.remove(place) {
            self.letters(place, before, &run.held, run.reason, out);
            self.renew_deadline();
        }
    }

    fn letters(
        &mut self,
        place: usize,
        before: &Stream,
        held: &[Suspect],
        reason: DecodeReason,
        out: &mut Records,
    ) {
        for suspect in held {
            if let Some(event) = Event::read(&suspect.bytes, &self.feed.rules) {
                self.counts.quarantine(event.channel);
                self.letter(&event, suspect.offset, reason, out);
                self.lose_event(place, before, &event, out);
            }
        }
    }

    /// Decides on all that is set aside: nothing comes that could tell.
    pub(super) fn settle_all(&mut self, out: &mut Records) -> Result<()> {
        for place in self.quarantine.runs.keys().copied().collect::<Vec<_>>() {
            if self.is_cleared(place as usize) || self.is_last_word(place) {
                self.admit(place as usize, out)?;
            } else {
                let stream = self.streams.known(place as usize);
                self.reject(place as usize, &stream, out);
            }
        }
        Ok(())
    }

    /// Whether what is set aside of a stream is of a venue that ran ahead in the end, though not
    /// for long.
    fn is_last_word(&self, place: u32) -> bool {
        let is_timed = |run: &Run| run.reason == DecodeReason::ImplausibleTime;
        self.quarantine.runs.get(&place).is_some_and(is_timed)
            && self.streams.clock.beyond() >= AGREEING as u32
            && self.is_believed(place as usize)
    }

    /// Ends the waits that are over. That such events came is remembered: more may agree with them.
    #[cold]
    pub(super) fn expire(&mut self, out: &mut Records) -> Result<()> {
        let runs = self.quarantine.runs.iter();
        let over = runs.filter(|(_, run)| !run.held.is_empty() && self.elapsed >= run.deadline);
        for place in over.map(|(&place, _)| place).collect::<Vec<_>>() {
            if self.is_cleared(place as usize) || self.is_last_word(place) {
                self.admit(place as usize, out)?;
            } else if let Some((held, reason)) = self.quarantine.take_held(place) {
                let stream = self.streams.known(place as usize);
                self.letters(place as usize, &stream, &held, reason, out);
            }
        }
        self.renew_deadline();
        Ok(())
    }

    /// Declares the event of the raw frame at `offset` a dead letter.
    pub(super) fn letter(
        &self,
        event: &Event,
        offset: u64,
        reason: DecodeReason,
        out: &mut Records,
    ) {
        out.push(&Marker {
            header: Header {
                feed: self.feed.number(),
                instrument: event.instrument,
                flags: FLAG_LAST,
                ts_event: event.ts_recv,
                ts_recv: self.ts_recv,
                sequence: event.sequence,
                ..Header::of::<Marker>()
            },
            code: MarkerCode::DeadLetter as u8,
            cause: reason as u8,
            state: 0,
            channel: if event.rule == Rule::Free { Channel::None as u8 } else { event.channel },
            count: 1,
            first: offset,
            last: 0,
            ts_start: crate::record::NONE,
        });
    }
}
