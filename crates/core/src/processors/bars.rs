//! Bars built from trades, exact in every column.
//!
//! Windows lie on the epoch: `[k * interval, (k + 1) * interval)` of event time. A bar is written
//! when a trade of its instrument at or after its end arrives, or when the receive times of the
//! tape pass its end by `grace_ms`. A later trade of the window gives the whole bar again, flagged
//! as out of order. A window without trades has no bar. A bar in whose window trades may be missing
//! is flagged `FLAG_MAYBE_BAD`, and written again without the flag when they came after all; so is
//! the first bar of an instrument, unless the recording saw its first trade. A volume that does not
//! fit its field is absent, and its bar flagged so too; the turnover stays exact. Sequences tell
//! which trade is first and last; times do where trades have none, then the order on the tape.
//!
//! What a trade may change of a bar is said by its conditions, by the rules of its feed. A window
//! of which no trade sets open and close has no bar.
//!
//! A bar within which a recording begins or ends is partial: it is flagged as well, and `closed` is
//! 0 for good. At the end of a recording all open bars are written.
//!
//! `ts_recv` of a bar is that of the record that closed it: nobody could have known it sooner.

use super::state::{StateReader, StateWriter};
use super::ticks::trade_channel;
use super::{Batch, Processor, Settings};
use crate::error::{Error, Result};
use crate::record::{
    records, Bar, Channel, GapCause, GapState, Header, Marker, MarkerCode, Plain, Record, Records,
    Trade, FLAG_MAYBE_BAD, FLAG_OUT_OF_ORDER, NONE,
};

mod gone;
mod lost;
mod series;
mod watermark;

use lost::Lost;
use series::{Series, LATE_GRID_NS};
pub(crate) use watermark::Watermark;

const NAME: &str = "bars";
const VERSION: u32 = 6;
/// Without which windows are live.
const VERSION_5: u32 = 5;
/// Without what concerned all instruments before one was first seen.
const VERSION_4: u32 = 4;
/// Without the times of windows.
const VERSION_3: u32 = 3;
const INTERVALS_MS: [i64; 3] = [1_000, 60_000, 300_000];
const GRACE_MS: i64 = 2_000;
/// A trade that is later than the newest window, and than the receive times, by more than this
/// closes nothing: it may be wrong, and if it is not, the next one closes what it left open.
const BOLD_NS: i64 = 60_000_000_000;

/// The processor `bars`.
#[derive(Debug)]
pub struct Bars {
    intervals_ms: Vec<u32>,
    channel: u8,
    grace_ns: i64,
    /// By instrument id.
    series: Vec<Series>,
    /// What an instrument begins with: the losses so far that concern all.
    unseen: Series,
    /// How far the receive times are.
    watermark: Watermark,
    /// The earliest moment at which a window may be closed by the watermark.
    deadline: i64,
    /// Trades too old for any window that is kept.
    too_late: u64,
    written: u64,
    revised: u64,
}

/// Builds the processor. Settings: `intervals_ms`; `channel`, `trade` or `agg_trade`; `grace_ms`.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let mut intervals_ms = Vec::new();
    for interval in settings.numbers("intervals_ms", &INTERVALS_MS)? {
        let interval = u32::try_from(interval).map_err(|_| {
            Error::invalid(format!("intervals_ms: {interval} ms is longer than 49 days"))
        })?;
        if !intervals_ms.contains(&interval) {
            intervals_ms.push(interval);
        }
    }
    let grace_ms = settings.number("grace_ms", GRACE_MS, 0)?;
    Ok(Box::new(Bars {
        unseen: Series::new(intervals_ms.len()),
        intervals_ms,
        channel: trade_channel(settings)? as u8,
        grace_ns: grace_ms.saturating_mul(1_000_000),
        series: Vec::new(),
        watermark: Watermark::default(),
        deadline: i64::MAX,
        too_late: 0,
        written: 0,
        revised: 0,
    }))
}

impl Bars {
    #[inline]
    fn watch(&mut self, ts_recv: i64, out: &mut Records) {
        if self.watermark.take(ts_recv) && ts_recv >= self.deadline {
            self.sweep(out);
        }
    }

    /// Writes all windows whose time is over by the watermark.
    #[cold]
    fn sweep(&mut self, out: &mut Records) {
        let watermark = self.watermark.ts();
        self.deadline = i64::MAX;
        for series in &mut self.series {
            for at in 0..series.windows.len() {
                let mut is_any = false;
                for window in series.windows[at].iter_mut().filter(|window| window.is_open) {
                    if window.deadline <= watermark {
                        (window.is_open, is_any) = (false, true);
                        self.written += write(&window.bar, watermark, out);
                    } else {
                        self.deadline = self.deadline.min(window.deadline);
                    }
                }
                // Only then: which windows are kept is not for other instruments to say.
                if is_any {
                    series.trim(at, watermark, |bar| {
                        self.written += write(bar, watermark, out);
                    });
                }
            }
        }
    }

    #[inline]
    fn series(&mut self, instrument: u32) -> &mut Series {
        let at = instrument as usize;
        if at >= self.series.len() {
            self.series.resize(at + 1, self.unseen.clone());
        }
        &mut self.series[at]
    }

    #[inline]
    fn trade(&mut self, trade: &Trade, out: &mut Records) {
        if trade.channel != self.channel || trade.header.ts_event == NONE {
            return;
        }
        let instrument = trade.header.instrument;
        let watermark = self.watermark.ts();
        self.series(instrument);
        for at in 0..self.intervals_ms.len() {
            let interval_ms = self.intervals_ms[at];
            let series = &mut self.series[instrument as usize];
            if let Some(deadline) = series.extend(at, interval_ms, trade, self.grace_ns) {
                self.note_due(deadline);
            } else if !self.place(at, trade, out) {
                self.too_late += 1;
                continue;
            }
            self.series[instrument as usize].trim(at, watermark, |bar| {
                self.written += write(bar, watermark, out);
            });
        }
    }

    /// Takes in when a window may be closed. One that is past is due at the next time of the grid,
    /// whoever's record that is.
    #[inline]
    fn note_due(&mut self, deadline: i64) {
        if deadline < self.deadline {
            let next = after(self.watermark.ts(), LATE_GRID_NS, self.grace_ns);
            self.deadline = self.deadline.min(deadline.max(next));
        }
    }

    /// Finds or makes the window of a trade, of the interval number `at`, and writes the windows
    /// that are over by it; says whether it is kept.
    #[inline(never)]
    fn place(&mut self, at: usize, trade: &Trade, out: &mut Records) -> bool {
        let watermark = self.watermark.ts();
        let series = &mut self.series[trade.header.instrument as usize];
        let newest_end = series.windows[at].back().map_or(i64::MAX, |window| window.end());
        let Some(place) = series.add(at, self.intervals_ms[at], trade, self.grace_ns) else {
            return false;
        };
        let windows = &mut series.windows[at];
        let is_bold = trade.header.ts_event.saturating_sub(BOLD_NS) > newest_end.max(watermark);
        if place > 0 && !is_bold {
            // Windows before this one are over: the venue's trades come in order of time.
            let over = windows.iter_mut().take(place).filter(|window| window.is_open);
            for window in over {
                window.is_open = false;
                self.written += write(&window.bar, watermark, out);
            }
        }
        let is_late = windows.iter().skip(place).any(|window| !window.is_open);
        let window = &mut windows[place];
        let deadline = window.deadline;
        if is_late {
            window.is_open = false;
            window.bar.header.flags |= FLAG_OUT_OF_ORDER;
            self.revised += write(&window.bar, watermark, out);
        }
        if place == 0 || !is_bold {
            series.settle(at, place);
        }
        if !is_late {
            self.note_due(deadline);
        }
        true
    }

    fn gap(&mut self, gap: &Marker, out: &mut Records) {
        let is_mine = gap.channel == self.channel || gap.channel == Channel::None as u8;
        if !is_mine {
            return;
        }
        if gap.state == GapState::Repaired as u8 {
            self.repair(gap, out);
            return;
        }
        if gap.cause == GapCause::Disconnect as u8 && gap.count != u32::MAX {
            // The outage is over, and the ids of the trades tell what it cost.
            self.end_outage(gap, out);
            return;
        }
        let gone = [GapCause::Retention as u8, GapCause::Damage as u8];
        let start =
            if gone.contains(&gap.cause) { self.watermark.ts() } else { gap.header.ts_event };
        self.lose(gap.header.instrument, Lost::new(gap, start), out);
    }

    /// Writes all open windows when the recorder stops; those that go on are partial.
    fn end(&mut self, ts: i64, out: &mut Records) {
        let watermark = self.watermark.ts();
        self.deadline = i64::MAX;
        for series in &mut self.series {
            for at in 0..series.windows.len() {
                for window in series.windows[at].iter_mut().filter(|window| window.is_open) {
                    if window.end() > ts {
                        window.cut();
                    }
                    window.is_open = false;
                    self.written += write(&window.bar, watermark, out);
                }
                series.trim(at, watermark, |bar| {
                    self.written += write(bar, watermark, out);
                });
            }
        }
    }

    fn marker(&mut self, marker: &Marker, out: &mut Records) {
        let (ts, ts_recv) = (marker.header.ts_event, marker.header.ts_recv);
        // Of a source that is behind its venue, what was received by then happened long before.
        let behind = ts.saturating_sub(ts_recv).min(0);
        match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::Gap) => self.gap(marker, out),
            Ok(MarkerCode::EndOfSession) => self.end(ts_recv.saturating_add(behind), out),
            // A recorder starts. What came before, and from when on nothing did, it says itself.
            Ok(MarkerCode::Connected)
                if marker.first == u64::from(u16::MAX) && marker.ts_start <= ts_recv =>
            {
                let shift = |ts: i64| ts.saturating_add(behind);
                self.lose(0, Lost::not_recorded(shift(marker.ts_start), shift(ts_recv)), out);
            }
            _ => {}
        }
    }

    fn lose(&mut self, instrument: u32, lost: Lost, out: &mut Records) {
        let (watermark, mut revised) = (self.watermark.ts(), 0);
        let mut rewrite = |bar: &mut Bar| {
            revised += write(bar, watermark, out);
        };
        if instrument == 0 {
            self.series.iter_mut().for_each(|series| series.lose(lost, &mut rewrite));
            self.unseen.lose(lost, |_| {});
        } else {
            self.series(instrument).lose(lost, &mut rewrite);
        }
        self.revised += revised;
    }

    fn repair(&mut self, gap: &Marker, out: &mut Records) {
        let filled = Lost::new(gap, gap.header.ts_event);
        self.revise(gap, out, |series, rewrite| series.repair(&filled, rewrite));
    }

    fn end_outage(&mut self, gap: &Marker, out: &mut Records) {
        self.revise(gap, out, |series, rewrite| series.end_outage(gap.ts_start, rewrite));
    }

    /// Changes what the series of `gap` knows of its losses, and writes the bars again that change.
    fn revise(
        &mut self,
        gap: &Marker,
        out: &mut Records,
        change: impl FnOnce(&mut Series, &mut dyn FnMut(&mut Bar)),
    ) {
        let (watermark, mut revised) = (self.watermark.ts(), 0);
        change(self.series(gap.header.instrument), &mut |bar| {
            revised += write(bar, watermark, out);
        });
        self.revised += revised;
    }
}

/// The first of the times `k * interval + phase` behind `ts`; the lowest if there was none yet.
pub(crate) fn after(ts: i64, interval: i64, phase: i64) -> i64 {
    if ts == i64::MIN {
        return i64::MIN;
    }
    let steps = ts.saturating_sub(phase).div_euclid(interval);
    steps.saturating_add(1).saturating_mul(interval).saturating_add(phase)
}

/// Writes a bar, and returns how many that are: none of one without a trade that sets its prices.
fn write(bar: &Bar, watermark: i64, out: &mut Records) -> u64 {
    if bar.open == NONE || bar.high == NONE {
        return 0;
    }
    let mut header = Header { ts_recv: watermark, ..bar.header };
    if bar.volume == NONE || bar.buy_volume == NONE {
        header.flags |= FLAG_MAYBE_BAD;
    }
    out.push(&Bar { header, ..*bar });
    1
}

impl Processor for Bars {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        const TRADE: u8 = Trade::KIND as u8;
        const MARKER: u8 = Marker::KIND as u8;
        for record in records::iterate(batch.bytes) {
            self.watch(record.header().ts_recv, out);
            match record.kind() {
                TRADE => record.with(|trade| self.trade(trade, out)),
                MARKER => {
                    if let Some(marker) = Marker::read_from(record.bytes()) {
                        self.marker(&marker, out);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn lost(&mut self, gap: &Marker, out: &mut Records) -> Result<()> {
        self.gap(gap, out);
        Ok(())
    }

    fn due_grids(&self) -> Vec<(i64, i64)> {
        let intervals = self.intervals_ms.iter().map(|&ms| i64::from(ms) * 1_000_000);
        intervals.chain([LATE_GRID_NS]).map(|interval| (interval, self.grace_ns)).collect()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("written", self.written), ("revised", self.revised), ("too_late", self.too_late)]
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.length(self.intervals_ms.len());
        self.intervals_ms.iter().for_each(|&interval| state.u32(interval));
        self.watermark.write(&mut state);
        state.i64(self.deadline);
        for value in [self.written, self.revised, self.too_late] {
            state.u64(value);
        }
        state.length(self.series.len());
        self.series.iter().for_each(|series| series.write(&mut state));
        self.unseen.write(&mut state);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut state, version) =
            StateReader::of_any(bytes, NAME, &[VERSION, VERSION_5, VERSION_4, VERSION_3])?;
        let mut intervals = Vec::new();
        for _ in 0..state.length(4)? {
            intervals.push(state.u32()?);
        }
        if intervals != self.intervals_ms {
            return Err(Error::invalid(format!(
                "expected bars of {:?} ms, got a state of {intervals:?} ms",
                self.intervals_ms
            )));
        }
        let (watermark, deadline) = (Watermark::read(&mut state)?, state.i64()?);
        let counts = [state.u64()?, state.u64()?, state.u64()?];
        let mut series = Vec::new();
        for _ in 0..state.length(16)? {
            series.push(Series::read(&mut state, version != VERSION_3, version == VERSION)?);
        }
        let unseen = match version {
            VERSION | VERSION_5 => Series::read(&mut state, true, version == VERSION)?,
            _ => Series::new(self.intervals_ms.len()),
        };
        state.finish()?;
        (self.watermark, self.deadline) = (watermark, deadline);
        (self.series, self.unseen) = (series, unseen);
        [self.written, self.revised, self.too_late] = counts;
        Ok(())
    }
}
