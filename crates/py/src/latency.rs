//! Bindings of the core's `latency`: durations in buckets, in bounded memory.

use pyo3::prelude::*;
use tapeworks_core::latency::{Quantiles, Timed};

use crate::turns::Turns;

/// Counts durations: those since it was made, and those since they were taken last.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct StageTimer {
    inner: Turns<Timed>,
}

#[pymethods]
impl StageTimer {
    #[new]
    fn new() -> Self {
        Self { inner: Turns::new(Timed::default()) }
    }

    /// Counts `times` durations of `ns`; one below zero counts as zero.
    #[pyo3(signature = (ns, times = 1))]
    fn record(&self, py: Python<'_>, ns: i64, times: u64) -> PyResult<()> {
        self.inner.take(py)?.record(ns, times);
        Ok(())
    }

    /// Count, p50, p99 and maximum in ns, of all and of those since the last call.
    fn take(&self, py: Python<'_>) -> PyResult<(Quantiles, Quantiles)> {
        Ok(self.inner.take(py)?.take())
    }
}

/// Adds this file's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StageTimer>()
}
