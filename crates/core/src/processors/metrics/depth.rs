//! Set `depth`: what the book holds behind the best prices, and what it costs to trade against it.
//!
//! All is of the verified book at the moment of a sample; where none is verified, all is null. The
//! mid is that of the book, and moves with it, so nothing is kept between samples.
//!
//! A book is known as far as the snapshot reached that it began with. What is made of levels behind
//! that is a bound, as more may stand there, and is flagged: [`FLAG_MAYBE_BAD`].
//!
//! [`FLAG_MAYBE_BAD`]: crate::record::FLAG_MAYBE_BAD

use super::family::{size, Family, Moment, Set, Terms, Values};
use super::table::{Line, Per};
use crate::book::{Distance, Fill, L2Book, PriceLevel};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Side, NONE};

/// Levels a side that shapes are made of.
const LEVELS: usize = 10;
/// Levels that a regression is made of, at least.
const POINTS_MIN: usize = 3;
const SIDES: [Side; 2] = [Side::Bid, Side::Ask];

const NO_BOOK: &str = "the book is not verified, or a side is empty";
const THIN: &str = "as depth_bid, or the side holds less";

const NO_TICK: &str = "as depth_bid, or the tick size is not known";

const fn line(per: Per, name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per, formula, unit, null: NO_BOOK }
}

const fn cost(name: &'static str, formula: &'static str) -> Line {
    Line { null: THIN, ..line(Per::Size, name, formula, "bps of mid") }
}

const fn shape(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { null: NO_TICK, ..line(Per::One, name, formula, unit) }
}

const fn elasticity(name: &'static str, formula: &'static str) -> Line {
    let null = "as depth_bid, locked, or one unit at the best price";
    Line { null, ..line(Per::One, name, formula, "1") }
}

const BAND: &str = "size of bids within so many bps of the mid, bound included";
const COMPLETE: &str =
    "1 where all bids of the band are known; 0: the snapshot ended in it, there may be more";
const FIRST: &str = "size of so many best bids; of fewer, what there is";
const ASKS: &str = "the same of asks";
const ELASTICITY: &str =
    "mean over 10 levels of the relative rise of ln(size so far) by that of the price";
const SLOPE: &str = "slope of size so far on distance to the mid, 3 to 10 levels";
const CENTRE: &str = "mean distance to the mid of 10 levels, weighted by size";

pub(super) const SET: Set = Set {
    name: "depth",
    doc: "what the book holds behind the best prices, and what it costs to trade against it",
    lines: &[
        line(Per::Band, "depth_bid", BAND, "size"),
        line(Per::Band, "depth_ask", ASKS, "size"),
        line(Per::Band, "depth_complete_bid", COMPLETE, "0 or 1"),
        line(Per::Band, "depth_complete_ask", ASKS, "0 or 1"),
        line(Per::Level, "depth_bid_L", FIRST, "size"),
        line(Per::Level, "depth_ask_L", ASKS, "size"),
        line(Per::Level, "imbalance_L", "(B - A) / (B + A) of these", "-1 to 1"),
        cost("cost_buy", "1e4 (2 VWAP / mid2 - 1) of so much bought at once"),
        cost("cost_sell", "1e4 (1 - 2 VWAP / mid2) of so much sold at once"),
        cost("roundtrip", "cost_buy + cost_sell"),
        line(Per::Size, "fill_buy", "what the asks hold of it", "size"),
        line(Per::Size, "fill_sell", "what the bids hold of it", "size"),
        elasticity("slope_ns_bid", ELASTICITY),
        elasticity("slope_ns_ask", ASKS),
        shape("slope_depth_bid", SLOPE, "size of a tick"),
        shape("slope_depth_ask", ASKS, "size of a tick"),
        shape("gap_bid_1", "(best bid - next) / tick", "ticks"),
        shape("gap_ask_1", "(next - best ask) / tick", "ticks"),
        shape("depth_com_bid", CENTRE, "ticks"),
        shape("depth_com_ask", ASKS, "ticks"),
        line(Per::One, "depth_hhi_bid", "sum of the squares of the shares of 10 levels", "0 to 1"),
        line(Per::One, "depth_hhi_ask", ASKS, "0 to 1"),
    ],
    build: |terms| Box::new(Shape { terms: terms.clone() }),
    has_book: true,
};

#[derive(Debug)]
struct Shape {
    terms: Terms,
}

/// How far a book is known: the prices of bids and asks behind which levels may be missing.
struct Known([Option<i64>; 2]);

impl Known {
    const fn of(&self, side: Side) -> Option<i64> {
        self.0[matches!(side, Side::Ask) as usize]
    }

    fn is_whole(&self, side: Side) -> bool {
        self.of(side).is_none()
    }

    /// Whether all levels of a side up to `price` are known.
    fn to(&self, side: Side, price: i64) -> bool {
        let is_ask = matches!(side, Side::Ask);
        self.of(side).is_none_or(|last| if is_ask { price <= last } else { price >= last })
    }

    /// Whether the last level that is known lies outside of a band around the mid.
    fn holds_band(&self, side: Side, mid2: i128, band: u32) -> bool {
        let outward = if matches!(side, Side::Ask) { 10_000 } else { -10_000 };
        let reach = mid2.abs() * i128::from(band);
        self.of(side).is_none_or(|last| (2 * i128::from(last) - mid2) * outward > reach)
    }

    /// Whether so many best levels of a side are known.
    fn holds_levels(&self, book: &L2Book, side: Side, levels: usize) -> bool {
        let last = || book.levels(side).nth(levels.saturating_sub(1));
        self.is_whole(side) || last().is_some_and(|level| self.to(side, level.price))
    }
}

/// One side of a book at a moment.
struct SideView {
    levels: Vec<PriceLevel>,
    mid2: i128,
    tick: i64,
}

impl SideView {
    fn of(book: &L2Book, side: Side, mid2: i128, tick: i64) -> Self {
        Self { levels: book.levels(side).take(LEVELS).collect(), mid2, tick }
    }

    /// Distance to the mid in ticks.
    fn distance(&self, level: &PriceLevel) -> Option<f64> {
        let far = (2 * i128::from(level.price) - self.mid2).abs();
        (self.tick > 0 && self.tick != NONE).then(|| far as f64 / (2.0 * self.tick as f64))
    }

    /// Naes & Skjeltorp 2006.
    fn elasticity(&self) -> Option<f64> {
        let (mut sum, mut held, mut before) = (0.0, 0_i128, self.mid2 as f64 / 2.0);
        let mut log = 0.0_f64;
        for (at, level) in self.levels.iter().enumerate() {
            held += i128::from(level.size);
            let (now, rise) = (level.price as f64, size(held).ln());
            let change = if at == 0 { rise } else { rise / log - 1.0 };
            sum += change / (now / before - 1.0).abs();
            (before, log) = (now, rise);
        }
        let first = self.levels.first().map_or(0.0, |level| size(level.size.into()).ln());
        let value = sum / self.levels.len() as f64;
        (first != 0.0 && value.is_finite()).then_some(value)
    }

    /// Least squares of the size so far on the distance.
    fn slope(&self) -> Option<f64> {
        let mut held = 0_i128;
        let points: Option<Vec<(f64, f64)>> = self
            .levels
            .iter()
            .map(|level| {
                held += i128::from(level.size);
                Some((self.distance(level)?, size(held)))
            })
            .collect();
        let points = points.filter(|points| points.len() >= POINTS_MIN)?;
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
        let (mut xx, mut xy) = (0.0, 0.0);
        for (x, y) in &points {
            xx += (x - x_mean) * (x - x_mean);
            xy += (x - x_mean) * (y - y_mean);
        }
        (xx > 0.0).then(|| xy / xx)
    }

    fn gap(&self) -> Option<f64> {
        let [best, next] = self.levels.first_chunk::<2>()?;
        let far = i128::from(best.price) - i128::from(next.price);
        (self.tick > 0 && self.tick != NONE).then(|| far.abs() as f64 / self.tick as f64)
    }

    fn centre(&self) -> Option<f64> {
        let (mut sum, mut held) = (0.0, 0.0);
        for level in &self.levels {
            sum += self.distance(level)? * level.size as f64;
            held += level.size as f64;
        }
        Some(sum / held)
    }

    fn concentration(&self) -> f64 {
        let held: f64 = self.levels.iter().map(|level| level.size as f64).sum();
        self.levels.iter().map(|level| (level.size as f64 / held).powi(2)).sum()
    }
}

impl Shape {
    fn costs(&self, book: &L2Book, known: &Known, mid2: i128, out: &mut Values) {
        let fills: Vec<_> = self
            .terms
            .sizes
            .iter()
            .map(|&wanted| (wanted, book.cost(Side::Ask, wanted), book.cost(Side::Bid, wanted)))
            .collect();
        let cost = |wanted: i64, filled: i64, turnover: i128, sign: f64| {
            let ratio = 2.0 * (turnover as f64 / wanted as f64) / mid2 as f64 - 1.0;
            (filled == wanted && mid2 > 0).then_some(1e4 * sign * ratio)
        };
        let both: Vec<_> = fills
            .iter()
            .map(|(wanted, buy, sell)| {
                let bought = cost(*wanted, buy.size, buy.cost, 1.0);
                (bought, cost(*wanted, sell.size, sell.cost, -1.0))
            })
            .collect();
        // Where more may stand between, it may cost less.
        let is_known =
            |fill: &Fill, side| fill.price_worst.is_none_or(|price| known.to(side, price));
        let knows_buy: Vec<_> = fills.iter().map(|(_, buy, _)| is_known(buy, Side::Ask)).collect();
        let knows_sell: Vec<_> = fills.iter().map(|(.., sell)| is_known(sell, Side::Bid)).collect();
        for ((buy, _), &is_known) in both.iter().zip(&knows_buy) {
            out.push_known(*buy, 1, is_known);
        }
        for ((_, sell), &is_known) in both.iter().zip(&knows_sell) {
            out.push_known(*sell, 1, is_known);
        }
        for ((buy, sell), is_known) in both.iter().zip(knows_buy.iter().zip(&knows_sell)) {
            let cost = buy.zip(*sell).map(|(buy, sell)| buy + sell);
            out.push_known(cost, 1, *is_known.0 && *is_known.1);
        }
        for (wanted, buy, _) in &fills {
            let is_known = buy.size == *wanted || known.is_whole(Side::Ask);
            out.push_known(Some(size(buy.size.into())), 1, is_known);
        }
        for (wanted, _, sell) in &fills {
            let is_known = sell.size == *wanted || known.is_whole(Side::Bid);
            out.push_known(Some(size(sell.size.into())), 1, is_known);
        }
    }

    fn values(&self, book: &L2Book, known: &Known, mid2: i128, tick: i64, out: &mut Values) {
        for side in SIDES {
            for &band in &self.terms.bands {
                let depth = book.depth(side, Distance::BasisPoints(band));
                let is_known = known.holds_band(side, mid2, band);
                out.push_known(depth.map(|depth| size(depth.size)), 1, is_known);
            }
        }
        for side in SIDES {
            for &band in &self.terms.bands {
                let is_known = known.holds_band(side, mid2, band);
                out.push(Some(f64::from(u8::from(is_known))), 1);
            }
        }
        let held = |side: Side, levels: usize| -> i128 {
            book.levels(side).take(levels).map(|level| i128::from(level.size)).sum()
        };
        for side in SIDES {
            for &levels in &self.terms.levels {
                let is_known = known.holds_levels(book, side, levels);
                out.push_known(Some(size(held(side, levels))), 1, is_known);
            }
        }
        for &levels in &self.terms.levels {
            let (bid, ask) = (held(Side::Bid, levels), held(Side::Ask, levels));
            let value = (bid + ask > 0).then(|| (bid - ask) as f64 / (bid + ask) as f64);
            let is_known = SIDES.into_iter().all(|side| known.holds_levels(book, side, levels));
            out.push_known(value, 1, is_known);
        }
        self.costs(book, known, mid2, out);
        let sides = SIDES.map(|side| SideView::of(book, side, mid2, tick));
        let is_known = SIDES.map(|side| known.holds_levels(book, side, LEVELS));
        let has_next = SIDES.map(|side| known.holds_levels(book, side, 2));
        let mut each = |value: fn(&SideView) -> Option<f64>, is_known: [bool; 2]| {
            for (side, is_known) in sides.iter().zip(is_known) {
                out.push_known(value(side), 1, is_known);
            }
        };
        each(SideView::elasticity, is_known);
        each(SideView::slope, is_known);
        each(SideView::gap, has_next);
        each(SideView::centre, is_known);
        each(|side| Some(side.concentration()), is_known);
    }
}

impl Family for Shape {
    fn reset(&mut self) {}

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        let best = |book: &L2Book, side| book.best(side).map(|level| i128::from(level.price));
        let whole = moment
            .book
            .and_then(|book| Some((book, best(book, Side::Bid)? + best(book, Side::Ask)?)));
        if let Some((book, mid2)) = whole {
            self.values(book, &Known(moment.reach), mid2, moment.tick, out);
            return;
        }
        let Terms { bands, levels, sizes, .. } = &self.terms;
        let count = 4 * bands.len() + 3 * levels.len() + 5 * sizes.len() + 10;
        (0..count).for_each(|_| out.push(None, 0));
    }

    fn write(&self, _: &mut StateWriter<'_>) {}

    fn read(&mut self, _: &mut StateReader<'_>) -> Result<()> {
        Ok(())
    }
}
