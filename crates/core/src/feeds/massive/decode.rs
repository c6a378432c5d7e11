//! Events of the streams: what each type holds, and the records that it becomes.
//!
//! A frame is checked as a whole first, then read. So an error in its JSON comes before an error in
//! its fields, and no record is written for a frame that is not whole.

use super::conditions::effect_of;
use super::keys::{slot, Fields, Keys, Values};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::conditions::Kept;
use crate::feeds::events::{self, Deal, EQUITY, INDEX, OPTION, SPOT};
use crate::feeds::fields::Slot;
use crate::feeds::scan::{Scanner, Span};
use crate::record::{Bar, Mark, Side, Status, NONE};

/// Stands for a condition whose id does not fit.
pub(super) const OTHER_CONDITION: u8 = u8::MAX;

pub(super) const SECOND_MS: u32 = 1_000;
pub(super) const MINUTE_MS: u32 = 60_000;

/// One frame or answer being decoded.
pub type Task<'a> = events::Task<'a, Keys>;

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
            b"NOI" => self.imbalance(fields),
            // Of the session.
            b"status" => Ok(()),
            _ => Err(Error::decode(DecodeReason::UnknownEvent, span.start as usize)),
        }
    }

    /// The id of the symbol at `span`, of the class that it tells, or else of `asset`.
    pub(super) fn named(&mut self, span: Span, ts: i64, asset: u8) -> Result<u32> {
        let symbol = self.symbol(span)?;
        let symbol = symbol.as_bytes();
        self.instrument(symbol, span.start as usize, ts, class_of(symbol, asset))
    }

    fn trade(&mut self, fields: &Fields) -> Result<()> {
        let conditions = self.conditions(fields, b'c')?;
        let mut values = self.values();
        let size = fields.find(values.bytes, slot::DS);
        let size = size.map_or_else(|| fields.need(b's'), Ok)?;
        let deal = Deal {
            price: values.price(fields.need(b'p')?, "price")?,
            size: values.size(size, "size")?,
            ts: values.instant(fields.need(b't')?, "ts_event")?,
            sequence: values.id_or_zero(fields, b'q', "sequence")?,
            id: values.name_or_zero(fields, b'i')?,
            side: Side::None,
            conditions,
        };
        let instrument = self.named(fields.need(slot::SYM)?, deal.ts, EQUITY)?;
        self.push_deal(instrument, &deal);
        Ok(())
    }

    /// The conditions at `slot`: a list, one number, or none.
    pub(super) fn conditions(&mut self, fields: &Fields, slot: Slot) -> Result<[u8; 2]> {
        let mut kept = Kept::default();
        let Some(span) = fields.find(self.bytes, slot) else { return Ok(kept.ids()) };
        if span.of(self.bytes)[0] != b'[' {
            let id = self.condition(span)?;
            kept.add(id, effect_of(id));
            return Ok(kept.ids());
        }
        Scanner::inside(self.bytes, span).array(|scanner| {
            let span = scanner.value()?;
            let id = self.condition(span)?;
            kept.add(id, effect_of(id));
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
        let in_lots = may_be_in_lots(symbol.of(self.bytes));
        let instrument = self.named(symbol, ts, EQUITY)?;
        self.push_quote((instrument, ts, sequence), bid, ask, in_lots)
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

/// Whether quotes of `symbol` may be in round lots: those of stocks, whose tickers hold no digit.
/// Those of all contracts do.
pub(super) fn may_be_in_lots(symbol: &[u8]) -> bool {
    !symbol.iter().any(|byte| *byte == b':' || byte.is_ascii_digit())
}

/// The class of an instrument, by what its symbol starts with, or else by its market.
pub(super) fn class_of(symbol: &[u8], asset: u8) -> u8 {
    match symbol {
        [b'O', b':', ..] => OPTION,
        [b'I', b':', ..] => INDEX,
        [b'X' | b'C', b':', ..] => SPOT,
        _ => asset,
    }
}

impl Values<'_> {
    /// The id of a trade, which is a text: 0 where it is absent, or is no number.
    pub(super) fn name_or_zero(&mut self, fields: &Fields, slot: Slot) -> Result<u64> {
        let Some(span) = fields.find(self.bytes, slot) else { return Ok(0) };
        let raw = span.of(self.bytes);
        let text = if raw[0] == b'"' { self.text(span)? } else { raw };
        let text = std::str::from_utf8(text).unwrap_or_default();
        Ok(text.parse().unwrap_or(0))
    }
}
