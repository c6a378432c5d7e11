//! Set `l1`: what the best prices say. Section by section the values of a moment, then means over
//! time.

use super::family::{price, size, Best, Change, Family, Moment, Set, Terms, Values};
use super::table::{Line, Per};
use super::window::Rolling;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

const EMPTY: &str = "a side is empty";
const SKIPPED: &str = "a side is empty, or crossed";
const UNCOVERED: &str = "the window is not covered, or no value existed in it";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: EMPTY }
}

pub(super) const SET: Set = Set {
    name: "l1",
    doc: "what the best prices and their sizes say",
    lines: &[
        line("mid", "(bid + ask) / 2", "price"),
        line("spread_abs", "ask - bid; below 0 when crossed", "price"),
        Line {
            null: "a side is empty, or the tick size is not known",
            ..line("spread_ticks", "(ask - bid) / tick", "ticks")
        },
        Line {
            null: "a side is empty, or mid <= 0",
            ..line("spread_bps", "2e4 (ask - bid) / (ask + bid)", "bps of mid")
        },
        line("depth_bid_L1", "size at the best bid", "size"),
        line("depth_ask_L1", "size at the best ask", "size"),
        Line { null: SKIPPED, ..line("imbalance_l1", "qb / (qb + qa)", "0 to 1") },
        Line { null: SKIPPED, ..line("queue_imbalance", "(qb - qa) / (qb + qa)", "-1 to 1") },
        Line { null: SKIPPED, ..line("microprice_imb", "(bid qa + ask qb) / (qb + qa)", "price") },
        Line {
            per: Per::Window,
            null: UNCOVERED,
            ..line("spread_tw", "mean of spread_abs over the time in which it existed", "price")
        },
        Line {
            per: Per::Window,
            null: UNCOVERED,
            ..line(
                "queue_imbalance_tw",
                "mean of queue_imbalance over the time in which it existed",
                "-1 to 1",
            )
        },
        Line {
            per: Per::Window,
            null: UNCOVERED,
            ..line(
                "crossed_or_empty",
                "part of the window in which the book was crossed or a side empty",
                "0 to 1",
            )
        },
    ],
    build: |terms| Box::new(L1::new(terms)),
    has_book: false,
};

/// One of a queue imbalance: its integer is that many.
const IMBALANCE_ONE: i128 = 1 << 56;

/// Terms of the sums over time: spread and imbalance, each times ns; ns with a value, and without
/// one of the imbalance; ns without; changes.
const TERMS: usize = 6;

#[derive(Debug)]
struct L1 {
    rolling: Rolling<TERMS>,
    /// Since when `held` holds.
    ts: i64,
    held: Option<Best>,
    partial: bool,
}

impl L1 {
    fn new(terms: &Terms) -> Self {
        let rolling = Rolling::new(&terms.windows);
        Self { rolling, ts: i64::MIN, held: None, partial: terms.partial }
    }

    /// Counts the time since the last change, during which the best prices were the same.
    fn hold(&mut self, ts: i64) {
        let Some(best) = self.held else { return };
        let time = i128::from(ts - self.ts);
        self.ts = ts;
        if !best.is_sound() {
            self.rolling.add([0, 0, 0, 0, time, 0]);
            return;
        }
        let spread = i128::from(best.ask_price) - i128::from(best.bid_price);
        let sizes = best.size();
        if sizes == 0 {
            self.rolling.add([spread * time, 0, time, 0, 0, 0]);
            return;
        }
        self.rolling.add([spread * time, imbalance(&best) * time, time, time, 0, 0]);
    }
}

/// The queue imbalance in units of 2^-56, rounded towards zero, of sizes that are not both 0.
#[inline]
fn imbalance(best: &Best) -> i128 {
    let (bid, ask) = (best.bid_size, best.ask_size);
    if bid < 0 || ask < 0 {
        return (i128::from(bid) - i128::from(ask)) * IMBALANCE_ONE / best.size();
    }
    // Of sizes that are none below 0 it is 1 at most, and the sign is not known in advance.
    let difference = bid - ask;
    let share = (u128::from(difference.unsigned_abs()) << 56) / best.size() as u128;
    let sign = difference >> 63;
    i128::from((share as i64 ^ sign) - sign)
}

fn queue_imbalance(best: &Best) -> Option<f64> {
    let difference = i128::from(best.bid_size) - i128::from(best.ask_size);
    (best.is_sound() && best.size() > 0).then(|| difference as f64 / best.size() as f64)
}

/// The mean of prices, weighted by the sizes of the other side.
fn microprice(best: &Best) -> Option<f64> {
    let product = |a: i64, b: i64| i128::from(a) * i128::from(b);
    let sum = product(best.bid_price, best.ask_size) + product(best.ask_price, best.bid_size);
    (best.is_sound() && best.size() > 0).then(|| price(sum) / best.size() as f64)
}

fn of_best(best: &Best, tick: i64, out: &mut Values) {
    let both = best.has_both();
    let spread = i128::from(best.ask_price) - i128::from(best.bid_price);
    let mid2 = best.mid2();
    out.push(both.then(|| price(mid2) / 2.0), 1);
    out.push(both.then(|| price(spread)), 1);
    let ticked = both && tick != NONE && tick > 0;
    out.push(ticked.then(|| spread as f64 / tick as f64), 1);
    out.push((both && mid2 > 0).then(|| 2e4 * spread as f64 / mid2 as f64), 1);
    let bid = best.bid_price != NONE;
    let ask = best.ask_price != NONE;
    out.push(bid.then(|| size(best.bid_size.into())), 1);
    out.push(ask.then(|| size(best.ask_size.into())), 1);
    let imbalance = queue_imbalance(best);
    out.push(imbalance.map(|_| best.bid_size as f64 / best.size() as f64), 1);
    out.push(imbalance, 1);
    out.push(microprice(best), 1);
}

impl Family for L1 {
    fn change(&mut self, change: &Change) {
        self.rolling.begin(change.ts);
        self.hold(change.ts);
        (self.ts, self.held) = (change.ts, Some(change.after));
        self.rolling.add([0, 0, 0, 0, 0, 1]);
    }

    fn reset(&mut self) {
        self.rolling.reset();
        (self.ts, self.held) = (i64::MIN, None);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        match &moment.best {
            Some(best) => of_best(best, moment.tick, out),
            None => (0..9).for_each(|_| out.push(None, 0)),
        }
        self.hold(moment.ts);
        self.rolling.close(moment.ts);
        let windows = self.rolling.len();
        let sums: Vec<[i128; TERMS]> = (0..windows)
            .map(|index| {
                let cut = self.rolling.cut(index, moment.ts);
                let sums = self.rolling.sums(index);
                std::array::from_fn(|term| sums[term] - cut[term])
            })
            .collect();
        let shown = |index: usize| self.rolling.is_shown(index, moment.ts, self.partial);
        let each = || sums.iter().enumerate();
        for (index, &[spread, _, time, .., count]) in each() {
            let value = (shown(index) && time > 0).then(|| price(spread) / time as f64);
            out.push(value, count as u64);
        }
        for (index, &[_, imbalance, _, time, _, count]) in each() {
            let value = (shown(index) && time > 0)
                .then(|| imbalance as f64 / IMBALANCE_ONE as f64 / time as f64);
            out.push(value, count as u64);
        }
        for (index, &[_, _, time, _, without, count]) in each() {
            let value = (shown(index) && time + without > 0)
                .then(|| without as f64 / (time + without) as f64);
            out.push(value, count as u64);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.rolling.write(state);
        state.i64(self.ts);
        super::put_best(self.held, state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.rolling.read(state)?;
        self.ts = state.i64()?;
        self.held = super::take_best(state)?;
        Ok(())
    }
}
