//! Events below what was passed on: a line that is behind, a repetition, or a venue that counts
//! anew.
//!
//! A line that is behind brings what another brought before it, and that one goes on. A repetition
//! says the times of old as well. Neither is a loss. Where such events are many beside those that
//! are passed on, for long, and later than these, the sequences that were believed are those that
//! are wrong: then the venue counts anew, and the ledger has the time of all that was dropped.

use super::event::Event;
use super::streams::{self, Stream};
use super::{Arbiter, Force};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Bar, Plain, Records};
use crate::sequencing::Rule;

/// A run of stale events is a venue that counts anew after so many, and so long, in ns, where they
/// came on the line that was ahead, or that line is gone.
const STALE_MOST: u64 = 16;
const STALE_NS: i64 = 10_000_000_000;
/// The same where that line is open and silent.
const STALE_OPEN_NS: i64 = 300_000_000_000;
/// One event passed on outweighs so many that were dropped on another line: it shows that the run
/// is of a line that is behind. A few that lie do not; on one line those passed on must be more.
const OUTWEIGHS: u64 = 8;

/// A run of events that were dropped as stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stale {
    /// How many.
    count: u64,
    /// How many were passed on since the first.
    passed: u64,
    /// The line of the last one.
    line: u32,
    /// When the first came, on the arbiter's own clock, in ns.
    since: i64,
    /// The earliest time that one said.
    pub ts_first: i64,
}

impl Stale {
    /// An event of `line` was passed on. Says whether the run is no sign any more.
    pub fn is_outweighed(&mut self, line: u32) -> bool {
        self.passed += 1;
        let outweighs = if line == self.line { 1 } else { OUTWEIGHS };
        self.passed.saturating_mul(outweighs) >= self.count
    }

    /// Writes the run to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.u64(self.count);
        state.u64(self.passed);
        state.u32(self.line);
        state.i64(self.since);
        state.i64(self.ts_first);
    }

    /// Reads the run from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self {
            count: state.u64()?,
            passed: state.u64()?,
            line: state.u32()?,
            since: state.i64()?,
            ts_first: state.i64()?,
        })
    }
}

impl Arbiter {
    /// Takes in an event below what was passed on, and says whether it was passed on itself: a long
    /// run of them is of no line that is behind, and those that a gap lacks are few.
    pub(super) fn begins_anew(
        &mut self,
        place: usize,
        event: &Event,
        bytes: &[u8],
        out: &mut Records,
    ) -> Result<bool> {
        if self.streams.is_repetition(place, event) {
            // Those before it were repetitions as well.
            self.streams.at(place).state &= !streams::STALE;
            return Ok(false);
        }
        let stream = *self.streams.at(place);
        let elapsed = self.elapsed;
        let run = &mut self.streams.trouble(place).stale;
        if stream.state & streams::STALE == 0 {
            let (since, ts_first) = (elapsed, event.ts_event);
            *run = Stale { count: 0, passed: 0, line: 0, since, ts_first };
        }
        run.count += 1;
        run.line = self.lines.line().serial;
        run.ts_first = run.ts_first.min(event.ts_event);
        let run = *run;
        let is_other = self.lines.is_open(stream.line) && stream.line != self.lines.line().serial;
        let limit = if is_other { STALE_OPEN_NS } else { STALE_NS };
        let is_long = run.count >= STALE_MOST && elapsed - run.since >= limit;
        if is_long && self.is_news(&stream, event, bytes) {
            self.begin_anew(place, event, bytes, out)?;
            return Ok(true);
        }
        self.streams.at(place).state |= streams::STALE;
        Ok(false)
    }

    /// Whether an event happened later than what was passed on: a repetition did not, as when a
    /// capture is imported again.
    fn is_news(&self, stream: &Stream, event: &Event, bytes: &[u8]) -> bool {
        if event.rule != Rule::Window {
            // What was passed on last may have said more than its receipt, by so much.
            return event.ts_event >= stream.ts_last.saturating_sub(self.streams.clock.margin());
        }
        let now = self.streams.clock.now(event.ts_recv);
        let length = Bar::read_from(bytes).map_or(0, |bar| i64::from(bar.interval_ms) * 1_000_000);
        event.ts_event <= now && now.saturating_sub(event.ts_event) <= length.saturating_mul(2)
    }

    /// Passes an event of a venue that counts anew.
    fn begin_anew(
        &mut self,
        place: usize,
        event: &Event,
        bytes: &[u8],
        out: &mut Records,
    ) -> Result<()> {
        self.release(place, Force::All, out)?;
        let before = *self.streams.at(place);
        self.end_outage(place, &before, event, out);
        self.declare_reset(place, event, out);
        if event.rule == Rule::Window {
            self.streams.replace_window(place, event, bytes, self.lines.line());
        } else {
            self.streams.reset(place, event, self.lines.line());
        }
        self.write(event, bytes, 0, out)
    }
}
