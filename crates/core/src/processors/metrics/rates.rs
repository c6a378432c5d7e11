//! Set `rates`: how often things happen, and which queue empties first.
//!
//! Orders are those of feeds that tell single orders; of all others, what is made of orders is
//! null. A fill of an order that was never shown is a trade, and no fill.

use super::family::{
    size, Best, Change, Family, Moment, OrderKind, OrderStep, Print, Set, Terms, Values,
};
use super::table::{Line, Per};
use super::window::{left_after, Rolling};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Side, NONE};

const UNCOVERED: &str = "the window is not covered";
const NO_ORDERS: &str = "the window is not covered, or the feed tells no single orders";

const fn rate(name: &'static str, formula: &'static str, null: &'static str) -> Line {
    Line { name, per: Per::Window, formula, unit: "a second", null }
}

const fn other(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { unit, ..rate(name, formula, NO_ORDERS) }
}

pub(super) const SET: Set = Set {
    name: "rates",
    doc: "how often trades, quotes and orders come, and which best queue empties first",
    lines: &[
        rate("rate_quote", "changes of the best prices or sizes, by the length", UNCOVERED),
        rate("rate_trade", "trades, by the length", UNCOVERED),
        rate("rate_buy", "trades whose buyer took, as the venue tells, by the length", UNCOVERED),
        rate("rate_sell", "the same whose seller took", UNCOVERED),
        rate("rate_bid_depleted", "falls of the best bid, by the length", UNCOVERED),
        rate("rate_ask_depleted", "rises of the best ask, by the length", UNCOVERED),
        rate("rate_bid_improved", "rises of the best bid, by the length", UNCOVERED),
        rate("rate_ask_improved", "falls of the best ask, by the length", UNCOVERED),
        rate("rate_add_bid", "orders that came to the bids, by the length", NO_ORDERS),
        rate("rate_add_ask", "orders that came to the asks, by the length", NO_ORDERS),
        rate("rate_cancel_bid", "cancels of bids, whole or in part, by the length", NO_ORDERS),
        rate("rate_cancel_ask", "cancels of asks, whole or in part, by the length", NO_ORDERS),
        rate("rate_fill_bid", "fills of bids that were shown, by the length", NO_ORDERS),
        rate("rate_fill_ask", "fills of asks that were shown, by the length", NO_ORDERS),
        other("size_add_bid", "size of the orders that came to the bids", "size"),
        other("size_add_ask", "size of the orders that came to the asks", "size"),
        other("size_cancel_bid", "size of bids that was cancelled", "size"),
        other("size_cancel_ask", "size of asks that was cancelled", "size"),
        other("size_fill_bid", "size of bids that was filled", "size"),
        other("size_fill_ask", "size of asks that was filled", "size"),
        Line {
            null: "as rate_add_bid, or no order came or was cancelled",
            ..other("cancel_ratio", "cancels / (cancels + adds)", "0 to 1")
        },
        Line {
            null: "as rate_add_bid, or no order came or was cancelled",
            ..other("cancel_ratio_size", "the same by size", "0 to 1")
        },
        Line {
            null: "as rate_add_bid, or no trade",
            ..other("order_to_trade", "(adds + cancels + fills) / trades", "1")
        },
        rate(
            "rate_ewma_trade",
            "R e^(-dt/tau) + 1/tau at each trade, tau the length; decayed to the moment",
            "no trade in 40 lengths",
        ),
        Line {
            per: Per::One,
            name: "queue_p_up",
            formula: "(2/pi) atan(qb/qa): chance that the ask is depleted first, of independent \
                      queues one tick apart (Cont & de Larrard 2013)",
            unit: "0 to 1",
            null: "a side is empty, or crossed",
        },
    ],
    build: |terms| Box::new(Rates::new(terms)),
    has_book: false,
};

/// Counts in the order of the lines, 14 of them, then 6 sizes.
const TERMS: usize = 20;
const COUNTS: usize = 14;
const TRADES: usize = 1;
/// The first term of adds, of cancels and of fills: bids, then asks.
const ADDS: usize = 8;
const CANCELS: usize = 10;
const FILLS: usize = 12;

#[derive(Debug)]
struct Rates {
    rolling: Rolling<TERMS>,
    lengths: Vec<i64>,
    /// Averaged rates of trades by window, as of the last trade.
    averaged: Vec<f64>,
    last: i64,
    has_orders: bool,
    partial: bool,
}

impl Rates {
    fn new(terms: &Terms) -> Self {
        Self {
            rolling: Rolling::new(&terms.windows),
            lengths: terms.windows.clone(),
            averaged: vec![0.0; terms.windows.len()],
            last: i64::MIN,
            has_orders: false,
            partial: terms.partial,
        }
    }

    fn add(&mut self, term: usize, amount: i128) {
        let mut terms = [0; TERMS];
        terms[term] = amount;
        self.rolling.add(terms);
    }

    /// What is left of an averaged rate at `ts`; none: no trade counts any more.
    fn left(&self, index: usize, ts: i64) -> Option<f64> {
        let last = Some(self.last).filter(|&last| last != i64::MIN)?;
        left_after(ts - last, self.lengths[index]).map(|left| self.averaged[index] * left)
    }
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

impl Family for Rates {
    fn change(&mut self, change: &Change) {
        self.rolling.begin(change.ts);
        let Some(before) = &change.before else { return };
        let after = &change.after;
        let mut terms = [0; TERMS];
        terms[0] = i128::from(before != after);
        let mut count = |before: i64, after: i64, fallen: usize, risen: usize| {
            if before != NONE && after != NONE && before != after {
                terms[if after < before { fallen } else { risen }] = 1;
            }
        };
        count(before.bid_price, after.bid_price, 4, 6);
        count(before.ask_price, after.ask_price, 7, 5);
        self.rolling.add(terms);
    }

    fn print(&mut self, print: &Print) {
        self.rolling.begin(print.ts);
        if !print.counts {
            return;
        }
        let mut terms = [0; TERMS];
        terms[TRADES] = 1;
        if print.side != 0 {
            terms[if print.side > 0 { 2 } else { 3 }] = 1;
        }
        self.rolling.add(terms);
        for index in 0..self.lengths.len() {
            let left = self.left(index, print.ts).unwrap_or(0.0);
            self.averaged[index] = left + 1.0 / seconds(self.lengths[index]);
        }
        self.last = print.ts;
    }

    fn order(&mut self, step: &OrderStep) {
        self.rolling.begin(step.ts);
        self.has_orders = true;
        let first = match step.kind {
            OrderKind::Add => ADDS,
            OrderKind::Cancel => CANCELS,
            OrderKind::Fill => FILLS,
        };
        let term = first + usize::from(step.side == Side::Ask);
        self.add(term, 1);
        self.add(term - ADDS + COUNTS, i128::from(step.size));
    }

    fn reset(&mut self) {
        self.rolling.reset();
        self.averaged.fill(0.0);
        self.last = i64::MIN;
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        let ts = moment.ts;
        self.rolling.close(ts);
        let each: Vec<([i128; TERMS], bool)> = (0..self.rolling.len())
            .map(|at| (*self.rolling.sums(at), self.rolling.is_shown(at, ts, self.partial)))
            .collect();
        let has_orders = self.has_orders;
        let known = |term: usize| term < ADDS || has_orders;
        for term in 0..COUNTS {
            for ((sums, shown), &length) in each.iter().zip(&self.lengths) {
                let value = (*shown && known(term)).then(|| sums[term] as f64 / seconds(length));
                out.push(value, sums[term] as u64);
            }
        }
        for term in COUNTS..TERMS {
            for (sums, shown) in &each {
                let value = (*shown && has_orders).then(|| size(sums[term]));
                out.push(value, sums[term - COUNTS + ADDS] as u64);
            }
        }
        let mut share = |adds: usize, cancels: usize, shift: usize| {
            for (sums, shown) in &each {
                let both = |first: usize| sums[first + shift] + sums[first + 1 + shift];
                let (came, gone) = (both(adds), both(cancels));
                let value = (*shown && has_orders && came + gone > 0)
                    .then(|| gone as f64 / (came + gone) as f64);
                let count = sums[ADDS..CANCELS + 2].iter().sum::<i128>();
                out.push(value, count as u64);
            }
        };
        share(ADDS, CANCELS, 0);
        share(ADDS, CANCELS, COUNTS - ADDS);
        for (sums, shown) in &each {
            let messages: i128 = sums[ADDS..COUNTS].iter().sum();
            let value = (*shown && has_orders && sums[TRADES] > 0)
                .then(|| messages as f64 / sums[TRADES] as f64);
            out.push(value, messages as u64);
        }
        for (index, (sums, _)) in each.iter().enumerate() {
            out.push(self.left(index, ts), sums[TRADES] as u64);
        }
        let best = moment.best.filter(|best: &Best| best.is_sound() && best.size() > 0);
        out.push(
            best.map(|best| {
                let (bid, ask) = (best.bid_size as f64, best.ask_size as f64);
                bid.atan2(ask) / std::f64::consts::FRAC_PI_2
            }),
            1,
        );
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.rolling.write(state);
        self.averaged.iter().for_each(|value| state.u64(value.to_bits()));
        state.i64(self.last);
        state.flag(self.has_orders);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.rolling.read(state)?;
        for value in &mut self.averaged {
            *value = f64::from_bits(state.u64()?);
        }
        self.last = state.i64()?;
        self.has_orders = state.flag()?;
        Ok(())
    }
}
