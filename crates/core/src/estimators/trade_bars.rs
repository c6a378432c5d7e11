//! Bars of trades that close by what was traded: by time, trades, volume, value, imbalance, runs.
//!
//! A trade that crosses a threshold belongs to its bar as a whole, and nothing is carried over: so
//! it differs from buckets of vpin, which split trades. A bar that is not finished is not given.

/// What closes a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Each trade is 1.
    Trades,
    /// Each trade is its size.
    Volume,
    /// Each trade is its price times its size.
    Value,
}

/// How a bar closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Behind the window of so many ns, aligned to the epoch, that it began in.
    Time(i64),
    /// Once it measures so much.
    Sum(Measure, i128),
    /// Once buys and sells differ by so much.
    Imbalance(Measure, i128),
    /// Once the buys, or the sells, are so much.
    Runs(Measure, i128),
}

/// One trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarTrade {
    /// Its time, ns.
    pub ts: i64,
    /// Its price.
    pub price: i64,
    /// Its size.
    pub size: i64,
    /// 1 where the buyer took, -1 where the seller did, 0 where that is not known: then the tick
    /// rule tells, over all trades.
    pub sign: i8,
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TradeBar {
    /// Time of the first trade, and of the last.
    pub first: i64,
    /// Time of the last trade.
    pub last: i64,
    /// Price of the first trade.
    pub open: i64,
    /// The highest price.
    pub high: i64,
    /// The lowest price.
    pub low: i64,
    /// Price of the last trade.
    pub close: i64,
    /// Sum of the sizes.
    pub volume: i128,
    /// Trades.
    pub trades: u64,
    /// Sum of price times size.
    pub value: i128,
    /// Sum of the sizes whose taker bought.
    pub buy_volume: i128,
}

/// Makes bars of trades.
#[derive(Debug, Clone)]
pub struct Bars {
    closing: Closing,
    /// Whether the tick rule tells sides of imbalances and runs, also where a side is given.
    by_tick: bool,
    open: Option<TradeBar>,
    /// Buys, and sells, of the open bar.
    sides: [i128; 2],
    last: Option<i64>,
    tick: i8,
}

impl Bars {
    /// No trade yet.
    pub const fn new(closing: Closing, by_tick: bool) -> Self {
        Self { closing, by_tick, open: None, sides: [0; 2], last: None, tick: 0 }
    }

    /// Takes in a trade, and gives the bar that it closes: with it, or of [`Closing::Time`] the one
    /// before it.
    pub fn add(&mut self, trade: &BarTrade) -> Option<TradeBar> {
        let before = self.end_window(trade.ts);
        if let Some(last) = self.last.filter(|&last| last != trade.price) {
            self.tick = if trade.price > last { 1 } else { -1 };
        }
        self.last = Some(trade.price);
        let sign = if trade.sign == 0 { self.tick } else { trade.sign };
        let (price, size) = (trade.price, i128::from(trade.size));
        let bar = self.open.get_or_insert(TradeBar {
            first: trade.ts,
            last: trade.ts,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0,
            trades: 0,
            value: 0,
            buy_volume: 0,
        });
        (bar.last, bar.close) = (trade.ts, price);
        (bar.high, bar.low) = (bar.high.max(price), bar.low.min(price));
        bar.volume += size;
        bar.value += size * i128::from(price);
        bar.trades += 1;
        bar.buy_volume += if sign > 0 { size } else { 0 };
        let measured = match self.closing {
            Closing::Time(_) | Closing::Sum(Measure::Trades, _) => 1,
            Closing::Sum(measure, _)
            | Closing::Imbalance(measure, _)
            | Closing::Runs(measure, _) => measure.of(trade),
        };
        let side = if self.by_tick { self.tick } else { sign };
        if side != 0 {
            self.sides[usize::from(side < 0)] += measured;
        }
        let [buys, sells] = self.sides;
        let closes = match self.closing {
            Closing::Time(_) => false,
            Closing::Sum(Measure::Trades, least) => i128::from(bar.trades) >= least,
            Closing::Sum(Measure::Volume, least) => bar.volume >= least,
            Closing::Sum(Measure::Value, least) => bar.value >= least,
            Closing::Imbalance(_, least) => (buys - sells).abs() >= least,
            Closing::Runs(_, least) => buys.max(sells) >= least,
        };
        if closes {
            self.sides = [0; 2];
            return self.open.take();
        }
        before
    }

    /// The bar whose window `ts` lies behind.
    fn end_window(&mut self, ts: i64) -> Option<TradeBar> {
        let Closing::Time(length) = self.closing else { return None };
        let window = |ts: i64| ts.div_euclid(length);
        let is_over = self.open.is_some_and(|bar| window(bar.first) < window(ts));
        is_over.then(|| self.open.take()).flatten()
    }

    /// The bar that is not finished.
    pub fn rest(&mut self) -> Option<TradeBar> {
        self.sides = [0; 2];
        self.open.take()
    }
}

impl Measure {
    fn of(self, trade: &BarTrade) -> i128 {
        match self {
            Self::Trades => 1,
            Self::Volume => i128::from(trade.size),
            Self::Value => i128::from(trade.size) * i128::from(trade.price),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(closing: Closing, trades: &[(i64, i64, i64, i8)]) -> Vec<TradeBar> {
        let mut bars = Bars::new(closing, false);
        let trade = |&(ts, price, size, sign)| BarTrade { ts, price, size, sign };
        trades.iter().filter_map(|one| bars.add(&trade(one))).collect()
    }

    #[test]
    fn trade_that_crosses_belongs_to_its_bar_and_nothing_is_carried_over() {
        let found = bars(
            Closing::Sum(Measure::Volume, 10),
            &[(1, 5, 4, 1), (2, 7, 100, -1), (3, 6, 9, 1), (3, 6, 1, 1), (4, 1, 9, 1)],
        );
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].volume, found[0].buy_volume, found[0].value), (104, 4, 720));
        assert_eq!((found[1].first, found[1].volume, found[1].trades), (3, 10, 2));
    }

    #[test]
    fn windows_end_with_the_first_trade_behind_them_and_imbalance_by_the_tick_rule() {
        let found = bars(Closing::Time(10), &[(0, 5, 1, 0), (9, 6, 1, 0), (10, 7, 1, 0)]);
        assert_eq!((found.len(), found[0].last, found[0].high), (1, 9, 6));
        // Signs of the tick rule: none, up, up, down.
        let trades = [(0, 5, 9, 0), (1, 6, 3, 0), (2, 6, 3, 0), (3, 5, 1, 0)];
        let found = bars(Closing::Imbalance(Measure::Volume, 6), &trades);
        assert_eq!((found.len(), found[0].trades), (1, 3));
        let found = bars(Closing::Runs(Measure::Trades, 2), &trades);
        assert_eq!((found.len(), found[0].trades), (1, 3));
    }
}
