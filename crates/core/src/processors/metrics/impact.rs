//! Set `impact`: what volume does to the price, over bars of `bar_ms`, as regressions over the
//! last `span_bars` of them; and the spread that consecutive trade prices imply.
//!
//! A bar is [kW, (k+1)W). The mid at an edge is that after the last event before the edge. Bars
//! without a mid at both edges are left out. The sums are made anew at each bar, in two passes, so
//! that nothing drifts.

use std::collections::VecDeque;

use super::family::{price, size, Best, Change, Family, Moment, Print, Set, Values};
use super::sign::{taker, TickRule};
use super::table::{Line, Per};
use super::window::{put_wide, take_wide};
use crate::error::Result;
use crate::estimators::linear::regress;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{NONE, SIZE_SCALE};

/// Bars that a regression is made of, at least.
const BARS_MIN: usize = 10;

const FEW: &str = "fewer than 10 bars with a mid at both edges, or no signed volume differs";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: FEW }
}

pub(super) const SET: Set = Set {
    name: "impact",
    doc: "impact of volume over the last bars, and the spread that trade prices imply",
    lines: &[
        line(
            "kyle_lambda",
            "slope of the change of the mid on signed volume, with intercept",
            "price of a size",
        ),
        line("kyle_t", "its t statistic", "1"),
        line("kyle_r2", "its R2", "0 to 1"),
        line(
            "hasbrouck_lambda",
            "slope of the log return of the mid on sgn(x) sqrt(abs(x)), x signed turnover",
            "return of a root of currency",
        ),
        line("hasbrouck_r2", "its R2", "0 to 1"),
        Line {
            null: "no bar with a return and volume",
            ..line(
                "amihud",
                "1e6 mean of abs(log return of the mid) / turnover over bars with volume",
                "1e6 of currency",
            )
        },
        Line {
            null: "fewer than 2 pairs, or roll_covariance >= 0",
            ..line("roll_spread", "2 sqrt(-roll_covariance)", "price")
        },
        Line {
            null: "fewer than 2 pairs",
            ..line(
                "roll_covariance",
                "sample covariance of changes of the trade price with those before",
                "squared price",
            )
        },
    ],
    build: |terms| Box::new(Impact::new(terms.bar, terms.span)),
    has_book: false,
};

/// One bar that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bar {
    /// Change of twice the mid, and log return of it, where both edges have one.
    change: Option<(i128, f64)>,
    /// Bought less sold.
    volume: i128,
    /// Price times size, bought less sold; and of all.
    signed: i128,
    turnover: i128,
    pairs: Pairs,
}

/// Sums over pairs of consecutive changes of the trade price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pairs {
    count: i128,
    first: i128,
    second: i128,
    product: i128,
}

#[derive(Debug)]
struct Impact {
    bar: i64,
    span: usize,
    tick: TickRule,
    best: Option<Best>,
    /// End of the open bar; `i64::MAX` before the first event.
    end: i64,
    /// Twice the mid at its start.
    start: Option<i128>,
    open: Bar,
    bars: VecDeque<Bar>,
    /// Last trade price and its last change.
    last: i64,
    change: Option<i64>,
    values: [(Option<f64>, u64); 8],
}

/// Slope, t and R2 of enough bars.
fn regression(points: &[(f64, f64)]) -> Option<[f64; 3]> {
    let line = regress(points).filter(|_| points.len() >= BARS_MIN)?;
    Some([line.slope, line.t, line.r2])
}

/// The mid at an edge, twice; none of quotes that are crossed or have one side.
fn mid2(best: Option<Best>) -> Option<i128> {
    best.filter(Best::is_sound).map(|best| best.mid2()).filter(|&mid2| mid2 > 0)
}

/// A turnover in units of 1e-17 as a number.
fn currency(units: i128) -> f64 {
    price(units) / SIZE_SCALE as f64
}

impl Impact {
    fn new(bar: i64, span: usize) -> Self {
        Self {
            bar,
            span,
            tick: TickRule::default(),
            best: None,
            end: i64::MAX,
            start: None,
            open: Bar::default(),
            bars: VecDeque::new(),
            last: NONE,
            change: None,
            values: [(None, 0); 8],
        }
    }

    /// Ends the bars that are over at `ts`.
    fn advance(&mut self, ts: i64) {
        if self.end == i64::MAX {
            self.end = (ts.div_euclid(self.bar) + 1).saturating_mul(self.bar);
            return;
        }
        if ts < self.end {
            return;
        }
        // Of a long silence, the bars that the span holds no more make no difference.
        let skipped = (ts - self.end) / self.bar - self.span as i64;
        self.close();
        if skipped > 0 {
            self.end += skipped * self.bar;
        }
        while ts >= self.end {
            self.close();
        }
        self.values = self.calculate();
    }

    fn close(&mut self) {
        let end = mid2(self.best);
        if let (Some(before), Some(after)) = (self.start, end) {
            let change = (after as f64 / before as f64).ln();
            self.open.change = Some((after - before, change));
        }
        if self.bars.len() == self.span {
            self.bars.pop_front();
        }
        self.bars.push_back(std::mem::take(&mut self.open));
        self.start = end;
        self.end = self.end.saturating_add(self.bar);
    }

    fn calculate(&self) -> [(Option<f64>, u64); 8] {
        let moved = || self.bars.iter().filter_map(|bar| Some((bar, bar.change?)));
        let kyle: Vec<_> =
            moved().map(|(bar, change)| (size(bar.volume), price(change.0) / 2.0)).collect();
        let root = |signed: i128| currency(signed).abs().sqrt().copysign(currency(signed));
        let hasbrouck: Vec<_> = moved().map(|(bar, change)| (root(bar.signed), change.1)).collect();
        let traded: Vec<_> = moved().filter(|(bar, _)| bar.turnover > 0).collect();
        let ratio = traded.iter().map(|(bar, change)| change.1.abs() / currency(bar.turnover));
        let amihud = 1e6 * ratio.sum::<f64>() / traded.len() as f64;
        let mut pairs = Pairs::default();
        for bar in &self.bars {
            pairs.count += bar.pairs.count;
            pairs.first = pairs.first.wrapping_add(bar.pairs.first);
            pairs.second = pairs.second.wrapping_add(bar.pairs.second);
            pairs.product = pairs.product.wrapping_add(bar.pairs.product);
        }
        let covariance = (pairs.count >= 2).then(|| {
            let n = pairs.count as f64;
            let product = pairs.product as f64 - pairs.first as f64 * pairs.second as f64 / n;
            price(1).powi(2) * product / (n - 1.0)
        });
        let roll = covariance.filter(|&value| value < 0.0).map(|value| 2.0 * (-value).sqrt());
        let (kyle, hasbrouck, count) =
            (regression(&kyle), regression(&hasbrouck), kyle.len() as u64);
        let of = |found: Option<[f64; 3]>, at: usize| (found.map(|found| found[at]), count);
        [
            of(kyle, 0),
            of(kyle, 1),
            of(kyle, 2),
            of(hasbrouck, 0),
            of(hasbrouck, 2),
            ((!traded.is_empty()).then_some(amihud), traded.len() as u64),
            (roll, pairs.count as u64),
            (covariance, pairs.count as u64),
        ]
    }
}

impl Family for Impact {
    fn change(&mut self, change: &Change) {
        self.advance(change.ts);
        self.best = Some(change.after);
    }

    fn print(&mut self, print: &Print) {
        self.advance(print.ts);
        let tick = if print.sets_price { self.tick.take(print.price) } else { 0 };
        if print.sets_price {
            let change = (self.last != NONE).then(|| print.price.saturating_sub(self.last));
            if let (Some(before), Some(now)) = (self.change, change) {
                let (before, now) = (i128::from(before), i128::from(now));
                let pairs = &mut self.open.pairs;
                pairs.count += 1;
                pairs.first += before;
                pairs.second += now;
                pairs.product = pairs.product.wrapping_add(before * now);
            }
            (self.last, self.change) = (print.price, change);
        }
        if print.counts {
            let sign = i128::from(taker(print, tick));
            let turnover = i128::from(print.price) * i128::from(print.size);
            self.open.volume += sign * i128::from(print.size);
            self.open.signed += sign * turnover;
            self.open.turnover += turnover;
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.bar, self.span);
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
        self.tick.write(state);
        super::put_best(self.best, state);
        state.i64(self.end);
        state.flag(self.start.is_some());
        put_wide(self.start.unwrap_or(0), state);
        state.i64(self.last);
        state.i64(self.change.unwrap_or(NONE));
        state.length(self.bars.len());
        self.bars.iter().chain([&self.open]).for_each(|bar| put_bar(bar, state));
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("bar_ms", self.bar, state.i64()?)?;
        super::same_setting("span_bars", self.span as i64, state.i64()?)?;
        self.tick = TickRule::read(state)?;
        self.best = super::take_best(state)?;
        self.end = state.i64()?;
        let has_start = state.flag()?;
        self.start = Some(take_wide(state)?).filter(|_| has_start);
        self.last = state.i64()?;
        self.change = Some(state.i64()?).filter(|&change| change != NONE);
        self.bars.clear();
        for _ in 0..state.length(100)? {
            self.bars.push_back(take_bar(state)?);
        }
        self.open = take_bar(state)?;
        self.values = if self.bars.is_empty() { [(None, 0); 8] } else { self.calculate() };
        Ok(())
    }
}

fn put_bar(bar: &Bar, state: &mut StateWriter<'_>) {
    state.flag(bar.change.is_some());
    let (change, log) = bar.change.unwrap_or_default();
    put_wide(change, state);
    state.u64(log.to_bits());
    let Pairs { count, first, second, product } = bar.pairs;
    for value in [bar.volume, bar.signed, bar.turnover, count, first, second, product] {
        put_wide(value, state);
    }
}

fn take_bar(state: &mut StateReader<'_>) -> Result<Bar> {
    let has_change = state.flag()?;
    let change = (take_wide(state)?, f64::from_bits(state.u64()?));
    Ok(Bar {
        change: Some(change).filter(|_| has_change),
        volume: take_wide(state)?,
        signed: take_wide(state)?,
        turnover: take_wide(state)?,
        pairs: Pairs {
            count: take_wide(state)?,
            first: take_wide(state)?,
            second: take_wide(state)?,
            product: take_wide(state)?,
        },
    })
}
