//! Stream messages in any form that JSON allows: the path that is always right.
//!
//! A frame is checked as a whole first, then read. So an error in its JSON comes before an error in
//! its fields, and no record is written for a frame that is not whole.

use super::fields::{slot, Fields, Values};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::scan::{unescape, Scanner, Span};
use crate::feeds::symbols::SymbolCache;
use crate::feeds::Rejected;
use crate::instrument::Instruments;
use crate::record::{
    Bar, Channel, Header, Mark, Quote, Record, Records, Side, Trade, Turnover, FLAG_LAST,
    FLAG_NO_EVENT_TIME, NONE,
};

/// Event types that the venue documents and that have no record: nothing is written for them.
const SILENT: &[&[u8]] = &[
    b"24hrMiniTicker",
    b"1hTicker",
    b"4hTicker",
    b"1dTicker",
    b"avgPrice",
    b"referencePrice",
    b"blockTrade",
    b"forceOrder",
    b"continuous_kline",
    b"indexPrice_kline",
    b"markPrice_kline",
    b"compositeIndex",
    b"contractInfo",
    b"assetIndexUpdate",
    b"tradingSession",
    b"serverShutdown",
];

const DAY_MS: u32 = 86_400_000;

/// One frame being decoded.
pub struct Task<'a> {
    /// The frame.
    pub bytes: &'a [u8],
    /// Whether update ids are chained by `pu`, as on futures.
    pub chained: bool,
    /// Whether the processor reads levels in wide registers.
    pub wide: bool,
    /// What every record of the frame starts with.
    pub header: Header,
    /// Symbols of the feed.
    pub symbols: &'a mut SymbolCache,
    /// Instruments of the tape.
    pub instruments: &'a mut Instruments,
    /// Room for texts with escapes.
    pub scratch: &'a mut Vec<u8>,
    /// Where records go.
    pub out: &'a mut Records,
    /// Elements of lists that could not be decoded.
    pub rejected: Rejected,
    /// The venue's time, where an answer tells it.
    pub venue_time: Option<i64>,
}

pub(super) const fn fail<T>(reason: DecodeReason, byte: usize) -> Result<T> {
    Err(Error::decode(reason, byte))
}

impl<'a> Task<'a> {
    /// Decodes a frame of the stream `stream`, which is empty where the frame itself names it.
    ///
    /// # Errors
    /// `Error::Decode` and `Error::DoesNotFit`.
    pub fn frame(&mut self, stream: &[u8], name: &mut Vec<u8>) -> Result<()> {
        Scanner::check(self.bytes)?;
        let bytes = self.bytes;
        let mut scanner = Scanner::new(bytes, 0);
        if scanner.peek_value()? != b'{' {
            return self.payloads(&mut scanner, stream);
        }
        let fields = Fields::collect(bytes, &mut scanner, self.scratch, slot::of)?;
        if !fields.has(slot::STREAM) || !fields.has(slot::DATA) {
            return self.payload(&fields, stream);
        }
        let span = fields.need(slot::STREAM)?;
        self.values().text(span)?;
        name.clear();
        unescape(span.of(bytes), span.start as usize, name)?;
        self.payloads(&mut Scanner::inside(bytes, fields.need(slot::DATA)?), name)
    }

    pub(super) fn values(&mut self) -> Values<'_> {
        Values { bytes: self.bytes, scratch: self.scratch }
    }

    pub(super) fn fields(&mut self, scanner: &mut Scanner<'_>) -> Result<Fields> {
        Fields::collect(self.bytes, scanner, self.scratch, slot::of)
    }

    /// One payload, or an array of them.
    fn payloads(&mut self, scanner: &mut Scanner<'_>, stream: &[u8]) -> Result<()> {
        if scanner.peek_value()? != b'[' {
            let fields = self.fields(scanner)?;
            return self.payload(&fields, stream);
        }
        self.elements(scanner, |task, fields| task.payload(fields, stream))
    }

    /// Calls `row` with each object of the array at `scanner`. What cannot be decoded, or is none,
    /// takes no other with it, and leaves no record.
    pub(super) fn elements(
        &mut self,
        scanner: &mut Scanner<'_>,
        mut row: impl FnMut(&mut Self, &Fields) -> Result<()>,
    ) -> Result<()> {
        scanner.array(|scanner| {
            if self.rejected.passes_over(scanner, b'{')? {
                return Ok(());
            }
            let fields = self.fields(scanner)?;
            self.element(|task| row(task, &fields))
        })
    }

    /// Decodes one element of a list by `decode`.
    pub(super) fn element(&mut self, decode: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mark = self.out.mark();
        decode(self).or_else(|error| {
            self.out.truncate(mark);
            self.rejected.add(error)
        })
    }

    fn payload(&mut self, fields: &Fields, stream: &[u8]) -> Result<()> {
        if !fields.has(b'e') {
            return self.nameless(fields, stream);
        }
        let span = fields.need(b'e')?;
        let decode = match self.values().text(span)? {
            b"trade" => Self::trade,
            b"aggTrade" => Self::aggregate,
            b"bookTicker" => Self::quote,
            b"kline" => Self::kline,
            b"24hrTicker" => Self::ticker,
            b"markPriceUpdate" => Self::mark,
            b"depthUpdate" => return self.depth(fields, stream),
            event if SILENT.contains(&event) => return Ok(()),
            _ => return fail(DecodeReason::UnknownEvent, span.start as usize),
        };
        decode(self, fields)
    }

    /// A payload without an event type: told by its keys.
    fn nameless(&mut self, fields: &Fields, stream: &[u8]) -> Result<()> {
        if fields.has(slot::ERROR) || (fields.has(slot::CODE) && fields.has(slot::MSG)) {
            return fail(DecodeReason::VenueError, fields.start());
        }
        if fields.has(slot::RESULT) || fields.has(slot::EVENT) {
            return Ok(());
        }
        if fields.has(slot::LAST_UPDATE_ID) || fields.has(slot::BIDS) {
            return self.partial(fields, stream);
        }
        if [b'b', b'B', b'a', b'A'].iter().any(|&slot| fields.has(slot)) {
            return self.quote(fields);
        }
        fail(DecodeReason::UnknownEvent, fields.start())
    }

    /// The id of the symbol at `span`, from `ts` on if it is new.
    pub(super) fn instrument(&mut self, span: Span, ts: i64) -> Result<u32> {
        let mut values = Values { bytes: self.bytes, scratch: self.scratch };
        let ts = ts.min(self.header.ts_recv);
        let text = values.text(span)?;
        self.symbols.define(text, self.instruments, ts, span.start as usize)
    }

    /// The header of a record of this frame.
    pub(super) const fn head<R: Record>(&self, instrument: u32, ts: i64, sequence: u64) -> Header {
        let whole = Header::of::<R>();
        Header {
            length: whole.length,
            kind: whole.kind,
            instrument,
            ts_event: ts,
            sequence,
            ..self.header
        }
    }

    fn trade(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(b's')?;
        let mut values = self.values();
        let id = values.id(fields.need(b't')?, "trade_id")?;
        let price = values.price(fields.need(b'p')?, "price")?;
        let size = values.size(fields.need(b'q')?, "size")?;
        let ts = values.time(fields.need(b'T')?, "ts_event")?;
        let sold = values.flag(fields.need(b'm')?)?;
        let instrument = self.instrument(symbol, ts)?;
        let header = self.head::<Trade>(instrument, ts, id);
        self.push_trade(header, price, size, (id, 1), sold, Channel::Trade);
        Ok(())
    }

    pub(super) fn aggregate(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(b's')?;
        let aggregate = self.aggregate_values(fields)?;
        let instrument = self.instrument(symbol, aggregate.ts)?;
        self.push_aggregate(instrument, &aggregate);
        Ok(())
    }

    pub(super) fn aggregate_values(&mut self, fields: &Fields) -> Result<Aggregate> {
        let mut values = self.values();
        let id = values.id(fields.need(b'a')?, "sequence")?;
        let price = values.price(fields.need(b'p')?, "price")?;
        let size = values.size(fields.need(b'q')?, "size")?;
        let first = values.id(fields.need(b'f')?, "trade_id")?;
        let last = values.id(fields.need(b'l')?, "trade_id")?;
        let ts = values.time(fields.need(b'T')?, "ts_event")?;
        let sold = values.flag(fields.need(b'm')?)?;
        let byte = fields.need(b'l')?.start as usize;
        let Some(span) = last.checked_sub(first) else {
            return fail(DecodeReason::BadNumber, byte);
        };
        let count =
            u32::try_from(span + 1).map_err(|_| Error::DoesNotFit { field: "count", byte })?;
        Ok(Aggregate { id, price, size, first, count, ts, sold })
    }

    pub(super) fn push_aggregate(&mut self, instrument: u32, aggregate: &Aggregate) {
        let Aggregate { id, price, size, first, count, ts, sold } = *aggregate;
        let header = self.head::<Trade>(instrument, ts, id);
        self.push_trade(header, price, size, (first, count), sold, Channel::AggTrade);
    }

    pub(super) fn push_trade(
        &mut self,
        mut header: Header,
        price: i64,
        size: i64,
        (trade_id, count): (u64, u32),
        sold: bool,
        channel: Channel,
    ) {
        header.flags |= FLAG_LAST;
        let side = if sold { Side::Ask } else { Side::Bid } as u8;
        let channel = channel as u8;
        self.out.push(&Trade {
            header,
            price,
            size,
            trade_id,
            count,
            side,
            channel,
            conditions: [0; 2],
        });
    }

    fn quote(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(b's')?;
        let mut values = self.values();
        let sequence = values.id(fields.need(b'u')?, "sequence")?;
        let bid = (
            values.price(fields.need(b'b')?, "bid_price")?,
            values.size(fields.need(b'B')?, "bid_size")?,
        );
        let ask = (
            values.price(fields.need(b'a')?, "ask_price")?,
            values.size(fields.need(b'A')?, "ask_size")?,
        );
        let ts = values.time_or_none(fields, b'T', "ts_event")?;
        self.push_quote(symbol, sequence, ts, bid, ask, FLAG_LAST)
    }

    pub(super) fn push_quote(
        &mut self,
        symbol: Span,
        sequence: u64,
        ts: Option<i64>,
        bid: (i64, i64),
        ask: (i64, i64),
        flags: u8,
    ) -> Result<()> {
        let flags = if ts.is_none() { flags | FLAG_NO_EVENT_TIME } else { flags };
        let ts = ts.unwrap_or(self.header.ts_recv);
        let instrument = self.instrument(symbol, ts)?;
        let mut header = self.head::<Quote>(instrument, ts, sequence);
        header.flags |= flags;
        // The venue writes an empty side as zero at zero.
        let price = |(price, size)| if (price, size) == (0, 0) { NONE } else { price };
        self.out.push(&Quote {
            header,
            bid_price: price(bid),
            bid_size: bid.1,
            ask_price: price(ask),
            ask_size: ask.1,
        });
        Ok(())
    }

    fn kline(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(b's')?;
        let span = fields.need(b'k')?;
        let inner = self.fields(&mut Scanner::inside(self.bytes, span))?;
        let mut values = self.values();
        let ts = values.time(inner.need(b't')?, "ts_event")?;
        let interval = inner.need(b'i')?;
        let interval_ms = match interval_ms(values.text(interval)?) {
            Some(Some(length)) => length,
            Some(None) => {
                let end = values.time(inner.need(b'T')?, "ts_end")?;
                month_ms(ts, end)
                    .ok_or(Error::decode(DecodeReason::BadNumber, interval.start as usize))?
            }
            None => return fail(DecodeReason::WrongType, interval.start as usize),
        };
        let mut bar = values.bar(&inner, ts)?;
        bar.header.sequence = values.last_id(inner.need(b'L')?, "sequence")?;
        bar.volume = values.size(inner.need(b'v')?, "volume")?;
        bar.count = values.id(inner.need(b'n')?, "count")?;
        bar.closed = u8::from(values.flag(inner.need(b'x')?)?);
        bar.turnover = Turnover::from(values.turnover(inner.need(b'q')?, "turnover")?);
        bar.buy_volume = values.size(inner.need(b'V')?, "buy_volume")?;
        bar.buy_turnover = Turnover::from(values.turnover(inner.need(b'Q')?, "buy_turnover")?);
        bar.interval_ms = interval_ms;
        bar.channel = Channel::Kline as u8;
        self.push_bar(symbol, bar)
    }

    fn ticker(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(b's')?;
        let mut values = self.values();
        let ts = values.time(fields.need(b'O')?, "ts_event")?;
        let mut bar = values.bar(fields, ts)?;
        bar.header.sequence = values.last_id(fields.need(b'L')?, "sequence")?;
        bar.volume = values.size(fields.need(b'v')?, "volume")?;
        bar.turnover = Turnover::from(values.turnover(fields.need(b'q')?, "turnover")?);
        bar.count = values.id(fields.need(b'n')?, "count")?;
        bar.interval_ms = DAY_MS;
        bar.channel = Channel::Ticker as u8;
        self.push_bar(symbol, bar)
    }

    fn push_bar(&mut self, symbol: Span, mut bar: Bar) -> Result<()> {
        let ts = bar.header.ts_event;
        let instrument = self.instrument(symbol, ts)?;
        bar.header = self.head::<Bar>(instrument, ts, bar.header.sequence);
        bar.header.flags |= FLAG_LAST;
        self.out.push(&bar);
        Ok(())
    }

    fn mark(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(b's')?;
        let mut values = self.values();
        let mark_price = values.price(fields.need(b'p')?, "mark_price")?;
        let ts = values.time(fields.need(b'E')?, "ts_event")?;
        let index_price = values.price_or_none(fields, b'i', "index_price")?;
        let funding_rate = values.price_or_none(fields, b'r', "funding_rate")?;
        // Contracts without funding send 0.
        let due = values.time_or_none(fields, b'T', "ts_funding")?.filter(|&ts| ts != 0);
        let instrument = self.instrument(symbol, ts)?;
        let mut header = self.head::<Mark>(instrument, ts, 0);
        header.flags |= FLAG_LAST;
        let ts_funding = due.unwrap_or(NONE);
        self.out.push(&Mark { header, mark_price, index_price, funding_rate, ts_funding });
        Ok(())
    }
}

impl Values<'_> {
    /// A bar with the four prices of `fields`, and nothing else yet.
    fn bar(&mut self, fields: &Fields, ts: i64) -> Result<Bar> {
        Ok(Bar {
            header: Header { ts_event: ts, ..Header::of::<Bar>() },
            open: self.price(fields.need(b'o')?, "open")?,
            high: self.price(fields.need(b'h')?, "high")?,
            low: self.price(fields.need(b'l')?, "low")?,
            close: self.price(fields.need(b'c')?, "close")?,
            volume: 0,
            buy_volume: NONE,
            turnover: Turnover::default(),
            buy_turnover: Turnover::default(),
            count: 0,
            interval_ms: 0,
            closed: 0,
            channel: 0,
            reserved: [0; 2],
        })
    }
}

/// What an aggregate trade says.
pub struct Aggregate {
    id: u64,
    price: i64,
    size: i64,
    first: u64,
    count: u32,
    /// When it happened, in ns.
    pub ts: i64,
    sold: bool,
}

/// The length of a kline interval, such as `1m`, in ms; inside, `None` for months, whose length
/// differs.
pub fn interval_ms(name: &[u8]) -> Option<Option<u32>> {
    let (unit, digits) = name.split_last()?;
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |value, &digit| value * 10 + u32::from(digit - b'0'));
    let unit_ms = match unit {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => DAY_MS,
        b'w' => 7 * DAY_MS,
        b'M' => return Some(None),
        _ => return None,
    };
    Some(Some(count.checked_mul(unit_ms)?))
}

/// The length in ms of an interval whose first and last units of time are `start` and `end`, ns.
pub fn month_ms(start: i64, end: i64) -> Option<u32> {
    u32::try_from(end.checked_sub(start)? / 1_000_000 + 1).ok()
}
