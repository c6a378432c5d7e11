//! Where each stream stands: one entry per (instrument, channel), indexed directly.
//!
//! What every event needs is in [`Stream`], 40 bytes; what only troubled streams need is in
//! [`Trouble`], aside.

use std::collections::BTreeMap;

use super::event::Event;
use super::lines::Line;
use super::plausible::{is_contrary, steps_back, USUAL_BITS};
use super::recent::Recent;
use super::source_delay::SourceDelay;
use super::trouble::Trouble;
use super::venue_clock::VenueClock;
use super::window::{Taken, Window};
use crate::error::{DecodeReason, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Bar, Channel, Plain};
use crate::sequencing::Rule;

/// Number of channels: the width of a row of the table.
pub const CHANNELS: usize = Channel::NAMES.len();

/// An event was seen.
pub const SEEN: u8 = 1;
/// Events are held, waiting for what is missing before them.
pub const HOLDING: u8 = 2;
/// Some sequences are known to be missing.
pub const MISSING: u8 = 4;
/// Sequences of the venue's history were passed on that live events may repeat.
pub const HISTORY: u8 = 8;
/// No connection carries the stream.
pub const OUTAGE: u8 = 16;
/// Events are set aside, as they do not fit to those before them.
pub const SUSPECT: u8 = 32;
/// Events were dropped as stale since the last that was passed on.
pub const STALE: u8 = 64;
/// Frames could not be decoded since the last event that was passed on.
pub const UNDECODED: u8 = 128;

/// Where one stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// Sequence of the last event passed on. For bars: one more than the place of their windows.
    pub last: u64,
    /// First sequence passed on live.
    pub first: u64,
    /// `ts_event` of the last event passed on; of one that is ahead, that of its receipt.
    pub ts_last: i64,
    /// Serial of the line that brought the last event.
    pub line: u32,
    /// Place of what the last events said, 0 before the first.
    recent: u32,
    /// Group of the lines that carry it.
    pub group: u16,
    /// Any of the bits above.
    pub state: u8,
    /// Bits of the largest step between two sequences that was an ordinary one.
    pub stride: u8,
}

/// What is to be done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Passed on.
    Pass,
    /// Passed on late: it was missing.
    Fill,
    /// Passed on late: it lies before all that was seen.
    Early,
    /// A repeat.
    Duplicate,
    /// Was missing, and came too late to be of use.
    Late,
    /// Something is missing before it.
    Jump,
    /// Below the sequence of its stream, and never seen: another line is behind.
    Stale,
    /// Another event of the same sequence said something else.
    Conflict,
    /// Does not fit to the events before it: set aside.
    Suspect(DecodeReason),
}

/// Where all streams stand.
#[derive(Debug, Default)]
pub struct Streams {
    table: Vec<Stream>,
    trouble: BTreeMap<u32, Trouble>,
    windows: Vec<Vec<Window>>,
    recent: Vec<Recent>,
    /// How far the venue's time is ahead of that of receipt.
    pub clock: VenueClock,
    /// How far the source is behind its venue.
    pub delay: SourceDelay,
}

impl Streams {
    /// The place of a stream in the table, which grows to hold it.
    #[inline]
    pub fn place(&mut self, instrument: u32, channel: u8) -> usize {
        let place = instrument as usize * CHANNELS + (channel as usize).min(CHANNELS - 1);
        if place >= self.table.len() {
            self.grow(instrument);
        }
        place
    }

    #[cold]
    fn grow(&mut self, instrument: u32) {
        self.table.resize((instrument as usize + 1) * CHANNELS, Stream::default());
    }

    /// The stream at `place`.
    #[inline]
    pub fn at(&mut self, place: usize) -> &mut Stream {
        &mut self.table[place]
    }

    /// The stream at `place`, or that of which nothing came.
    pub fn known(&self, place: usize) -> Stream {
        self.table.get(place).copied().unwrap_or_default()
    }

    /// The trouble of the stream at `place`.
    pub fn trouble(&mut self, place: usize) -> &mut Trouble {
        self.trouble.entry(place as u32).or_default()
    }

    /// The trouble of the stream at `place`, if it ever had one.
    pub fn troubled(&self, place: usize) -> Option<&Trouble> {
        self.trouble.get(&(place as u32))
    }

    /// The troubles of all streams, with their places.
    pub fn troubles(&self) -> impl Iterator<Item = (u32, &Trouble)> {
        self.trouble.iter().map(|(&place, trouble)| (place, trouble))
    }

    /// Each stream that was seen, with its instrument and channel.
    pub fn seen(&self) -> impl Iterator<Item = (usize, u32, u8, &Stream)> {
        self.table
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.state & SEEN != 0)
            .map(|(at, stream)| (at, (at / CHANNELS) as u32, (at % CHANNELS) as u8, stream))
    }

    /// Passes the event if it simply follows. `false` says that [`Streams::judge`] must look.
    #[inline]
    pub fn follows(&mut self, event: &Event, line: Line) -> bool {
        if !event.is_live {
            return event.rule == Rule::Free;
        }
        if event.rule == Rule::Free {
            return self.clock.fits(event.ts_event, event.ts_recv);
        }
        let place = self.place(event.instrument, event.channel);
        let stream = &mut self.table[place];
        if event.rule == Rule::Alike {
            let is_calm = stream.state & (SEEN | OUTAGE | SUSPECT | UNDECODED) == SEEN;
            if !is_calm || !self.clock.fits(event.ts_event, event.ts_recv) {
                return false;
            }
            self.pass_unnumbered(place, event, line);
            return true;
        }
        let step = event.sequence.wrapping_sub(stream.last);
        let is_next = match event.rule {
            Rule::Contiguous => event.previous == stream.last && step != 0,
            Rule::Rising => event.sequence > stream.last,
            Rule::Window | Rule::Snapshot | Rule::Alike | Rule::Free => false,
        };
        let calm = stream.state & !MISSING == SEEN;
        if !(is_next && calm) {
            return false;
        }
        let bits = step.ilog2() as u8;
        let is_usual = bits <= stream.stride.saturating_add(USUAL_BITS);
        if !(is_usual && self.clock.fits(event.ts_event, event.ts_recv)) {
            return false;
        }
        stream.stride = stream.stride.max(bits);
        stream.last = event.sequence;
        stream.ts_last = self.clock.bounded(event.ts_event, event.ts_recv);
        stream.line = line.serial;
        stream.group = line.group;
        if event.is_compared() {
            self.recent[stream.recent as usize].push(event.sequence, event.content, event.ts_recv);
        }
        true
    }

    /// Decides on an event, given its bytes, and moves the stream on if it passes.
    pub fn judge(&mut self, place: usize, event: &Event, bytes: &[u8], line: Line) -> Verdict {
        if event.is_live && !self.is_in_time(event) && !self.is_played_back(event) {
            return Verdict::Suspect(DecodeReason::ImplausibleTime);
        }
        match event.rule {
            Rule::Free => Verdict::Pass,
            Rule::Alike => {
                if event.is_live {
                    self.pass_unnumbered(place, event, line);
                }
                Verdict::Pass
            }
            Rule::Window => self.judge_window(place, event, bytes, line),
            Rule::Snapshot => self.judge_snapshot(event),
            _ if event.historical => self.judge_history(place, event),
            _ => self.judge_live(place, event, line),
        }
    }

    fn judge_live(&mut self, place: usize, event: &Event, line: Line) -> Verdict {
        let stream = self.table[place];
        if !stream.is_numbered() {
            self.table[place].first = event.sequence;
        } else {
            if event.sequence <= stream.last {
                return self.judge_repeat(place, event, line);
            }
            if is_contrary(event) || self.is_far(place, event) {
                return Verdict::Suspect(DecodeReason::ImplausibleSequence);
            }
            if event.rule == Rule::Contiguous && event.previous > stream.last {
                self.table[place].group = line.group;
                return Verdict::Jump;
            }
        }
        self.pass(place, event, line);
        if self.table[place].state & HISTORY != 0 && self.is_known_history(place, event.sequence) {
            return Verdict::Duplicate;
        }
        Verdict::Pass
    }

    /// Moves the stream on to `event`.
    pub fn pass(&mut self, place: usize, event: &Event, line: Line) {
        let stream = &mut self.table[place];
        stream.state |= SEEN;
        stream.last = event.sequence;
        stream.ts_last = self.clock.bounded(event.ts_event, event.ts_recv);
        stream.line = line.serial;
        stream.group = line.group;
        self.outweigh(place, line);
        self.remember(place, event);
    }

    /// An event was passed on: where they are many beside those that were dropped as stale, these
    /// came on a line that is behind.
    fn outweigh(&mut self, place: usize, line: Line) {
        if self.table[place].state & STALE != 0
            && self.trouble(place).stale.is_outweighed(line.serial)
        {
            self.table[place].state &= !STALE;
        }
    }

    /// Remembers what an event said that is passed on.
    fn remember(&mut self, place: usize, event: &Event) {
        if !event.is_compared() {
            return;
        }
        if self.recent.is_empty() {
            // Place 0 stands for none.
            self.recent.push(Recent::default());
        }
        let stream = &mut self.table[place];
        if stream.recent == 0 {
            stream.recent = self.recent.len() as u32;
            self.recent.push(Recent::default());
        }
        self.recent[stream.recent as usize].push(event.sequence, event.content, event.ts_recv);
    }

    /// What the event of that sequence said, if it was passed on lately.
    fn recalled(&self, place: usize, sequence: u64) -> Option<u32> {
        self.recent.get(self.table[place].recent as usize)?.find(sequence)
    }

    /// Whether an event of that sequence was passed on lately.
    pub fn is_recalled(&self, place: usize, sequence: u64) -> bool {
        self.recalled(place, sequence).is_some()
    }

    /// Whether an event comes again that was passed on minutes ago, as far as that is remembered.
    pub fn is_repetition(&self, place: usize, event: &Event) -> bool {
        let recent = self.recent.get(self.table[place].recent as usize);
        recent.is_some_and(|recent| recent.is_sample(event.sequence, event.content))
    }

    /// Moves the stream on to `event`, forgetting all sequences before it.
    pub fn reset(&mut self, place: usize, event: &Event, line: Line) {
        let recent = self.table[place].recent as usize;
        if let Some(recent) = self.recent.get_mut(recent) {
            *recent = Recent::default();
        }
        let ts_reset = self.table[place].ts_last.max(event.ts_event);
        self.pass(place, event, line);
        let stream = &mut self.table[place];
        stream.first = event.sequence;
        stream.state &= !(MISSING | HISTORY | HOLDING | STALE);
        self.trouble.insert(place as u32, Trouble { ts_reset, ..Trouble::default() });
    }

    /// Notes that `first` to `last` are missing.
    pub fn miss(&mut self, place: usize, first: u64, last: u64) {
        self.table[place].state |= MISSING;
        self.trouble(place).missing.insert(first, last);
    }

    fn judge_repeat(&mut self, place: usize, event: &Event, line: Line) -> Verdict {
        let stream = self.table[place];
        if event.is_compared() {
            match self.recalled(place, event.sequence) {
                Some(content) if content == event.content => return Verdict::Duplicate,
                Some(content) if content == 0 || event.content == 0 => return Verdict::Duplicate,
                // New events under ids of the last ones: the venue may count anew.
                Some(_) if steps_back(&stream, event, line) => {
                    return Verdict::Suspect(DecodeReason::Contradiction);
                }
                Some(_) => return Verdict::Conflict,
                None => {}
            }
        }
        let is_missing =
            stream.state & MISSING != 0 && self.trouble(place).missing.contains(event.sequence);
        if is_missing && event.is_trade() {
            self.remember(place, event);
            return self.fill(place, event.sequence);
        }
        // One that was missing is merely late, unless it happened after all that was seen.
        if is_missing && event.ts_event <= stream.ts_last {
            return Verdict::Late;
        }
        if steps_back(&stream, event, line) {
            return Verdict::Suspect(DecodeReason::ImplausibleSequence);
        }
        if is_missing {
            return Verdict::Late;
        }
        if event.is_trade() && event.sequence < stream.first {
            return self.judge_early(place, event.sequence);
        }
        if !event.is_trade() && event.sequence < stream.last {
            return Verdict::Stale;
        }
        Verdict::Duplicate
    }

    pub(super) fn fill(&mut self, place: usize, sequence: u64) -> Verdict {
        let trouble = self.trouble(place);
        trouble.missing.remove(sequence);
        if trouble.missing.is_empty() {
            self.table[place].state &= !MISSING;
        }
        Verdict::Fill
    }

    /// Takes in a window, and says whether it told anything new.
    pub fn takes_window(&mut self, place: usize, event: &Event, bytes: &[u8], line: Line) -> bool {
        self.judge_window(place, event, bytes, line) == Verdict::Pass
    }

    fn judge_window(&mut self, place: usize, event: &Event, bytes: &[u8], line: Line) -> Verdict {
        let now = self.clock.now(event.ts_recv);
        let Some((window, bar)) = self.window(place, bytes) else { return Verdict::Pass };
        match window.takes(&bar, now) {
            Taken::Known => return Verdict::Duplicate,
            Taken::Contrary => return Verdict::Stale,
            Taken::News => {}
        }
        self.pass_window(place, event, line);
        self.outweigh(place, line);
        Verdict::Pass
    }

    /// Takes a window in, whatever is known of it.
    pub fn replace_window(&mut self, place: usize, event: &Event, bytes: &[u8], line: Line) {
        let now = self.clock.now(event.ts_recv);
        if let Some((window, bar)) = self.window(place, bytes) {
            window.replace(&bar, now);
        }
        self.pass_window(place, event, line);
        self.table[place].state &= !STALE;
    }

    fn pass_window(&mut self, place: usize, event: &Event, line: Line) {
        let stream = &mut self.table[place];
        stream.state |= SEEN;
        stream.ts_last = event.ts_event;
        (stream.line, stream.group) = (line.serial, line.group);
    }

    /// What is known of the windows of a bar's interval.
    fn window(&mut self, place: usize, bytes: &[u8]) -> Option<(&mut Window, Bar)> {
        let bar = Bar::read_from(bytes)?;
        let stream = &mut self.table[place];
        if stream.last == 0 {
            self.windows.push(Vec::new());
            stream.last = self.windows.len() as u64;
        }
        let windows = &mut self.windows[stream.last as usize - 1];
        let at = windows.iter().position(|window| window.interval_ms == bar.interval_ms);
        let at = at.unwrap_or_else(|| {
            windows.push(Window::new(bar.interval_ms));
            windows.len() - 1
        });
        Some((&mut windows[at], bar))
    }

    /// Writes all to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.table.len());
        for stream in &self.table {
            state.u8(stream.state);
            // Most of the table is empty: one byte each.
            if *stream == Stream::default() {
                state.flag(false);
                continue;
            }
            state.flag(true);
            state.u64(stream.last);
            state.u64(stream.first);
            state.i64(stream.ts_last);
            state.u32(u32::from(stream.group));
            state.u32(stream.line);
            state.u32(stream.recent);
            state.u8(stream.stride);
        }
        self.clock.write(state);
        state.length(self.recent.len());
        self.recent.iter().for_each(|recent| recent.write(state));
        state.length(self.trouble.len());
        for (&place, trouble) in &self.trouble {
            state.u32(place);
            trouble.write(state);
        }
        state.length(self.windows.len());
        for windows in &self.windows {
            state.length(windows.len());
            windows.iter().for_each(|window| window.write(state));
        }
    }

    /// Reads all from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut streams = Self::default();
        for at in 0..state.length(2)? {
            let mut stream = Stream { state: state.u8()?, ..Stream::default() };
            if state.flag()? {
                stream.last = state.u64()?;
                stream.first = state.u64()?;
                stream.ts_last = state.i64()?;
                stream.group = state.u32()? as u16;
                stream.line = state.u32()?;
                stream.recent = state.u32()?;
                stream.stride = state.u8()?;
            }
            streams.table.resize(state.placed(at), Stream::default());
            streams.table.push(stream);
        }
        let whole = streams.table.len().next_multiple_of(CHANNELS);
        streams.table.resize(whole, Stream::default());
        streams.clock = VenueClock::read(state)?;
        for _ in 0..state.length(8)? {
            streams.recent.push(Recent::read(state)?);
        }
        for _ in 0..state.length(4)? {
            let place = state.place()?;
            streams.trouble.insert(place, Trouble::read(state)?);
        }
        for _ in 0..state.length(8)? {
            let mut windows = Vec::new();
            for _ in 0..state.length(12)? {
                windows.push(Window::read(state)?);
            }
            streams.windows.push(windows);
        }
        Ok(streams)
    }
}
