//! Trades, quotes and books of crypto: those of one exchange each, whose number is told.

use super::decode::{Deal, Task, SPOT};
use super::keys::{slot, Fields};
use super::symbol::OwnSymbol;
use crate::error::Result;
use crate::feeds::scan::Scanner;
use crate::record::{
    Channel, Header, Level, Marker, MarkerCode, Plain, Side, FLAG_LAST, FLAG_SNAPSHOT, NONE,
};

impl Task<'_> {
    pub(super) fn crypto_trade(&mut self, fields: &Fields) -> Result<()> {
        let side = match self.conditions(fields, b'c')? {
            [1, _] => Side::Ask,
            [2, _] => Side::Bid,
            _ => Side::None,
        };
        let mut values = self.values();
        let deal = Deal {
            symbol: fields.need(slot::PAIR)?,
            price: values.price(fields.need(b'p')?, "price")?,
            size: values.size(fields.need(b's')?, "size")?,
            ts: values.instant(fields.need(b't')?, "ts_event")?,
            sequence: 0,
            id: values.name_or_zero(fields, b'i')?,
            side,
            conditions: [0; 2],
            asset: SPOT,
        };
        self.push_trade(&deal)
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
        let mut values = self.values();
        let exchange = values.id(fields.need(b'x')?, "exchange")?;
        let mut symbol = OwnSymbol::of(values.text(span)?);
        symbol.push_exchange(exchange);
        self.instrument(symbol.as_bytes(), span.start as usize, ts, SPOT)
    }

    /// The whole top of a book of one exchange: begin, levels, end.
    pub(super) fn crypto_book(&mut self, fields: &Fields) -> Result<()> {
        let ts = self.values().instant(fields.need(b't')?, "ts_event")?;
        let sides = [(fields.need(b'b')?, Side::Bid), (fields.need(b'a')?, Side::Ask)];
        let instrument = self.of_exchange(fields, ts)?;
        let mut header = self.head::<Level>(instrument, ts, 0);
        header.flags = (header.flags | FLAG_SNAPSHOT) & !FLAG_LAST;
        let mut level = Level {
            header,
            price: 0,
            size: 0,
            previous: 0,
            span: 0,
            side: 0,
            channel: Channel::PartialDepth as u8,
            reserved: [0; 2],
        };
        let mut marker = Marker {
            header: Header { flags: header.flags, ..self.head::<Marker>(instrument, ts, 0) },
            code: MarkerCode::SnapshotBegin as u8,
            cause: 0,
            state: 0,
            channel: Channel::PartialDepth as u8,
            count: 0,
            first: 0,
            last: 0,
            ts_start: NONE,
        };
        let begin = self.out.mark().0;
        self.out.push(&marker);
        for (span, side) in sides {
            level.side = side as u8;
            let mut scanner = Scanner::inside(self.bytes, span);
            scanner.at_value(b'[')?;
            scanner.array(|scanner| {
                (level.price, level.size) = self.values().level(scanner)?;
                self.out.push(&level);
                marker.count += 1;
                Ok(())
            })?;
        }
        self.out.as_bytes_mut(begin)[..size_of::<Marker>()].copy_from_slice(marker.as_bytes());
        marker.code = MarkerCode::SnapshotEnd as u8;
        marker.header.flags |= FLAG_LAST;
        self.out.push(&marker);
        Ok(())
    }
}
