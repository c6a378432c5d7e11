//! Set `ofi_integrated`: the flow of the ten best levels as one number (Cont, Cucuringu & Zhang
//! 2023).
//!
//! Behind each bucket of `ofi_bar_ms`, its flow by level, as parts of the mean size of a level, is
//! weighted by the first principal component of the buckets before it, `ofi_span_bars` at most:
//! never of itself.

use std::collections::VecDeque;

use super::family::{Best, Family, Moment, Set, Values};
use super::measured::on_grid;
use super::mlofi::{put_top, take_top, top_of, RANKS};
use super::ofi::flow;
use super::table::{Line, Per};
use super::window::{put_wide, take_wide};
use crate::book::L2Book;
use crate::error::Result;
use crate::estimators::linear::principal;
use crate::processors::state::{StateReader, StateWriter};

/// Buckets that weights are made of, at least.
const BUCKETS_MIN: usize = 30;
const FEW: &str = "fewer than 30 buckets before the last, no event in it, or the book is not \
                   verified";

pub(super) const SET: Set = Set {
    name: "ofi_integrated",
    doc: "order-flow imbalance of the ten best levels as one number, by buckets of `ofi_bar_ms`",
    lines: &[
        Line {
            name: "ofi_integrated",
            per: Per::One,
            formula:
                "w o of the last bucket: o_m = mlofi_m / mean size of a side of a level, w the \
                      first principal component of the buckets before it, sum of abs(w) = 1",
            unit: "1",
            null: FEW,
        },
        Line {
            name: "ofi_integrated_share",
            per: Per::One,
            formula: "share of the variance that this component explains",
            unit: "0 to 1",
            null: FEW,
        },
    ],
    build: |terms| Box::new(Integrated::new(terms.ofi_bar, terms.ofi_span)),
    has_book: true,
};

#[derive(Debug)]
struct Integrated {
    bar: i64,
    span: usize,
    top: Option<[Best; RANKS]>,
    /// End of the open bucket; `i64::MAX` before the first event.
    end: i64,
    flows: [i128; RANKS],
    /// Sizes of both sides of all levels, over events; and those.
    sizes: i128,
    events: i128,
    rows: VecDeque<[f64; RANKS]>,
    value: (Option<f64>, Option<f64>, u64),
}

impl Integrated {
    const fn new(bar: i64, span: usize) -> Self {
        Self {
            bar,
            span,
            top: None,
            end: i64::MAX,
            flows: [0; RANKS],
            sizes: 0,
            events: 0,
            rows: VecDeque::new(),
            value: (None, None, 0),
        }
    }

    fn advance(&mut self, ts: i64) {
        if self.end == i64::MAX {
            self.end = on_grid(ts, self.bar);
        }
        if ts > self.end {
            self.close();
            // Buckets without an event have no flow to be weighted.
            self.end = on_grid(ts, self.bar);
        }
    }

    fn close(&mut self) {
        let (flows, sizes) = (std::mem::take(&mut self.flows), std::mem::take(&mut self.sizes));
        let events = std::mem::take(&mut self.events);
        self.value = (None, None, self.rows.len() as u64);
        if sizes <= 0 {
            return;
        }
        let mean = sizes as f64 / (2 * RANKS as i128 * events) as f64;
        let row = flows.map(|flow| flow as f64 / mean);
        if self.rows.len() >= BUCKETS_MIN {
            let before: Vec<f64> = self.rows.iter().flatten().copied().collect();
            if let Some((weights, share)) = principal(&before, RANKS) {
                let value = weights.iter().zip(row).map(|(weight, flow)| weight * flow).sum();
                (self.value.0, self.value.1) = (Some(value), Some(share));
            }
        }
        if self.rows.len() == self.span {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }
}

impl Family for Integrated {
    fn book(&mut self, ts: i64, book: &L2Book) {
        self.advance(ts);
        let after = top_of(book);
        if let Some(before) = self.top.replace(after) {
            for (sum, (before, after)) in self.flows.iter_mut().zip(before.iter().zip(&after)) {
                *sum += flow(before, after);
            }
            self.sizes += after.iter().map(Best::size).sum::<i128>();
            self.events += 1;
        }
    }

    fn lose_book(&mut self) {
        self.reset();
    }

    fn reset(&mut self) {
        *self = Self::new(self.bar, self.span);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.end != i64::MAX {
            self.advance(moment.ts.saturating_add(i64::from(moment.is_complete)));
        }
        let (value, share, count) = self.value;
        out.push(value, count);
        out.push(share, count);
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.bar);
        state.i64(self.span as i64);
        put_top(self.top.as_ref(), state);
        state.i64(self.end);
        self.flows.iter().for_each(|&flow| put_wide(flow, state));
        put_wide(self.sizes, state);
        put_wide(self.events, state);
        state.length(self.rows.len());
        self.rows.iter().flatten().for_each(|value| state.u64(value.to_bits()));
        for value in [self.value.0, self.value.1] {
            state.u64(value.unwrap_or(f64::NAN).to_bits());
        }
        state.u64(self.value.2);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("ofi_bar_ms", self.bar, state.i64()?)?;
        super::same_setting("ofi_span_bars", self.span as i64, state.i64()?)?;
        self.top = take_top(state)?;
        self.end = state.i64()?;
        for flow in &mut self.flows {
            *flow = take_wide(state)?;
        }
        (self.sizes, self.events) = (take_wide(state)?, take_wide(state)?);
        self.rows.clear();
        for _ in 0..state.length(8 * RANKS)? {
            let mut row = [0.0; RANKS];
            for value in &mut row {
                *value = f64::from_bits(state.u64()?);
            }
            self.rows.push_back(row);
        }
        let mut value = || -> Result<Option<f64>> {
            Ok(Some(f64::from_bits(state.u64()?)).filter(|value| !value.is_nan()))
        };
        let (one, share) = (value()?, value()?);
        self.value = (one, share, state.u64()?);
        Ok(())
    }
}
