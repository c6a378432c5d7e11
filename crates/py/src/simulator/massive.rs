//! Bindings of the simulated Massive.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::simulator::{self, MarketConfig, Rows};

use super::{body, Frames};
use crate::errors::to_python;
use crate::released::released;

/// A seeded market that speaks as Massive does. Its time moves when `advance` is called.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct MassiveMarket {
    inner: Mutex<simulator::MassiveMarket>,
}

impl MassiveMarket {
    fn lock(&self) -> MutexGuard<'_, simulator::MassiveMarket> {
        // A panic in the market is our bug; what it left can still be looked at.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl MassiveMarket {
    #[new]
    #[pyo3(signature = (symbols, seed, start_ns, rate = 200.0, levels = 100, history = 10_000))]
    fn new(
        symbols: Vec<String>,
        seed: u64,
        start_ns: i64,
        rate: f64,
        levels: usize,
        history: usize,
    ) -> PyResult<Self> {
        let config = MarketConfig { seed, start: start_ns, rate, levels, history };
        let market = simulator::MassiveMarket::new(&symbols, &config);
        Ok(Self { inner: Mutex::new(market.map_err(to_python)?) })
    }

    /// The time up to which everything has happened, in ns.
    #[getter]
    fn now(&self) -> i64 {
        self.lock().now()
    }

    /// The number of the stream called `name`; none where the venue would stay silent.
    fn stream(&self, name: &str) -> Option<u32> {
        self.lock().stream(name)
    }

    /// Says whether the events of a stream are to be made.
    fn want(&self, stream: u32, wanted: bool) {
        self.lock().want(stream, wanted);
    }

    /// Lets everything happen up to and including `to_ns`.
    fn advance(&self, py: Python<'_>, to_ns: i64) -> PyResult<Frames> {
        let inner = released(py, || self.lock().advance(to_ns)).map_err(to_python)?;
        Ok(Frames { inner })
    }

    /// Last update id, last trade id, checksum of the book, levels of bids and of asks.
    fn facts(&self, symbol: &str) -> PyResult<(u64, u64, u64, usize, usize)> {
        let facts = self.lock().facts(symbol).map_err(to_python)?;
        let (bids, asks) = facts.levels;
        Ok((facts.update_id, facts.trade_id, facts.checksum, bids, asks))
    }

    /// The last quote, as one object of JSON.
    fn quote<'py>(&self, py: Python<'py>, symbol: &str) -> PyResult<Bound<'py, PyBytes>> {
        body(py, || self.lock().quote(symbol))
    }

    /// Trades, or bars of `interval_ms`: an array of rows of JSON, the place of the last one, and
    /// whether there are more.
    #[pyo3(signature = (symbol, interval_ms, start_ns, end_ns, after, limit, *, quotes = false))]
    #[expect(clippy::too_many_arguments, reason = "the venue's own parameters")]
    fn rows<'py>(
        &self,
        py: Python<'py>,
        symbol: &str,
        interval_ms: Option<u32>,
        start_ns: i64,
        end_ns: i64,
        after: u64,
        limit: usize,
        quotes: bool,
    ) -> PyResult<(Bound<'py, PyBytes>, u64, bool)> {
        let wanted = Rows { interval_ms, quotes, start: start_ns, end: end_ns, after, limit };
        let found = released(py, || self.lock().rows(symbol, wanted));
        let (rows, last, has_more) = found.map_err(to_python)?;
        Ok((PyBytes::new(py, &rows), last, has_more))
    }
}
