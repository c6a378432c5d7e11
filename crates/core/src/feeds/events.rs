//! Decoding of frames and answers that are lists of events, each of which stands for itself.
//!
//! A frame is checked as a whole first, then read. So an error in its JSON comes before an error in
//! its fields, and no record is written for a frame that is not whole.

use super::fields::{Fields, Slot, Values};
use super::own_symbol::OwnSymbol;
use super::scan::{Scanner, Span};
use super::symbols::SymbolCache;
use super::{FeedId, Rejected};
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{
    number_of, padded, Bar, Blob, Channel, CorporateAction, Definition, Header, Level, Marker,
    MarkerCode, Quote, Record, Records, Side, Trade, Turnover, FLAG_LAST, FLAG_SNAPSHOT, NONE,
};

/// Quotes of US stocks say shares from here on, and round lots before: 2025-11-03 in New York.
pub const SHARES_SINCE: i64 = 1_762_146_000_000_000_000;
/// Shares in a round lot.
pub const ROUND_LOT: i64 = 100;

/// The number of `asset_class` of a pair.
pub const SPOT: u8 = 1;
/// That of a perpetual.
pub const PERPETUAL: u8 = 2;
/// That of a stock.
pub const EQUITY: u8 = 4;
/// That of an option.
pub const OPTION: u8 = 5;
/// That of an index.
pub const INDEX: u8 = 6;

/// `action` of a change of a symbol.
const SYMBOL_CHANGE: u8 = 3;

/// What decoding asks of a venue.
pub trait Venue {
    /// The slot of a key of its messages, if any uses it.
    fn slot_of(key: &[u8]) -> Option<Slot>;
}

/// One frame or answer being decoded.
pub struct Task<'a, V> {
    /// The frame.
    pub bytes: &'a [u8],
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
    /// Events that could not be decoded.
    pub rejected: Rejected,
    /// What the venue adds.
    pub venue: V,
}

/// What a trade is, by whichever keys it was told.
pub struct Deal {
    /// Units of 1e-9.
    pub price: i64,
    /// Units of 1e-8.
    pub size: i64,
    /// When, in ns.
    pub ts: i64,
    /// 0 where there is none.
    pub sequence: u64,
    /// Its id; 0 where there is none.
    pub id: u64,
    /// Who took.
    pub side: Side,
    /// Those that hold back most.
    pub conditions: [u8; 2],
}

/// Price and size of one side of a quote.
pub type Offer = (i64, i64);

/// An offer as it was told: one of no price is none.
pub const fn offer_of((price, size): Offer) -> Offer {
    (if price == 0 { NONE } else { price }, size)
}

/// What every record of the frame in `blob` starts with.
pub fn header_of(feed: FeedId, blob: &Blob<'_>) -> Header {
    let ts = blob.header.ts_recv;
    Header {
        flags: blob.header.flags as u8,
        feed: feed as u8,
        ts_event: ts,
        ts_recv: ts,
        ..Header::default()
    }
}

impl<V: Venue> Task<'_, V> {
    /// Reads values of the frame.
    pub fn values(&mut self) -> Values<'_> {
        Values { bytes: self.bytes, scratch: self.scratch }
    }

    /// The members of the object at `scanner`.
    ///
    /// # Errors
    /// As [`Fields::collect`].
    pub fn fields<const COUNT: usize>(
        &mut self,
        scanner: &mut Scanner<'_>,
    ) -> Result<Fields<COUNT>> {
        Fields::collect(self.bytes, scanner, self.scratch, V::slot_of)
    }

    /// Calls `row` with each object of the array at `scanner`. An element that cannot be decoded,
    /// or is no object, takes no other with it, and leaves no record.
    ///
    /// # Errors
    /// `Error::Decode`: the array is not whole.
    pub fn elements<const COUNT: usize>(
        &mut self,
        scanner: &mut Scanner<'_>,
        mut row: impl FnMut(&mut Self, &Fields<COUNT>) -> Result<()>,
    ) -> Result<()> {
        scanner.array(|scanner| self.element(scanner, &mut row))
    }

    /// Calls `row` with the object at `scanner`, as [`Task::elements`] does.
    ///
    /// # Errors
    /// `Error::Decode`: the value is not whole.
    pub fn element<const COUNT: usize>(
        &mut self,
        scanner: &mut Scanner<'_>,
        mut row: impl FnMut(&mut Self, &Fields<COUNT>) -> Result<()>,
    ) -> Result<()> {
        if self.rejected.passes_over(scanner, b'{')? {
            return Ok(());
        }
        let fields = self.fields(scanner)?;
        let mark = self.out.mark();
        row(self, &fields).or_else(|error| {
            self.out.truncate(mark);
            self.rejected.add(error)
        })
    }

    /// The id of `symbol`, from `ts` on if it is new, and then of the class `asset_class`.
    ///
    /// # Errors
    /// As [`SymbolCache::define`].
    pub fn instrument(
        &mut self,
        symbol: &[u8],
        byte: usize,
        ts: i64,
        asset_class: u8,
    ) -> Result<u32> {
        let known = self.instruments.len();
        let ts = ts.min(self.header.ts_recv);
        let id = self.symbols.define(symbol, self.instruments, ts, byte)?;
        if self.instruments.len() > known {
            if let Some(definition) = self.instruments.get(id) {
                let definition = Definition { asset_class, ..*definition };
                self.instruments.update(&definition);
            }
        }
        Ok(id)
    }

    /// The symbol at `span`, as a copy.
    ///
    /// # Errors
    /// As [`Values::text`].
    pub fn symbol(&mut self, span: Span) -> Result<OwnSymbol> {
        Ok(OwnSymbol::of(self.values().text(span)?))
    }

    /// The header of a record of this frame, the only one of its event.
    pub const fn head<R: Record>(&self, instrument: u32, ts: i64, sequence: u64) -> Header {
        let whole = Header::of::<R>();
        Header {
            length: whole.length,
            kind: whole.kind,
            flags: self.header.flags | FLAG_LAST,
            instrument,
            ts_event: ts,
            sequence,
            ..self.header
        }
    }

    /// Appends a trade.
    pub fn push_deal(&mut self, instrument: u32, deal: &Deal) {
        self.out.push(&Trade {
            header: self.head::<Trade>(instrument, deal.ts, deal.sequence),
            price: deal.price,
            size: deal.size,
            trade_id: deal.id,
            count: 1,
            side: deal.side as u8,
            channel: Channel::Trade as u8,
            conditions: deal.conditions,
        });
    }

    /// Appends a quote. Sizes of a US stock are shares, or the round lots that they once were.
    ///
    /// # Errors
    /// `Error::DoesNotFit`: so many shares.
    pub fn push_quote(
        &mut self,
        (instrument, ts, sequence): (u32, i64, u64),
        bid: Offer,
        ask: Offer,
        is_stock: bool,
    ) -> Result<()> {
        let lot = if is_stock && ts < SHARES_SINCE { ROUND_LOT } else { 1 };
        let sized = |size: i64| match size {
            NONE => Ok(NONE),
            size => size.checked_mul(lot).ok_or(Error::DoesNotFit { field: "size", byte: 0 }),
        };
        let quote = Quote {
            header: self.head::<Quote>(instrument, ts, sequence),
            bid_price: bid.0,
            bid_size: sized(bid.1)?,
            ask_price: ask.0,
            ask_size: sized(ask.1)?,
        };
        self.out.push(&quote);
        Ok(())
    }

    /// Appends that the stock which was called by the first of `symbols` is called by the second
    /// from `ts` on.
    ///
    /// # Errors
    /// As [`SymbolCache::define`]; `Error::DoesNotFit`: so long a symbol.
    pub fn symbol_change(&mut self, symbols: (&[u8], &[u8]), ts: i64, byte: usize) -> Result<()> {
        let (former, symbol) = symbols;
        let unfit = Error::DoesNotFit { field: "former", byte };
        let former_text = std::str::from_utf8(former).ok().and_then(padded).ok_or(unfit)?;
        let instrument = self.instrument(symbol, byte, self.header.ts_recv, EQUITY)?;
        // Neither venue gives such a change an id.
        let told = [former, b" ", symbol, b" ", &ts.to_le_bytes()].concat();
        let header = self.head::<CorporateAction>(instrument, ts, number_of(&told));
        self.out.push(&CorporateAction {
            header,
            split_from: NONE,
            split_to: NONE,
            cash_amount: NONE,
            ts_declared: NONE,
            ts_record: NONE,
            ts_pay: NONE,
            currency: [0; 8],
            subtype: [0; 8],
            action: SYMBOL_CHANGE,
            former: former_text,
            reserved: [0; 7],
        });
        Ok(())
    }

    /// Begins a whole book: the mark before its levels, and one of these to be filled in.
    pub fn begin_book(&self, instrument: u32, ts: i64, sequence: u64, channel: Channel) -> NewBook {
        let header = self.head::<Level>(instrument, ts, sequence);
        let flags = (header.flags | FLAG_SNAPSHOT) & !FLAG_LAST;
        let level = Level {
            header: Header { flags, ..header },
            price: 0,
            size: 0,
            previous: 0,
            span: 0,
            side: 0,
            channel: channel as u8,
            reserved: [0; 2],
        };
        let begin = Marker {
            header: Header { flags, ..self.head::<Marker>(instrument, ts, sequence) },
            code: MarkerCode::SnapshotBegin as u8,
            cause: 0,
            state: 0,
            channel: channel as u8,
            count: 0,
            first: sequence,
            last: sequence,
            ts_start: NONE,
        };
        NewBook { level, begin }
    }
}

/// A whole book on its way to the records.
pub struct NewBook {
    level: Level,
    begin: Marker,
}

impl NewBook {
    /// Appends `levels` of side, price and size between two marks.
    pub fn push(mut self, levels: &[(Side, i64, i64)], out: &mut Records) {
        self.begin.count = levels.len() as u32;
        out.push(&self.begin);
        for &(side, price, size) in levels {
            out.push(&Level { side: side as u8, price, size, ..self.level });
        }
        self.begin.code = MarkerCode::SnapshotEnd as u8;
        self.begin.header.flags |= FLAG_LAST;
        out.push(&self.begin);
    }
}

impl Values<'_> {
    /// An id that may be absent: 0 then.
    ///
    /// # Errors
    /// As [`Values::id`].
    pub fn id_or_zero<const COUNT: usize>(
        &mut self,
        fields: &Fields<COUNT>,
        slot: Slot,
        field: &'static str,
    ) -> Result<u64> {
        fields.find(self.bytes, slot).map_or(Ok(0), |span| self.id(span, field))
    }

    /// One side of a quote. Nothing, or zero, is no offer.
    ///
    /// # Errors
    /// As [`Values::price`].
    pub fn offer<const COUNT: usize>(
        &mut self,
        fields: &Fields<COUNT>,
        slots: (Slot, Slot),
    ) -> Result<Offer> {
        let price = fields.find(self.bytes, slots.0);
        let price = price.map_or(Ok(0), |span| self.price(span, "price"))?;
        let size = fields.find(self.bytes, slots.1);
        let size = size.map_or(Ok(0), |span| self.size(span, "size"))?;
        Ok(offer_of((price, size)))
    }

    /// A bar with the four prices of `fields`, by keys of one letter, and nothing else yet.
    ///
    /// # Errors
    /// As [`Values::price`], and `Error::Decode` (`MissingField`).
    pub fn window<const COUNT: usize>(
        &mut self,
        fields: &Fields<COUNT>,
        interval_ms: u32,
    ) -> Result<Bar> {
        Ok(Bar {
            open: self.price(fields.need(b'o')?, "open")?,
            high: self.price(fields.need(b'h')?, "high")?,
            low: self.price(fields.need(b'l')?, "low")?,
            close: self.price(fields.need(b'c')?, "close")?,
            ..bar_of(interval_ms)
        })
    }
}

/// A bar that is over and has no prices yet.
pub fn bar_of(interval_ms: u32) -> Bar {
    Bar {
        header: Header::of::<Bar>(),
        open: 0,
        high: 0,
        low: 0,
        close: 0,
        volume: 0,
        buy_volume: NONE,
        turnover: Turnover::default(),
        buy_turnover: Turnover::default(),
        count: 0,
        interval_ms,
        closed: 1,
        channel: Channel::Kline as u8,
        reserved: [0; 2],
    }
}
