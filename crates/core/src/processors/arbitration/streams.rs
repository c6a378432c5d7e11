//! Where each stream stands: one entry per (instrument, channel), indexed directly.
//!
//! What every event needs is in [`Stream`], 40 bytes; what only troubled streams need is in
//! [`Trouble`], aside.

use std::collections::BTreeMap;

use super::event::{Event, Rule};
use super::hold::Hold;
use super::ranges::Ranges;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Bar, Channel, Plain};

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

/// A lower sequence that is this much later is not a repeat: the venue began to count anew.
const RESET_NS: i64 = 10_000_000_000;
/// The same for streams without a time of the venue, where a slow line may be late itself.
const RESET_UNTIMED_NS: i64 = 60_000_000_000;

/// Where one stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// Sequence of the last event passed on. For bars: one more than the place of their windows.
    pub last: u64,
    /// First sequence passed on live. During an outage of a stream without sequence: `ts_event`
    /// of the last event before it.
    pub first: u64,
    /// `ts_event` of the last event passed on.
    pub ts_last: i64,
    /// Any of the bits above.
    pub state: u8,
    /// Group of the lines that carry it.
    pub group: u16,
}

/// What only troubled streams need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Sequences that are missing.
    pub missing: Ranges,
    /// Sequences that came from the venue's history and not live.
    pub history: Ranges,
    /// Events that wait.
    pub hold: Hold,
}

/// The last two windows of a venue's bars of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    interval_ms: u32,
    bars: Vec<Bar>,
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
    /// The venue began to count anew.
    Reset,
}

/// Where all streams stand.
#[derive(Debug, Default)]
pub struct Streams {
    table: Vec<Stream>,
    trouble: BTreeMap<u32, Trouble>,
    windows: Vec<Vec<Window>>,
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

    /// The trouble of the stream at `place`.
    pub fn trouble(&mut self, place: usize) -> &mut Trouble {
        self.trouble.entry(place as u32).or_default()
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
    pub fn follows(&mut self, event: &Event, group: u16) -> bool {
        if event.rule == Rule::Free {
            return true;
        }
        let place = self.place(event.instrument, event.channel);
        let stream = &mut self.table[place];
        let is_next = match event.rule {
            Rule::Contiguous => event.previous == stream.last,
            Rule::Rising => event.sequence > stream.last,
            Rule::Window | Rule::Free => false,
        };
        let calm = stream.state & (SEEN | HOLDING | HISTORY | OUTAGE) == SEEN;
        if !(is_next && calm) || event.historical {
            return false;
        }
        stream.last = event.sequence;
        stream.ts_last = event.ts_event;
        stream.group = group;
        true
    }

    /// Decides on an event, given its bytes, and moves the stream on if it passes.
    pub fn judge(&mut self, place: usize, event: &Event, bytes: &[u8], group: u16) -> Verdict {
        match event.rule {
            Rule::Free => Verdict::Pass,
            Rule::Window => self.judge_window(place, event, bytes, group),
            _ if event.historical => self.judge_history(place, event),
            _ => self.judge_live(place, event, group),
        }
    }

    fn judge_live(&mut self, place: usize, event: &Event, group: u16) -> Verdict {
        let stream = &mut self.table[place];
        stream.group = group;
        if stream.state & SEEN != 0 && event.sequence <= stream.last {
            return self.judge_repeat(place, event);
        }
        let contiguous = event.rule == Rule::Contiguous;
        if stream.state & SEEN != 0 && contiguous && event.previous > stream.last {
            return Verdict::Jump;
        }
        if stream.state & SEEN == 0 {
            stream.first = event.sequence;
        }
        self.pass(place, event);
        if self.table[place].state & HISTORY != 0 && self.is_known_history(place, event.sequence) {
            return Verdict::Duplicate;
        }
        Verdict::Pass
    }

    /// Moves the stream on to `event`.
    pub fn pass(&mut self, place: usize, event: &Event) {
        let stream = &mut self.table[place];
        stream.state |= SEEN;
        stream.last = event.sequence;
        stream.ts_last = event.ts_event;
    }

    /// Moves the stream on to `event`, forgetting all sequences before it.
    pub fn reset(&mut self, place: usize, event: &Event) {
        self.pass(place, event);
        let stream = &mut self.table[place];
        stream.first = event.sequence;
        stream.state &= !(MISSING | HISTORY | HOLDING);
        self.trouble.remove(&(place as u32));
    }

    /// Notes that `first` to `last` are missing.
    pub fn miss(&mut self, place: usize, first: u64, last: u64) {
        self.table[place].state |= MISSING;
        self.trouble(place).missing.insert(first, last);
    }

    fn judge_repeat(&mut self, place: usize, event: &Event) -> Verdict {
        let stream = self.table[place];
        let venue_timed = event.ts_event != event.ts_recv;
        let reset_ns = if venue_timed { RESET_NS } else { RESET_UNTIMED_NS };
        // An equal sequence is always a repeat; a lower one that is far later in time cannot be.
        if event.sequence < stream.last && event.ts_event > stream.ts_last.saturating_add(reset_ns)
        {
            return Verdict::Reset;
        }
        if stream.state & MISSING != 0 && self.trouble(place).missing.contains(event.sequence) {
            if !event.is_trade() {
                return Verdict::Late;
            }
            return self.fill(place, event.sequence);
        }
        if event.is_trade() && event.sequence < stream.first {
            return self.judge_early(place, event.sequence);
        }
        Verdict::Duplicate
    }

    fn fill(&mut self, place: usize, sequence: u64) -> Verdict {
        let trouble = self.trouble(place);
        trouble.missing.remove(sequence);
        if trouble.missing.is_empty() {
            self.table[place].state &= !MISSING;
        }
        Verdict::Fill
    }

    /// A trade from before all that was seen live: new unless it came before.
    fn judge_early(&mut self, place: usize, sequence: u64) -> Verdict {
        let history = &mut self.trouble(place).history;
        if history.contains(sequence) {
            return Verdict::Duplicate;
        }
        history.insert(sequence, sequence);
        Verdict::Early
    }

    fn judge_history(&mut self, place: usize, event: &Event) -> Verdict {
        let stream = self.table[place];
        if !event.is_trade() {
            return Verdict::Pass;
        }
        if stream.state & SEEN == 0 {
            self.table[place].state |= HISTORY;
        } else if event.sequence >= stream.first {
            if stream.state & MISSING != 0 && self.trouble(place).missing.contains(event.sequence) {
                return self.fill(place, event.sequence);
            }
            // Either passed on already, or still to come live.
            return Verdict::Duplicate;
        }
        match self.judge_early(place, event.sequence) {
            Verdict::Early => Verdict::Pass,
            other => other,
        }
    }

    /// Whether the live event `sequence` was passed on as history before.
    fn is_known_history(&mut self, place: usize, sequence: u64) -> bool {
        let history = &self.trouble(place).history;
        let (known, highest) = (history.contains(sequence), history.highest());
        if highest.is_none_or(|highest| highest <= sequence) {
            self.table[place].state &= !HISTORY;
        }
        known
    }

    fn judge_window(&mut self, place: usize, event: &Event, bytes: &[u8], group: u16) -> Verdict {
        let Some(bar) = Bar::read_from(bytes) else {
            return Verdict::Pass;
        };
        let stream = &mut self.table[place];
        stream.group = group;
        if stream.last == 0 {
            self.windows.push(Vec::new());
            stream.last = self.windows.len() as u64;
        }
        let windows = &mut self.windows[stream.last as usize - 1];
        let at = windows.iter().position(|window| window.interval_ms == bar.interval_ms);
        let at = at.unwrap_or_else(|| {
            windows.push(Window { interval_ms: bar.interval_ms, bars: Vec::with_capacity(3) });
            windows.len() - 1
        });
        if !windows[at].takes(&bar) {
            return Verdict::Duplicate;
        }
        stream.state |= SEEN;
        stream.ts_last = event.ts_event;
        Verdict::Pass
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
        }
        state.length(self.trouble.len());
        for (&place, trouble) in &self.trouble {
            state.u32(place);
            trouble.missing.write(state);
            trouble.history.write(state);
            trouble.hold.write(state);
        }
        state.length(self.windows.len());
        for windows in &self.windows {
            state.length(windows.len());
            for window in windows {
                state.u32(window.interval_ms);
                state.length(window.bars.len());
                window.bars.iter().for_each(|bar| state.plain(bar));
            }
        }
    }

    /// Reads all from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut streams = Self::default();
        for _ in 0..state.length(2)? {
            let mut stream = Stream { state: state.u8()?, ..Stream::default() };
            if state.flag()? {
                stream.last = state.u64()?;
                stream.first = state.u64()?;
                stream.ts_last = state.i64()?;
                stream.group = state.u32()? as u16;
            }
            streams.table.push(stream);
        }
        for _ in 0..state.length(4)? {
            let place = state.u32()?;
            let missing = Ranges::read(state)?;
            let history = Ranges::read(state)?;
            let hold = Hold::read(state)?;
            streams.trouble.insert(place, Trouble { missing, history, hold });
        }
        for _ in 0..state.length(8)? {
            let mut windows = Vec::new();
            for _ in 0..state.length(12)? {
                let interval_ms = state.u32()?;
                let mut bars = Vec::with_capacity(3);
                for _ in 0..state.length(size_of::<Bar>())? {
                    bars.push(state.plain()?);
                }
                windows.push(Window { interval_ms, bars });
            }
            streams.windows.push(windows);
        }
        Ok(streams)
    }

    /// Whether a stream of `channel` can lose events without its sequence showing it.
    pub const fn is_silent(channel: u8) -> bool {
        channel == Channel::Quote as u8
            || channel == Channel::PartialDepth as u8
            || channel == Channel::Kline as u8
            || channel == Channel::Ticker as u8
            || channel == Channel::Mark as u8
    }
}

impl Window {
    /// Whether `bar` says more than what is known of its window; if so, it is remembered.
    fn takes(&mut self, bar: &Bar) -> bool {
        let open = bar.header.ts_event;
        let at = self.bars.partition_point(|known| known.header.ts_event < open);
        let is_full = self.bars.len() == 2;
        match self.bars.get_mut(at).filter(|known| known.header.ts_event == open) {
            Some(known) => {
                let mut same = *bar;
                same.header.ts_recv = known.header.ts_recv;
                let is_newer = known.closed == 0 && bar.count >= known.count && same != *known;
                if is_newer {
                    *known = *bar;
                }
                is_newer
            }
            None if at == 0 && is_full => false,
            None => {
                self.bars.insert(at, *bar);
                if is_full {
                    self.bars.remove(0);
                }
                true
            }
        }
    }
}
