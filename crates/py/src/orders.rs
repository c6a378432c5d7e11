//! Bindings of the core's books of single orders. Prices and sizes leave as exact integers.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tapeworks_core::book::{OpenOrder, OrderBooks};
use tapeworks_core::record::{Side, FLAG_MAYBE_BAD};

use crate::book::Book;
use crate::record::Records;
use crate::released::released;

/// What one order is: price, size, id, and when it took its place.
type Open = (i64, i64, u64, i64);

/// The number under which the one instrument stands, whatever ids it had.
const INSTRUMENT: u32 = 1;

/// The orders of one instrument, each in its place of the queue.
#[pyclass(module = "tapeworks._core")]
#[derive(Default)]
pub struct OrderBook {
    inner: OrderBooks,
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

    /// Takes in the events of orders in `records`, all of one instrument, up to the first that
    /// happened after `until` ns. Says whether there was none such.
    #[pyo3(signature = (records, until = None))]
    fn apply(&mut self, py: Python<'_>, records: &Records, until: Option<i64>) -> bool {
        released(py, || {
            for mut order in records.get().iter().filter_map(|record| record.as_order()) {
                if until.is_some_and(|until| order.header.ts_event > until) {
                    return false;
                }
                order.header.instrument = INSTRUMENT;
                self.inner.apply(&order);
                self.sequence = order.header.sequence;
                self.ts_event = Some(order.header.ts_event);
                self.ts_recv = Some(order.header.ts_recv);
                self.events += 1;
                self.suspect += u64::from(order.header.flags & FLAG_MAYBE_BAD != 0);
            }
            true
        })
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

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<OrderBook>()
}
