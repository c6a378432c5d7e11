//! Set `dependence`: autocorrelation of who takes, and of the mid, since the stream began.
//!
//! Sums are exact integers, over all values since the last reset; the last ten of a series are
//! kept, and its first ten, which the definition leaves out of one of its two means. Where quotes
//! are crossed or one-sided there is no price, and no change of it: see `grid_price`.

use super::family::{Change, Family, Moment, Print, Set, Values};
use super::grid_price::GridPrice;
use super::measured::on_grid;
use super::sign::{taker, TickRule};
use super::table::{Line, Per};
use super::window::{put_wide, take_wide};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Lags, from 1 on.
pub(super) const LAGS: usize = 10;
/// After so many prices of the grid without a quote, all that follow are as the last one.
const STILL_STEPS: usize = 2 * LAGS;

const FEW: &str = "fewer than 10 values for each step of the lag, or they do not vary";

const fn line(name: &'static str, formula: &'static str) -> Line {
    Line { name, per: Per::Lag, formula, unit: "-1 to 1", null: FEW }
}

pub(super) const SET: Set = Set {
    name: "dependence",
    doc: "autocorrelation of who takes and of the mid, at lags 1 to 10, since the stream began",
    lines: &[
        line("acf_sign", "of the sides of trades: sum of (x - m)(x' - m) / sum of (x - m)^2"),
        line("acf_parent_sign", "the same of runs of trades of one time and one side"),
        line("acf_mid", "the same of changes of the mid on the grid of `step_ms`"),
        line("acf_abs_mid", "the same of their sizes"),
    ],
    build: |terms| Box::new(Dependence::new(terms.step)),
    has_book: false,
};

/// Sums over one series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Series {
    count: u64,
    sum: i128,
    squares: i128,
    /// By lag: sums of products.
    products: [i128; LAGS],
    /// The first values, and the last ones, newest first.
    first: [i64; LAGS],
    last: [i64; LAGS],
}

impl Series {
    fn add(&mut self, value: i64) {
        let wide = i128::from(value);
        let known = usize::try_from(self.count).unwrap_or(LAGS).min(LAGS);
        for (product, &before) in self.products.iter_mut().zip(&self.last[..known]) {
            *product = product.wrapping_add(wide * i128::from(before));
        }
        if self.count < LAGS as u64 {
            self.first[self.count as usize] = value;
        }
        self.last.rotate_right(1);
        self.last[0] = value;
        self.count += 1;
        self.sum = self.sum.wrapping_add(wide);
        self.squares = self.squares.wrapping_add(wide * wide);
    }

    /// Adds a number of zeros to a series of which the last values are 0.
    fn add_zeros(&mut self, count: u64) {
        self.count += count;
    }

    /// The autocorrelation at `lag`.
    fn at(&self, lag: usize) -> Option<f64> {
        if self.count < 10 * lag as u64 {
            return None;
        }
        let n = self.count as f64;
        let sum = |values: &[i64]| values.iter().map(|&value| i128::from(value)).sum::<i128>();
        // Sums of the values without those that have none before them, or behind.
        let late = self.sum - sum(&self.first[..lag]);
        let early = self.sum - sum(&self.last[..lag]);
        let mean = self.sum as f64 / n;
        let whole = self.squares as f64 - n * mean * mean;
        let centred = self.products[lag - 1] as f64 - mean * (early + late) as f64
            + (n - lag as f64) * mean * mean;
        (whole > 0.0).then(|| centred / whole)
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.u64(self.count);
        put_wide(self.sum, state);
        put_wide(self.squares, state);
        self.products.iter().for_each(|&product| put_wide(product, state));
        self.first.iter().chain(&self.last).for_each(|&value| state.i64(value));
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.count = state.u64()?;
        (self.sum, self.squares) = (take_wide(state)?, take_wide(state)?);
        for product in &mut self.products {
            *product = take_wide(state)?;
        }
        for value in self.first.iter_mut().chain(&mut self.last) {
            *value = state.i64()?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Dependence {
    step: i64,
    tick: TickRule,
    price: GridPrice,
    /// The next time of the grid; `i64::MAX` before the first quote.
    next: i64,
    mid2: Option<i128>,
    /// Time and side of the last run of trades.
    run: (i64, i8),
    /// Signs, signs of runs, changes of the mid, their sizes.
    series: [Series; 4],
}

impl Dependence {
    fn new(step: i64) -> Self {
        Self {
            step,
            tick: TickRule::default(),
            price: GridPrice::NONE,
            next: i64::MAX,
            mid2: None,
            run: (i64::MIN, 0),
            series: Default::default(),
        }
    }

    /// Takes the prices of the grid before `ts`.
    fn advance(&mut self, ts: i64) {
        for _ in 0..STILL_STEPS {
            if self.next >= ts {
                return;
            }
            let now = self.price.mid2(self.next, self.step);
            if let (Some(before), Some(now)) = (self.mid2, now) {
                let change = i64::try_from(now - before).unwrap_or(0);
                self.series[2].add(change);
                self.series[3].add(change.saturating_abs());
            }
            self.mid2 = now;
            self.next += self.step;
        }
        let rest = (ts - self.next).max(0) as u64;
        let rest = rest.div_ceil(self.step as u64);
        if self.mid2.is_some() {
            self.series[2].add_zeros(rest);
            self.series[3].add_zeros(rest);
        }
        self.next += rest as i64 * self.step;
    }
}

impl Family for Dependence {
    fn change(&mut self, change: &Change) {
        if self.next == i64::MAX {
            self.next = on_grid(change.ts, self.step);
        }
        self.advance(change.ts);
        self.price.set(&change.after, change.ts);
    }

    fn print(&mut self, print: &Print) {
        let tick = if print.sets_price { self.tick.take(print.price) } else { 0 };
        let sign = taker(print, tick);
        if sign == 0 {
            return;
        }
        self.series[0].add(sign.into());
        let run = (print.ts_event, sign);
        if run != self.run {
            self.series[1].add(sign.into());
            self.run = run;
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.step);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.next != i64::MAX {
            self.advance(moment.ts.saturating_add(i64::from(moment.is_complete)));
        }
        for series in &self.series {
            (1..=LAGS).for_each(|lag| out.push(series.at(lag), series.count));
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.step);
        self.tick.write(state);
        self.price.write(state);
        state.i64(self.next);
        state.flag(self.mid2.is_some());
        put_wide(self.mid2.unwrap_or(0), state);
        state.i64(self.run.0);
        state.i64(self.run.1.into());
        self.series.iter().for_each(|series| series.write(state));
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("step_ms", self.step, state.i64()?)?;
        self.tick = TickRule::read(state)?;
        self.price = GridPrice::read(state)?;
        self.next = state.i64()?;
        let has_mid = state.flag()?;
        self.mid2 = Some(take_wide(state)?).filter(|_| has_mid);
        self.run = (state.i64()?, state.i64()? as i8);
        self.series.iter_mut().try_for_each(|series| series.read(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::metrics::family::Best;
    use crate::record::NONE;

    fn quote(ts: i64, bid_price: i64) -> Change {
        let after = Best { bid_price, bid_size: 1, ask_price: bid_price + 2, ask_size: 1 };
        let (ts_recv, ts_event, latency) = (ts, ts, None);
        Change { ts, ts_recv, ts_event, latency, tick: NONE, before: None, after }
    }

    #[test]
    fn a_silence_is_a_price_that_stands_still_however_long_it_is() {
        // A price that moves, is told anew each step or not at all for so long, and moves again.
        for silence in [0, 5, 19, 20, 21, 70_000] {
            let (mut told, mut silent) = (Dependence::new(10), Dependence::new(10));
            for at in 0..200 + silence {
                let is_still = (100..100 + silence).contains(&at);
                let price = if is_still { 500 } else { 500 + (at * at) % 7 };
                let change = quote(10 * at + 3, price);
                told.change(&change);
                if !is_still || at == 100 {
                    silent.change(&change);
                }
            }
            assert_eq!(told.series, silent.series, "{silence} steps");
            assert_eq!((told.next, told.mid2), (silent.next, silent.mid2));
            assert!(told.series[2].count > 100 && told.series[2].at(1).is_some());
        }
    }
}
