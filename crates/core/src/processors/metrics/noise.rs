//! Set `noise`: variance of the mid that the noise of single quotes does not bias.
//!
//! The mid is sampled on the grid of `step_ms`, as in `volatility`, and kept for `span_bars` bars
//! of `bar_ms`: of those since the last time at which there was none. Values are made at the end of
//! each bar, of all that is kept. A span of more prices than are kept is refused.

use std::collections::VecDeque;

use super::family::{Change, Family, Moment, Set, Terms, Values};
use super::grid_price::GridPrice;
use super::measured::on_grid;
use super::table::{Line, Per};
use crate::error::{Error, Result};
use crate::estimators::realized::{
    bandwidth, kernel, noise_variance, parzen, sparse_variance, two_scale, Kernel, Taper,
};
use crate::processors::state::{StateReader, StateWriter};

/// Prices that are kept, at most.
const PRICES_MAX: usize = 1 << 13;
/// Distance of the prices of the slow scale, in steps.
const SCALE: usize = 30;
/// Distance of the prices of the variance that the lags of the kernel are chosen by.
const SPARSE: i64 = 1_200_000_000_000;

const FEW: &str = "fewer than 10 returns";
const UNIT: &str = "squared log return of the span";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: FEW }
}

pub(super) const SET: Set = Set {
    name: "noise",
    doc: "variance of the mid over the last `span_bars` bars, without the noise of single quotes",
    lines: &[
        line("noise_var", "sum of r^2 / 2n, r the log returns of `step_ms`", "squared log return"),
        Line {
            null: "fewer than 120 prices",
            ..line("tsrv", "two-scale variance of prices 30 steps apart, for small samples", UNIT)
        },
        Line {
            null:
                "fewer than 10 returns, or no more than H, less than 20 minutes, or a price that \
                   does not move",
            ..line(
                "rk",
                "gamma_0 + 2 sum of k(h/(H+1)) gamma_h, k of Parzen, H = ceil(3.5134 \
                 (noise_var / variance of 20 min)^0.4 n^0.6)",
                UNIT,
            )
        },
        Line { null: "as rk", ..line("rk_lags", "H of rk", "steps") },
    ],
    build: |terms| Box::new(Noise::new((terms.step, terms.bar, terms.span))),
    has_book: false,
};

/// How many returns a span has.
fn returns_of(step: i64, bar: i64, span: usize) -> i128 {
    i128::from(bar) * span as i128 / i128::from(step)
}

/// Checks that the prices of a span can be kept.
///
/// # Errors
/// `Error::Invalid`: there are too many.
pub(super) fn check_span(terms: &Terms) -> Result<()> {
    let Terms { step, bar, span, .. } = *terms;
    match returns_of(step, bar, span) {
        returns if returns > PRICES_MAX as i128 => Err(Error::invalid(format!(
            "span_bars: expected span_bars times bar_ms up to {PRICES_MAX} times step_ms where \
             `noise` is measured, got {returns} times"
        ))),
        _ => Ok(()),
    }
}

#[derive(Debug)]
struct Noise {
    /// Step, bar, bars.
    terms: (i64, i64, usize),
    most: usize,
    price: GridPrice,
    /// The next time of the grid; `i64::MAX` before the first quote.
    next: i64,
    logs: VecDeque<f64>,
    values: [(Option<f64>, u64); 4],
}

impl Noise {
    fn new(terms: (i64, i64, usize)) -> Self {
        let (step, bar, span) = terms;
        let returns = usize::try_from(returns_of(step, bar, span)).unwrap_or(usize::MAX);
        let most = returns.clamp(1, PRICES_MAX) + 1;
        let logs = VecDeque::new();
        Self { terms, most, price: GridPrice::NONE, next: i64::MAX, logs, values: [(None, 0); 4] }
    }

    /// Takes the prices of the grid before `ts`.
    fn advance(&mut self, ts: i64) {
        let (step, bar, _) = self.terms;
        // Of a long silence, what is not kept makes no difference.
        let kept = step.saturating_mul(self.most as i64 + 1);
        let from = ts.saturating_sub(kept).div_euclid(step) * step;
        self.next = self.next.max(from);
        let mut has_ended = false;
        while self.next < ts {
            self.take();
            has_ended |= self.next.rem_euclid(bar) < step;
            self.next += step;
        }
        if has_ended {
            self.values = self.calculate();
        }
    }

    fn take(&mut self) {
        let Some(log) = self.price.log(self.next, self.terms.0) else {
            self.logs.clear();
            return;
        };
        if self.logs.len() == self.most {
            self.logs.pop_front();
        }
        self.logs.push_back(log);
    }

    fn calculate(&self) -> [(Option<f64>, u64); 4] {
        let logs: Vec<f64> = self.logs.iter().copied().collect();
        let returns: Vec<f64> = logs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let noise = noise_variance(&returns);
        let sparse = sparse_variance(&logs, (SPARSE / self.terms.0).max(1) as usize);
        let lags = noise.zip(sparse).and_then(|(noise, variance)| {
            bandwidth(noise, variance, returns.len()).filter(|&lags| lags < returns.len())
        });
        let kernel_of = |lags| {
            let taper = Taper::NonNegative;
            kernel(&returns, Kernel { lags, taper, is_scaled: false, weights: parzen })
        };
        let count = returns.len() as u64;
        [
            (noise, count),
            (two_scale(&logs, SCALE), count),
            (lags.and_then(kernel_of), count),
            (lags.map(|lags| lags as f64), count),
        ]
    }
}

impl Family for Noise {
    fn change(&mut self, change: &Change) {
        if self.next == i64::MAX {
            self.next = on_grid(change.ts, self.terms.0);
        }
        self.advance(change.ts);
        self.price.set(&change.after, change.ts);
    }

    fn reset(&mut self) {
        *self = Self::new(self.terms);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.next != i64::MAX {
            self.advance(moment.ts.saturating_add(i64::from(moment.is_complete)));
        }
        for (value, count) in self.values {
            out.push(value, count);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        let (step, bar, span) = self.terms;
        [step, bar, span as i64, self.next].into_iter().for_each(|value| state.i64(value));
        self.price.write(state);
        state.length(self.logs.len());
        self.logs.iter().for_each(|log| state.u64(log.to_bits()));
        for (value, count) in self.values {
            state.u64(value.unwrap_or(f64::NAN).to_bits());
            state.u64(count);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        let (step, bar, span) = self.terms;
        super::same_setting("step_ms", step, state.i64()?)?;
        super::same_setting("bar_ms", bar, state.i64()?)?;
        super::same_setting("span_bars", span as i64, state.i64()?)?;
        self.next = state.i64()?;
        self.price = GridPrice::read(state)?;
        self.logs.clear();
        for _ in 0..state.length(8)? {
            self.logs.push_back(f64::from_bits(state.u64()?));
        }
        for (value, count) in &mut self.values {
            *value = Some(f64::from_bits(state.u64()?)).filter(|value| !value.is_nan());
            *count = state.u64()?;
        }
        Ok(())
    }
}
