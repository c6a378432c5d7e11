//! Messages that summarise: klines, 24-hour tickers, mark prices.

use super::encode::Json;
use crate::error::{Error, Result};
use crate::record::{Bar, Header, Mark, NONE, PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES};

/// Names of the kline intervals of fixed length, in ms.
const INTERVALS: [(u32, &str); 15] = [
    (1_000, "1s"),
    (60_000, "1m"),
    (180_000, "3m"),
    (300_000, "5m"),
    (900_000, "15m"),
    (1_800_000, "30m"),
    (3_600_000, "1h"),
    (7_200_000, "2h"),
    (14_400_000, "4h"),
    (21_600_000, "6h"),
    (28_800_000, "8h"),
    (43_200_000, "12h"),
    (86_400_000, "1d"),
    (259_200_000, "3d"),
    (604_800_000, "1w"),
];

/// The name of a kline interval of that length; months have 28 to 31 days.
///
/// # Errors
/// `Error::Invalid`: the venue has no such interval.
pub fn interval_name(length_ms: u32) -> Result<&'static str> {
    match INTERVALS.iter().find(|(known, _)| *known == length_ms) {
        Some((_, name)) => Ok(name),
        None if (28..=31).any(|days| days * 86_400_000 == length_ms) => Ok("1M"),
        None => Err(Error::invalid(format!("the venue has no klines of {length_ms} ms"))),
    }
}

impl Json<'_> {
    /// The last unit of time of the interval: the venue's ends are inclusive.
    pub(super) const fn end(&self, bar: &Bar) -> i64 {
        bar.header.ts_event + bar.interval_ms as i64 * 1_000_000 - self.time_unit
    }

    pub(super) fn kline(&mut self, bar: &Bar, interval: &str) {
        self.event("kline", &bar.header);
        self.symbol();
        self.key("k");
        self.open("t");
        self.time(bar.header.ts_event);
        self.key("T");
        self.time(self.end(bar));
        self.symbol();
        self.key("i");
        self.text(interval);
        self.trade_range(bar, ["f", "L"]);
        self.key("o");
        self.price(bar.open);
        self.key("c");
        self.price(bar.close);
        self.key("h");
        self.price(bar.high);
        self.key("l");
        self.price(bar.low);
        self.key("v");
        self.size(bar.volume);
        self.key("n");
        self.id(bar.count);
        self.key("x");
        self.flag(bar.closed != 0);
        self.key("q");
        self.turnover(bar.turnover.into());
        self.key("V");
        self.size(bar.buy_volume);
        self.key("Q");
        self.turnover(bar.buy_turnover.into());
        self.key("B");
        self.text("0");
        self.close();
    }

    /// First and last trade id; both -1 without trades.
    fn trade_range(&mut self, bar: &Bar, keys: [&str; 2]) {
        let last = bar.header.sequence;
        let first = (last + 1).checked_sub(bar.count).filter(|_| bar.count > 0 && last > 0);
        for (key, id) in keys.into_iter().zip([first, first.map(|_| last)]) {
            self.key(key);
            match id {
                Some(id) => self.id(id),
                None => self.raw("-1"),
            }
        }
    }

    pub(super) fn ticker(&mut self, bar: &Bar) {
        self.event("24hrTicker", &bar.header);
        self.symbol();
        let change = bar.close - bar.open;
        self.key("p");
        self.price(change);
        self.key("P");
        // Hundredths of a percent, with the three decimals that the venue gives.
        let percent = i128::from(change) * 100_000 / i128::from(bar.open.max(1));
        self.quoted(percent, 3, 3);
        self.key("w");
        let mean = i128::from(bar.turnover) / i128::from(bar.volume.max(1));
        self.price(i64::try_from(mean).unwrap_or(0));
        if self.spot {
            self.key("x");
            self.price(bar.open);
        }
        self.key("c");
        self.price(bar.close);
        self.key("Q");
        self.size(0);
        if self.spot {
            for (price, size) in [("b", "B"), ("a", "A")] {
                self.key(price);
                self.price(0);
                self.key(size);
                self.size(0);
            }
        }
        self.key("o");
        self.price(bar.open);
        self.key("h");
        self.price(bar.high);
        self.key("l");
        self.price(bar.low);
        self.key("v");
        self.size(bar.volume);
        self.key("q");
        self.turnover(bar.turnover.into());
        self.key("O");
        self.time(bar.header.ts_event);
        self.key("C");
        self.time(self.end(bar));
        self.trade_range(bar, ["F", "L"]);
        self.key("n");
        self.id(bar.count);
    }

    pub(super) fn mark(&mut self, mark: &Mark) {
        self.event("markPriceUpdate", &Header { ts_recv: NONE, ..mark.header });
        self.symbol();
        self.key("p");
        self.price(mark.mark_price);
        self.key("ap");
        self.price(mark.mark_price);
        self.key("P");
        self.price(mark.mark_price);
        self.key("i");
        self.price_or_empty(mark.index_price);
        self.key("r");
        self.price_or_empty(mark.funding_rate);
        self.key("T");
        self.time(if mark.ts_funding == NONE { 0 } else { mark.ts_funding });
        self.universe_number();
    }

    fn price_or_empty(&mut self, price: i64) {
        if price == NONE {
            self.text("");
        } else {
            self.price(price);
        }
    }
}

// Turnover over volume is a price only while the places of the three agree.
const _: () = assert!(TURNOVER_PLACES == PRICE_PLACES + SIZE_PLACES);
