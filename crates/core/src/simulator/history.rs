//! What the venue remembers of one instrument: its last trades and quotes, and its bars.

use std::collections::VecDeque;

use crate::record::{Bar, Channel, Header, Quote, Record, Side, Trade};

/// Bars of one length that are kept after they closed.
const BARS_MAX: usize = 1500;
/// Lengths of the bars that are kept, in ms.
const INTERVALS_MS: [u32; 14] = [
    1_000,
    60_000,
    180_000,
    300_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    14_400_000,
    21_600_000,
    28_800_000,
    43_200_000,
    86_400_000,
    259_200_000,
];
const MINUTE_MS: u32 = 60_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// Trades, quotes and bars of one instrument.
#[derive(Debug)]
pub struct History {
    trades_max: usize,
    /// Single fills, oldest first.
    pub trades: VecDeque<Trade>,
    /// Fills grouped by taker order, oldest first.
    pub aggregates: VecDeque<Trade>,
    /// Best bids and offers, oldest first: as many as trades.
    pub quotes: VecDeque<Quote>,
    series: Vec<Series>,
}

/// Bars of one length.
#[derive(Debug)]
struct Series {
    length_ms: u32,
    current: Bar,
    closed: VecDeque<Bar>,
}

impl History {
    /// An empty history that keeps `trades_max` trades. The market opens at `price` at `ts`;
    /// `header` names the instrument.
    pub fn new(trades_max: usize, header: Header, price: i64, ts: i64) -> Self {
        let series = INTERVALS_MS.iter().map(|&length_ms| {
            let length = i64::from(length_ms) * 1_000_000;
            let start = ts.div_euclid(length) * length;
            Series {
                length_ms,
                current: empty_bar(header, start, length_ms, price),
                closed: VecDeque::new(),
            }
        });
        Self {
            trades_max,
            trades: VecDeque::new(),
            aggregates: VecDeque::new(),
            quotes: VecDeque::new(),
            series: series.collect(),
        }
    }

    /// Takes in a single fill.
    pub fn add_trade(&mut self, trade: Trade) {
        for series in &mut self.series {
            series.roll(trade.header.ts_event);
            series.add(&trade);
        }
        keep(&mut self.trades, trade, self.trades_max);
    }

    /// Takes in the fills of one taker order at one price.
    pub fn add_aggregate(&mut self, trade: Trade) {
        keep(&mut self.aggregates, trade, self.trades_max);
    }

    /// Takes in a best bid and offer.
    pub fn add_quote(&mut self, quote: Quote) {
        keep(&mut self.quotes, quote, self.trades_max);
    }

    /// Whether bars of that length are kept.
    pub fn has_bars(&self, length_ms: u32) -> bool {
        self.series.iter().any(|series| series.length_ms == length_ms)
    }

    /// Closes the bars that are over at `ts`, and returns how many of that length did.
    pub fn roll(&mut self, length_ms: u32, ts: i64) -> usize {
        self.series
            .iter_mut()
            .find(|series| series.length_ms == length_ms)
            .map_or(0, |series| series.roll(ts))
    }

    /// The bars of that length, oldest first; the last one may change yet.
    pub fn bars(&self, length_ms: u32) -> impl DoubleEndedIterator<Item = &Bar> {
        self.series
            .iter()
            .filter(move |series| series.length_ms == length_ms)
            .flat_map(|series| series.closed.iter().chain(std::iter::once(&series.current)))
    }

    /// One bar over the 24 hours to `ts`, by whole minutes.
    pub fn day(&self, ts: i64) -> Option<Bar> {
        let mut minutes =
            self.bars(MINUTE_MS).filter(|bar| bar.header.ts_event > ts - DAY_NS && bar.count > 0);
        let mut day = *minutes.next()?;
        for bar in minutes {
            day.high = day.high.max(bar.high);
            day.low = day.low.min(bar.low);
            day.close = bar.close;
            day.volume += bar.volume;
            day.turnover = (i128::from(day.turnover) + i128::from(bar.turnover)).into();
            day.count += bar.count;
            day.header.sequence = bar.header.sequence;
        }
        day.header.ts_event = ts - DAY_NS;
        day.header.ts_recv = ts;
        day.interval_ms = (DAY_NS / 1_000_000) as u32;
        day.closed = 0;
        day.channel = Channel::Ticker as u8;
        Some(day)
    }
}

impl Series {
    fn roll(&mut self, ts: i64) -> usize {
        let length = i64::from(self.length_ms) * 1_000_000;
        let mut count = 0;
        while self.current.header.ts_event + length <= ts {
            let start = self.current.header.ts_event + length;
            let next = empty_bar(self.current.header, start, self.length_ms, self.current.close);
            let closed = std::mem::replace(&mut self.current, next);
            keep(&mut self.closed, Bar { closed: 1, ..closed }, BARS_MAX);
            count += 1;
        }
        count
    }

    fn add(&mut self, trade: &Trade) {
        let bar = &mut self.current;
        if bar.count == 0 {
            (bar.open, bar.high, bar.low) = (trade.price, trade.price, trade.price);
        }
        bar.high = bar.high.max(trade.price);
        bar.low = bar.low.min(trade.price);
        bar.close = trade.price;
        bar.volume += trade.size;
        let turnover = i128::from(trade.price) * i128::from(trade.size);
        bar.turnover = (i128::from(bar.turnover) + turnover).into();
        if trade.side == Side::Bid as u8 {
            bar.buy_volume += trade.size;
            bar.buy_turnover = (i128::from(bar.buy_turnover) + turnover).into();
        }
        bar.count += 1;
        bar.header.sequence = trade.trade_id;
        bar.header.ts_recv = trade.header.ts_event;
    }
}

fn empty_bar(header: Header, start: i64, interval_ms: u32, price: i64) -> Bar {
    let header = Header {
        ts_event: start,
        sequence: 0,
        length: (size_of::<Bar>() / 8) as u8,
        kind: Bar::KIND as u8,
        ..header
    };
    Bar {
        header,
        open: price,
        high: price,
        low: price,
        close: price,
        volume: 0,
        buy_volume: 0,
        turnover: 0.into(),
        buy_turnover: 0.into(),
        count: 0,
        interval_ms,
        closed: 0,
        channel: Channel::Kline as u8,
        reserved: [0; 2],
    }
}

fn keep<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}
