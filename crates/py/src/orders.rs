//! Bindings of the core's books of single orders. Prices and sizes leave as exact integers.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tapeworks_core::book::{OpenOrder, OrderBooks};
use tapeworks_core::record::{Header, Order, RecordRef, Side, FLAG_MAYBE_BAD};

use crate::book::Book;
use crate::record::Records;
use crate::released::released;

/// What one order is: price, size, id, and when it took its place.
type Open = (i64, i64, u64, i64);

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

/// The orders of one instrument, each in its place of the queue.
#[pyclass(module = "tapeworks._core")]
#[derive(Default)]
pub struct OrderBook {
    inner: OrderBooks,
    /// Number of the last event, of an order or a status.
    number: u64,
    /// How far the last events were ahead of their receipt.
    leads: [i64; KEPT],
    seen: usize,
    /// Events since one of a later time came that those behind it do not contradict.
    held: Vec<Event>,
    /// How many more of them are of a later time than of an earlier one.
    later: u32,
    #[pyo3(get)]
    sequence: u64,
    #[pyo3(get)]
    ts_event: Option<i64>,
    #[pyo3(get)]
    ts_recv: Option<i64>,
    /// Events that were taken in.
    #[pyo3(get)]
    events: u64,
    /// Those beside which others may be missing.
    #[pyo3(get)]
    suspect: u64,
}

#[pymethods]
impl OrderBook {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes in the events of orders in `records`, all of one instrument, as they follow each other
    /// up to those that happened after `until` ns. Says whether more may follow: one event of a
    /// later time ends nothing, as it may tell a wrong time; some do. An event or a status whose
    /// number falls is of another session, which begins without orders.
    #[pyo3(signature = (records, until = None))]
    fn apply(&mut self, py: Python<'_>, records: &Records, until: Option<i64>) -> bool {
        released(py, || {
            for event in records.get().iter().filter_map(event_of) {
                let ts = self.happened(&event.0);
                let is_later = until.is_some_and(|until| ts > until);
                if !is_later && self.held.is_empty() {
                    self.take(&event, ts);
                    continue;
                }
                self.held.push(event);
                self.later = if is_later { self.later + 1 } else { self.later - 1 };
                if self.later >= BELIEVED || self.held.len() >= HELD_MAX {
                    return false;
                }
                if self.later == 0 {
                    for event in std::mem::take(&mut self.held) {
                        let ts = until.map_or(event.0.ts_event, |ts| event.0.ts_event.min(ts));
                        self.take(&event, ts);
                    }
                }
            }
            true
        })
    }

    /// How long after an event its receipt came of late, in ns.
    fn lag(&self) -> i64 {
        (-self.median()).max(0)
    }

    /// The same book by price.
    fn levels(&self) -> Book {
        let levels = self.inner.by_price(INSTRUMENT).unwrap_or_default();
        Book::of(levels, self.sequence, self.ts_event, self.ts_recv)
    }

    /// The orders of a side, by price, the best first, and at a price the first in the queue first.
    fn orders(&self, side: &str) -> PyResult<Vec<Open>> {
        let side = Side::from_name(side).filter(|&side| side != Side::None);
        let side = side.ok_or_else(|| PyValueError::new_err("expected bid or ask"))?;
        let open = |one: OpenOrder| (one.price, one.size, one.id, one.ts_event);
        Ok(self.inner.orders(INSTRUMENT, side).map(open).collect())
    }

    /// Orders and size that stand before the order of that id, at its price, if it is open.
    fn place(&self, order_id: u64) -> Option<(u32, i64)> {
        self.inner.place(order_id).map(|place| (place.orders_ahead, place.size_ahead))
    }

    /// Events that were not as a whole recording has them: of orders that were not there, that took
    /// more than was there, additions of what was there already, and sizes beyond all bounds.
    fn doubts(&self) -> (u64, u64, u64, u64) {
        let doubts = self.inner.doubts();
        (doubts.unknown, doubts.excess, doubts.repeated, doubts.unfit)
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }
}

impl OrderBook {
    /// When an event happened: by then it was received, as far as the clocks of the venue and of
    /// the host agree.
    fn happened(&mut self, header: &Header) -> i64 {
        let (ts, recv) = (header.ts_event, header.ts_recv);
        let lead = self.median().max(0);
        let is_known = self.seen >= KEPT;
        self.leads[self.seen % KEPT] = ts.saturating_sub(recv);
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
                (self.inner, self.events, self.suspect) = (OrderBooks::new(), 0, 0);
            }
            self.number = header.sequence;
        }
        let Some(order) = order else { return };
        self.inner.apply(&Order { header: Header { instrument: INSTRUMENT, ..*header }, ..*order });
        self.sequence = header.sequence;
        self.ts_event = Some(ts);
        self.ts_recv = Some(header.ts_recv);
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

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<OrderBook>()
}
