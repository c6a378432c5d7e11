//! Set `cost`: what trades cost, and how much of it stays in the price.
//!
//! The effective spread is known with the trade. What depends on the mid some time later is final
//! once time has passed that horizon, and counts in the windows from then on: nothing is looked up
//! ahead of its time. A trade whose horizon lies behind the end of the stream never counts.
//!
//! Trades wait for their horizons in one queue, which has a bound. Beyond it the oldest goes: where
//! its horizon was not over, windows that reach back to its end are not covered.

use std::collections::VecDeque;

use super::family::{price, Best, Change, Family, Moment, Print, Set, Terms, Values};
use super::sign::{taker, TickRule};
use super::table::{Line, Per};
use super::window::{put_wide, take_wide, Rolling};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Trades that wait for the longest horizon, at most.
const PENDING_MAX: usize = 1 << 18;
/// One of a basis point in sums.
const BPS_ONE: f64 = (1_u64 << 32) as f64;
/// Units of turnover in one of its weight: 1e-9 of the currency.
const WEIGHT_UNITS: i128 = 100_000_000;

const NO_TRADE: &str = "no trade with a quote before it since the value before";
const NONE_SHOWN: &str = "the window is not covered, or had no such trade";
const NOT_FINAL: &str = "the window is not covered, no trade became final in it, or one that did \
                         was not kept: the last 262,144 trades are";

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

/// A trade that waits for its horizons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    ts: i64,
    sign: i8,
    price: i64,
    /// Twice the mid before.
    mid2: i128,
}

/// Trades of one horizon.
#[derive(Debug)]
struct Horizon {
    length: i64,
    /// How many of those that wait are final.
    done: usize,
    /// When the first and the last of those went that were to be final later.
    lost: Option<(i64, i64)>,
    /// Realized spread, impact, trades.
    rolling: Rolling<3>,
}

impl Horizon {
    const fn new(length: i64, rolling: Rolling<3>) -> Self {
        Self { length, done: 0, lost: None, rolling }
    }

    /// When a trade of `ts` is final.
    const fn end(&self, ts: i64) -> i64 {
        ts.saturating_add(self.length)
    }

    /// When the next trade is final, of those that wait and those that are lost.
    fn due(&self, pending: &VecDeque<Pending>) -> i64 {
        let waiting = pending.get(self.done).map(|one| one.ts);
        let lost = self.lost.map(|(first, _)| first);
        lost.or(waiting).map_or(i64::MAX, |ts| self.end(ts))
    }

    /// The oldest trade that waits, of `ts`, goes. It is older than all that will wait then.
    fn lose_oldest(&mut self, ts: i64) {
        match self.done.checked_sub(1) {
            Some(done) => self.done = done,
            None => self.lost = Some((self.lost.map_or(ts, |(first, _)| first), ts)),
        }
    }

    /// Begins anew behind the last trade that is lost, if the first one was to be final before
    /// `ts`: no window that holds one of their ends is covered.
    fn pass_lost(&mut self, ts: i64) {
        if let Some((_, last)) = self.lost.filter(|&(first, _)| self.end(first) < ts) {
            self.rolling.reset();
            self.rolling.begin(self.end(last));
            self.lost = None;
        }
    }

    /// Forgets everything.
    fn reset(&mut self) {
        (self.done, self.lost) = (0, None);
        self.rolling.reset();
    }
}

#[derive(Debug)]
struct Cost {
    tick: TickRule,
    best: Option<Best>,
    last: Option<i128>,
    /// Spread; times size; size; bps times turnover; turnover; trades.
    rolling: Rolling<6>,
    /// Those whose longest horizon is not over, the oldest first.
    pending: VecDeque<Pending>,
    pending_max: usize,
    horizons: Vec<Horizon>,
    /// Trades that went before they were final.
    dropped: u64,
    partial: bool,
    per_event: bool,
}

impl Cost {
    fn new(terms: &Terms) -> Self {
        let horizon = |&length: &i64| Horizon::new(length, Rolling::new(&terms.windows));
        Self {
            tick: TickRule::default(),
            best: None,
            last: None,
            rolling: Rolling::new(&terms.windows),
            pending: VecDeque::new(),
            pending_max: PENDING_MAX,
            horizons: terms.horizons.iter().map(horizon).collect(),
            dropped: 0,
            partial: terms.partial,
            per_event: terms.per_event,
        }
    }

    /// Counts the trades whose horizon ended before `ts`, by the mid that stands until then.
    fn resolve(&mut self, ts: i64) {
        let mid2 = self.best.filter(Best::is_sound).map(|best| best.mid2());
        for horizon in &mut self.horizons {
            horizon.pass_lost(ts);
            while let Some(one) = self.pending.get(horizon.done).copied() {
                let end = horizon.end(one.ts);
                if end >= ts {
                    break;
                }
                horizon.done += 1;
                let Some(after) = mid2 else { continue };
                let sign = i128::from(one.sign);
                let realized = sign * (2 * i128::from(one.price) - after);
                horizon.rolling.add([realized, sign * (after - one.mid2), 1]);
                if self.per_event {
                    // Without a grid, the next sample may be any time later.
                    horizon.rolling.close(end);
                }
            }
        }
        let over = self.horizons.iter().map(|horizon| horizon.done).min().unwrap_or(0);
        if over > 0 {
            self.pending.drain(..over);
            self.horizons.iter_mut().for_each(|horizon| horizon.done -= over);
        }
    }

    /// Lets a trade wait for its horizons.
    fn wait(&mut self, one: Pending) {
        if self.horizons.is_empty() {
            return;
        }
        if self.pending.len() == self.pending_max {
            if let Some(oldest) = self.pending.pop_front() {
                self.horizons.iter_mut().for_each(|horizon| horizon.lose_oldest(oldest.ts));
                self.dropped += 1;
            }
        }
        self.pending.push_back(one);
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
        self.wait(Pending { ts: print.ts, sign, price: print.price, mid2 });
    }

    fn due(&self) -> i64 {
        let each = self.horizons.iter().map(|horizon| horizon.due(&self.pending));
        each.min().unwrap_or(i64::MAX)
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reset(&mut self) {
        (self.tick, self.best, self.last) = (TickRule::default(), None, None);
        self.rolling.reset();
        self.pending.clear();
        self.horizons.iter_mut().for_each(Horizon::reset);
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
        state.u64(self.dropped);
        state.length(self.pending.len());
        for one in &self.pending {
            state.i64(one.ts);
            state.u8(one.sign as u8);
            state.i64(one.price);
            put_wide(one.mid2, state);
        }
        for horizon in &self.horizons {
            horizon.rolling.write(state);
            state.length(horizon.done);
            state.flag(horizon.lost.is_some());
            let (first, last) = horizon.lost.unwrap_or_default();
            state.i64(first);
            state.i64(last);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.tick = TickRule::read(state)?;
        self.best = super::take_best(state)?;
        let has_last = state.flag()?;
        self.last = Some(take_wide(state)?).filter(|_| has_last);
        self.rolling.read(state)?;
        self.dropped = state.u64()?;
        self.pending.clear();
        for _ in 0..state.length(33)? {
            self.pending.push_back(Pending {
                ts: state.i64()?,
                sign: state.u8()? as i8,
                price: state.i64()?,
                mid2: take_wide(state)?,
            });
        }
        for horizon in &mut self.horizons {
            horizon.rolling.read(state)?;
            horizon.done = (state.u64()? as usize).min(self.pending.len());
            let is_lost = state.flag()?;
            horizon.lost = Some((state.i64()?, state.i64()?)).filter(|_| is_lost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NONE;

    const HORIZONS: [i64; 2] = [50, 400];
    const WINDOW: i64 = 100;

    /// The value of each horizon.
    type Each = [Option<f64>; 2];

    /// Numbers that are the same in every run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: u64) -> i64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((self.0 >> 33) % end) as i64
        }
    }

    fn cost(pending_max: usize) -> Cost {
        let mut cost = Cost::new(&Terms {
            windows: vec![WINDOW],
            partial: false,
            per_event: false,
            horizons: HORIZONS.to_vec(),
            bands: Vec::new(),
            levels: Vec::new(),
            sizes: Vec::new(),
            step: 1,
            bar: 1,
            span: 10,
            vpin_volume: 0,
            vpin_buckets: 1,
            ofi_bar: 1,
            ofi_span: 10,
            hawkes: None,
        });
        cost.pending_max = pending_max;
        cost
    }

    fn best(bid_price: i64) -> Best {
        Best { bid_price, bid_size: 1, ask_price: bid_price + 2, ask_size: 1 }
    }

    fn quote(ts: i64, after: Best) -> Change {
        let (ts_recv, ts_event, latency) = (ts, ts, None);
        Change { ts, ts_recv, ts_event, latency, tick: NONE, before: None, after }
    }

    fn trade(ts: i64, price: i64, best: Best) -> Print {
        let (ts_recv, ts_event, latency) = (ts, ts, None);
        let (sets_price, sets_range, counts) = (true, true, true);
        let (best, side, size) = (Some(best), 1, 1);
        Print {
            ts,
            ts_recv,
            ts_event,
            latency,
            price,
            size,
            side,
            best,
            sets_price,
            sets_range,
            counts,
        }
    }

    /// Realized spreads, of each horizon, at each time of a grid of 10, and of how many trades
    /// they are; beside what a plain count says.
    fn realized(pending_max: usize) -> (Vec<Each>, Vec<Each>, u64) {
        let (mut cost, mut chance) = (cost(pending_max), Chance(1));
        let (mut quotes, mut trades) = (vec![(0, best(1_000))], Vec::new());
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        cost.change(&quote(0, quotes[0].1));
        for ts in 1..20_000_i64 {
            let rush = if ts % 2_000 < 300 { 2 } else { 40 };
            if chance.below(7) == 0 {
                quotes.push((ts, best(1_000 + chance.below(50))));
                cost.change(&quote(ts, quotes[quotes.len() - 1].1));
            }
            if chance.below(rush) == 0 {
                let best = quotes[quotes.len() - 1].1;
                let price = 1_000 + chance.below(50);
                trades.push((ts, price));
                cost.print(&trade(ts, price, best));
            }
            if ts % 10 > 0 {
                continue;
            }
            let mut values = Values::default();
            let moment = Moment {
                ts,
                best: None,
                tick: NONE,
                book: None,
                reach: [None; 2],
                is_complete: true,
            };
            cost.sample(&moment, &mut values);
            let values: Vec<_> = values.drain().map(|one| one.value).collect();
            found.push([values[4], values[5]]);
            wanted.push(HORIZONS.map(|horizon| {
                let within =
                    |&&(at, _): &&(i64, i64)| (ts - WINDOW + 1..=ts).contains(&(at + horizon));
                let costs: Vec<i128> = trades
                    .iter()
                    .filter(within)
                    .map(|&(at, price)| {
                        let standing = quotes.partition_point(|&(from, _)| from <= at + horizon);
                        2 * i128::from(price) - quotes[standing - 1].1.mid2()
                    })
                    .collect();
                let first = trades.first().is_some_and(|&(at, _)| ts - WINDOW >= at);
                (first && !costs.is_empty())
                    .then(|| super::price(costs.iter().sum()) / costs.len() as f64)
            }));
        }
        (found, wanted, cost.dropped())
    }

    #[test]
    fn each_trade_counts_where_its_horizon_ends() {
        let (found, wanted, dropped) = realized(PENDING_MAX);
        assert_eq!((found, dropped), (wanted, 0));
    }

    #[test]
    fn no_mean_is_shown_of_a_part_of_the_trades() {
        // Room for fewer than come within the longer horizon of a rush, and for all of the rest.
        let (found, wanted, dropped) = realized(60);
        assert!(dropped > 100);
        let (mut shown, mut hidden) = (0, 0);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found[0], wanted[0]);
            assert!(found[1].is_none() || found[1] == wanted[1]);
            shown += u32::from(found[1].is_some());
            hidden += u32::from(found[1] != wanted[1]);
        }
        assert!(shown > 500 && hidden > 100, "{shown} {hidden}");
    }
}
