//! Bindings of the core's `simulator`.

use std::sync::Arc;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::simulator::{self, VenueFrame};

use crate::errors::to_python;
use crate::released::released;

mod alpaca;
mod binance;
mod itch;
mod massive;

/// A stream's number, and count, first id and last id of its frames.
type Summary = (u32, u64, u64, u64);
/// Number of the stream, time in ns, first id, last id, payload.
type FrameParts<'py> = (u32, i64, u64, u64, Bound<'py, PyBytes>);

/// Venue frames in the order in which they are due.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Frames {
    inner: simulator::Frames,
}

#[pymethods]
impl Frames {
    /// Frames that were recorded: number of the stream, time, first id, last id, payload.
    #[staticmethod]
    fn recorded(names: Vec<String>, frames: Vec<(u32, i64, u64, u64, Vec<u8>)>) -> Self {
        let names = names.into_iter().map(String::into_boxed_str).collect();
        let mut inner = simulator::recorded_frames(Arc::new(names));
        for (stream, ts, first, last, payload) in &frames {
            let (stream, ts, first, last) = (*stream, *ts, *first, *last);
            inner.push_payload(VenueFrame { stream, ts, first, last, payload });
        }
        Self { inner }
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// The frame at a place.
    #[pyo3(signature = (at, micros = false))]
    fn frame<'py>(&self, py: Python<'py>, at: usize, micros: bool) -> PyResult<FrameParts<'py>> {
        let frame = self
            .inner
            .get(at, micros)
            .ok_or_else(|| PyIndexError::new_err(format!("no frame {at}")))?;
        let payload = PyBytes::new(py, frame.payload);
        Ok((frame.stream, frame.ts, frame.first, frame.last, payload))
    }

    /// What the batch holds, by stream.
    fn summary(&self) -> Vec<Summary> {
        let streams = self.inner.summary();
        streams.iter().map(|of| (of.stream, of.count, of.first, of.last)).collect()
    }

    /// The WebSocket messages of the frames whose stream `wanted` marks with a byte other than 0.
    #[pyo3(signature = (wanted, combined, micros = false))]
    fn wire<'py>(
        &self,
        py: Python<'py>,
        wanted: &[u8],
        combined: bool,
        micros: bool,
    ) -> Bound<'py, PyBytes> {
        let wanted = wanted.to_vec();
        let out = released(py, || {
            let mut out = Vec::new();
            self.inner.wire(&wanted, combined, micros, &mut out);
            out
        });
        PyBytes::new(py, &out)
    }

    /// The same in arrays of up to `events_max` events each, of msgpack where `packed` asks for it.
    fn arrays<'py>(
        &self,
        py: Python<'py>,
        wanted: &[u8],
        events_max: usize,
        packed: bool,
    ) -> Bound<'py, PyBytes> {
        let wanted = wanted.to_vec();
        let out = released(py, || {
            let mut out = Vec::new();
            self.inner.arrays(&wanted, events_max, packed, &mut out);
            out
        });
        PyBytes::new(py, &out)
    }
}

/// Bytes that `make` gives, without the lock of the interpreter.
fn body<'py>(
    py: Python<'py>,
    make: impl FnOnce() -> tapeworks_core::Result<Vec<u8>> + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = released(py, make).map_err(to_python)?;
    Ok(PyBytes::new(py, &bytes))
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Frames>()?;
    module.add_class::<alpaca::AlpacaMarket>()?;
    module.add_class::<binance::BinanceMarket>()?;
    module.add_class::<massive::MassiveMarket>()?;
    itch::register(module)
}
