//! Messages to records: events of orders, and trades.
//!
//! Every message of a known type and length is read, also those that give no record: the day's
//! market-wide levels and states, participants' positions. They are on the raw tape.

use super::imbalance::wide_shares;
use super::resting::{Reduced, Resting, RestingOrder};
use super::wire::{time_of, u16_at, u32_at, u64_at, Blocks, LENGTHS, TIME_MAX};
use super::{Itch, Rejected};
use crate::error::{DecodeReason, Error, Result};
use crate::id_table::fetch;
use crate::instrument::Instruments;
use crate::record::{
    Channel, Correction, Cross, Header, Order, OrderAction, Record, Records, Side, Trade,
    FLAG_LAST, FLAG_MAYBE_BAD, NONE,
};

/// Price(4) in units of 1e-9.
const PRICE_UNITS: i64 = 100_000;
/// A share in units of 1e-8.
pub(super) const SHARE_UNITS: i64 = 100_000_000;
/// Conditions of a trade, first byte: its order was never shown.
const HIDDEN: u8 = 1;
/// It is the bulk print of an auction; the second byte is a [`Cross`].
const AUCTION: u8 = 2;
/// It was made at another price than that at which its order was shown.
const OTHER_PRICE: u8 = 4;

/// How many messages ahead the place of an order is fetched: about as long as memory takes.
const AHEAD: usize = 20;

/// One blob being decoded.
pub(super) struct Task<'a> {
    pub(super) itch: &'a mut Itch,
    pub(super) instruments: &'a mut Instruments,
    /// What every record of the blob starts with.
    pub(super) header: Header,
    /// The time of receipt of a blob whose messages were received when they happened, as those of
    /// a file: none was received later. `None`: its own is that of its messages.
    pub(super) ts_last: Option<i64>,
    pub(super) out: &'a mut Records,
}

/// When a message happened, in ns since the epoch. `None` if it is too short, or after its day.
pub(super) fn ts_of(message: &[u8], midnight: i64) -> Option<i64> {
    if message.len() < 11 {
        return None;
    }
    let time = time_of(message);
    (time <= TIME_MAX).then_some(midnight + time as i64)
}

const fn fail<T>(reason: DecodeReason, byte: usize) -> Result<T> {
    Err(Error::decode(reason, byte))
}

/// When a message happened, which has the length of its type and a time of a day; an empty one has
/// none, and is none.
#[inline(always)]
pub(super) fn check(message: &[u8], midnight: i64) -> Result<i64> {
    let Some(&kind) = message.first() else { return Ok(midnight) };
    let length = usize::from(LENGTHS[usize::from(kind)]);
    if length != message.len() {
        return fail(wrong_length(length, message.len()), 0);
    }
    // An error that is not made need not be dropped.
    ts_of(message, midnight).ok_or_else(|| Error::decode(DecodeReason::BadNumber, 5))
}

impl Task<'_> {
    /// Decodes the messages of `body` from `at` on but for the first `known`. The first has the
    /// number `sequence`, or none has one if that is 0.
    ///
    /// # Errors
    /// Only bugs of ours: what is wrong with a message is counted.
    pub(super) fn run(
        &mut self,
        body: &[u8],
        at: usize,
        sequence: u64,
        known: u64,
    ) -> Result<Rejected> {
        let mut rejected = Rejected::NONE;
        let ts_recv = self.header.ts_recv;
        self.header.ts_event = NONE;
        let mut blocks = Blocks::new(body, at);
        let mut number = sequence;
        let mut start = at;
        let mut ahead = Blocks::new(body, at);
        ahead.by_ref().take(AHEAD).for_each(|message| self.fetch(message));
        while let Some(message) = blocks.next() {
            if let Some(coming) = ahead.next() {
                self.fetch(coming);
            }
            if number >= sequence + known || sequence == 0 {
                self.header.sequence = number;
                if let Err(error) = self.message(message) {
                    let (reason, byte) = error.of_frame().ok_or(error)?;
                    rejected.add(Error::decode(reason, start + 2 + byte))?;
                }
            }
            number += u64::from(sequence != 0);
            start = blocks.at;
        }
        if number > sequence {
            let session = &mut self.itch.session;
            (session.next, session.seen) = (session.next.max(number), session.seen.max(number));
        }
        if self.header.ts_event != NONE {
            self.itch.session.times.add(self.header.ts_event, ts_recv);
        }
        if blocks.at < body.len() {
            rejected.add(Error::decode(DecodeReason::Truncated, blocks.at))?;
        }
        Ok(rejected)
    }

    /// Begins to fetch the order that a message to come may name, and its stock.
    #[inline(always)]
    fn fetch(&self, message: &[u8]) {
        // All messages of orders name theirs at the same place.
        if let Some(head) = message.first_chunk::<19>() {
            self.itch.resting.fetch(u64_at(head, 11));
            fetch(&self.itch.stocks, usize::from(u16_at(head, 1)));
        }
    }

    /// Decodes one message. On an error no record was written for it, and no order changed.
    #[inline(always)]
    fn message(&mut self, message: &[u8]) -> Result<()> {
        let Some(&kind) = message.first() else { return Ok(()) };
        let ts = check(message, self.itch.session.midnight)?;
        self.header.ts_event = ts;
        if let Some(last) = self.ts_last {
            let session = &mut self.itch.session;
            session.ts_last = session.ts_last.max(ts.min(last));
            self.header.ts_recv = session.ts_last;
        }
        match kind {
            b'A' | b'F' => self.add(message),
            b'D' => self.delete(message),
            b'U' => self.replace(message),
            b'E' | b'C' => self.execute(message),
            b'X' => self.cancel(message),
            _ => self.rare(message),
        }
    }

    #[inline(never)]
    fn rare(&mut self, message: &[u8]) -> Result<()> {
        match message[0] {
            b'P' => self.hidden(message),
            b'Q' => self.cross(message),
            b'B' => self.broken(message),
            b'R' => self.directory(message),
            b'H' => self.trading_action(message),
            b'h' => self.operational_halt(message),
            b'J' => self.collar(message),
            b'I' => self.imbalance(message),
            b'S' => {
                self.system_event(message[11]);
                Ok(())
            }
            // Read, and left on the raw tape.
            _ => Ok(()),
        }
    }

    /// A new day begins with the start of messages: whatever was open before is of another.
    fn system_event(&mut self, code: u8) {
        if code == b'O' {
            self.itch.begin_day();
            let session = &mut self.itch.session;
            session.is_whole = self.header.sequence == 1;
        }
    }

    // Orders.

    #[inline]
    fn add(&mut self, message: &[u8]) -> Result<()> {
        let Some(side) = Resting::side_of(message[19]) else {
            return fail(DecodeReason::WrongType, 19);
        };
        let (shares, price) = (u32_at(message, 20), u32_at(message, 32));
        let instrument = self.instrument(message, 24)?;
        let participant = match message.get(36..40) {
            Some(&[a, b, c, d]) => [a, b, c, d],
            _ => [0; 4],
        };
        let id = u64_at(message, 11);
        let order = RestingOrder::new(instrument, side, price, shares, participant);
        let is_new = self.itch.resting.add(id, order);
        self.write(OrderAction::Add, &order, is_new, |record| {
            record.price = price_units(price);
            record.size = share_units(shares);
            record.remaining = record.size;
            record.order_price = NONE;
            record.order_id = id;
        });
        Ok(())
    }

    #[inline]
    fn delete(&mut self, message: &[u8]) -> Result<()> {
        let id = u64_at(message, 11);
        let found = self.itch.resting.remove(id);
        let order = self.known(found, message)?;
        self.write(OrderAction::Delete, &order, found.is_some() && order.has_side(), |record| {
            record.order_id = id;
            if found.is_some() {
                record.size = share_units(order.shares());
                record.price = record.order_price;
            }
            record.remaining = 0;
        });
        Ok(())
    }

    #[inline]
    fn replace(&mut self, message: &[u8]) -> Result<()> {
        let (previous_id, id) = (u64_at(message, 11), u64_at(message, 19));
        let (shares, price) = (u32_at(message, 27), u32_at(message, 31));
        let found = self.itch.resting.remove(previous_id);
        let before = self.known(found, message)?;
        let (instrument, side) = (before.instrument(), before.side());
        let order = RestingOrder::new(instrument, side, price, shares, before.participant());
        let is_new = self.itch.resting.add(id, order);
        self.write(OrderAction::Replace, &before, is_new && before.has_side(), |record| {
            record.order_id = id;
            record.previous_id = previous_id;
            record.price = price_units(price);
            record.size = share_units(shares);
            record.remaining = record.size;
        });
        Ok(())
    }

    #[inline]
    fn cancel(&mut self, message: &[u8]) -> Result<()> {
        let (id, shares) = (u64_at(message, 11), u32_at(message, 19));
        let found = self.itch.resting.reduce(id, shares);
        let order = self.known(found.map(|found| found.before), message)?;
        self.write(OrderAction::Cancel, &order, is_sound(found), |record| {
            record.order_id = id;
            record.price = record.order_price;
            record.size = share_units(shares);
            record.remaining = left(found);
        });
        Ok(())
    }

    /// An order that was shown is executed: `E` at its own price, `C` at another.
    fn execute(&mut self, message: &[u8]) -> Result<()> {
        let (id, shares) = (u64_at(message, 11), u32_at(message, 19));
        let match_id = u64_at(message, 23);
        let own_price = message[0] == b'E';
        let told = if own_price { None } else { Some(price_units(u32_at(message, 32))) };
        // What is not printed is volume of a cross, which is printed in bulk.
        let printed = own_price || message[31] == b'Y';
        let found = self.itch.resting.reduce(id, shares);
        let order = self.known(found.map(|found| found.before), message)?;
        let price = told.unwrap_or(match found {
            Some(_) => price_units(order.price()),
            None => NONE,
        });
        let action = if own_price { OrderAction::Execute } else { OrderAction::ExecuteAtPrice };
        self.write(action, &order, is_sound(found), |record| {
            record.order_id = id;
            record.match_id = match_id;
            record.price = price;
            record.size = share_units(shares);
            record.remaining = left(found);
            record.printed = u8::from(printed);
        });
        if printed && price != NONE && shares > 0 {
            let side = opposite(order.side());
            let conditions = [if own_price { 0 } else { OTHER_PRICE }, 0];
            let size = share_units(shares);
            let header = self.head::<Trade>(order.instrument(), is_sound(found));
            self.trade(header, side, price, size, match_id, conditions);
        }
        Ok(())
    }

    fn hidden(&mut self, message: &[u8]) -> Result<()> {
        let instrument = self.instrument(message, 24)?;
        let (size, price) = (share_units(u32_at(message, 20)), u32_at(message, 32));
        let (price, match_id) = (price_units(price), u64_at(message, 36));
        // The side that it names is always the same, and says nothing.
        let none = RestingOrder::new(instrument, Side::None as u8, 0, 0, [0; 4]);
        self.write(OrderAction::ExecuteHidden, &none, true, |record| {
            (record.price, record.size, record.match_id) = (price, size, match_id);
            (record.order_price, record.remaining, record.printed) = (NONE, NONE, 1);
        });
        if size > 0 {
            let header = self.head::<Trade>(instrument, true);
            self.trade(header, Side::None as u8, price, size, match_id, [HIDDEN, 0]);
        }
        Ok(())
    }

    fn cross(&mut self, message: &[u8]) -> Result<()> {
        let size = wide_shares(message, 11)?;
        let instrument = self.instrument(message, 19)?;
        let price = price_units(u32_at(message, 27));
        let match_id = u64_at(message, 31);
        let kind = cross_of(message[39]) as u8;
        let none = RestingOrder::new(instrument, Side::None as u8, 0, 0, [0; 4]);
        self.write(OrderAction::Cross, &none, true, |record| {
            record.price = if size > 0 { price } else { NONE };
            (record.size, record.match_id, record.cross) = (size, match_id, kind);
            (record.order_price, record.remaining) = (NONE, NONE);
            record.printed = u8::from(size > 0);
        });
        if size > 0 {
            let header = self.head::<Trade>(instrument, true);
            self.trade(header, Side::None as u8, price, size, match_id, [AUCTION, kind]);
        }
        Ok(())
    }

    fn broken(&mut self, message: &[u8]) -> Result<()> {
        let match_id = u64_at(message, 11);
        let instrument = self.located(message)?;
        let none = RestingOrder::new(instrument, Side::None as u8, 0, 0, [0; 4]);
        self.write(OrderAction::Break, &none, true, |record| {
            record.match_id = match_id;
            (record.price, record.size) = (NONE, NONE);
            (record.order_price, record.remaining) = (NONE, NONE);
        });
        let header = self.head::<Correction>(instrument, true);
        self.out.push(&Correction {
            header,
            price: NONE,
            size: NONE,
            trade_id: match_id,
            action: 1,
            reserved: [0; 7],
        });
        Ok(())
    }

    /// The order that a message names, or what is known of one whose beginning is not: the
    /// instrument.
    #[inline]
    fn known(&mut self, found: Option<RestingOrder>, message: &[u8]) -> Result<RestingOrder> {
        match found {
            Some(order) => Ok(order),
            None => {
                let instrument = self.located(message)?;
                Ok(RestingOrder::new(instrument, Side::None as u8, 0, 0, [0; 4]))
            }
        }
    }

    // Records.

    #[inline]
    pub(super) fn head<R: Record>(&self, instrument: u32, is_sound: bool) -> Header {
        let whole = Header::of::<R>();
        let doubt = if is_sound && self.itch.session.is_whole { 0 } else { FLAG_MAYBE_BAD };
        Header {
            length: whole.length,
            kind: whole.kind,
            flags: self.header.flags | FLAG_LAST | doubt,
            instrument,
            ..self.header
        }
    }

    /// Writes an event of `order`, as it was before, with what `fill` says of it.
    #[inline(always)]
    fn write(
        &mut self,
        action: OrderAction,
        order: &RestingOrder,
        is_sound: bool,
        fill: impl FnOnce(&mut Order),
    ) {
        // One that a message replaced whose own beginning is not known has a price, and no side.
        let is_known = order.has_side() || order.price() != 0;
        let mut participant = [0; 8];
        participant[..4].copy_from_slice(&order.participant());
        let mut record = Order {
            header: self.head::<Order>(order.instrument(), is_sound),
            price: NONE,
            size: NONE,
            order_id: 0,
            previous_id: 0,
            match_id: 0,
            order_price: if is_known { price_units(order.price()) } else { NONE },
            remaining: NONE,
            participant,
            action: action as u8,
            side: order.side(),
            cross: Cross::None as u8,
            printed: 0,
            reserved: [0; 28],
        };
        fill(&mut record);
        self.out.push(&record);
    }

    fn trade(
        &mut self,
        header: Header,
        side: u8,
        price: i64,
        size: i64,
        trade_id: u64,
        conditions: [u8; 2],
    ) {
        let channel = Channel::Trade as u8;
        self.out.push(&Trade {
            header,
            price,
            size,
            trade_id,
            count: 1,
            side,
            channel,
            conditions,
        });
    }
}

const fn wrong_length(expected: usize, got: usize) -> DecodeReason {
    match expected {
        0 => DecodeReason::UnknownEvent,
        _ if got < expected => DecodeReason::Truncated,
        _ => DecodeReason::TrailingBytes,
    }
}

pub(super) const fn cross_of(letter: u8) -> Cross {
    match letter {
        b'O' => Cross::Opening,
        b'C' => Cross::Closing,
        b'H' => Cross::Halt,
        b'I' => Cross::Intraday,
        b'A' => Cross::ExtendedClose,
        _ => Cross::Other,
    }
}

/// The side that takes from an order of `side`.
const fn opposite(side: u8) -> u8 {
    match side {
        1 => Side::Ask as u8,
        2 => Side::Bid as u8,
        _ => Side::None as u8,
    }
}

#[inline]
pub(super) const fn price_units(price: u32) -> i64 {
    price as i64 * PRICE_UNITS
}

#[inline]
pub(super) const fn share_units(shares: u32) -> i64 {
    shares as i64 * SHARE_UNITS
}

/// Whether an order was known, and had what was taken from it.
fn is_sound(found: Option<Reduced>) -> bool {
    found.is_some_and(|found| !found.is_excess && found.before.has_side())
}

fn left(found: Option<Reduced>) -> i64 {
    found.map_or(NONE, |found| share_units(found.left))
}
