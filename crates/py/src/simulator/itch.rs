//! Bindings of the simulated NASDAQ.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::simulator;

use crate::errors::to_python;
use crate::released::released;

/// Reference, whether it buys, price with four decimals, shares.
type Order = (u64, bool, u32, u32);

/// A seeded market at the level of orders, whose messages are those of ITCH 5.0.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct ItchMarket {
    inner: Mutex<simulator::ItchMarket>,
}

impl ItchMarket {
    fn lock(&self) -> MutexGuard<'_, simulator::ItchMarket> {
        // A panic in the market is our bug; what it left can still be looked at.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ItchMarket {
    #[new]
    #[pyo3(signature = (symbols, seed, messages = 0))]
    fn new(symbols: Vec<String>, seed: u64, messages: u64) -> PyResult<Self> {
        let market = simulator::ItchMarket::new(&symbols, seed, messages);
        Ok(Self { inner: Mutex::new(market.map_err(to_python)?) })
    }

    /// The next messages, each behind its length, and how many these are.
    #[pyo3(signature = (count, until = None))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        count: u64,
        until: Option<u64>,
    ) -> (Bound<'py, PyBytes>, u64) {
        let (bytes, taken) = released(py, || {
            let mut bytes = Vec::new();
            let taken = self.lock().take(count, until, &mut bytes);
            (bytes, taken)
        });
        (PyBytes::new(py, &bytes), taken)
    }

    /// Ends the day: the next messages are those of its end.
    fn finish(&self) {
        self.lock().finish();
    }

    #[getter]
    fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    #[getter]
    fn sent(&self) -> u64 {
        self.lock().sent()
    }

    #[getter]
    fn symbols(&self) -> Vec<String> {
        self.lock().symbols().map(str::to_owned).collect()
    }

    /// How many messages of each type there were.
    fn counts(&self) -> Vec<(char, u64)> {
        self.lock().counts().collect()
    }

    /// The open orders of a stock: bids, then offers, the best price first.
    fn orders(&self, symbol: &str) -> PyResult<Vec<Order>> {
        let orders = self.lock().orders(symbol);
        let orders = orders.ok_or_else(|| PyValueError::new_err(format!("no stock {symbol:?}")))?;
        Ok(orders.iter().map(|order| (order.id, order.is_bid, order.price, order.shares)).collect())
    }
}

/// Number of the first message, messages, the packet.
type Packet<'py> = (u64, u16, Bound<'py, PyBytes>);

/// Puts messages, each behind its length, into packets of MoldUDP64.
#[pyfunction]
#[pyo3(signature = (blocks, session, first, bytes_max = 1472))]
fn mold_packets<'py>(
    py: Python<'py>,
    blocks: &[u8],
    session: &[u8],
    first: u64,
    bytes_max: usize,
) -> PyResult<Vec<Packet<'py>>> {
    let session: &[u8; 10] = session
        .try_into()
        .map_err(|_| PyValueError::new_err("expected the name of a session, of 10 bytes"))?;
    let packets = simulator::mold_packets(blocks, session, first, bytes_max);
    let shown = packets.iter().map(|one| (one.first, one.count, PyBytes::new(py, &one.bytes)));
    Ok(shown.collect())
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ItchMarket>()?;
    module.add_function(wrap_pyfunction!(mold_packets, module)?)
}
