//! Trades, quotes and books of crypto: those of one exchange each, whose number is told.

use super::decode::Task;
use super::keys::{slot, Fields};
use crate::error::Result;
use crate::feeds::events::{Deal, SPOT};
use crate::feeds::scan::Scanner;
use crate::record::{Channel, Side};

/// Who took, by the conditions of a trade of crypto, which say nothing else.
pub(super) const fn taker_of(conditions: [u8; 2]) -> Side {
    match conditions {
        [1, _] => Side::Ask,
        [2, _] => Side::Bid,
        _ => Side::None,
    }
}

impl Task<'_> {
    pub(super) fn crypto_trade(&mut self, fields: &Fields) -> Result<()> {
        let side = taker_of(self.conditions(fields, b'c')?);
        let mut values = self.values();
        let deal = Deal {
            price: values.price(fields.need(b'p')?, "price")?,
            size: values.size(fields.need(b's')?, "size")?,
            ts: values.instant(fields.need(b't')?, "ts_event")?,
            sequence: 0,
            id: values.name_or_zero(fields, b'i')?,
            side,
            conditions: [0; 2],
        };
        let instrument = self.named(fields.need(slot::PAIR)?, deal.ts, SPOT)?;
        self.push_deal(instrument, &deal);
        Ok(())
    }

    pub(super) fn crypto_quote(&mut self, fields: &Fields) -> Result<()> {
        let mut values = self.values();
        let ts = values.instant(fields.need(b't')?, "ts_event")?;
        let bid = values.offer(fields, (slot::BP, slot::BS))?;
        let ask = values.offer(fields, (slot::AP, slot::ASKS_SIZE))?;
        let instrument = self.of_exchange(fields, ts)?;
        self.push_quote((instrument, ts, 0), bid, ask, false)
    }

    /// The instrument of a pair on one exchange, `BTC-USD@1`: quotes and books are of one each.
    fn of_exchange(&mut self, fields: &Fields, ts: i64) -> Result<u32> {
        let span = fields.need(slot::PAIR)?;
        let exchange = self.values().id(fields.need(b'x')?, "exchange")?;
        let mut symbol = self.symbol(span)?;
        symbol.push_exchange(exchange);
        self.instrument(symbol.as_bytes(), span.start as usize, ts, SPOT)
    }

    /// The whole top of a book of one exchange: begin, levels, end.
    pub(super) fn crypto_book(&mut self, fields: &Fields) -> Result<()> {
        let ts = self.values().instant(fields.need(b't')?, "ts_event")?;
        let sides = [(fields.need(b'b')?, Side::Bid), (fields.need(b'a')?, Side::Ask)];
        let instrument = self.of_exchange(fields, ts)?;
        let book = self.begin_book(instrument, ts, 0, Channel::PartialDepth);
        let mut levels = Vec::new();
        for (span, side) in sides {
            let mut scanner = Scanner::inside(self.bytes, span);
            scanner.at_value(b'[')?;
            scanner.array(|scanner| {
                let (price, size) = self.values().level(scanner)?;
                levels.push((side, price, size));
                Ok(())
            })?;
        }
        book.push(&levels, self.out);
        Ok(())
    }
}
