//! Events of the streams: what each type holds, and the records that it becomes.

use super::book::leave_out;
use super::conditions::{condition, condition_of_option, effect_of};
use super::keys::{class_of, slot, Encoding, Fields, Keys};
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::conditions::Kept;
use crate::feeds::events::{self, Deal, EQUITY};
use crate::feeds::own_symbol::OwnSymbol;
use crate::feeds::scan::{Scanner, Span};
use crate::record::{padded_or_cut, Bar, Correction, Imbalance, Side, Status, NONE};

pub(super) const MINUTE_MS: u32 = 60_000;
pub(super) const DAY_MS: u32 = 24 * 60 * MINUTE_MS;

// Values of `status`, as far as the venue tells.
pub(super) const UNKNOWN: u8 = 0;
pub(super) const TRADING: u8 = 1;
pub(super) const HALTED: u8 = 2;
pub(super) const QUOTING: u8 = 3;

// Values of `action`.
pub(super) const CANCEL: u8 = 1;
pub(super) const CORRECT: u8 = 2;

/// One frame or answer being decoded.
pub type Task<'a> = events::Task<'a, Keys<'a>>;

impl Task<'_> {
    /// Decodes a frame: an array of events.
    ///
    /// # Errors
    /// `Error::Decode`: it is not one array of objects.
    pub fn frame(&mut self) -> Result<()> {
        if self.venue.encoding == Encoding::Json {
            Scanner::check(self.bytes)?;
        }
        let mut scanner = Scanner::new(self.bytes, 0);
        scanner.at_value(b'[')?;
        let mut failed = 0;
        self.elements(&mut scanner, |task, fields| {
            task.event(fields).inspect_err(|_| failed += 1)
        })?;
        if self.rejected.count > failed {
            // An element that is no event: it may have been to change any book.
            leave_out(self.venue.books);
        }
        Ok(())
    }

    fn event(&mut self, fields: &Fields) -> Result<()> {
        let span = fields.need(b'T').and_then(|span| self.values().text(span).map(|_| span));
        let span = span.inspect_err(|_| leave_out(self.venue.books))?;
        match self.values().text(span)? {
            b"t" => self.trade(fields),
            b"q" => self.quote(fields),
            // An updated bar is the same bar again, with trades that came late.
            b"b" | b"u" => self.bar(fields, MINUTE_MS, 1),
            b"d" => self.bar(fields, DAY_MS, 0),
            b"c" => self.correction(fields),
            b"x" => self.cancel(fields),
            b"l" => self.bands(fields),
            b"s" => self.status(fields),
            b"o" => self.book(fields),
            b"i" => self.imbalance(fields),
            // News, which `news.rs` reads.
            b"n" => {
                *self.venue.has_stories = true;
                Ok(())
            }
            // Of the session.
            b"success" | b"error" | b"subscription" => Ok(()),
            _ => Err(Error::decode(DecodeReason::UnknownEvent, span.start as usize)),
        }
    }

    /// When the event was.
    pub(super) fn time(&mut self, fields: &Fields) -> Result<i64> {
        let encoding = self.venue.encoding;
        self.values().moment(fields.need(b't')?, encoding)
    }

    /// The instrument of the symbol of an event, and its class.
    pub(super) fn subject(&mut self, fields: &Fields, ts: i64) -> Result<(u32, u8)> {
        let span = fields.need(b'S')?;
        let symbol = self.symbol(span)?;
        let class = class_of(symbol.as_bytes());
        Ok((self.instrument(symbol.as_bytes(), span.start as usize, ts, class)?, class))
    }

    fn trade(&mut self, fields: &Fields) -> Result<()> {
        let deal = self.deal(fields)?;
        let (instrument, class) = self.subject(fields, deal.ts)?;
        let conditions = self.conditions(fields, class)?;
        self.push_deal(instrument, &Deal { conditions, ..deal });
        Ok(())
    }

    /// A trade, without its conditions: these depend on what was traded.
    pub(super) fn deal(&mut self, fields: &Fields) -> Result<Deal> {
        let ts = self.time(fields)?;
        let taker = fields.find(self.bytes, slot::TAKER);
        let mut values = self.values();
        let side = match taker.map(|span| values.text(span)).transpose()? {
            Some(b"B") => Side::Bid,
            Some(b"S") => Side::Ask,
            _ => Side::None,
        };
        let id = fields.find(values.bytes, b'i');
        Ok(Deal {
            price: values.price(fields.need(b'p')?, "price")?,
            size: values.size(fields.need(b's')?, "size")?,
            ts,
            sequence: 0,
            id: id.map_or(Ok(0), |span| values.wide_id(span, "trade_id"))?,
            side,
            conditions: [0; 2],
        })
    }

    /// The conditions of a trade: a list of texts, one text, or none. What those of options say
    /// about bars is not published: the first two are kept.
    pub(super) fn conditions(&mut self, fields: &Fields, class: u8) -> Result<[u8; 2]> {
        let mut kept = Kept::default();
        let Some(span) = fields.find(self.bytes, b'c') else { return Ok(kept.ids()) };
        let tape = fields.find(self.bytes, b'z').map(|span| self.symbol(span)).transpose()?;
        let tape = tape.unwrap_or(OwnSymbol::of(b""));
        let mut add = |task: &mut Self, span: Span| {
            let mut values = task.values();
            let text = values.text(span)?;
            if class == EQUITY {
                let id = condition(text, tape.as_bytes());
                kept.add(id, effect_of(id));
            } else {
                kept.add(condition_of_option(text), None);
            }
            Ok(())
        };
        if span.of(self.bytes)[0] != b'[' {
            add(self, span)?;
            return Ok(kept.ids());
        }
        Scanner::inside(self.bytes, span).array(|scanner| {
            let span = scanner.value()?;
            add(self, span)
        })?;
        Ok(kept.ids())
    }

    fn quote(&mut self, fields: &Fields) -> Result<()> {
        let ts = self.time(fields)?;
        let (instrument, class) = self.subject(fields, ts)?;
        self.offers(fields, (instrument, class), ts)
    }

    /// Appends the quote of `fields`.
    pub(super) fn offers(
        &mut self,
        fields: &Fields,
        (instrument, class): (u32, u8),
        ts: i64,
    ) -> Result<()> {
        let mut values = self.values();
        let bid = values.offer(fields, (slot::BP, slot::BS))?;
        let ask = values.offer(fields, (slot::AP, slot::ASK_SIZE))?;
        self.push_quote((instrument, ts, 0), bid, ask, class == EQUITY)
    }

    fn bar(&mut self, fields: &Fields, interval_ms: u32, closed: u8) -> Result<()> {
        let ts = self.time(fields)?;
        let (instrument, _) = self.subject(fields, ts)?;
        self.push_bar(fields, (instrument, ts), interval_ms, closed)
    }

    pub(super) fn push_bar(
        &mut self,
        fields: &Fields,
        (instrument, ts): (u32, i64),
        interval_ms: u32,
        closed: u8,
    ) -> Result<()> {
        let mut values = self.values();
        let mut bar = values.window(fields, interval_ms)?;
        bar.volume = values.size(fields.need(b'v')?, "volume")?;
        bar.count = values.id_or_zero(fields, b'n', "count")?;
        bar.closed = closed;
        bar.header = self.head::<Bar>(instrument, ts, 0);
        self.out.push(&bar);
        Ok(())
    }

    /// The sequence of a corrected trade is the id that it has from then on.
    fn correction(&mut self, fields: &Fields) -> Result<()> {
        let corrected_id = fields.find(self.bytes, slot::CORRECTED_ID);
        let mut values = self.values();
        let corrected_id = corrected_id.map_or(Ok(0), |span| values.wide_id(span, "sequence"))?;
        let trade_id = values.wide_id(fields.need(slot::ORIGINAL_ID)?, "trade_id")?;
        let price = values.price(fields.need(slot::PRICE)?, "price")?;
        let size = values.size(fields.need(slot::SIZE)?, "size")?;
        self.push_correction(fields, (trade_id, corrected_id), CORRECT, (price, size))
    }

    fn cancel(&mut self, fields: &Fields) -> Result<()> {
        let trade_id = self.values().wide_id(fields.need(b'i')?, "trade_id")?;
        self.push_correction(fields, (trade_id, 0), CANCEL, (NONE, NONE))
    }

    fn push_correction(
        &mut self,
        fields: &Fields,
        ids: (u64, u64),
        action: u8,
        (price, size): (i64, i64),
    ) -> Result<()> {
        let ts = self.time(fields)?;
        let (instrument, _) = self.subject(fields, ts)?;
        self.amend(instrument, ts, ids, action, (price, size));
        Ok(())
    }

    /// Appends what became of a trade of an id, and the other id that it has from then on, or 0.
    pub(super) fn amend(
        &mut self,
        instrument: u32,
        ts: i64,
        (trade_id, sequence): (u64, u64),
        action: u8,
        (price, size): (i64, i64),
    ) {
        let header = self.head::<Correction>(instrument, ts, sequence);
        let reserved = [0; 7];
        self.out.push(&Correction { header, price, size, trade_id, action, reserved });
    }

    /// Price bands of a stock; the indicator is the reason.
    fn bands(&mut self, fields: &Fields) -> Result<()> {
        let reason = self.code(fields, b'i')?;
        let mut values = self.values();
        let price_high = values.price(fields.need(b'u')?, "price_high")?;
        let price_low = values.price(fields.need(b'd')?, "price_low")?;
        self.push_status(fields, (price_low, price_high), reason, UNKNOWN)
    }

    /// Halts and resumptions. Where no reason is told, the code of the status stands for it.
    fn status(&mut self, fields: &Fields) -> Result<()> {
        let span = fields.need(slot::STATUS)?;
        // The codes of the tapes of NYSE and the regional exchanges, and those of Nasdaq.
        let status = match self.values().text(span)? {
            b"2" | b"H" | b"P" => HALTED,
            b"3" | b"T" => TRADING,
            b"Q" => QUOTING,
            _ => UNKNOWN,
        };
        let mut reason = self.code(fields, slot::REASON)?;
        if reason == [0; 8] {
            reason = self.code(fields, slot::STATUS)?;
        }
        self.push_status(fields, (NONE, NONE), reason, status)
    }

    /// The venue tells one price of an auction to come, and no size.
    fn imbalance(&mut self, fields: &Fields) -> Result<()> {
        let price = fields.find(self.bytes, b'p');
        let mut values = self.values();
        let reference_price = price.map_or(Ok(NONE), |at| values.price(at, "reference_price"))?;
        let ts = self.time(fields)?;
        let (instrument, _) = self.subject(fields, ts)?;
        let header = self.head::<Imbalance>(instrument, ts, 0);
        self.out.push(&Imbalance { reference_price, ..Imbalance::unknown(header) });
        Ok(())
    }

    /// The text at `slot`, as much of it as a record holds.
    fn code(&mut self, fields: &Fields, slot: u8) -> Result<[u8; 8]> {
        let Some(span) = fields.find(self.bytes, slot) else { return Ok([0; 8]) };
        let mut values = self.values();
        let text = values.text(span)?;
        Ok(padded_or_cut(std::str::from_utf8(text).unwrap_or_default()))
    }

    fn push_status(
        &mut self,
        fields: &Fields,
        (price_low, price_high): (i64, i64),
        reason: [u8; 8],
        status: u8,
    ) -> Result<()> {
        let ts = self.time(fields)?;
        let (instrument, _) = self.subject(fields, ts)?;
        let header = self.head::<Status>(instrument, ts, 0);
        let reserved = [0; 7];
        self.out.push(&Status { header, price_low, price_high, reason, status, reserved });
        Ok(())
    }
}
