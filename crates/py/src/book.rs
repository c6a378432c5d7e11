//! Bindings of the core's `book`. Prices and sizes leave as exact integers, in units of 1e-9 and
//! 1e-8; sums of their products in units of 1e-17.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tapeworks_core::book::{self, Distance, Excerpt, L2Book, Levels, Moment, Past};
use tapeworks_core::processors::book_history::open_book_history;
use tapeworks_core::record::{Channel, MarkerCode, Side, NONE};
use tapeworks_core::{Descriptor, Reader};

use crate::errors::to_python;
use crate::record::Records;
use crate::released::released;

/// A price and the size that stands there.
type Pair = (i64, i64);

fn side_named(name: &str) -> PyResult<Side> {
    match name {
        "bid" => Ok(Side::Bid),
        "ask" => Ok(Side::Ask),
        _ => Err(PyValueError::new_err(format!("expected bid or ask, got {name:?}"))),
    }
}

fn pairs(levels: Levels<'_>, limit: usize) -> Vec<Pair> {
    levels.take(limit).map(|level| (level.price, level.size)).collect()
}

/// The price levels of one instrument.
#[pyclass(module = "tapeworks._core")]
#[derive(Default)]
pub struct Book {
    inner: L2Book,
    /// Last update id that is in it, 0 if none.
    #[pyo3(get)]
    sequence: u64,
    ts_event: Option<i64>,
    ts_recv: Option<i64>,
    /// Whether nothing of the instrument followed on the tape when the book was read from it.
    #[pyo3(get)]
    is_newest: bool,
}

impl Book {
    /// The book of these levels, with its last update.
    pub const fn of(
        inner: L2Book,
        sequence: u64,
        ts_event: Option<i64>,
        ts_recv: Option<i64>,
    ) -> Self {
        Self { inner, sequence, ts_event, ts_recv, is_newest: false }
    }
}

#[pymethods]
impl Book {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Sets the levels of changes and whole books in `records`, of one instrument or of all. A
    /// snapshot or checkpoint empties the book first. Sequences are not looked at; `SyncedBook`
    /// does. Returns how many levels were set.
    #[pyo3(signature = (records, instrument = None))]
    fn apply(
        &mut self,
        py: Python<'_>,
        records: &Records,
        instrument: Option<u32>,
    ) -> PyResult<usize> {
        released(py, || self.apply_all(records.get(), instrument)).map_err(to_python)
    }

    /// The best levels: bids and asks, each as pairs of price and size, best first.
    #[pyo3(signature = (count = 10))]
    fn top(&self, count: usize) -> (Vec<Pair>, Vec<Pair>) {
        let side = |side| pairs(self.inner.levels(side), count);
        (side(Side::Bid), side(Side::Ask))
    }

    /// All levels of a side as pairs of price and size, best first.
    fn levels(&self, side: &str) -> PyResult<Vec<Pair>> {
        Ok(pairs(self.inner.levels(side_named(side)?), usize::MAX))
    }

    /// The size at a price, 0 if nothing stands there.
    fn size_at(&self, side: &str, price: i64) -> PyResult<i64> {
        Ok(self.inner.size_at(side_named(side)?, price))
    }

    /// Size, turnover and number of levels that stand on a side within a distance from the middle,
    /// given as a price or in basis points. `None` if a side is empty.
    #[pyo3(signature = (side, *, price = None, basis_points = None))]
    fn depth(
        &self,
        side: &str,
        price: Option<i64>,
        basis_points: Option<u32>,
    ) -> PyResult<Option<(i128, i128, usize)>> {
        let distance = match (price, basis_points) {
            (Some(price), None) => Distance::Price(price),
            (None, Some(points)) => Distance::BasisPoints(points),
            _ => return Err(PyValueError::new_err("expected either price or basis_points")),
        };
        let depth = self.inner.depth(side_named(side)?, distance);
        Ok(depth.map(|depth| (depth.size, depth.turnover, depth.levels)))
    }

    /// What it takes to fill `size` against a side: size filled, cost, and the last price reached.
    fn cost(&self, side: &str, size: i64) -> PyResult<(i64, i128, Option<i64>)> {
        let fill = self.inner.cost(side_named(side)?, size);
        Ok((fill.size, fill.cost, fill.price_worst))
    }

    /// A number that two books share if their levels are equal.
    fn checksum(&self) -> u64 {
        self.inner.checksum()
    }

    /// How the best prices stand: `empty`, `one_sided`, `open`, `locked` or `crossed`.
    #[getter]
    fn state(&self) -> &'static str {
        self.inner.touch().name()
    }

    /// When its last update happened, by the venue's clock, in ns.
    #[getter]
    const fn ts_event(&self) -> Option<i64> {
        self.ts_event
    }

    /// When its last update was received, in ns.
    #[getter]
    const fn ts_recv(&self) -> Option<i64> {
        self.ts_recv
    }

    /// Number of levels of both sides.
    fn __len__(&self) -> usize {
        self.inner.len(Side::Bid) + self.inner.len(Side::Ask)
    }

    fn __repr__(&self) -> String {
        let best = |side| self.inner.best(side).map(|level| level.price);
        format!(
            "Book({} levels, bid {:?}, ask {:?}, sequence {})",
            self.__len__(),
            best(Side::Bid),
            best(Side::Ask),
            self.sequence
        )
    }
}

impl Book {
    fn apply_all(
        &mut self,
        records: &tapeworks_core::Records,
        instrument: Option<u32>,
    ) -> tapeworks_core::Result<usize> {
        let mut count = 0;
        for record in records {
            let header = record.header();
            if instrument.is_some_and(|wanted| wanted != header.instrument) {
                continue;
            }
            if let Some(level) = record.as_level() {
                let snapshot = level.channel == Channel::Snapshot as u8;
                if !snapshot && level.channel != Channel::Depth as u8 {
                    continue;
                }
                self.inner.set(Side::try_from(level.side)?, level.price, level.size);
                self.sequence = header.sequence;
                self.ts_event = known(header.ts_event);
                self.ts_recv = known(header.ts_recv);
                count += 1;
            } else if let Some(marker) = record.as_marker() {
                let begins = marker.code == MarkerCode::SnapshotBegin as u8
                    || marker.code == MarkerCode::CheckpointBegin as u8;
                if begins && marker.channel == Channel::Snapshot as u8 {
                    self.inner.clear();
                }
            }
        }
        Ok(count)
    }
}

fn known(ts: i64) -> Option<i64> {
    (ts != NONE).then_some(ts)
}

/// A book with the machine that says whether it is verified, fed from normalised records.
#[pyclass(module = "tapeworks._core")]
pub struct SyncedBook {
    inner: book::SyncedBook,
    instrument: u32,
}

#[pymethods]
impl SyncedBook {
    #[new]
    fn new(feed: &str, instrument: u32) -> PyResult<Self> {
        let feed = Descriptor::named(feed).map_err(to_python)?;
        Ok(Self { inner: book::SyncedBook::new(feed.continuity), instrument })
    }

    /// Takes in what concerns its instrument, and the end of the session.
    fn apply(&mut self, py: Python<'_>, records: &Records) {
        released(py, || self.inner.observe(self.instrument, records.get()));
    }

    /// `empty`, `awaiting_snapshot`, `bridging`, `continuous` or `broken`.
    #[getter]
    const fn state(&self) -> &'static str {
        self.inner.sync().state().name()
    }

    /// Whether it cannot go on without a snapshot.
    #[getter]
    const fn needs_snapshot(&self) -> bool {
        self.inner.sync().needs_snapshot()
    }

    /// Last update id in the book, or id of the snapshot while bridging.
    #[getter]
    const fn sequence(&self) -> u64 {
        self.inner.sync().sequence()
    }

    /// The best levels, as of `Book.top`; `None` while the book is not verified.
    #[pyo3(signature = (count = 10))]
    fn top(&self, count: usize) -> Option<(Vec<Pair>, Vec<Pair>)> {
        let book = self.inner.book()?;
        let side = |side| pairs(book.levels(side), count);
        Some((side(Side::Bid), side(Side::Ask)))
    }

    /// A copy of the book; `None` while it is not verified.
    fn book(&self) -> Option<Book> {
        Some(Book {
            inner: self.inner.book()?.clone(),
            sequence: self.sequence(),
            ts_event: known(self.inner.ts_event()),
            ts_recv: known(self.inner.ts_recv()),
            is_newest: true,
        })
    }
}

/// Why there is no verified book at an instant.
#[pyclass(frozen, get_all, module = "tapeworks._core")]
pub struct Unverified {
    /// The state at that instant; `empty` also if the tape holds nothing of the instrument so far.
    state: &'static str,
    /// Since when nothing is verified, by the venue's clock, in ns; `None` if nothing ever was.
    ts_event: Option<i64>,
    /// The same by the host's clock.
    ts_recv: Option<i64>,
    /// Update id of the book that was verified last, 0 if none was.
    sequence: u64,
}

#[pymethods]
impl Unverified {
    fn __repr__(&self) -> String {
        format!("Unverified({} since {:?}, after {})", self.state, self.ts_event, self.sequence)
    }
}

/// All books of a book tape, at any instant that it covers.
#[pyclass(module = "tapeworks._core")]
pub struct BookHistory {
    inner: book::BookHistory<Reader>,
}

#[pymethods]
impl BookHistory {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = released(py, || open_book_history(&path)).map_err(to_python)?;
        Ok(Self { inner })
    }

    /// Finds the checkpoints that were written since the last call; `at` does so by itself.
    fn refresh(&mut self, py: Python<'_>) -> PyResult<()> {
        released(py, || self.inner.refresh()).map_err(to_python)
    }

    /// The instruments of which the tape ever held a book, in order of id.
    fn instruments(&mut self, py: Python<'_>) -> PyResult<Vec<u32>> {
        self.refresh(py)?;
        Ok(self.inner.instruments())
    }

    /// The book of `instrument` at an instant by one of the two clocks, or why there is none.
    #[pyo3(signature = (instrument, *, ts_event = None, ts_recv = None))]
    fn at<'py>(
        &mut self,
        py: Python<'py>,
        instrument: u32,
        ts_event: Option<i64>,
        ts_recv: Option<i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let moment = moment(ts_event, ts_recv)?;
        let past = released(py, || self.inner.at(instrument, moment)).map_err(to_python)?;
        past_to_python(py, past)
    }
}

/// The book of `instrument` at an instant, from a part of its book tape: all states and checkpoints
/// that matter, and what follows the last checkpoint up to the next or to the end.
#[pyfunction]
#[pyo3(signature = (records, instrument, *, ts_event = None, ts_recv = None))]
fn book_in<'py>(
    py: Python<'py>,
    records: &Records,
    instrument: u32,
    ts_event: Option<i64>,
    ts_recv: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    let moment = moment(ts_event, ts_recv)?;
    let find = || {
        let excerpt = Excerpt::new(records.get().as_bytes());
        book::BookHistory::unsaved(excerpt).at(instrument, moment)
    };
    let past = released(py, find).map_err(to_python)?;
    past_to_python(py, past)
}

fn moment(ts_event: Option<i64>, ts_recv: Option<i64>) -> PyResult<Moment> {
    match (ts_event, ts_recv) {
        (Some(ts), None) => Ok(Moment::Event(ts)),
        (None, Some(ts)) => Ok(Moment::Received(ts)),
        _ => Err(PyValueError::new_err("expected either ts_event or ts_recv")),
    }
}

fn past_to_python(py: Python<'_>, past: Past) -> PyResult<Bound<'_, PyAny>> {
    match past {
        Past::Book(past) => {
            let book = Book {
                inner: past.book,
                sequence: past.sequence,
                ts_event: known(past.ts_event),
                ts_recv: known(past.ts_recv),
                is_newest: past.is_newest,
            };
            Ok(Bound::new(py, book)?.into_any())
        }
        Past::Unverified(unverified) => {
            let unverified = Unverified {
                state: unverified.state.name(),
                ts_event: known(unverified.ts_event),
                ts_recv: known(unverified.ts_recv),
                sequence: unverified.sequence,
            };
            Ok(Bound::new(py, unverified)?.into_any())
        }
    }
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Book>()?;
    module.add_class::<SyncedBook>()?;
    module.add_class::<Unverified>()?;
    module.add_class::<BookHistory>()?;
    module.add_function(wrap_pyfunction!(book_in, module)?)
}
