//! LOBSTER message files: the events of one stock within a window of its price levels.
//!
//! A blob is a run of whole lines; its context names the stock, the day and the number of the first
//! line. Rows tell all of themselves, so that nothing is remembered between them. What happens
//! outside the window is in no row: a book made of rows alone is never known to be whole, and all
//! records say so (`FLAG_MAYBE_BAD`).

use super::{Corrections, Descriptor, Feed, FeedId, Framing, Rejected};
use crate::decimal;
use crate::error::{DecodeReason, Error, Result};
use crate::instrument::Instruments;
use crate::record::{
    padded, Blob, BlobKind, Channel, Cross, Header, Order, OrderAction, Record, Records, Side,
    Status, Trade, FLAG_LAST, FLAG_MAYBE_BAD, NONE,
};
use crate::sequencing::{Continuity, Rule, Rules};

/// LOBSTER's messages of a stock and day.
pub const LOBSTER: Descriptor = Descriptor {
    id: FeedId::Lobster,
    continuity: Continuity::Chained,
    rules: Rules::USUAL.with(Channel::Trade, Rule::Free),
    counts_updates: false,
    framing: Framing::Session,
    live_unit_ns: 1,
    updates: None,
    corrections: Corrections::Untold,
    page_mark: b"",
    news: None,
    build: |_| Box::new(Lobster),
};

/// A price of the files in units of 1e-9.
const PRICE_UNITS: i64 = 100_000;
/// Decimal places of the time of a row: seconds after midnight.
const TIME_PLACES: u32 = 9;
const DAY_NS: i64 = 86_400_000_000_000;
/// Midnight of 2014-07-14 in New York: from this day on, the venue does not tell the side of an
/// order that was never shown, and the files say "buy" of all.
const SIDES_END: i64 = 1_405_310_400_000_000_000;
const EQUITY: u8 = 4;
/// Columns of a row; versions of late have one more, which says nothing of the market.
const COLUMNS: usize = 6;

/// The format of LOBSTER's message files. It remembers nothing.
#[derive(Debug, Clone, Copy)]
pub struct Lobster;

/// One row as it stands there.
struct Row<'a> {
    columns: [&'a [u8]; COLUMNS],
    /// Places of the columns in the blob.
    places: [usize; COLUMNS],
}

impl<'a> Row<'a> {
    fn split(line: &'a [u8], start: usize) -> Result<Self> {
        let mut row = Self { columns: [b""; COLUMNS], places: [start; COLUMNS] };
        let (mut count, mut at) = (0, 0);
        for part in line.split(|&byte| byte == b',') {
            if count < COLUMNS {
                row.columns[count] = part;
                row.places[count] = start + at;
            }
            (count, at) = (count + 1, at + part.len() + 1);
        }
        match count {
            6 | 7 => Ok(row),
            0..=5 => Err(Error::decode(DecodeReason::MissingField, start + line.len())),
            _ => Err(Error::decode(DecodeReason::TrailingBytes, start)),
        }
    }

    fn fail<T>(&self, column: usize, reason: DecodeReason) -> Result<T> {
        Err(Error::decode(reason, self.places[column]))
    }

    fn number(&self, column: usize, places: u32) -> Result<i64> {
        match decimal::parse(self.columns[column], places) {
            Ok(value) => Ok(value),
            Err(decimal::Unfit::NotNumber) => self.fail(column, DecodeReason::BadNumber),
            Err(decimal::Unfit::TooManyDigits) => self.fail(column, DecodeReason::DoesNotFit),
        }
    }

    /// The time in ns since midnight. Some rows have digits behind those of ns, left by whatever
    /// program wrote them: they are none of the venue's, and are not read.
    fn time(&self) -> Result<i64> {
        let text = self.columns[0];
        let point = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
        let end = text.len().min(point + 1 + TIME_PLACES as usize);
        if !text[end..].iter().all(u8::is_ascii_digit) {
            return self.fail(0, DecodeReason::BadNumber);
        }
        match decimal::parse(&text[..end], TIME_PLACES) {
            Ok(time) if (0..DAY_NS).contains(&time) => Ok(time),
            _ => self.fail(0, DecodeReason::BadNumber),
        }
    }

    fn size(&self) -> Result<i64> {
        match self.number(3, crate::record::SIZE_PLACES)? {
            size if size >= 0 => Ok(size),
            _ => self.fail(3, DecodeReason::BadNumber),
        }
    }

    fn price(&self) -> Result<i64> {
        let steps = self.number(4, 0)?;
        let price = steps.checked_mul(PRICE_UNITS).filter(|&price| price >= 0 && price != NONE);
        price.map_or_else(|| self.fail(4, DecodeReason::DoesNotFit), Ok)
    }

    fn side(&self) -> Result<Side> {
        match self.columns[5] {
            b"1" => Ok(Side::Bid),
            b"-1" => Ok(Side::Ask),
            _ => self.fail(5, DecodeReason::WrongType),
        }
    }

    fn order_id(&self) -> Result<u64> {
        let id = std::str::from_utf8(self.columns[2]).ok().and_then(|text| text.parse().ok());
        id.map_or_else(|| self.fail(2, DecodeReason::BadNumber), Ok)
    }
}

/// What the context of a blob says.
struct Place<'a> {
    symbol: &'a str,
    midnight: i64,
    row: u64,
}

impl<'a> Place<'a> {
    /// Reads `lobster?name=NAME&symbol=SYMBOL&midnight=NS&row=NUMBER`.
    fn parse(context: &'a [u8]) -> Option<Self> {
        let rest = std::str::from_utf8(context).ok()?.strip_prefix("lobster?")?;
        let (rest, row) = rest.rsplit_once("&row=")?;
        let (rest, midnight) = rest.rsplit_once("&midnight=")?;
        let (_, symbol) = rest.rsplit_once("&symbol=")?;
        let midnight: i64 = midnight.parse().ok()?;
        midnight.checked_add(DAY_NS)?;
        Some(Self { symbol, midnight, row: row.parse().ok()? })
    }
}

struct Task<'a> {
    place: Place<'a>,
    header: Header,
    out: &'a mut Records,
}

impl Task<'_> {
    fn row(&mut self, row: &Row<'_>) -> Result<()> {
        self.header.ts_event = self.place.midnight + row.time()?;
        // A file has no receive times: what happened stands for them.
        self.header.ts_recv = self.header.ts_recv.max(self.header.ts_event);
        match row.columns[1] {
            b"1" => self.order(row, OrderAction::Add),
            b"2" => self.order(row, OrderAction::Cancel),
            b"3" => self.order(row, OrderAction::Delete),
            b"4" => self.order(row, OrderAction::Execute),
            b"5" => self.hidden(row),
            b"6" => self.cross(row),
            b"7" => self.halt(row),
            _ => row.fail(1, DecodeReason::UnknownEvent),
        }
    }

    fn order(&mut self, row: &Row<'_>, action: OrderAction) -> Result<()> {
        let (price, size, side) = (row.price()?, row.size()?, row.side()?);
        let is_add = action == OrderAction::Add;
        let is_execution = action == OrderAction::Execute;
        self.out.push(&Order {
            order_id: row.order_id()?,
            order_price: if is_add { NONE } else { price },
            remaining: match action {
                OrderAction::Add => size,
                OrderAction::Delete => 0,
                _ => NONE,
            },
            side: side as u8,
            printed: u8::from(is_execution),
            ..self.event(action, price, size)
        });
        if is_execution {
            self.trade(opposite(side), price, size, [0, 0]);
        }
        Ok(())
    }

    fn hidden(&mut self, row: &Row<'_>) -> Result<()> {
        let (price, size, told) = (row.price()?, row.size()?, row.side()?);
        let side = if self.place.midnight < SIDES_END { told } else { Side::None };
        let event = self.event(OrderAction::ExecuteHidden, price, size);
        self.out.push(&Order { side: side as u8, printed: 1, ..event });
        self.trade(opposite(side), price, size, [1, 0]);
        Ok(())
    }

    /// Its volume is also in the executions of the orders that took part.
    fn cross(&mut self, row: &Row<'_>) -> Result<()> {
        let (price, size) = (row.price()?, row.size()?);
        let cross = match row.columns[2] {
            b"-1" => Cross::Opening,
            b"-2" => Cross::Closing,
            _ => Cross::Other,
        };
        let event = self.event(OrderAction::Cross, price, size);
        self.out.push(&Order { cross: cross as u8, ..event });
        Ok(())
    }

    fn halt(&mut self, row: &Row<'_>) -> Result<()> {
        let status = match row.columns[4] {
            b"-1" => 2,
            b"0" => 3,
            b"1" => 1,
            _ => return row.fail(4, DecodeReason::WrongType),
        };
        self.out.push(&Status {
            header: self.head::<Status>(),
            price_low: NONE,
            price_high: NONE,
            reason: [0; 8],
            status,
            reserved: [0; 7],
        });
        Ok(())
    }

    fn event(&self, action: OrderAction, price: i64, size: i64) -> Order {
        Order {
            header: self.head::<Order>(),
            price,
            size,
            order_id: 0,
            previous_id: 0,
            match_id: 0,
            order_price: NONE,
            remaining: NONE,
            participant: [0; 8],
            action: action as u8,
            side: Side::None as u8,
            cross: Cross::None as u8,
            printed: 0,
            reserved: [0; 28],
        }
    }

    fn trade(&mut self, side: Side, price: i64, size: i64, conditions: [u8; 2]) {
        self.out.push(&Trade {
            header: self.head::<Trade>(),
            price,
            size,
            trade_id: 0,
            count: 1,
            side: side as u8,
            channel: Channel::Trade as u8,
            conditions,
        });
    }

    const fn head<R: Record>(&self) -> Header {
        let whole = Header::of::<R>();
        Header { length: whole.length, kind: whole.kind, ..self.header }
    }
}

/// The side that takes from an order of `side`.
const fn opposite(side: Side) -> Side {
    match side {
        Side::Bid => Side::Ask,
        Side::Ask => Side::Bid,
        Side::None => Side::None,
    }
}

/// The id of the stock that the files are of.
fn define(feed: u8, place: &Place<'_>, instruments: &mut Instruments) -> Result<u32> {
    let id = instruments.define(feed, place.symbol, place.midnight)?;
    let known = instruments.get(id).filter(|known| known.asset_class == 0).copied();
    if let Some(mut definition) = known {
        definition.asset_class = EQUITY;
        definition.canonical = padded(place.symbol).unwrap_or([0; 40]);
        definition.currency = padded("USD").unwrap_or([0; 24]);
        instruments.update(&definition);
    }
    Ok(id)
}

impl Feed for Lobster {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        if blob.header.kind != BlobKind::Text as u8 {
            return Err(Error::decode(DecodeReason::UnknownEvent, 0));
        }
        let place = Place::parse(blob.context);
        let place = place.ok_or(Error::decode(DecodeReason::UnknownStream, 0))?;
        let feed = FeedId::Lobster as u8;
        let header = Header {
            flags: blob.header.flags as u8 | FLAG_LAST | FLAG_MAYBE_BAD,
            feed,
            instrument: define(feed, &place, instruments)?,
            ts_recv: i64::MIN,
            ..Header::default()
        };
        let mut task = Task { place, header, out };
        let (mut rejected, mut start) = (Rejected::NONE, 0);
        let first = task.place.row;
        for (at, line) in blob.body.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let text = line.trim_ascii_end();
            task.header.sequence = first.wrapping_add(at as u64);
            if !text.is_empty() {
                let done = Row::split(text, start).and_then(|row| task.row(&row));
                done.or_else(|error| rejected.add(error))?;
            }
            start += line.len();
        }
        Ok(rejected)
    }

    fn encode(
        &mut self,
        event: &Records,
        _: &Instruments,
        _: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        for record in event.iter().filter(|record| record.as_trade().is_none()) {
            let Some(order) = record.as_order() else {
                return Err(Error::invalid("LOBSTER has no row for such a record"));
            };
            encode(&order, out)?;
        }
        Ok(())
    }

    fn snapshot(&self, _: &mut Vec<u8>) {}

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        if state.is_empty() {
            return Ok(());
        }
        Err(Error::invalid("expected no state of this feed: it keeps none"))
    }
}

/// Writes the row of `order`, its time that since midnight UTC.
fn encode(order: &Order, out: &mut Vec<u8>) -> Result<()> {
    let kind = match OrderAction::try_from(order.action)? {
        OrderAction::Add => 1,
        OrderAction::Cancel => 2,
        OrderAction::Delete => 3,
        OrderAction::Execute | OrderAction::ExecuteAtPrice => 4,
        OrderAction::ExecuteHidden => 5,
        action => {
            let told = format!("LOBSTER has no row for the action {}", action.name());
            return Err(Error::invalid(told));
        }
    };
    let units = crate::record::SIZE_SCALE;
    if order.price % PRICE_UNITS != 0 || order.size % units != 0 {
        return Err(Error::invalid("LOBSTER has four decimals and whole shares"));
    }
    let time = order.header.ts_event.rem_euclid(DAY_NS);
    let side = if order.side == Side::Ask as u8 { -1 } else { 1 };
    let (seconds, ns) = (time / 1_000_000_000, time % 1_000_000_000);
    let (size, price) = (order.size / units, order.price / PRICE_UNITS);
    let id = order.order_id;
    out.extend_from_slice(
        format!("{seconds}.{ns:09},{kind},{id},{size},{price},{side}\n").as_bytes(),
    );
    Ok(())
}

#[cfg(test)]
mod tests;
