//! Set `ofi_beta`: how far order-flow imbalance moves the mid (Cont, Kukanov & Stoikov 2014), as a
//! regression over the last `ofi_span_bars` buckets of `ofi_bar_ms`.
//!
//! A bucket is (kW, (k+1)W], so that its flow and its change of the mid are those of the rolling
//! windows at its end. Buckets without a mid at both edges are left out.

use std::collections::VecDeque;

use super::family::{Best, Change, Family, Moment, Set, Values};
use super::measured::on_grid;
use super::ofi::flow;
use super::table::{Line, Per};
use super::window::{put_wide, take_wide};
use crate::error::Result;
use crate::estimators::linear::regress;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{NONE, SIZE_SCALE};

/// Buckets that a regression is made of, at least.
const BUCKETS_MIN: usize = 10;
const FEW: &str = "fewer than 10 buckets with a mid at both edges and a known tick size, or ofi \
                   does not vary";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: FEW }
}

pub(super) const SET: Set = Set {
    name: "ofi_beta",
    doc: "how far order-flow imbalance moves the mid, over the last `ofi_span_bars` buckets",
    lines: &[
        line(
            "ofi_beta",
            "slope of the change of the mid on ofi, by buckets of `ofi_bar_ms`, with intercept",
            "ticks of a size",
        ),
        line("ofi_beta_intercept", "its intercept", "ticks"),
        line("ofi_beta_t", "its t statistic", "1"),
        line("ofi_beta_r2", "its R2", "0 to 1"),
    ],
    build: |terms| Box::new(Beta::new(terms.ofi_bar, terms.ofi_span)),
    has_book: false,
};

/// Flow in units of size, and the change of the mid in ticks, of a bucket.
type Bucket = (i128, f64);

#[derive(Debug)]
struct Beta {
    bar: i64,
    span: usize,
    best: Option<Best>,
    tick: i64,
    /// End of the open bucket; `i64::MAX` before the first event.
    end: i64,
    /// Twice the mid at its start.
    start: Option<i128>,
    flow: i128,
    buckets: VecDeque<Option<Bucket>>,
    values: [(Option<f64>, u64); 4],
}

impl Beta {
    fn new(bar: i64, span: usize) -> Self {
        Self {
            bar,
            span,
            best: None,
            tick: NONE,
            end: i64::MAX,
            start: None,
            flow: 0,
            buckets: VecDeque::new(),
            values: [(None, 0); 4],
        }
    }

    /// Ends the buckets that end before `ts`.
    fn advance(&mut self, ts: i64) {
        if self.end == i64::MAX {
            self.end = on_grid(ts, self.bar);
            return;
        }
        if ts <= self.end {
            return;
        }
        // Of a long silence, the buckets that the span holds no more make no difference.
        let skipped = (ts - self.end) / self.bar - self.span as i64;
        self.close();
        if skipped > 0 {
            self.end += skipped * self.bar;
        }
        while ts > self.end {
            self.close();
        }
        self.values = self.calculate();
    }

    fn close(&mut self) {
        let mid2 = self.best.filter(Best::is_sound).map(|best| best.mid2());
        let has_tick = self.tick != NONE && self.tick > 0;
        let bucket = match (self.start, mid2) {
            (Some(before), Some(after)) if has_tick => {
                Some((self.flow, (after - before) as f64 / (2.0 * self.tick as f64)))
            }
            _ => None,
        };
        if self.buckets.len() == self.span {
            self.buckets.pop_front();
        }
        self.buckets.push_back(bucket);
        (self.start, self.flow) = (mid2, 0);
        self.end = self.end.saturating_add(self.bar);
    }

    fn calculate(&self) -> [(Option<f64>, u64); 4] {
        let known = self.buckets.iter().flatten();
        let points: Vec<(f64, f64)> =
            known.map(|&(flow, change)| (flow as f64 / SIZE_SCALE as f64, change)).collect();
        let line = regress(&points).filter(|_| points.len() >= BUCKETS_MIN);
        let count = points.len() as u64;
        [
            (line.map(|line| line.slope), count),
            (line.map(|line| line.intercept), count),
            (line.map(|line| line.t), count),
            (line.map(|line| line.r2), count),
        ]
    }
}

impl Family for Beta {
    fn change(&mut self, change: &Change) {
        self.advance(change.ts);
        self.tick = change.tick;
        if let Some(before) = &change.before {
            self.flow += flow(before, &change.after);
        }
        self.best = Some(change.after);
    }

    fn reset(&mut self) {
        *self = Self::new(self.bar, self.span);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.end != i64::MAX {
            self.advance(moment.ts.saturating_add(i64::from(moment.is_complete)));
        }
        for (value, count) in self.values {
            out.push(value, count);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.bar);
        state.i64(self.span as i64);
        super::put_best(self.best, state);
        state.i64(self.tick);
        state.i64(self.end);
        state.flag(self.start.is_some());
        put_wide(self.start.unwrap_or(0), state);
        put_wide(self.flow, state);
        state.length(self.buckets.len());
        for bucket in &self.buckets {
            state.flag(bucket.is_some());
            let (flow, change) = bucket.unwrap_or_default();
            put_wide(flow, state);
            state.u64(change.to_bits());
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("ofi_bar_ms", self.bar, state.i64()?)?;
        super::same_setting("ofi_span_bars", self.span as i64, state.i64()?)?;
        self.best = super::take_best(state)?;
        (self.tick, self.end) = (state.i64()?, state.i64()?);
        let has_start = state.flag()?;
        self.start = Some(take_wide(state)?).filter(|_| has_start);
        self.flow = take_wide(state)?;
        self.buckets.clear();
        for _ in 0..state.length(25)? {
            let is_known = state.flag()?;
            let bucket = (take_wide(state)?, f64::from_bits(state.u64()?));
            self.buckets.push_back(Some(bucket).filter(|_| is_known));
        }
        self.values = if self.buckets.is_empty() { [(None, 0); 4] } else { self.calculate() };
        Ok(())
    }
}
