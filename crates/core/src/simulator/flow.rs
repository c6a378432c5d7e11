//! Orders of one instrument as they come: they rest, are taken back, or take what rests.
//!
//! Arrivals excite each other, so that the market is calm and then bursts. Orders rest mostly near
//! the best price and, as a power law, far from it; a drifting lean of buyers against sellers moves
//! the price. Prices are counted in ticks and sizes in lots here.

use std::collections::BTreeMap;

use super::random::Random;
use crate::record::Side;

/// What each arrival adds to the rate of the next, as a part of the rate without any.
const EXCITEMENT: f64 = 0.05;
/// Half of how fast excitement fades, per mean pause without any; more than arrivals add.
const FADING: f64 = 0.04;
/// What a burst adds, and how likely an arrival is to start one.
const BURST: f64 = 20.0;
const BURST_CHANCE: f64 = 0.0003;
/// What these come to: arrivals are so much more frequent than without excitement.
const EXCITED_MEAN: f64 = 3.3;
/// Fills that a level gives are those of up to so many resting orders.
const MAKERS_MAX: u64 = 3;

/// One level set to a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Bid or ask.
    pub side: Side,
    /// Ticks.
    pub price: i64,
    /// Lots; 0 removes the level.
    pub size: i64,
    /// The update id.
    pub id: u64,
}

/// What one resting order gave to a taker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// The side that took.
    pub taker: Side,
    /// Ticks.
    pub price: i64,
    /// Lots.
    pub size: i64,
    /// The trade id.
    pub id: u64,
    /// The id of the fills of this taker at this price.
    pub aggregate: u64,
}

/// The resting orders of one instrument by price, and the chance that drives them.
#[derive(Debug)]
pub struct Flow {
    random: Random,
    /// Mean time between arrivals in ns, if nothing excited them.
    pause: f64,
    excitement: f64,
    /// Buyers against sellers, -1 to 1.
    lean: f64,
    /// A usual size in lots.
    size: i64,
    levels: usize,
    /// Whether update ids are shared with other instruments, so that they jump.
    jumps: bool,
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
    update: u64,
    trade: u64,
    aggregate: u64,
    /// What the last arrival changed.
    pub changes: Vec<Change>,
    /// What the last arrival filled.
    pub fills: Vec<Fill>,
}

impl Flow {
    /// A book of `levels` a side around `price` ticks, with `rate` arrivals a second on average.
    pub fn new(mut random: Random, price: i64, size: i64, levels: usize, rate: f64) -> Self {
        let update = 1_000_000_000 + random.below(1_000_000_000);
        let trade = 100_000_000 + random.below(100_000_000);
        let mut flow = Self {
            pause: 1e9 * EXCITED_MEAN / rate.max(1e-6),
            excitement: 0.0,
            lean: 0.0,
            size,
            levels,
            jumps: false,
            bids: BTreeMap::new(),
            asks: BTreeMap::new(),
            update,
            trade,
            aggregate: trade / 2,
            changes: Vec::new(),
            fills: Vec::new(),
            random,
        };
        flow.fill_up(Side::Bid, price);
        flow.fill_up(Side::Ask, price);
        flow.changes.clear();
        flow
    }

    /// Lets update ids jump, as where instruments share them.
    pub const fn share_ids(&mut self) {
        self.jumps = true;
    }

    /// The last update id.
    pub const fn update_id(&self) -> u64 {
        self.update
    }

    /// The last trade id and the last aggregate id.
    pub const fn trade_ids(&self) -> (u64, u64) {
        (self.trade, self.aggregate)
    }

    /// Skips trade ids, as a venue does that lost some.
    pub const fn skip_trades(&mut self, count: u64) {
        self.trade += count;
        self.aggregate += count;
    }

    /// The best level of a side: ticks and lots.
    pub fn best(&self, side: Side) -> Option<(i64, i64)> {
        let best = match side {
            Side::Ask => self.asks.first_key_value(),
            _ => self.bids.last_key_value(),
        };
        best.map(|(&price, &size)| (price, size))
    }

    /// The size that rests at a price.
    pub fn size_at(&self, side: Side, price: i64) -> i64 {
        self.side(side).get(&price).copied().unwrap_or(0)
    }

    /// The levels of a side, best first.
    pub fn levels(&self, side: Side) -> Box<dyn Iterator<Item = (i64, i64)> + '_> {
        match side {
            Side::Ask => Box::new(self.asks.iter().map(|(&price, &size)| (price, size))),
            _ => Box::new(self.bids.iter().rev().map(|(&price, &size)| (price, size))),
        }
    }

    /// Nanoseconds until the next arrival.
    pub fn pause(&mut self) -> i64 {
        let pause = self.pause * self.random.exponential() / (1.0 + self.excitement);
        // Fading is a rational function: an exponential one is not the same on every machine.
        let faded = 1.0 + FADING * pause / self.pause;
        self.excitement /= faded * faded;
        (pause as i64).max(1)
    }

    /// Lets one order arrive: see `changes` and `fills`.
    pub fn arrive(&mut self) {
        self.changes.clear();
        self.fills.clear();
        self.excitement += EXCITEMENT;
        if self.random.chance(BURST_CHANCE) {
            self.excitement += BURST;
            self.lean = self.random.unit() * 2.0 - 1.0;
        }
        self.lean = self.lean * 0.999 + (self.random.unit() - 0.5) * 0.03;
        let buys = self.random.chance(0.5 + 0.3 * self.lean.clamp(-1.0, 1.0));
        let side = if buys { Side::Bid } else { Side::Ask };
        let what = self.random.unit();
        if what < 0.10 {
            self.take(side);
        } else if what < 0.57 {
            self.rest(side);
        } else {
            self.cancel(opposite(side));
        }
    }

    fn take(&mut self, taker: Side) {
        let side = opposite(taker);
        // Most orders take what the best price offers; some sweep several levels.
        let wanted = self.random.size(self.size);
        let mut left = match (self.random.unit(), self.best(side)) {
            (..0.01, _) => wanted * 16,
            (..0.15, _) => wanted * 2,
            (_, Some((_, offered))) => wanted.min(offered),
            (_, None) => 0,
        };
        while left > 0 {
            let Some((price, size)) = self.best(side) else { break };
            let taken = left.min(size);
            self.fill(taker, price, taken);
            self.set(side, price, size - taken);
            left -= taken;
        }
        if self.side(side).len() < self.levels / 2 {
            let price = self.best(side).map_or_else(|| self.beyond(side), |(price, _)| price);
            self.fill_up(side, price);
        }
    }

    /// Splits what was taken at a price among the orders that rested there.
    fn fill(&mut self, taker: Side, price: i64, size: i64) {
        self.aggregate += 1;
        let makers = 1 + self.random.below(MAKERS_MAX) as i64;
        let mut left = size;
        for maker in (0..makers).rev() {
            let part = if maker == 0 { left } else { left / (maker + 1) };
            if part > 0 {
                self.trade += 1;
                let (id, aggregate) = (self.trade, self.aggregate);
                self.fills.push(Fill { taker, price, size: part, id, aggregate });
                left -= part;
            }
        }
    }

    fn rest(&mut self, side: Side) {
        let outward = if side == Side::Bid { -1 } else { 1 };
        let price = match (self.best(side), self.best(opposite(side))) {
            (Some((best, _)), Some((other, _))) => {
                let room = (other - best).abs() - 1;
                if room > 0 && self.random.chance(0.8) {
                    best - outward * (1 + self.random.below(room as u64) as i64)
                } else {
                    best + outward * self.random.depth(1.5, self.levels as u64 * 2) as i64
                }
            }
            _ => self.beyond(side),
        };
        if price < 1 {
            return;
        }
        let size = self.size_at(side, price) + self.random.size(self.size);
        self.set(side, price, size);
        if self.side(side).len() > self.levels * 2 {
            let worst = match side {
                Side::Ask => self.asks.last_key_value(),
                _ => self.bids.first_key_value(),
            };
            if let Some((&worst, _)) = worst {
                self.set(side, worst, 0);
            }
        }
    }

    fn cancel(&mut self, side: Side) {
        let depth = self.random.depth(2.0, self.side(side).len() as u64) as usize;
        let Some((price, size)) = self.levels(side).nth(depth) else { return };
        let whole = self.random.chance(0.3) && self.side(side).len() > self.levels / 2;
        let left = if whole { 0 } else { size - self.random.below(size as u64) as i64 };
        if left != size {
            self.set(side, price, left);
        }
    }

    /// A first price for a side that holds nothing.
    fn beyond(&self, side: Side) -> i64 {
        let outward = if side == Side::Bid { -1 } else { 1 };
        let other = self.best(opposite(side)).map_or(1, |(price, _)| price);
        (other + outward).max(1)
    }

    /// Adds levels from beyond `price` outward until there are as many as there should be.
    fn fill_up(&mut self, side: Side, mut price: i64) {
        let outward = if side == Side::Bid { -1 } else { 1 };
        while self.side(side).len() < self.levels {
            let missing = self.levels - self.side(side).len();
            // The further out, the wider the steps between levels and the larger the sizes.
            let reach = ((self.levels - missing) / 20 + 1) as u64;
            price += outward * (1 + self.random.below(reach.min(8)) as i64);
            if price < 1 {
                return;
            }
            if self.size_at(side, price) == 0 {
                let size = self.random.size(self.size * 2) + (reach as i64 / 4) * self.size;
                self.set(side, price, size);
            }
        }
    }

    fn set(&mut self, side: Side, price: i64, size: i64) {
        self.update += if self.jumps { 1 + self.random.below(60) } else { 1 };
        let levels = if side == Side::Bid { &mut self.bids } else { &mut self.asks };
        if size > 0 {
            levels.insert(price, size);
        } else {
            levels.remove(&price);
        }
        self.changes.push(Change { side, price, size: size.max(0), id: self.update });
    }

    const fn side(&self, side: Side) -> &BTreeMap<i64, i64> {
        match side {
            Side::Ask => &self.asks,
            _ => &self.bids,
        }
    }
}

const fn opposite(side: Side) -> Side {
    match side {
        Side::Bid => Side::Ask,
        _ => Side::Bid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn book_is_never_crossed_and_never_thin() {
        // A long run: best bid below best ask after every arrival, spread mostly a few ticks,
        // levels within their bounds, ids contiguous.
        let mut flow = Flow::new(Random::of(3, ""), 6_180_000, 20_000, 400, 1000.0);
        let (mut trades, mut spread) = (0, 0);
        let (mut update, mut trade) = (flow.update_id(), flow.trade_ids().0);
        for _ in 0..200_000 {
            flow.pause();
            flow.arrive();
            let (bid, ask) = (flow.best(Side::Bid).unwrap(), flow.best(Side::Ask).unwrap());
            assert!(bid.0 < ask.0 && bid.1 > 0 && ask.1 > 0);
            spread += ask.0 - bid.0;
            trades += flow.fills.len();
            for change in &flow.changes {
                update += 1;
                assert_eq!(change.id, update);
            }
            for fill in &flow.fills {
                trade += 1;
                assert_eq!(fill.id, trade);
            }
            for side in [Side::Bid, Side::Ask] {
                assert!((200..=801).contains(&flow.side(side).len()), "{}", flow.side(side).len());
            }
        }
        assert!((20_000..80_000).contains(&trades), "{trades}");
        let mean = spread as f64 / 200_000.0;
        assert!((1.0..6.0).contains(&mean), "mean spread of {mean} ticks");
    }

    #[test]
    fn arrivals_come_in_bursts_at_the_wanted_rate() {
        // Counts per 100 ms: the mean within a third of what was asked for, and the variance far
        // above that of independent arrivals, whose variance equals the mean.
        let mut flow = Flow::new(Random::of(5, ""), 100_000, 100, 100, 1000.0);
        let (mut at, mut counts) = (0i64, vec![0u32; 6_000]);
        loop {
            at += flow.pause();
            match counts.get_mut((at / 100_000_000) as usize) {
                Some(count) => *count += 1,
                None => break,
            }
            flow.arrive();
        }
        let mean = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / 6_000.0;
        let variance =
            counts.iter().map(|&count| (f64::from(count) - mean).powi(2)).sum::<f64>() / 6_000.0;
        assert!((66.0..133.0).contains(&mean), "{mean}");
        assert!(variance > 3.0 * mean, "{variance} beside {mean}");
    }
}
