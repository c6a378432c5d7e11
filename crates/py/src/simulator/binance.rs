//! Bindings of the simulated Binance.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::simulator::{self, Klines, MarketConfig, Page};
use tapeworks_core::Descriptor;

use super::{body, Frames};
use crate::errors::to_python;
use crate::released::released;

/// A seeded market that speaks as Binance does. Its time moves when `advance` is called.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct BinanceMarket {
    inner: Mutex<simulator::BinanceMarket>,
}

impl BinanceMarket {
    fn lock(&self) -> MutexGuard<'_, simulator::BinanceMarket> {
        // A panic in the market is our bug; what it left can still be looked at.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl BinanceMarket {
    #[new]
    #[pyo3(signature = (feed, symbols, seed, start_ns, rate = 200.0, levels = 1000,
                        history = 10_000))]
    fn new(
        feed: &str,
        symbols: Vec<String>,
        seed: u64,
        start_ns: i64,
        rate: f64,
        levels: usize,
        history: usize,
    ) -> PyResult<Self> {
        let product = Descriptor::named(feed).map_err(to_python)?.id;
        let start = start_ns;
        let config = MarketConfig { seed, start, rate, levels, history };
        let market = simulator::BinanceMarket::new(product, &symbols, &config);
        Ok(Self { inner: Mutex::new(market.map_err(to_python)?) })
    }

    /// The time up to which everything has happened, in ns.
    #[getter]
    fn now(&self) -> i64 {
        self.lock().market().now()
    }

    /// The number of the stream called `name`; none where the venue would stay silent.
    fn stream(&self, name: &str) -> Option<u32> {
        self.lock().stream(name)
    }

    /// Says whether the frames of a stream are to be made.
    fn want(&self, stream: u32, wanted: bool) {
        self.lock().want(stream, wanted);
    }

    /// Lets everything happen up to and including `to_ns`; frames are made also in microseconds
    /// where `micros` asks for it.
    #[pyo3(signature = (to_ns, micros = false))]
    fn advance(&self, py: Python<'_>, to_ns: i64, micros: bool) -> PyResult<Frames> {
        let inner = released(py, || self.lock().advance(to_ns, micros)).map_err(to_python)?;
        Ok(Frames { inner })
    }

    /// Skips trade ids, as a venue does that lost trades.
    fn skip_trades(&self, symbol: &str, count: u64) {
        self.lock().skip_trades(symbol, count);
    }

    /// Last update id, last trade id, last aggregate id, checksum of the book, levels of bids and
    /// of asks.
    fn facts(&self, symbol: &str) -> PyResult<(u64, u64, u64, u64, usize, usize)> {
        let facts = self.lock().facts(symbol).map_err(to_python)?;
        let (bids, asks) = facts.levels;
        Ok((facts.update_id, facts.trade_id, facts.aggregate_id, facts.checksum, bids, asks))
    }

    /// The answer to a request for the book.
    #[pyo3(signature = (symbol, limit, micros = false))]
    fn depth<'py>(
        &self,
        py: Python<'py>,
        symbol: &str,
        limit: usize,
        micros: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        body(py, || self.lock().depth(symbol, limit, micros))
    }

    /// The answer to a request for single trades, or for aggregates.
    #[pyo3(signature = (symbol, limit, from_id = None, start_ns = None, end_ns = None,
                        aggregates = false, micros = false))]
    #[expect(clippy::too_many_arguments, reason = "the venue's own parameters")]
    fn trades<'py>(
        &self,
        py: Python<'py>,
        symbol: &str,
        limit: usize,
        from_id: Option<u64>,
        start_ns: Option<i64>,
        end_ns: Option<i64>,
        aggregates: bool,
        micros: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let page = Page { from_id, start: start_ns, end: end_ns, limit };
        body(py, || {
            let market = self.lock();
            if aggregates {
                market.aggregates(symbol, page, micros)
            } else {
                market.trades(symbol, page, micros)
            }
        })
    }

    /// The answer to a request for bars of the length called `interval`.
    #[pyo3(signature = (symbol, interval, limit, start_ns = None, end_ns = None, micros = false))]
    #[expect(clippy::too_many_arguments, reason = "the venue's own parameters")]
    fn klines<'py>(
        &self,
        py: Python<'py>,
        symbol: &str,
        interval: &str,
        limit: usize,
        start_ns: Option<i64>,
        end_ns: Option<i64>,
        micros: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        body(py, || {
            let wanted = Klines { interval, start: start_ns, end: end_ns, limit };
            self.lock().klines(symbol, wanted, micros)
        })
    }

    /// The answer to a request for the best bid and offer of each symbol.
    #[pyo3(signature = (symbols, micros = false))]
    fn book_tickers<'py>(
        &self,
        py: Python<'py>,
        symbols: Vec<String>,
        micros: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        body(py, || self.lock().quotes(&symbols, micros))
    }

    /// The answer to a request for exchangeInfo; `rate_limits` is its JSON array of limits.
    #[pyo3(signature = (rate_limits, micros = false))]
    fn exchange_info<'py>(
        &self,
        py: Python<'py>,
        rate_limits: &str,
        micros: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        body(py, || self.lock().exchange_info(rate_limits, micros))
    }
}
