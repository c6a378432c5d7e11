//! What a family of metrics is: the events that it sees and the values that it gives.

use std::fmt::Debug;

use super::table::Line;
use crate::book::L2Book;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{
    Header, Quote, QuoteState, Side, Trade, FLAG_HISTORICAL, FLAG_NO_EVENT_TIME, NONE, PRICE_SCALE,
    SIZE_SCALE,
};

/// Best prices and their sizes. A side that is empty has the price [`NONE`] and the size 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) bid_price: i64,
    pub(super) bid_size: i64,
    pub(super) ask_price: i64,
    pub(super) ask_size: i64,
}

impl Best {
    /// Those of a quote.
    pub(super) const fn of(quote: &Quote) -> Self {
        let (bid, ask) = (quote.bid_price != NONE, quote.ask_price != NONE);
        Self {
            bid_price: quote.bid_price,
            bid_size: if bid && quote.bid_size != NONE { quote.bid_size } else { 0 },
            ask_price: quote.ask_price,
            ask_size: if ask && quote.ask_size != NONE { quote.ask_size } else { 0 },
        }
    }

    /// What they are.
    #[inline]
    pub(super) const fn state(&self) -> QuoteState {
        if self.bid_price == NONE {
            QuoteState::EmptyBid
        } else if self.ask_price == NONE {
            QuoteState::EmptyAsk
        } else if self.bid_price < self.ask_price {
            QuoteState::Ok
        } else if self.bid_price == self.ask_price {
            QuoteState::Locked
        } else {
            QuoteState::Crossed
        }
    }

    /// Whether both sides have a price.
    #[inline]
    pub(super) const fn has_both(&self) -> bool {
        self.bid_price != NONE && self.ask_price != NONE
    }

    /// Whether both sides have a price, and the bid is not above the ask.
    #[inline]
    pub(super) const fn is_sound(&self) -> bool {
        self.has_both() && self.bid_price <= self.ask_price
    }

    /// Twice the mid.
    #[inline]
    pub(super) fn mid2(&self) -> i128 {
        i128::from(self.bid_price) + i128::from(self.ask_price)
    }

    /// The size at both sides together.
    #[inline]
    pub(super) fn size(&self) -> i128 {
        i128::from(self.bid_size) + i128::from(self.ask_size)
    }
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderKind {
    /// It came.
    Add,
    /// It was cancelled, in whole or in part.
    Cancel,
    /// It was executed, in whole or in part.
    Fill,
}

/// A step of one order that is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderStep {
    pub(super) ts: i64,
    /// The venue's time, which may be before that of another event.
    pub(super) ts_event: i64,
    pub(super) side: Side,
    pub(super) kind: OrderKind,
    /// The size that came or went.
    pub(super) size: i64,
    /// Ns since it came, if it ended with this.
    pub(super) lifetime: Option<i64>,
}

/// The best prices changed, or were said anew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) ts: i64,
    pub(super) ts_recv: i64,
    /// The venue's time, which may be before that of another event.
    pub(super) ts_event: i64,
    /// From the venue's time to the receipt; none where the venue sends no time.
    pub(super) latency: Option<i64>,
    /// The smallest step of the price; [`NONE`]: not known.
    pub(super) tick: i64,
    /// None: they were not known.
    pub(super) before: Option<Best>,
    pub(super) after: Best,
}

/// A trade.
#[derive(Debug, Clone, Copy)]
pub(super) struct Print {
    pub(super) ts: i64,
    pub(super) ts_recv: i64,
    pub(super) latency: Option<i64>,
    /// The venue's time, which may be before that of another event.
    pub(super) ts_event: i64,
    pub(super) price: i64,
    pub(super) size: i64,
    /// 1 where the buyer took, -1 where the seller did, 0 where the venue does not tell.
    pub(super) side: i8,
    /// The best prices right before it; none: not known.
    pub(super) best: Option<Best>,
    /// Whether it sets the last price, by its conditions.
    pub(super) sets_price: bool,
    /// Whether it sets the high and the low.
    pub(super) sets_range: bool,
    /// Whether it counts for volume.
    pub(super) counts: bool,
}

impl Print {
    /// The side of a trade as a sign.
    pub(super) const fn side_of(trade: &Trade) -> i8 {
        if trade.side == Side::Bid as u8 {
            1
        } else if trade.side == Side::Ask as u8 {
            -1
        } else {
            0
        }
    }
}

/// When a sample is taken, and what is known then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) ts: i64,
    pub(super) best: Option<Best>,
    /// The smallest step of the price; [`NONE`]: not known.
    pub(super) tick: i64,
    /// The book, if it is verified and a set asks for it.
    pub(super) book: Option<&'a L2Book>,
    /// The price of its bids, and of its asks, behind which levels may be missing: the snapshot
    /// that it began with ended there. None: all are known.
    pub(super) reach: [Option<i64>; 2],
    /// Whether all events at `ts` are in: not so where each event has a sample.
    pub(super) is_complete: bool,
}

/// The value of one metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    pub(super) value: Option<f64>,
    /// Of how many observations it is made.
    pub(super) count: u64,
    /// Whether it is that of a part of the book alone, as the rest is not known.
    pub(super) is_bound: bool,
}

/// The values of one sample, in the order of the names.
#[derive(Debug, Default)]
pub(super) struct Values {
    values: Vec<Value>,
}

impl Values {
    /// Appends the value of the next metric, and of how many observations it is made.
    #[inline]
    pub(super) fn push(&mut self, value: Option<f64>, count: u64) {
        self.push_known(value, count, true);
    }

    /// As [`Self::push`], where all that it is made of is known, or not.
    #[inline]
    pub(super) fn push_known(&mut self, value: Option<f64>, count: u64, is_known: bool) {
        let value = value.filter(|value| value.is_finite());
        self.values.push(Value { value, count, is_bound: value.is_some() && !is_known });
    }

    /// The values since the last call.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Value> + '_ {
        self.values.drain(..)
    }
}

/// How long a record took from the venue's time to its receipt, if the venue sent it then and with
/// a time.
#[inline]
pub(super) const fn latency_of(header: &Header) -> Option<i64> {
    let is_timed = header.flags & (FLAG_HISTORICAL | FLAG_NO_EVENT_TIME) == 0;
    if !is_timed || header.ts_event == NONE || header.ts_recv == NONE {
        return None;
    }
    header.ts_recv.checked_sub(header.ts_event)
}

/// A price, or a sum of prices, in units of 1e-9, as a number.
#[inline]
pub(super) fn price(units: i128) -> f64 {
    units as f64 / PRICE_SCALE as f64
}

/// A size, or a sum of sizes, in units of 1e-8, as a number.
#[inline]
pub(super) fn size(units: i128) -> f64 {
    units as f64 / SIZE_SCALE as f64
}

/// The metrics of one set, of one instrument.
///
/// Time never runs back between calls. What is given for a sample depends on the calls before it
/// alone.
pub(super) trait Family: Debug + Send {
    /// Takes in new best prices.
    fn change(&mut self, _change: &Change) {}

    /// Takes in a trade.
    fn print(&mut self, _print: &Print) {}

    /// Takes in a step of an order.
    fn order(&mut self, _step: &OrderStep) {}

    /// Takes in the verified book, behind an update of it.
    fn book(&mut self, _ts: i64, _book: &L2Book) {}

    /// Told that the book is not verified any more.
    fn lose_book(&mut self) {}

    /// The time from which on the next of what is known by now counts; `i64::MAX`: there is none.
    fn due(&self) -> i64 {
        i64::MAX
    }

    /// How many trades or quotes it let go of before they counted, as there was no room for more.
    fn dropped(&self) -> u64 {
        0
    }

    /// Told that no trades between two times were recorded: from `i64::MIN` where the beginning, to
    /// `i64::MAX` where the end is not known. A trade that comes behind it ends it.
    fn miss(&mut self, _from: i64, _to: i64) {}

    /// Forgets everything: what comes does not continue what was.
    fn reset(&mut self);

    /// Appends the values as of a moment, one for each name of its set.
    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values);

    /// Appends the state to a snapshot.
    fn write(&self, state: &mut StateWriter<'_>);

    /// Takes in what [`Family::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not whole, or of other settings.
    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()>;
}

/// What a family is built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Lengths of rolling windows, in ns.
    pub(super) windows: Vec<i64>,
    /// Whether windows that are not covered yet have values.
    pub(super) partial: bool,
    /// Whether each event has a sample of its own, so that there is no grid.
    pub(super) per_event: bool,
    /// How long after a trade its price is looked back at, in ns.
    pub(super) horizons: Vec<i64>,
    /// How far from the mid depth is measured, in bps.
    pub(super) bands: Vec<u32>,
    /// How many best levels of a side are measured together.
    pub(super) levels: Vec<usize>,
    /// What it costs to trade so much is measured, in units of size.
    pub(super) sizes: Vec<i64>,
    /// Between two prices that a return is made of, in ns.
    pub(super) step: i64,
    /// Length of the bars of regressions and of bulk classification, in ns.
    pub(super) bar: i64,
    /// Bars that a regression is made of, at most.
    pub(super) span: usize,
    /// Volume of a bucket of vpin, in units of size; 0: by the days before.
    pub(super) vpin_volume: i64,
    pub(super) vpin_buckets: i64,
    /// Length of the buckets of regressions of order flow, in ns, and how many there are at most.
    pub(super) ofi_bar: i64,
    pub(super) ofi_span: usize,
    /// The bits of mu, alpha and beta of the process of trades, if they are given.
    pub(super) hawkes: Option<[u64; 3]>,
}

/// A set of metrics that are switched on together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) lines: &'static [Line],
    pub(super) build: fn(&Terms) -> Box<dyn Family>,
    /// Whether it needs the book.
    pub(super) has_book: bool,
}
