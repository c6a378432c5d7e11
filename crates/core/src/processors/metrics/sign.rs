//! Who took: rules that say whether the buyer or the seller of a trade did, by prices alone.
//!
//! All compare integers. A sign is 1 for the buyer, -1 for the seller, 0 where the rule does not
//! tell. The quote is that right before the trade.

use super::family::{Best, Print};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

/// The sign of the last change of the price: the tick rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TickRule {
    price: i64,
    sign: i8,
}

impl Default for TickRule {
    fn default() -> Self {
        Self { price: NONE, sign: 0 }
    }
}

impl TickRule {
    /// Takes in a price, and gives the sign of the last change that was one, this one included.
    #[inline]
    pub(super) fn take(&mut self, price: i64) -> i8 {
        if self.price != NONE && price != self.price {
            self.sign = if price > self.price { 1 } else { -1 };
        }
        self.price = price;
        self.sign
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.price);
        state.u8(self.sign as u8);
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self { price: state.i64()?, sign: state.u8()? as i8 })
    }
}

/// The side of the mid on which the price lies; 0 at the mid or without a quote.
#[inline]
pub(super) fn quote_rule(price: i64, best: Option<&Best>) -> i8 {
    let Some(best) = best.filter(|best| best.has_both()) else { return 0 };
    (2 * i128::from(price)).cmp(&best.mid2()) as i8
}

/// Lee & Ready 1991: the quote rule; at the mid, or without a quote, the tick rule.
#[inline]
pub(super) fn lee_ready(price: i64, best: Option<&Best>, tick: i8) -> i8 {
    match quote_rule(price, best) {
        0 => tick,
        sign => sign,
    }
}

/// Ellis, Michaely & O'Hara 2000: at the ask the buyer, at the bid the seller; else the tick rule.
pub(super) fn ellis(price: i64, best: Option<&Best>, tick: i8) -> i8 {
    let Some(best) = best else { return tick };
    match (price == best.ask_price, price == best.bid_price) {
        (true, false) => 1,
        (false, true) => -1,
        _ => tick,
    }
}

/// Chakrabarty et al. 2007: the upper and lower 30 % of the spread; else the tick rule.
pub(super) fn chakrabarty(price: i64, best: Option<&Best>, tick: i8) -> i8 {
    let Some(best) = best.filter(|best| best.has_both()) else { return tick };
    let (ask, bid) = (i128::from(best.ask_price), i128::from(best.bid_price));
    let tenfold = 10 * i128::from(price);
    let is_high = tenfold >= 7 * ask + 3 * bid && price <= best.ask_price;
    let is_low = tenfold <= 3 * ask + 7 * bid && price >= best.bid_price;
    match (is_high, is_low) {
        (true, false) => 1,
        (false, true) => -1,
        _ => tick,
    }
}

/// The side that the venue tells, or where it does not, that of Lee & Ready.
#[inline]
pub(super) fn taker(print: &Print, tick: i8) -> i8 {
    if print.side == 0 {
        lee_ready(print.price, print.best.as_ref(), tick)
    } else {
        print.side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTE: Best = Best { bid_price: 100, bid_size: 1, ask_price: 110, ask_size: 1 };

    #[test]
    fn each_rule_decides_at_its_edges() {
        // Prices from the bid to the ask and beyond, after a fall: the tick rule says -1.
        let signs = |rule: fn(i64, Option<&Best>, i8) -> i8| {
            [99, 100, 103, 104, 105, 106, 107, 110, 111].map(|price| rule(price, Some(&QUOTE), -1))
        };
        assert_eq!(signs(lee_ready), [-1, -1, -1, -1, -1, 1, 1, 1, 1]);
        assert_eq!(signs(ellis), [-1, -1, -1, -1, -1, -1, -1, 1, -1]);
        assert_eq!(signs(chakrabarty), [-1, -1, -1, -1, -1, -1, 1, 1, -1]);
        assert_eq!(quote_rule(105, Some(&QUOTE)), 0);
        let locked = Best { ask_price: 100, ..QUOTE };
        for rule in [lee_ready, ellis, chakrabarty] {
            assert_eq!(rule(100, Some(&locked), 1), 1);
            assert_eq!(rule(100, None, -1), -1);
        }
    }

    #[test]
    fn a_price_exactly_at_the_mid_is_at_the_mid() {
        // 0.5 * (bid + ask) in dollars differs from such a price in the last digit of a float; at
        // 1,000 dollars, one cent is within the usual relative tolerance of a comparison.
        for (bid, ask) in [(223_810_000, 223_950_000), (1_000_000_000_000, 1_000_010_000_000)] {
            let best = Best { bid_price: bid, ask_price: ask, ..QUOTE };
            let mid = (bid + ask) / 2;
            assert_eq!(quote_rule(mid, Some(&best)), 0);
            assert_eq!(quote_rule(mid + 1, Some(&best)), 1);
            assert_eq!(ellis(ask - 1, Some(&best), -1), -1);
        }
    }

    #[test]
    fn zero_changes_keep_the_last_sign() {
        let mut tick = TickRule::default();
        assert_eq!([5, 5, 6, 6, 4, 4].map(|price| tick.take(price)), [0, 0, 1, 1, -1, -1]);
    }
}
