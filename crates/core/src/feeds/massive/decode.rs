//! Events of the streams: what each type holds, and the records that it becomes.
//!
//! A frame is checked as a whole first, then read. So an error in its JSON comes before an error in
//! its fields, and no record is written for a frame that is not whole.

use super::conditions::Kept;
use super::keys::{slot, Fields, Values};
use super::symbol::OwnSymbol;
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::fields::Slot;
use crate::feeds::scan::{Scanner, Span};
use crate::feeds::symbols::SymbolCache;
use crate::feeds::Rejected;
use crate::instrument::Instruments;
use crate::record::{
    Bar, Channel, Definition, Header, Mark, Quote, Record, Records, Side, Status, Trade, Turnover,
    FLAG_LAST, NONE,
};

/// Quotes of stocks say shares from here on, and round lots before: 2025-11-03 in New York.
const SHARES_SINCE: i64 = 1_762_146_000_000_000_000;
/// Shares in a round lot.
const ROUND_LOT: i64 = 100;
/// Stands for a condition whose id does not fit.
pub(super) const OTHER_CONDITION: u8 = u8::MAX;

pub(super) const SECOND_MS: u32 = 1_000;
pub(super) const MINUTE_MS: u32 = 60_000;

// Numbers of `asset_class`.
pub(super) const SPOT: u8 = 1;
pub(super) const EQUITY: u8 = 4;
pub(super) const OPTION: u8 = 5;
pub(super) const INDEX: u8 = 6;

/// One frame or answer being decoded.
pub struct Task<'a> {
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
}

/// What a trade is, by whichever keys it was told.
pub(super) struct Deal {
    pub symbol: Span,
    pub price: i64,
    pub size: i64,
    pub ts: i64,
    pub sequence: u64,
    pub id: u64,
    pub side: Side,
    pub conditions: [u8; 2],
    pub asset: u8,
}

/// Price and size of one side of a quote.
pub(super) type Offer = (i64, i64);

impl Task<'_> {
    /// Decodes a frame: an array of events.
    ///
    /// # Errors
    /// `Error::Decode`: it is not one JSON array of objects.
    pub fn frame(&mut self) -> Result<()> {
        Scanner::check(self.bytes)?;
        let mut scanner = Scanner::new(self.bytes, 0);
        scanner.at_value(b'[')?;
        self.elements(&mut scanner, Self::event)
    }

    pub(super) fn values(&mut self) -> Values<'_> {
        Values { bytes: self.bytes, scratch: self.scratch }
    }

    pub(super) fn fields(&mut self, scanner: &mut Scanner<'_>) -> Result<Fields> {
        Fields::collect(self.bytes, scanner, self.scratch, slot::of)
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
            let mark = self.out.mark();
            row(self, &fields).or_else(|error| {
                self.out.truncate(mark);
                self.rejected.add(error)
            })
        })
    }

    fn event(&mut self, fields: &Fields) -> Result<()> {
        let span = fields.need(slot::EV)?;
        match self.values().text(span)? {
            b"T" => self.trade(fields),
            b"Q" => self.quote(fields),
            b"A" => self.bar(fields, slot::SYM, SECOND_MS),
            b"AM" => self.bar(fields, slot::SYM, MINUTE_MS),
            b"LULD" => self.bands(fields),
            b"V" => self.index(fields),
            b"FMV" => self.fair(fields, slot::FMV),
            b"LV" => self.fair(fields, slot::VAL),
            b"XT" => self.crypto_trade(fields),
            b"XQ" => self.crypto_quote(fields),
            b"XL2" => self.crypto_book(fields),
            b"XA" | b"CA" => self.bar(fields, slot::PAIR, MINUTE_MS),
            b"XAS" | b"CAS" => self.bar(fields, slot::PAIR, SECOND_MS),
            b"C" => self.forex_quote(fields),
            // Of the session, and imbalances, of which there is no record: the raw tape has them.
            b"status" | b"NOI" => Ok(()),
            _ => Err(Error::decode(DecodeReason::UnknownEvent, span.start as usize)),
        }
    }

    /// The id of `symbol`, from `ts` on if it is new, and then of the class `asset`.
    pub(super) fn instrument(
        &mut self,
        symbol: &[u8],
        byte: usize,
        ts: i64,
        asset: u8,
    ) -> Result<u32> {
        let known = self.instruments.len();
        let ts = ts.min(self.header.ts_recv);
        let id = self.symbols.define(symbol, self.instruments, ts, byte)?;
        if self.instruments.len() > known {
            if let Some(definition) = self.instruments.get(id) {
                let asset_class = class_of(symbol, asset);
                let definition = Definition { asset_class, ..*definition };
                self.instruments.update(&definition);
            }
        }
        Ok(id)
    }

    /// The same of the symbol at `span`.
    pub(super) fn named(&mut self, span: Span, ts: i64, asset: u8) -> Result<u32> {
        let mut values = Values { bytes: self.bytes, scratch: self.scratch };
        let symbol = OwnSymbol::of(values.text(span)?);
        self.instrument(symbol.as_bytes(), span.start as usize, ts, asset)
    }

    /// The header of a record of this frame, the only one of its event.
    pub(super) const fn head<R: Record>(&self, instrument: u32, ts: i64, sequence: u64) -> Header {
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

    fn trade(&mut self, fields: &Fields) -> Result<()> {
        let conditions = self.conditions(fields, b'c')?;
        let mut values = self.values();
        let size = fields.find(values.bytes, slot::DS);
        let size = size.map_or_else(|| fields.need(b's'), Ok)?;
        let deal = Deal {
            symbol: fields.need(slot::SYM)?,
            price: values.price(fields.need(b'p')?, "price")?,
            size: values.size(size, "size")?,
            ts: values.instant(fields.need(b't')?, "ts_event")?,
            sequence: values.id_or_zero(fields, b'q', "sequence")?,
            id: values.name_or_zero(fields, b'i')?,
            side: Side::None,
            conditions,
            asset: EQUITY,
        };
        self.push_trade(&deal)
    }

    pub(super) fn push_trade(&mut self, deal: &Deal) -> Result<()> {
        let instrument = self.named(deal.symbol, deal.ts, deal.asset)?;
        self.push_deal(instrument, deal);
        Ok(())
    }

    pub(super) fn push_deal(&mut self, instrument: u32, deal: &Deal) {
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

    /// The conditions at `slot`: a list, one number, or none.
    pub(super) fn conditions(&mut self, fields: &Fields, slot: Slot) -> Result<[u8; 2]> {
        let mut kept = Kept::default();
        let Some(span) = fields.find(self.bytes, slot) else { return Ok(kept.ids()) };
        if span.of(self.bytes)[0] != b'[' {
            kept.add(self.condition(span)?);
            return Ok(kept.ids());
        }
        Scanner::inside(self.bytes, span).array(|scanner| {
            let span = scanner.value()?;
            kept.add(self.condition(span)?);
            Ok(())
        })?;
        Ok(kept.ids())
    }

    fn condition(&mut self, span: Span) -> Result<u8> {
        let id = self.values().id(span, "conditions")?;
        Ok(u8::try_from(id).unwrap_or(OTHER_CONDITION))
    }

    fn quote(&mut self, fields: &Fields) -> Result<()> {
        let symbol = fields.need(slot::SYM)?;
        let mut values = self.values();
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let sequence = values.id_or_zero(fields, b'q', "sequence")?;
        let bid = values.offer(fields, (slot::BP, slot::BS))?;
        let ask = values.offer(fields, (slot::AP, slot::ASKS_SIZE))?;
        let is_stock = !symbol.of(self.bytes).starts_with(b"\"O:");
        let instrument = self.named(symbol, ts, EQUITY)?;
        self.push_quote((instrument, ts, sequence), bid, ask, is_stock)
    }

    pub(super) fn push_quote(
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

    fn forex_quote(&mut self, fields: &Fields) -> Result<()> {
        let pair = if fields.has(slot::PAIR) { slot::PAIR } else { b'p' };
        let mut values = self.values();
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let bid = values.price(fields.need(b'b')?, "bid_price")?;
        let ask = values.price(fields.need(b'a')?, "ask_price")?;
        let instrument = self.named(fields.need(pair)?, ts, SPOT)?;
        // The venue tells no sizes.
        self.push_quote((instrument, ts, 0), (bid, NONE), (ask, NONE), false)
    }

    fn bar(&mut self, fields: &Fields, symbol: Slot, interval_ms: u32) -> Result<()> {
        let mut values = self.values();
        let ts = values.instant(fields.need(b's')?, "ts_event")?;
        let mut bar = values.window(fields, interval_ms)?;
        // Bars of an index have no volume.
        let volume = fields.find(values.bytes, slot::DV).or(fields.find(values.bytes, b'v'));
        bar.volume = volume.map_or(Ok(0), |span| values.size(span, "volume"))?;
        let asset = if symbol == slot::SYM { EQUITY } else { SPOT };
        let instrument = self.named(fields.need(symbol)?, ts, asset)?;
        bar.header = self.head::<Bar>(instrument, ts, 0);
        self.out.push(&bar);
        Ok(())
    }

    /// Price bands of a stock. The indicators are the reason, as the venue numbers them.
    fn bands(&mut self, fields: &Fields) -> Result<()> {
        let mut reason = [0; 8];
        if let Some(span) = fields.find(self.bytes, b'i') {
            let digits = span.of(self.bytes).iter().filter(|byte| b"0123456789,".contains(byte));
            reason.iter_mut().zip(digits).for_each(|(to, &digit)| *to = digit);
        }
        let mut values = self.values();
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let price_high = values.price(fields.need(b'h')?, "price_high")?;
        let price_low = values.price(fields.need(b'l')?, "price_low")?;
        let sequence = values.id_or_zero(fields, b'q', "sequence")?;
        let instrument = self.named(fields.need(b'T')?, ts, EQUITY)?;
        let header = self.head::<Status>(instrument, ts, sequence);
        self.out.push(&Status {
            header,
            price_low,
            price_high,
            reason,
            status: 0,
            reserved: [0; 7],
        });
        Ok(())
    }

    fn index(&mut self, fields: &Fields) -> Result<()> {
        let mut values = self.values();
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let index_price = values.price(fields.need(slot::VAL)?, "index_price")?;
        self.push_mark(fields.need(b'T')?, ts, (NONE, index_price))
    }

    /// A value that the venue holds for fair, of whatever it is.
    fn fair(&mut self, fields: &Fields, value: Slot) -> Result<()> {
        let mut values = self.values();
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let mark_price = values.price(fields.need(value)?, "mark_price")?;
        self.push_mark(fields.need(slot::SYM)?, ts, (mark_price, NONE))
    }

    fn push_mark(&mut self, symbol: Span, ts: i64, prices: (i64, i64)) -> Result<()> {
        let instrument = self.named(symbol, ts, EQUITY)?;
        let header = self.head::<Mark>(instrument, ts, 0);
        let (mark_price, index_price) = prices;
        let mark = Mark { header, mark_price, index_price, funding_rate: NONE, ts_funding: NONE };
        self.out.push(&mark);
        Ok(())
    }
}

/// The class of an instrument, by what its symbol starts with, or else by its market.
fn class_of(symbol: &[u8], asset: u8) -> u8 {
    match symbol {
        [b'O', b':', ..] => OPTION,
        [b'I', b':', ..] => INDEX,
        [b'X' | b'C', b':', ..] => SPOT,
        _ => asset,
    }
}

impl Values<'_> {
    /// An id that may be absent: 0 then.
    pub(super) fn id_or_zero(
        &mut self,
        fields: &Fields,
        slot: Slot,
        field: &'static str,
    ) -> Result<u64> {
        fields.find(self.bytes, slot).map_or(Ok(0), |span| self.id(span, field))
    }

    /// The id of a trade, which is a text: 0 where it is absent, or is no number.
    pub(super) fn name_or_zero(&mut self, fields: &Fields, slot: Slot) -> Result<u64> {
        let Some(span) = fields.find(self.bytes, slot) else { return Ok(0) };
        let raw = span.of(self.bytes);
        let text = if raw[0] == b'"' { self.text(span)? } else { raw };
        let text = std::str::from_utf8(text).unwrap_or_default();
        Ok(text.parse().unwrap_or(0))
    }

    /// One side of a quote. Nothing, or zero, is no offer.
    pub(super) fn offer(&mut self, fields: &Fields, slots: (Slot, Slot)) -> Result<Offer> {
        let price = fields.find(self.bytes, slots.0);
        let price = price.map_or(Ok(0), |span| self.price(span, "price"))?;
        let size = fields.find(self.bytes, slots.1);
        let size = size.map_or(Ok(0), |span| self.size(span, "size"))?;
        Ok((if price == 0 { NONE } else { price }, size))
    }

    /// A bar with the four prices of `fields`, and nothing else yet.
    pub(super) fn window(&mut self, fields: &Fields, interval_ms: u32) -> Result<Bar> {
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
pub(super) fn bar_of(interval_ms: u32) -> Bar {
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
