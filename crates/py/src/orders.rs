//! Bindings of the core's books of single orders. Prices and sizes leave as exact integers.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::book::{OpenOrder, OrderReplay, CHECKPOINT_KEY};
use tapeworks_core::record::Side;

use crate::book::Book;
use crate::record::Records;
use crate::released::released;

/// What one order is: price, size, id, and when it took its place.
type Open = (i64, i64, u64, i64);

/// The orders of one instrument, each in its place of the queue.
#[pyclass(module = "tapeworks._core")]
#[derive(Default)]
pub struct OrderBook {
    inner: OrderReplay,
}

#[pymethods]
impl OrderBook {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes in the events of `records` up to those that happened after `until` ns, but for those
    /// received at `before` ns or later. Says whether more may follow.
    #[pyo3(signature = (records, until = None, before = None))]
    fn apply(
        &mut self,
        py: Python<'_>,
        records: &Records,
        until: Option<i64>,
        before: Option<i64>,
    ) -> bool {
        released(py, || self.inner.apply(records.get().iter(), until, before))
    }

    /// The checkpoint of all events before `offset`, which are those so far; none where some were
    /// left out.
    fn save<'py>(
        &self,
        py: Python<'py>,
        key: [u8; CHECKPOINT_KEY],
        offset: u64,
    ) -> Option<Bound<'py, PyBytes>> {
        released(py, || self.inner.save(&key, offset)).map(|bytes| PyBytes::new(py, &bytes))
    }

    /// What goes on behind a checkpoint, for events that happened up to `until` and were received
    /// before `before`; none if it is not whole, is another one, or holds events that are not among
    /// these.
    #[staticmethod]
    #[pyo3(signature = (data, key, offset, until, before))]
    fn restore(
        py: Python<'_>,
        data: &[u8],
        key: [u8; CHECKPOINT_KEY],
        offset: u64,
        until: Option<i64>,
        before: i64,
    ) -> Option<Self> {
        released(py, || OrderReplay::restore(data, &key, offset, until, before))
            .map(|inner| Self { inner })
    }

    /// The first instant for which a replay takes all events so far.
    #[getter]
    fn complete_from(&self) -> i64 {
        self.inner.complete_from()
    }

    /// When the last of all events so far was received.
    #[getter]
    const fn received(&self) -> i64 {
        self.inner.received()
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.inner.last().map_or(0, |last| last.sequence)
    }

    #[getter]
    fn ts_event(&self) -> Option<i64> {
        self.inner.last().map(|last| last.ts_event)
    }

    #[getter]
    fn ts_recv(&self) -> Option<i64> {
        self.inner.last().map(|last| last.ts_recv)
    }

    /// Events that were taken in.
    #[getter]
    const fn events(&self) -> u64 {
        self.inner.events()
    }

    /// Those beside which others may be missing.
    #[getter]
    const fn suspect(&self) -> u64 {
        self.inner.suspect()
    }

    /// How long after an event its receipt came of late, in ns.
    fn lag(&self) -> i64 {
        self.inner.lag()
    }

    /// The same book by price.
    fn levels(&self) -> Book {
        Book::of(self.inner.levels(), self.sequence(), self.ts_event(), self.ts_recv())
    }

    /// The orders of a side, by price, the best first, and at a price the first in the queue first.
    fn orders(&self, side: &str) -> PyResult<Vec<Open>> {
        let side = Side::from_name(side).filter(|&side| side != Side::None);
        let side = side.ok_or_else(|| PyValueError::new_err("expected bid or ask"))?;
        let open = |one: OpenOrder| (one.price, one.size, one.id, one.ts_event);
        Ok(self.inner.orders(side).map(open).collect())
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
