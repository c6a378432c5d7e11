//! The orders of one instrument, replayed up to an instant, and checkpoints of that.
//!
//! A checkpoint is what the events before a place on the tape make, whatever instant was asked for.
//! It names the instants for which a replay takes all of these events, so that a book that goes on
//! from it equals one that is replayed from the start of the day, in all that it answers.

use super::l3::{Doubts, OpenOrder, OrderBooks, QueuePlace};
use super::L2Book;
use crate::record::{Header, Order, RecordRef, Side, FLAG_MAYBE_BAD};

use self::limits::Limits;

mod limits;
mod saved;

pub use saved::KEY as CHECKPOINT_KEY;

/// The number under which the one instrument stands, whatever ids it had.
const INSTRUMENT: u32 = 1;
/// So many more events of a later time than of an earlier one are believed.
const BELIEVED: u32 = 3;
/// Events that are held at most.
const HELD_MAX: usize = 1 << 16;
/// Events whose distance from their receipt is remembered.
const KEPT: usize = 3;

/// An event of an order, or a status, which has a number of the same row.
type Event = (Header, Option<Order>);

/// The last event of an order that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastOrder {
    /// Its number on the tape of its source.
    pub sequence: u64,
    /// When it happened, in ns.
    pub ts_event: i64,
    /// When it was received, in ns.
    pub ts_recv: i64,
}

/// The orders of one instrument, each in its place of the queue.
#[derive(Debug, Default)]
pub struct OrderReplay {
    books: OrderBooks,
    /// Number of the last event, of an order or a status.
    number: u64,
    /// How far the last events were ahead of their receipt.
    leads: [i64; KEPT],
    seen: u64,
    last: Option<LastOrder>,
    events: u64,
    suspect: u64,
    limits: Limits,
    /// Events since one of a later time came that those behind it do not contradict.
    held: Vec<Event>,
    /// How many more of them are of a later time than of an earlier one.
    later: u32,
    /// Whether something depends on the instant that was asked for.
    is_bound: bool,
    /// Whether an event was left out, as it was received too late.
    is_cut: bool,
}

impl OrderReplay {
    /// Takes in the events of orders in `records`, all of one instrument, as they follow each other
    /// up to those that happened after `until` ns, but for those received at `before` ns or later.
    /// Says whether more may follow: one event of a later time ends nothing, as it may tell a wrong
    /// time; some do. An event or a status whose number falls is of another session, which begins
    /// without orders.
    pub fn apply<'a>(
        &mut self,
        records: impl Iterator<Item = RecordRef<'a>>,
        until: Option<i64>,
        before: Option<i64>,
    ) -> bool {
        for event in records.filter_map(event_of) {
            if before.is_some_and(|before| event.0.ts_recv >= before) {
                self.is_cut = true;
                continue;
            }
            let ts = self.happened(&event.0);
            self.limits.take(ts, event.0.ts_recv);
            let is_later = until.is_some_and(|until| ts > until);
            if !is_later && self.held.is_empty() {
                self.is_bound &= event.1.is_none();
                self.take(&event, ts);
                continue;
            }
            self.held.push(event);
            self.later = if is_later { self.later + 1 } else { self.later - 1 };
            if self.later >= BELIEVED || self.held.len() >= HELD_MAX {
                return false;
            }
            if self.later == 0 {
                self.is_bound = true;
                for event in std::mem::take(&mut self.held) {
                    let ts = until.map_or(event.0.ts_event, |ts| event.0.ts_event.min(ts));
                    self.take(&event, ts);
                }
            }
        }
        true
    }

    /// The last event that was taken in.
    pub const fn last(&self) -> Option<LastOrder> {
        self.last
    }

    /// Events that were taken in.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Those beside which others may be missing.
    pub const fn suspect(&self) -> u64 {
        self.suspect
    }

    /// How long after an event its receipt came of late, in ns.
    pub fn lag(&self) -> i64 {
        (-self.median()).max(0)
    }

    /// The same book by price.
    pub fn levels(&self) -> L2Book {
        self.books.by_price(INSTRUMENT).unwrap_or_default()
    }

    /// The orders of a side, by price, the best first, and at a price the first in the queue first.
    pub fn orders(&self, side: Side) -> impl Iterator<Item = OpenOrder> + '_ {
        self.books.orders(INSTRUMENT, side)
    }

    /// Where the order of that id stands, if it is open.
    pub fn place(&self, order_id: u64) -> Option<QueuePlace> {
        self.books.place(order_id)
    }

    /// Events that were not as a whole recording has them.
    pub const fn doubts(&self) -> Doubts {
        self.books.doubts()
    }

    /// Orders that are open.
    pub const fn len(&self) -> usize {
        self.books.len()
    }

    /// Whether none is open.
    pub const fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    /// The first instant, in ns, for which a replay takes all events so far, and has none of them
    /// to hold.
    pub fn complete_from(&self) -> i64 {
        self.limits.complete_from()
    }

    /// When the last of all events so far was received, in ns; the least number if there is none.
    pub const fn received(&self) -> i64 {
        self.limits.received()
    }

    /// When an event happened: by then it was received, as far as the clocks of the venue and of
    /// the host agree.
    fn happened(&mut self, header: &Header) -> i64 {
        let (ts, recv) = (header.ts_event, header.ts_recv);
        let lead = self.median().max(0);
        let is_known = self.seen >= KEPT as u64;
        self.leads[(self.seen % KEPT as u64) as usize] = ts.saturating_sub(recv);
        self.seen += 1;
        if is_known {
            ts.min(recv.saturating_add(lead))
        } else {
            ts
        }
    }

    /// How far the venue's clock is ahead of that of receipt, by most of the last events.
    fn median(&self) -> i64 {
        let mut leads = self.leads;
        leads.sort_unstable();
        leads[KEPT / 2]
    }

    fn take(&mut self, (header, order): &Event, ts: i64) {
        if header.sequence != 0 {
            if header.sequence < self.number {
                (self.books, self.events, self.suspect) = (OrderBooks::new(), 0, 0);
            }
            self.number = header.sequence;
        }
        let Some(order) = order else { return };
        self.books.apply(&Order { header: Header { instrument: INSTRUMENT, ..*header }, ..*order });
        self.last =
            Some(LastOrder { sequence: header.sequence, ts_event: ts, ts_recv: header.ts_recv });
        self.events += 1;
        self.suspect += u64::from(header.flags & FLAG_MAYBE_BAD != 0);
    }
}

/// An event of an order, or a status.
fn event_of(record: RecordRef<'_>) -> Option<Event> {
    match record.as_order() {
        Some(order) => Some((order.header, Some(order))),
        None => record.as_status().map(|status| (status.header, None)),
    }
}
