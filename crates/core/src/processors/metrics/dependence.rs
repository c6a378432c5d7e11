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
/// Grid prices that one silence adds, at most: a longer one begins the series of the mid anew.
const SILENCE_MAX: i64 = 1 << 16;

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
        if (ts - self.next) / self.step > SILENCE_MAX {
            self.series[2] = Series::default();
            self.series[3] = Series::default();
            self.next = on_grid(ts, self.step);
            self.mid2 = None;
        }
        while self.next < ts {
            let now = self.price.mid2(self.next, self.step);
            if let (Some(before), Some(now)) = (self.mid2, now) {
                let change = i64::try_from(now - before).unwrap_or(0);
                self.series[2].add(change);
                self.series[3].add(change.saturating_abs());
            }
            self.mid2 = now;
            self.next += self.step;
        }
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
