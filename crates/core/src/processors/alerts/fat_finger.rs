//! `fat_finger`: an order or a trade that is far too large, or at a price far through the market.

use super::alarm::{Evidence, Scope};
use super::detector::{told, Detector, Event, OrderEvent, Top};
use super::rule::Rule;
use super::table::{count, positive, share, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Side, PRICE_SCALE, SIZE_SCALE};

/// An order and its trades come within this time.
const SAME_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
/// Buckets of a histogram of notionals: sixteen to each power of two, from 2^-32 to 2^96.
const SPLIT: f64 = 16.0;
const LEAST_LOG: f64 = -32.0;
const BUCKETS: usize = 128 * 16;
/// The limit is worked out anew after so many orders.
const LOOK: u64 = 256;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("factor", 20.0, "times the quantile of the notionals of the day"),
        share("quantile", 0.999, "which quantile"),
        count("least", 1_000.0, "orders of the day before which no notional is too large"),
        share("away", 0.05, "share of the mid by which a price is through it"),
    ],
    has_orders: true,
    ..Entry::new(
        "fat_finger",
        "the notional of an order or a trade is many times what is usual that day, or its price \
         is far through the mid: a bid above it, an ask below it",
        "price and size; side; value and threshold: notional, or share of the mid; subject: which",
        |rule| Box::new(FatFinger::new(rule)),
    )
};

#[derive(Debug)]
struct FatFinger {
    factor: f64,
    quantile: f64,
    least: u64,
    away: f64,
    day: i64,
    buckets: Vec<u32>,
    total: u64,
    /// The limit of notionals, worked out anew every so often.
    limit: f64,
    /// The last price through the mid and when it came, so that an order and its trades are one.
    told: (i64, i64),
}

fn notional(price: i64, size: i64) -> f64 {
    price as f64 / PRICE_SCALE as f64 * (size as f64 / SIZE_SCALE as f64)
}

fn bucket(notional: f64) -> usize {
    let place = (notional.abs().max(f64::MIN_POSITIVE).log2() - LEAST_LOG) * SPLIT;
    (place.max(0.0) as usize).min(BUCKETS - 1)
}

impl FatFinger {
    fn new(rule: &Rule) -> Self {
        Self {
            factor: rule.number("factor"),
            quantile: rule.number("quantile"),
            least: rule.count("least") as u64,
            away: rule.number("away"),
            day: i64::MIN,
            buckets: vec![0; BUCKETS],
            total: 0,
            limit: f64::INFINITY,
            told: (0, i64::MIN),
        }
    }

    /// The notional that the share `quantile` of the day does not exceed: the end of its bucket.
    fn usual(&self) -> Option<f64> {
        if self.total < self.least {
            return None;
        }
        let above = self.total - (self.quantile * self.total as f64).ceil() as u64;
        let mut seen = 0;
        let place = self.buckets.iter().rposition(|&times| {
            seen += u64::from(times);
            seen > above
        })?;
        Some(((place + 1) as f64 / SPLIT + LEAST_LOG).exp2())
    }

    fn look(&mut self, price: i64, size: i64, side: u8, top: &Top, scope: &mut Scope<'_>) {
        let day = scope.at.ts.div_euclid(DAY_NS);
        if day != self.day {
            (self.day, self.total, self.limit) = (day, 0, f64::INFINITY);
            self.buckets.fill(0);
        }
        let value = notional(price, size);
        let evidence = Evidence { price, size, side, ..Evidence::at(&scope.at) };
        let away = top.mid2().filter(|&mid2| mid2 > 0).map(|mid2| {
            let away = (2.0 * price as f64 - mid2 as f64) / mid2 as f64;
            if side == Side::Ask as u8 {
                -away
            } else {
                away
            }
        });
        let (last, ts) = self.told;
        let is_told = price == last && scope.at.ts.saturating_sub(ts) < SAME_NS;
        if let Some(away) = away.filter(|&away| away > self.away && !is_told) {
            self.told = (price, scope.at.ts);
            scope.tell(&Evidence {
                value: away,
                threshold: self.away,
                subject: "price".to_owned(),
                detail: format!("bid={} ask={}", told(top.bid_price), told(top.ask_price)),
                ..evidence.clone()
            });
        }
        if value > self.limit {
            scope.tell(&Evidence {
                value,
                threshold: self.limit,
                subject: "notional".to_owned(),
                ..evidence
            });
        }
        self.buckets[bucket(value)] += 1;
        self.total += 1;
        if self.total == self.least || self.total % LOOK == 0 {
            self.limit = self.usual().map_or(f64::INFINITY, |usual| usual * self.factor);
        }
    }
}

impl Detector for FatFinger {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Order(OrderEvent::Added { order, .. }, top) => {
                self.look(order.price, order.size, order.side, top, scope);
            }
            Event::Print(print, top) if print.sets_price => {
                self.look(print.price, print.size, print.side, top, scope);
            }
            _ => {}
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.day);
        state.i64(self.told.0);
        state.i64(self.told.1);
        state.u64(self.limit.to_bits());
        let used = self.buckets.iter().enumerate().filter(|(_, &times)| times > 0);
        state.length(used.clone().count());
        for (place, &times) in used {
            state.u32(place as u32);
            state.u32(times);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.day = state.i64()?;
        self.told = (state.i64()?, state.i64()?);
        self.limit = f64::from_bits(state.u64()?);
        self.buckets.fill(0);
        self.total = 0;
        for _ in 0..state.length(8)? {
            let (place, times) = (state.u32()? as usize, state.u32()?);
            self.buckets[place.min(BUCKETS - 1)] = times;
            self.total += u64::from(times);
        }
        Ok(())
    }
}
