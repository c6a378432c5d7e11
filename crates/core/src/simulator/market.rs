//! Several instruments under one simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::flow::Flow;
use super::history::History;
use super::listing::Listing;
use super::random::Random;
use super::stall::{DepthWindow, Stall, Stream, Teller};
use super::streams::StreamKind;
use crate::book::L2Book;
use crate::error::{Error, Result};
use crate::feeds::Descriptor;
use crate::instrument::Instruments;
use crate::record::{Channel, Header, Records, Side, Trade, NONE};
use crate::sequencing::Continuity;

/// How the simulated market is.
#[derive(Debug, Clone)]
pub struct MarketConfig {
    /// Fixes everything that is left to chance.
    pub seed: u64,
    /// When the market opens, in ns.
    pub start: i64,
    /// Orders that arrive each second, per instrument, on average.
    pub rate: f64,
    /// Levels a side that the book keeps at least half of and at most twice.
    pub levels: usize,
    /// Trades and quotes that the venue's history keeps, of each per instrument.
    pub history: usize,
}

/// Something that the venue says on a stream.
#[derive(Debug)]
pub struct Event<'a> {
    /// Number of the stream, as [`Market::open`] gave it.
    pub stream: u32,
    /// When, in ns.
    pub ts: i64,
    /// First id in it: trade id, update id, or the open time of a bar in ms.
    pub first: u64,
    /// Last id in it.
    pub last: u64,
    /// The records of the event.
    pub records: &'a Records,
}

/// How an instrument stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Last update id of the book.
    pub update_id: u64,
    /// Last trade id.
    pub trade_id: u64,
    /// Last aggregate id.
    pub aggregate_id: u64,
    /// [`L2Book::checksum`] of the book.
    pub checksum: u64,
    /// Levels of the bid side and of the ask side.
    pub levels: (usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    // In this order at one instant: what is told of the past comes before what is new.
    Speak(u32),
    Arrive(usize),
}

/// A seeded market.
#[derive(Debug)]
pub struct Market {
    feed: Descriptor,
    now: i64,
    pub(super) stalls: Vec<Stall>,
    streams: Vec<Stream>,
    turns: BinaryHeap<Reverse<(i64, Turn)>>,
    instruments: Instruments,
    records: Records,
}

/// Takes events as they happen.
pub type Sink<'a> = dyn FnMut(&Instruments, &Event<'_>) -> Result<()> + 'a;

impl Market {
    /// A market of what `listings` has, which opens as `config` says, and makes records as those
    /// of `feed` are.
    ///
    /// # Errors
    /// `Error::Invalid`: nothing is listed, or one symbol twice.
    pub fn new(feed: Descriptor, listings: Vec<Listing>, config: &MarketConfig) -> Result<Self> {
        let mut market = Self {
            feed,
            now: config.start,
            stalls: Vec::new(),
            streams: Vec::new(),
            turns: BinaryHeap::new(),
            instruments: Instruments::new(),
            records: Records::new(),
        };
        for listing in listings {
            market.list(listing, config)?;
        }
        if market.stalls.is_empty() {
            return Err(Error::invalid("expected at least one symbol, got none"));
        }
        Ok(market)
    }

    fn list(&mut self, listing: Listing, config: &MarketConfig) -> Result<()> {
        if self.find(&listing.symbol).is_some() {
            return Err(Error::invalid(format!("{} is listed twice", listing.symbol)));
        }
        let id = listing.define(&mut self.instruments, self.feed.number(), self.now)?;
        let random = Random::of(config.seed, &listing.symbol);
        let mut flow =
            Flow::new(random, listing.price, listing.size, config.levels.max(20), config.rate);
        if self.feed.continuity == Continuity::Chained {
            flow.share_ids();
        }
        let header = Header { feed: self.feed.number(), instrument: id, ..Header::of::<Trade>() };
        let opening = listing.price * listing.tick;
        let history = History::new(config.history, header, opening, self.now);
        self.turns.push(Reverse((self.now + flow.pause(), Turn::Arrive(self.stalls.len()))));
        self.stalls.push(Stall::new(self.feed, listing, id, flow, history));
        Ok(())
    }

    /// The time up to which everything has happened, in ns.
    pub const fn now(&self) -> i64 {
        self.now
    }

    /// When the next thing happens, in ns.
    pub fn next(&self) -> i64 {
        self.turns.peek().map_or(NONE, |Reverse((ts, _))| *ts)
    }

    /// The feed whose records are made.
    pub const fn feed(&self) -> Descriptor {
        self.feed
    }

    /// What is listed.
    pub const fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// The place of the instrument called `symbol`, upper case.
    pub(super) fn find(&self, symbol: &str) -> Option<usize> {
        self.stalls.iter().position(|stall| stall.listing.symbol == symbol)
    }

    /// Opens the stream of `kind` about `symbol` and returns its number: the next one. It tells
    /// nothing before it is wanted. `None`: there is no such stream.
    pub fn open(&mut self, symbol: &str, kind: StreamKind) -> Option<u32> {
        let stall = self.find(symbol)?;
        let number = self.streams.len() as u32;
        let at = &mut self.stalls[stall];
        match kind {
            StreamKind::Trade => at.trade = Some(number),
            StreamKind::AggTrade => at.aggregate = Some(number),
            StreamKind::BookTicker => at.ticker = Some(number),
            StreamKind::Depth { .. } => {
                let previous = at.flow.update_id();
                at.windows.insert(number, DepthWindow::after(previous));
            }
            StreamKind::Kline { interval_ms, .. } if !at.history.has_bars(interval_ms) => {
                return None
            }
            _ => {}
        }
        self.streams.push(Stream { stall, kind, wanted: false });
        if let Some(every) = kind.every_ms() {
            let every = i64::from(every) * 1_000_000;
            let due = (self.now.div_euclid(every) + 1) * every;
            self.turns.push(Reverse((due, Turn::Speak(number))));
        }
        Some(number)
    }

    /// Says whether events of a stream are to be told.
    pub fn want(&mut self, stream: u32, wanted: bool) {
        if let Some(stream) = self.streams.get_mut(stream as usize) {
            stream.wanted = wanted;
        }
    }

    /// Lets everything happen up to and including `to` ns; what is told goes to `sink`.
    ///
    /// # Errors
    /// Those of `sink`; the market goes on from there.
    pub fn advance(&mut self, to: i64, sink: &mut Sink<'_>) -> Result<()> {
        while let Some(&Reverse((ts, turn))) = self.turns.peek() {
            if ts > to {
                break;
            }
            self.turns.pop();
            self.now = self.now.max(ts);
            match turn {
                Turn::Arrive(stall) => self.arrive(stall, ts, sink)?,
                Turn::Speak(stream) => self.speak(stream, ts, sink)?,
            }
        }
        self.now = self.now.max(to);
        Ok(())
    }

    /// Skips `count` trade ids of an instrument, as a venue does that lost trades.
    pub fn skip_trades(&mut self, symbol: &str, count: u64) {
        if let Some(stall) = self.find(symbol) {
            self.stalls[stall].flow.skip_trades(count);
        }
    }

    /// How the instrument called `symbol` stands now.
    pub fn facts(&self, symbol: &str) -> Option<Facts> {
        let stall = &self.stalls[self.find(symbol)?];
        let (mut book, mut levels) = (L2Book::new(), [0; 2]);
        for (count, side) in levels.iter_mut().zip([Side::Bid, Side::Ask]) {
            for (price, size) in stall.flow.levels(side) {
                book.set(side, price * stall.listing.tick, size * stall.listing.lot);
                *count += 1;
            }
        }
        let (trade_id, aggregate_id) = stall.flow.trade_ids();
        Some(Facts {
            update_id: stall.flow.update_id(),
            trade_id,
            aggregate_id,
            checksum: book.checksum(),
            levels: (levels[0], levels[1]),
        })
    }

    /// Writes the best `limit` levels a side of `symbol` as the records of a snapshot.
    pub fn snapshot(&self, symbol: &str, limit: usize, out: &mut Records) -> Option<()> {
        let stall = &self.stalls[self.find(symbol)?];
        stall.write_top(Channel::Snapshot, limit, self.now, out);
        Some(())
    }

    /// Writes the best bid and offer of `symbol`.
    pub fn quote(&self, symbol: &str, out: &mut Records) -> Option<()> {
        let stall = &self.stalls[self.find(symbol)?];
        out.push(&stall.quote(self.now));
        Some(())
    }

    fn arrive(&mut self, number: usize, ts: i64, sink: &mut Sink<'_>) -> Result<()> {
        let stall = &mut self.stalls[number];
        stall.flow.arrive();
        self.turns.push(Reverse((ts + stall.flow.pause(), Turn::Arrive(number))));
        let mut tell = Teller {
            ts,
            streams: &self.streams,
            instruments: &self.instruments,
            records: &mut self.records,
            sink,
        };
        stall.tell_arrival(&mut tell)
    }

    fn speak(&mut self, number: u32, ts: i64, sink: &mut Sink<'_>) -> Result<()> {
        let stream = &self.streams[number as usize];
        let (stall, kind) = (&mut self.stalls[stream.stall], stream.kind);
        if let Some(every) = kind.every_ms() {
            let due = ts + i64::from(every) * 1_000_000;
            self.turns.push(Reverse((due, Turn::Speak(number))));
        }
        let mut tell = Teller {
            ts,
            streams: &self.streams,
            instruments: &self.instruments,
            records: &mut self.records,
            sink,
        };
        match kind {
            StreamKind::Depth { .. } => stall.tell_depth(number, &mut tell),
            StreamKind::PartialDepth { levels, .. } => {
                let id = stall.flow.update_id();
                tell.tell(Some(number), (id, id), |out| {
                    stall.write_top(Channel::PartialDepth, levels as usize, ts, out);
                })
            }
            StreamKind::Kline { interval_ms, .. } => {
                stall.tell_bars(number, interval_ms, &mut tell)
            }
            StreamKind::Ticker { .. } => match stall.history.day(ts) {
                Some(day) => {
                    let id = day.header.sequence;
                    tell.tell(Some(number), (id, id), |out| out.push(&day))
                }
                None => Ok(()),
            },
            StreamKind::Mark { .. } => {
                let (id, mark) = ((ts / 1_000_000) as u64, stall.mark(ts));
                tell.tell(Some(number), (id, id), |out| out.push(&mark))
            }
            StreamKind::Bands { .. } => {
                let (id, bands) = ((ts / 1_000_000) as u64, stall.bands(ts));
                tell.tell(Some(number), (id, id), |out| out.push(&bands))
            }
            StreamKind::Trade | StreamKind::AggTrade | StreamKind::BookTicker => Ok(()),
        }
    }
}
