//! One instrument of the market, and how it tells what happens to it.

use std::collections::BTreeMap;

use super::flow::Flow;
use super::history::History;
use super::listing::Listing;
use super::market::{Event, Sink};
use super::streams::StreamKind;
use crate::error::Result;
use crate::feeds::Descriptor;
use crate::instrument::Instruments;
use crate::record::{
    Channel, Header, Level, Mark, Marker, MarkerCode, Quote, Records, Side, Status, Trade,
    FLAG_LAST, FLAG_SNAPSHOT, NONE, PRICE_SCALE,
};
use crate::sequencing::Continuity;

/// The bands are as far from the middle as it over this.
const BAND_PARTS: i64 = 20;
const FUNDING_NS: i64 = 8 * 3_600_000_000_000;

/// A stream that was opened.
#[derive(Debug)]
pub struct Stream {
    /// The place of its instrument.
    pub stall: usize,
    /// What it carries.
    pub kind: StreamKind,
    /// Whether anybody listens.
    pub wanted: bool,
}

/// Changes since the last depth event of a stream.
#[derive(Debug)]
pub struct DepthWindow {
    /// Last update id of the event before.
    previous: u64,
    first: Option<u64>,
    touched: Vec<(Side, i64)>,
}

impl DepthWindow {
    /// A window that begins after the update `previous`.
    pub const fn after(previous: u64) -> Self {
        Self { previous, first: None, touched: Vec::new() }
    }
}

/// Tells what happens at one instant to who wants to know.
pub struct Teller<'a, 'b> {
    /// The instant, in ns.
    pub ts: i64,
    /// All streams, by number.
    pub streams: &'a [Stream],
    /// What is listed.
    pub instruments: &'a Instruments,
    /// Room for the records of one event.
    pub records: &'a mut Records,
    /// Who is told.
    pub sink: &'a mut Sink<'b>,
}

impl Teller<'_, '_> {
    /// Tells the records that `write` gives on `stream`, with its first and last id, if anybody
    /// listens.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn tell(
        &mut self,
        stream: Option<u32>,
        ids: (u64, u64),
        write: impl FnOnce(&mut Records),
    ) -> Result<()> {
        let Some(stream) = stream.filter(|&at| self.streams[at as usize].wanted) else {
            return Ok(());
        };
        self.records.clear();
        write(self.records);
        let (first, last) = ids;
        let event = Event { stream, ts: self.ts, first, last, records: self.records };
        (self.sink)(self.instruments, &event)
    }
}

/// One instrument.
#[derive(Debug)]
pub struct Stall {
    /// As it is listed.
    pub listing: Listing,
    /// Its orders.
    pub flow: Flow,
    /// Its past.
    pub history: History,
    /// Changes that depth streams have yet to tell, by the number of the stream.
    pub windows: BTreeMap<u32, DepthWindow>,
    /// Number of the stream of trades.
    pub trade: Option<u32>,
    /// Number of the stream of aggregates.
    pub aggregate: Option<u32>,
    /// Number of the stream of best bids and offers.
    pub ticker: Option<u32>,
    /// Best bid and ask as last quoted, in ticks and lots.
    quoted: [Option<(i64, i64)>; 2],
    feed: Descriptor,
    id: u32,
}

impl Stall {
    /// The instrument `id` on its first day.
    pub const fn new(
        feed: Descriptor,
        listing: Listing,
        id: u32,
        flow: Flow,
        history: History,
    ) -> Self {
        Self {
            listing,
            flow,
            history,
            windows: BTreeMap::new(),
            trade: None,
            aggregate: None,
            ticker: None,
            quoted: [None; 2],
            feed,
            id,
        }
    }

    /// Tells what the last arrival did.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn tell_arrival(&mut self, tell: &mut Teller<'_, '_>) -> Result<()> {
        for window in self.windows.values_mut() {
            for change in &self.flow.changes {
                window.first.get_or_insert(change.id);
                window.touched.push((change.side, change.price));
            }
        }
        self.tell_trades(tell)?;
        let best = [self.flow.best(Side::Bid), self.flow.best(Side::Ask)];
        if best == self.quoted {
            return Ok(());
        }
        self.quoted = best;
        let (id, quote) = (self.flow.update_id(), self.quote(tell.ts));
        self.history.add_quote(quote);
        tell.tell(self.ticker, (id, id), |out| out.push(&quote))
    }

    fn tell_trades(&mut self, tell: &mut Teller<'_, '_>) -> Result<()> {
        let mut at = 0;
        while at < self.flow.fills.len() {
            let first = self.flow.fills[at];
            let mut size = 0;
            let start = at;
            while let Some(fill) = self.flow.fills.get(at) {
                if fill.aggregate != first.aggregate {
                    break;
                }
                let trade = self.trade(tell.ts, Channel::Trade, fill.id, fill.id, 1);
                let trade = Trade { size: fill.size * self.listing.lot, ..trade };
                let trade = self.priced(trade, fill.price, fill.taker);
                self.history.add_trade(trade);
                tell.tell(self.trade, (fill.id, fill.id), |out| out.push(&trade))?;
                size += fill.size;
                at += 1;
            }
            let (id, count) = (first.aggregate, (at - start) as u32);
            let trade = self.trade(tell.ts, Channel::AggTrade, id, first.id, count);
            let trade = Trade { size: size * self.listing.lot, ..trade };
            let trade = self.priced(trade, first.price, first.taker);
            self.history.add_aggregate(trade);
            tell.tell(self.aggregate, (id, id), |out| out.push(&trade))?;
        }
        Ok(())
    }

    /// Tells the changes since the last event of the depth stream `number`.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn tell_depth(&mut self, number: u32, tell: &mut Teller<'_, '_>) -> Result<()> {
        let last = self.flow.update_id();
        let Some(window) = self.windows.get_mut(&number) else { return Ok(()) };
        let Some(first) = window.first else { return Ok(()) };
        let mut window = std::mem::replace(window, DepthWindow::after(last));
        // Bids from the best down, then asks from the best up, each level once.
        window.touched.sort_unstable_by_key(|&(side, price)| match side {
            Side::Bid => (side as u8, -price),
            _ => (side as u8, price),
        });
        window.touched.dedup();
        let previous = match self.feed.continuity {
            Continuity::Chained => window.previous,
            Continuity::Adjacent => first - 1,
        };
        let ts = tell.ts;
        tell.tell(Some(number), (first, last), |out| {
            let count = window.touched.len();
            let header = self.header(ts, last, Header::of::<Level>());
            for (at, &(side, price)) in window.touched.iter().enumerate() {
                let flags = if at + 1 == count { FLAG_LAST } else { 0 };
                let level = self.level((side, price, self.flow.size_at(side, price)), header);
                let header = Header { flags, ..level.header };
                let span = (last - first) as u32;
                let channel = Channel::Depth as u8;
                out.push(&Level { header, previous, span, channel, ..level });
            }
        })
    }

    /// Tells the bars of the stream `number`: those that closed, and the current one.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn tell_bars(
        &mut self,
        number: u32,
        interval_ms: u32,
        tell: &mut Teller<'_, '_>,
    ) -> Result<()> {
        let closed = self.history.roll(interval_ms, tell.ts);
        let count = self.history.bars(interval_ms).count();
        let bars: Vec<_> = self
            .history
            .bars(interval_ms)
            .skip(count.saturating_sub(closed + 1))
            .copied()
            .collect();
        for mut bar in bars {
            // A bar in which nothing happened yet is not told before it is over.
            if bar.count > 0 || bar.closed != 0 {
                bar.header.ts_recv = tell.ts;
                let id = (bar.header.ts_event / 1_000_000) as u64;
                tell.tell(Some(number), (id, id), |out| out.push(&bar))?;
            }
        }
        Ok(())
    }

    /// Writes the best `limit` levels a side, whole.
    pub fn write_top(&self, channel: Channel, limit: usize, ts: i64, out: &mut Records) {
        let id = self.flow.update_id();
        let sides = [Side::Bid, Side::Ask];
        let header = self.header(ts, id, Header::of::<Marker>());
        let count: usize =
            sides.iter().map(|&side| self.flow.levels(side).take(limit).count()).sum();
        let mut marker = Marker {
            header: Header { flags: FLAG_SNAPSHOT, ..header },
            code: MarkerCode::SnapshotBegin as u8,
            cause: 0,
            state: 0,
            channel: channel as u8,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            first: id,
            last: id,
            ts_start: NONE,
        };
        out.push(&marker);
        let header = Header { flags: FLAG_SNAPSHOT, ..self.header(ts, id, Header::of::<Level>()) };
        for side in sides {
            for (price, size) in self.flow.levels(side).take(limit) {
                let level = self.level((side, price, size), header);
                out.push(&Level { previous: id - 1, channel: channel as u8, ..level });
            }
        }
        marker.code = MarkerCode::SnapshotEnd as u8;
        marker.header.flags = FLAG_SNAPSHOT | FLAG_LAST;
        out.push(&marker);
    }

    /// The best bid and offer.
    pub fn quote(&self, ts: i64) -> Quote {
        let (tick, lot) = (self.listing.tick, self.listing.lot);
        let best = |side| {
            self.flow.best(side).map_or((NONE, 0), |(price, size)| (price * tick, size * lot))
        };
        let (bid, ask) = (best(Side::Bid), best(Side::Ask));
        Quote {
            header: self.header(ts, self.flow.update_id(), Header::of::<Quote>()),
            bid_price: bid.0,
            bid_size: bid.1,
            ask_price: ask.0,
            ask_size: ask.1,
        }
    }

    /// Mark price and funding: the middle of the book, and a basis that never changes.
    pub fn mark(&self, ts: i64) -> Mark {
        let quote = self.quote(ts);
        let tick = self.listing.tick;
        let middle = (quote.bid_price / 2 + quote.ask_price / 2) / tick * tick;
        Mark {
            header: self.header(ts, 0, Header::of::<Mark>()),
            mark_price: middle,
            index_price: (middle - middle / 10_000) / tick * tick,
            funding_rate: PRICE_SCALE / 10_000,
            ts_funding: (ts.div_euclid(FUNDING_NS) + 1) * FUNDING_NS,
        }
    }

    /// Price bands, a twentieth around the middle of the book.
    pub fn bands(&self, ts: i64) -> Status {
        let (middle, tick) = (self.mark(ts).mark_price, self.listing.tick);
        let width = middle / BAND_PARTS / tick * tick;
        Status {
            header: Header {
                flags: FLAG_LAST,
                ..self.header(ts, (ts / 1_000_000) as u64, Header::of::<Status>())
            },
            price_low: middle - width,
            price_high: middle + width,
            reason: [0; 8],
            status: 0,
            reserved: [0; 7],
        }
    }

    fn header(&self, ts: i64, sequence: u64, like: Header) -> Header {
        let feed = self.feed.number();
        Header { feed, instrument: self.id, ts_event: ts, ts_recv: ts, sequence, ..like }
    }

    fn level(&self, (side, price, size): (Side, i64, i64), header: Header) -> Level {
        Level {
            header,
            price: price * self.listing.tick,
            size: size * self.listing.lot,
            previous: 0,
            span: 0,
            side: side as u8,
            channel: 0,
            reserved: [0; 2],
        }
    }

    fn trade(&self, ts: i64, channel: Channel, id: u64, first: u64, count: u32) -> Trade {
        let header = self.header(ts, id, Header::of::<Trade>());
        Trade {
            header: Header { flags: FLAG_LAST, ..header },
            price: 0,
            size: 0,
            trade_id: first,
            count,
            side: 0,
            channel: channel as u8,
            conditions: [0; 2],
        }
    }

    const fn priced(&self, trade: Trade, price: i64, taker: Side) -> Trade {
        Trade { price: price * self.listing.tick, side: taker as u8, ..trade }
    }
}
