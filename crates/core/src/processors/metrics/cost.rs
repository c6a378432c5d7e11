//! Set `cost`: what trades cost, and how much of it stays in the price.
//!
//! The effective spread is known with the trade. What depends on the mid some time later is final
//! once time has passed that horizon, and counts in the windows from then on: nothing is looked up
//! ahead of its time. A trade whose horizon lies behind the end of the stream never counts.

use std::collections::VecDeque;

use super::family::{price, Best, Change, Family, Moment, Print, Set, Terms, Values};
use super::sign::{taker, TickRule};
use super::table::{Line, Per};
use super::window::{put_wide, take_wide, Rolling};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Trades whose horizon is not over yet, at most; beyond it the oldest never counts.
const PENDING_MAX: usize = 1 << 16;
/// One of a basis point in sums.
const BPS_ONE: f64 = (1_u64 << 32) as f64;
/// Units of turnover in one of its weight: 1e-9 of the currency.
const WEIGHT_UNITS: i128 = 100_000_000;

const NO_TRADE: &str = "no trade with a quote before it since the value before";
const NONE_SHOWN: &str = "the window is not covered, or had no such trade";
const NOT_FINAL: &str = "the window is not covered, or no trade became final in it";

pub(super) const SET: Set = Set {
    name: "cost",
    doc: "effective and realized spread, and impact, by the mid before a trade and after it",
    lines: &[
        Line {
            name: "effective_spread",
            per: Per::One,
            formula:
                "2 s (price - mid before) of the last trade, s = 1 where the buyer took, else -1",
            unit: "price",
            null: NO_TRADE,
        },
        Line {
            name: "effective_spread_mean",
            per: Per::Window,
            formula: "mean of effective_spread over trades",
            unit: "price",
            null: NONE_SHOWN,
        },
        Line {
            name: "effective_spread_sw",
            per: Per::Window,
            formula: "mean of effective_spread weighted by size",
            unit: "price",
            null: NONE_SHOWN,
        },
        Line {
            name: "effective_bps_dw",
            per: Per::Window,
            formula: "mean of 1e4 effective_spread / mid before, weighted by price times size",
            unit: "bps of mid",
            null: NONE_SHOWN,
        },
        Line {
            name: "realized_spread",
            per: Per::HorizonWindow,
            formula: "mean of 2 s (price - mid after the horizon) over trades that became final",
            unit: "price",
            null: NOT_FINAL,
        },
        Line {
            name: "price_impact",
            per: Per::HorizonWindow,
            formula: "mean of 2 s (mid after the horizon - mid before) over the same trades",
            unit: "price",
            null: NOT_FINAL,
        },
    ],
    build: |terms| Box::new(Cost::new(terms)),
    has_book: false,
};

/// A trade whose horizon is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    due: i64,
    sign: i8,
    price: i64,
    /// Twice the mid before.
    mid2: i128,
}

/// Trades of one horizon.
#[derive(Debug)]
struct Horizon {
    length: i64,
    pending: VecDeque<Pending>,
    /// Realized spread, impact, trades.
    rolling: Rolling<3>,
}

#[derive(Debug)]
struct Cost {
    tick: TickRule,
    best: Option<Best>,
    last: Option<i128>,
    /// Spread; times size; size; bps times turnover; turnover; trades.
    rolling: Rolling<6>,
    horizons: Vec<Horizon>,
    partial: bool,
    per_event: bool,
}

impl Cost {
    fn new(terms: &Terms) -> Self {
        let horizon = |&length: &i64| Horizon {
            length,
            pending: VecDeque::new(),
            rolling: Rolling::new(&terms.windows),
        };
        Self {
            tick: TickRule::default(),
            best: None,
            last: None,
            rolling: Rolling::new(&terms.windows),
            horizons: terms.horizons.iter().map(horizon).collect(),
            partial: terms.partial,
            per_event: terms.per_event,
        }
    }

    /// Counts the trades whose horizon ended before `ts`, by the mid that stands until then.
    fn resolve(&mut self, ts: i64) {
        let mid2 = self.best.filter(Best::is_sound).map(|best| best.mid2());
        for horizon in &mut self.horizons {
            while let Some(one) = horizon.pending.front().filter(|one| one.due < ts) {
                if let Some(after) = mid2 {
                    let sign = i128::from(one.sign);
                    let realized = sign * (2 * i128::from(one.price) - after);
                    horizon.rolling.add([realized, sign * (after - one.mid2), 1]);
                    if self.per_event {
                        // Without a grid, the next sample may be any time later.
                        horizon.rolling.close(one.due);
                    }
                }
                horizon.pending.pop_front();
            }
        }
    }

    /// Appends a value for each window of one horizon.
    fn finals(
        horizon: &Horizon,
        moment: &Moment<'_>,
        partial: bool,
        term: usize,
        out: &mut Values,
    ) {
        for index in 0..horizon.rolling.len() {
            let sums = horizon.rolling.sums(index);
            let is_shown = horizon.rolling.is_shown(index, moment.ts, partial) && sums[2] > 0;
            out.push(is_shown.then(|| price(sums[term]) / sums[2] as f64), sums[2] as u64);
        }
    }
}

impl Family for Cost {
    fn change(&mut self, change: &Change) {
        self.resolve(change.ts);
        self.best = Some(change.after);
    }

    fn print(&mut self, print: &Print) {
        self.resolve(print.ts);
        self.rolling.begin(print.ts);
        for horizon in &mut self.horizons {
            horizon.rolling.begin(print.ts);
        }
        let tick = if print.sets_price { self.tick.take(print.price) } else { 0 };
        let sign = taker(print, tick);
        let Some(best) = print.best.filter(Best::is_sound) else { return };
        if sign == 0 || !print.counts || !print.sets_price {
            return;
        }
        let mid2 = best.mid2();
        let spread = i128::from(sign) * (2 * i128::from(print.price) - mid2);
        let size = i128::from(print.size);
        let weight = i128::from(print.price) * size / WEIGHT_UNITS;
        let bps = if mid2 > 0 { 2e4 * spread as f64 / mid2 as f64 } else { 0.0 };
        let weighted = weight * (bps * BPS_ONE).round() as i128;
        self.rolling.add([spread, spread * size, size, weighted, weight, 1]);
        self.last = Some(spread);
        for horizon in &mut self.horizons {
            if horizon.pending.len() == PENDING_MAX {
                horizon.pending.pop_front();
            }
            let due = print.ts.saturating_add(horizon.length);
            horizon.pending.push_back(Pending { due, sign, price: print.price, mid2 });
        }
    }

    fn due(&self) -> i64 {
        let first = self.horizons.iter().filter_map(|horizon| horizon.pending.front());
        first.map(|one| one.due).min().unwrap_or(i64::MAX)
    }

    fn reset(&mut self) {
        (self.tick, self.best, self.last) = (TickRule::default(), None, None);
        self.rolling.reset();
        for horizon in &mut self.horizons {
            horizon.pending.clear();
            horizon.rolling.reset();
        }
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        let ts = moment.ts;
        // Of the events at `ts` itself more may come, unless all are there.
        self.resolve(ts.saturating_add(i64::from(moment.is_complete)));
        self.rolling.close(ts);
        let last = self.last.take();
        out.push(last.map(price), u64::from(last.is_some()));
        let each = |out: &mut Values, part: fn(&[i128; 6]) -> f64, weight: usize| {
            for index in 0..self.rolling.len() {
                let sums = self.rolling.sums(index);
                let is_shown = self.rolling.is_shown(index, ts, self.partial) && sums[weight] != 0;
                out.push(is_shown.then(|| part(sums)), sums[5] as u64);
            }
        };
        each(out, |sums| price(sums[0]) / sums[5] as f64, 5);
        each(out, |sums| price(sums[1]) / sums[2] as f64, 2);
        each(out, |sums| sums[3] as f64 / BPS_ONE / sums[4] as f64, 4);
        for horizon in &mut self.horizons {
            horizon.rolling.close(ts);
        }
        for term in [0, 1] {
            for horizon in &self.horizons {
                Self::finals(horizon, moment, self.partial, term, out);
            }
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.tick.write(state);
        super::put_best(self.best, state);
        state.flag(self.last.is_some());
        put_wide(self.last.unwrap_or(0), state);
        self.rolling.write(state);
        for horizon in &self.horizons {
            horizon.rolling.write(state);
            state.length(horizon.pending.len());
            for one in &horizon.pending {
                state.i64(one.due);
                state.u8(one.sign as u8);
                state.i64(one.price);
                put_wide(one.mid2, state);
            }
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.tick = TickRule::read(state)?;
        self.best = super::take_best(state)?;
        let has_last = state.flag()?;
        self.last = Some(take_wide(state)?).filter(|_| has_last);
        self.rolling.read(state)?;
        for horizon in &mut self.horizons {
            horizon.rolling.read(state)?;
            horizon.pending.clear();
            for _ in 0..state.length(33)? {
                horizon.pending.push_back(Pending {
                    due: state.i64()?,
                    sign: state.u8()? as i8,
                    price: state.i64()?,
                    mid2: take_wide(state)?,
                });
            }
        }
        Ok(())
    }
}
