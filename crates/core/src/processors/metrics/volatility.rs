//! Set `volatility`: realized variance of the mid, its robust kin, and tests for jumps.
//!
//! The mid is sampled on a grid of its own, `step_ms`: the price at a time of the grid is that
//! after the last event up to and with it, and nothing is interpolated. A return is one between
//! two such prices in a row; the first price makes none. Where quotes are crossed or one-sided
//! there is no price, and no return: see `grid_price`.

use super::family::{Change, Family, Moment, Set, Terms, Values};
use super::grid_price::GridPrice;
use super::table::{Line, Per};
use super::window::Rolling;
use crate::error::Result;
use crate::estimators::realized::{middle, Sums, RETURNS_MIN};
use crate::processors::state::{StateReader, StateWriter};

/// One in sums of products of returns: 2^-118 is the smallest that counts.
const ONE: f64 = (1_u128 << 118) as f64;
/// Returns from here on are not measured: their squares would not fit.
const RETURN_MAX: f64 = 2.0;

const FEW: &str = "the window is not covered, or has fewer than 10 returns";
const STILL: &str = "as rv, or no two returns in a row are other than 0";

const fn line(name: &'static str, formula: &'static str, null: &'static str) -> Line {
    Line { name, per: Per::Window, formula, unit: "squared log return of the window", null }
}

const fn plain(name: &'static str, formula: &'static str, null: &'static str) -> Line {
    Line { unit: "1", ..line(name, formula, null) }
}

pub(super) const SET: Set = Set {
    name: "volatility",
    doc: "realized variance of the mid on a grid of `step_ms`, and what of it is jumps",
    lines: &[
        line("rv", "sum of r^2, r the log returns", FEW),
        line("rsv_down", "sum of r^2 over r < 0", FEW),
        line("rsv_up", "sum of r^2 over r > 0", FEW),
        line("bv", "pi/2 sum of abs(r_i) abs(r_i-1)", FEW),
        line("min_rv", "pi/(pi-2) n/(n-1) sum of min(abs r_i, abs r_i+1)^2", FEW),
        line(
            "med_rv",
            "pi/(6-4 sqrt 3+pi) n/(n-2) sum of med(abs r_i-1, abs r_i, abs r_i+1)^2",
            FEW,
        ),
        line("rq", "n/3 sum of r^4", FEW),
        line("tpq", "n^2/(n-2) mu^-3 sum of abs(r_i r_i-1 r_i-2)^(4/3)", FEW),
        line("qpq", "n^2/(n-3) pi^2/4 sum of abs(r_i r_i-1 r_i-2 r_i-3)", FEW),
        plain("bns_z", "sqrt n (rv-bv)/sqrt((theta-2) tpq), theta = pi^2/4+pi-3", STILL),
        plain("bns_z_ratio", "sqrt n (1-bv/rv)/sqrt((theta-2) max(1, tpq/bv^2))", STILL),
        plain("relative_jump", "max(0, 1-bv/rv)", STILL),
        plain("zero_returns", "share of the returns that are 0", FEW),
    ],
    build: |terms| Box::new(Volatility::new(terms)),
    has_book: false,
};

/// r^2 below and above 0; then the products with the returns before: of two, the smaller of two,
/// the middle of three; r^4; products of three and of four; returns; those that are 0.
const TERMS: usize = 10;
/// Where the terms begin that reach back so far: products of 2, of 3, of 4 returns.
const REACH: [usize; TERMS] = [0, 0, 1, 1, 2, 0, 2, 3, 0, 0];

#[derive(Debug)]
struct Volatility {
    step: i64,
    longest: i64,
    partial: bool,
    price: GridPrice,
    /// The next time of the grid; `i64::MAX` before the first price.
    next: i64,
    /// Log of the price at the last time of the grid.
    log: Option<f64>,
    /// The last three returns without their signs, newest first, and how many there are.
    last: [f64; 3],
    known: u32,
    rolling: Rolling<TERMS>,
}

fn units(value: f64) -> i128 {
    (value * ONE) as i128
}

impl Volatility {
    fn new(terms: &Terms) -> Self {
        Self {
            step: terms.step,
            longest: terms.windows.iter().copied().max().unwrap_or(0),
            partial: terms.partial,
            price: GridPrice::NONE,
            next: i64::MAX,
            log: None,
            last: [0.0; 3],
            known: 0,
            rolling: Rolling::new(&terms.windows),
        }
    }

    /// Takes the prices of the grid before `ts`.
    fn advance(&mut self, ts: i64) {
        // Of a long silence, the part that no window holds any more makes no difference.
        let from = ts.saturating_sub(self.longest.saturating_add(4 * self.step));
        if self.next < from {
            self.take(self.next);
            self.next = from.div_euclid(self.step) * self.step;
        }
        while self.next < ts {
            self.take(self.next);
            self.next += self.step;
        }
    }

    fn take(&mut self, ts: i64) {
        let log = self.price.log(ts, self.step);
        if let (Some(before), Some(now)) = (self.log, log) {
            self.add(now - before, ts);
        }
        if log.is_some() {
            self.rolling.begin(ts);
        } else {
            self.break_off();
        }
        self.log = log;
    }

    /// Nothing that follows continues what was.
    fn break_off(&mut self) {
        (self.last, self.known) = ([0.0; 3], 0);
    }

    /// Adds a return that ends at `ts`, as a bucket of its own: there are none without one.
    fn add(&mut self, change: f64, ts: i64) {
        if change.abs() >= RETURN_MAX {
            self.break_off();
            return;
        }
        let [one, two, three] = self.last;
        let size = change.abs();
        let square = units(change * change);
        let from = |count: u32, value: f64| if self.known >= count { units(value) } else { 0 };
        self.rolling.add([
            if change < 0.0 { square } else { 0 },
            if change > 0.0 { square } else { 0 },
            from(1, size * one),
            from(1, size.min(one).powi(2)),
            from(2, middle(size, one, two).powi(2)),
            units(change.powi(4)),
            from(2, (size * one * two).cbrt().powi(4)),
            from(3, size * one * two * three),
            1,
            i128::from(change == 0.0),
        ]);
        self.rolling.close(ts);
        self.last = [size, one, two];
        self.known = (self.known + 1).min(3);
    }

    /// The sums of the returns of a window alone: without the products that reach out of it.
    fn sums(&self, index: usize) -> [i128; TERMS] {
        let mut sums = *self.rolling.sums(index);
        for (at, terms) in self.rolling.buckets(index).take(3).enumerate() {
            for (term, reach) in REACH.iter().enumerate() {
                if at < *reach {
                    sums[term] -= terms[term];
                }
            }
        }
        sums
    }
}

/// The values of one window.
fn values(sums: &[i128; TERMS]) -> [Option<f64>; 13] {
    let sum = |term: usize| sums[term] as f64 / ONE;
    let count = sums[8] as f64;
    let found = Sums {
        count,
        down: sum(0),
        up: sum(1),
        pairs: sum(2),
        smaller: sum(3),
        middle: sum(4),
        fourth: sum(5),
        triples: sum(6),
        quadruples: sum(7),
    };
    let one = found.measures();
    [
        Some(one.rv),
        Some(one.down),
        Some(one.up),
        Some(one.bv),
        Some(one.min_rv),
        Some(one.med_rv),
        Some(one.rq),
        Some(one.tpq),
        Some(one.qpq),
        one.bns_z,
        one.bns_z_ratio,
        one.relative_jump,
        Some(sums[9] as f64 / count),
    ]
}

impl Family for Volatility {
    fn change(&mut self, change: &Change) {
        if self.next == i64::MAX {
            self.next = super::measured::on_grid(change.ts, self.step);
        }
        self.advance(change.ts);
        self.price.set(&change.after, change.ts);
    }

    fn reset(&mut self) {
        (self.price, self.next, self.log) = (GridPrice::NONE, i64::MAX, None);
        self.break_off();
        self.rolling.reset();
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        let ts = moment.ts;
        if self.next != i64::MAX {
            self.advance(ts.saturating_add(i64::from(moment.is_complete)));
            self.rolling.slide(ts);
        }
        let each: Vec<_> = (0..self.rolling.len())
            .map(|index| {
                let sums = self.sums(index);
                let is_shown = self.rolling.is_shown(index, ts, self.partial);
                let found = (is_shown && sums[8] >= RETURNS_MIN as i128).then(|| values(&sums));
                (found, sums[8] as u64)
            })
            .collect();
        for term in 0..SET.lines.len() {
            for (found, count) in &each {
                out.push(found.as_ref().and_then(|found| found[term]), *count);
            }
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.step);
        state.i64(self.next);
        self.price.write(state);
        state.flag(self.log.is_some());
        state.u64(self.log.unwrap_or(0.0).to_bits());
        self.last.iter().for_each(|value| state.u64(value.to_bits()));
        state.u32(self.known);
        self.rolling.write(state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("step_ms", self.step, state.i64()?)?;
        self.next = state.i64()?;
        self.price = GridPrice::read(state)?;
        let has_log = state.flag()?;
        self.log = Some(f64::from_bits(state.u64()?)).filter(|_| has_log);
        for value in &mut self.last {
            *value = f64::from_bits(state.u64()?);
        }
        self.known = state.u32()?;
        self.rolling.read(state)
    }
}
