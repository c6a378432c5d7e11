//! Set `clocks`: quantiles of the latency of the last bar, and how far the venue's clock drifts.
//!
//! The drift is that of the line under all latencies of the last `span_bars` bars of `bar_ms`: it
//! explains what the clocks do, and the least delay; what is above it is queues and jitter. Offset
//! and least delay are one number: one-way latencies cannot tell them apart.

use std::collections::VecDeque;

use super::family::{Change, Family, Moment, Print, Set, Values};
use super::histogram::Histogram;
use super::table::{Line, Per};
use crate::error::Result;
use crate::estimators::clock_line::Hull;
use crate::processors::state::{StateReader, StateWriter};

/// A least latency that falls by more between two bars is a step of a clock: the line begins anew.
const STEP_NS: i64 = 1_000_000;
const NO_EVENT: &str = "no event with a venue's time in the last bar";
const FEW: &str = "fewer than two bars with an event";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: NO_EVENT }
}

const fn of_line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { null: FEW, ..line(name, formula, unit) }
}

pub(super) const SET: Set = Set {
    name: "clocks",
    doc: "latency of the last bar by quantiles, and the drift of the venue's clock",
    lines: &[
        line("latency_p50", "nearest rank, within 0.1 %, over the last bar of `bar_ms`", "ns"),
        line("latency_p90", "the same", "ns"),
        line("latency_p99", "the same", "ns"),
        line("latency_p999", "the same, of 99.9 %", "ns"),
        line("stamp_resolution", "largest number of ns that divides all times of the venue", "ns"),
        of_line(
            "clock_drift",
            "slope of the line under all latencies of the last bars",
            "ns of ns",
        ),
        of_line("clock_offset", "height of that line: offset of the clocks and least delay", "ns"),
        of_line("clock_excess_p50", "latency_p50 - clock_offset", "ns"),
    ],
    build: |terms| Box::new(Clocks::new(terms.bar, terms.span)),
    has_book: false,
};

#[derive(Debug)]
struct Clocks {
    bar: i64,
    span: usize,
    /// End of the open bar; `i64::MAX` before the first event.
    end: i64,
    latencies: Histogram,
    least: i64,
    /// Largest common divisor of the venue's times.
    divisor: u64,
    open: Hull,
    /// Hulls of the bars that are over.
    hulls: VecDeque<Hull>,
    /// Least latency of the bar before.
    floor: i64,
    values: [(Option<f64>, u64); 8],
}

const fn divisor_of(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Clocks {
    fn new(bar: i64, span: usize) -> Self {
        Self {
            bar,
            span,
            end: i64::MAX,
            latencies: Histogram::default(),
            least: i64::MAX,
            divisor: 0,
            open: Hull::default(),
            hulls: VecDeque::new(),
            floor: i64::MAX,
            values: [(None, 0); 8],
        }
    }

    fn take(&mut self, ts: i64, ts_event: i64, latency: Option<i64>) {
        self.advance(ts);
        let Some(latency) = latency else { return };
        self.latencies.add(latency);
        self.least = self.least.min(latency);
        self.divisor = divisor_of(self.divisor, ts_event.unsigned_abs());
        self.open.add(ts_event, latency);
    }

    fn advance(&mut self, ts: i64) {
        if ts >= self.end && self.end != i64::MAX {
            self.close();
        }
        if ts >= self.end || self.end == i64::MAX {
            self.end = (ts.div_euclid(self.bar) + 1).saturating_mul(self.bar);
        }
    }

    fn close(&mut self) {
        let count = self.latencies.count();
        self.values = [(None, 0); 8];
        if count > 0 {
            for (value, share) in self.values.iter_mut().zip([0.5, 0.9, 0.99, 0.999]) {
                *value = (self.latencies.quantile(share), count);
            }
            self.values[4] = (Some(self.divisor as f64), count);
            if self.floor != i64::MAX && self.least.saturating_add(STEP_NS) < self.floor {
                self.hulls.clear();
            }
            if self.hulls.len() == self.span {
                self.hulls.pop_front();
            }
            self.hulls.push_back(std::mem::take(&mut self.open));
            self.floor = self.least;
            self.fit();
        }
        self.latencies.clear();
        self.least = i64::MAX;
    }

    fn fit(&mut self) {
        if self.hulls.len() < 2 {
            return;
        }
        let whole = Hull::of_parts(&self.hulls);
        let count = whole.count();
        let last = self.hulls.back().and_then(|hull| hull.corners().last());
        if let (Some(line), Some(&(ts, _))) = (whole.line(), last) {
            let offset = line.at(ts);
            self.values[5] = (Some(line.slope), count);
            self.values[6] = (Some(offset), count);
            self.values[7] = (self.values[0].0.map(|middle| middle - offset), count);
        }
    }
}

impl Family for Clocks {
    fn change(&mut self, change: &Change) {
        self.take(change.ts, change.ts_event, change.latency);
    }

    fn print(&mut self, print: &Print) {
        self.take(print.ts, print.ts_event, print.latency);
    }

    fn reset(&mut self) {
        // The clocks go on: what breaks the stream of a market breaks nothing here.
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.end != i64::MAX {
            self.advance(moment.ts);
        }
        for (value, count) in self.values {
            out.push(value, count);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.bar);
        state.i64(self.span as i64);
        for value in [self.end, self.least, self.floor] {
            state.i64(value);
        }
        state.u64(self.divisor);
        self.latencies.write(state);
        state.length(self.hulls.len());
        for hull in self.hulls.iter().chain([&self.open]) {
            let (count, sum) = hull.parts();
            state.u64(count);
            super::window::put_wide(sum, state);
            state.length(hull.corners().len());
            for &(x, y) in hull.corners() {
                state.i64(x);
                state.i64(y);
            }
        }
        for (value, count) in self.values {
            state.u64(value.unwrap_or(f64::NAN).to_bits());
            state.u64(count);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("bar_ms", self.bar, state.i64()?)?;
        super::same_setting("span_bars", self.span as i64, state.i64()?)?;
        (self.end, self.least, self.floor) = (state.i64()?, state.i64()?, state.i64()?);
        self.divisor = state.u64()?;
        self.latencies.read(state)?;
        self.hulls.clear();
        for _ in 0..state.length(32)? {
            self.hulls.push_back(take_hull(state)?);
        }
        self.open = take_hull(state)?;
        for (value, count) in &mut self.values {
            *value = Some(f64::from_bits(state.u64()?)).filter(|value| !value.is_nan());
            *count = state.u64()?;
        }
        Ok(())
    }
}

fn take_hull(state: &mut StateReader<'_>) -> Result<Hull> {
    let parts = (state.u64()?, super::window::take_wide(state)?);
    let mut corners = Vec::new();
    for _ in 0..state.length(16)? {
        corners.push((state.i64()?, state.i64()?));
    }
    Ok(Hull::from_parts(corners, parts))
}
