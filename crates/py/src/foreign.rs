//! A feed whose decoder is a Python object: each frame goes to its `take`, records come back
//! through a [`RecordBuilder`]. What the object raises makes the frame a dead letter.

use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::feeds::Rejected;
use tapeworks_core::record::{Blob, BlobKind, Records};
use tapeworks_core::{record, DecodeReason, Error, Feed, Instruments, Result};

use crate::released::staying;

mod builder;
mod fields;
mod state;

use self::builder::RecordBuilder;
use self::fields::fixed;

/// One frame, or the answer to a request, as a decoder in Python is given it.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Frame {
    /// `text`, `binary` or `rest`.
    #[pyo3(get)]
    kind: &'static str,
    /// The path of the request that this answers; empty for frames.
    #[pyo3(get)]
    path: String,
    /// The number of the connection that it came on.
    #[pyo3(get)]
    connection: u16,
    /// When it was received, in ns.
    #[pyo3(get)]
    ts_recv: i64,
    /// Its bytes.
    #[pyo3(get)]
    body: Py<PyBytes>,
}

impl Frame {
    fn of(py: Python<'_>, blob: &Blob<'_>) -> Self {
        let kind = match BlobKind::try_from(blob.header.kind) {
            Ok(BlobKind::Rest) => "rest",
            Ok(BlobKind::Binary) => "binary",
            _ => "text",
        };
        Self {
            kind,
            path: String::from_utf8_lossy(blob.context).into_owned(),
            connection: blob.header.connection,
            ts_recv: blob.header.ts_recv,
            body: PyBytes::new(py, blob.body).unbind(),
        }
    }
}

/// The decoder of a user's own feed.
pub struct PythonFeed {
    feed: Py<PyAny>,
    take: Py<PyAny>,
    builder: Py<RecordBuilder>,
}

impl PythonFeed {
    /// The decoder that `feed` is.
    pub fn new(feed: &Bound<'_, PyAny>, number: u8) -> PyResult<Self> {
        Ok(Self {
            feed: feed.clone().unbind(),
            take: feed.getattr("take")?.unbind(),
            builder: Py::new(feed.py(), RecordBuilder::new(number))?,
        })
    }

    fn take(
        &self,
        py: Python<'_>,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> PyResult<()> {
        let frame = Py::new(py, Frame::of(py, blob))?;
        let builder = self.builder.get();
        builder.open(&blob.header, instruments, out);
        let taken = staying(|| self.take.call1(py, (frame, &self.builder)));
        builder.close(instruments, out);
        taken.map(|_| ())
    }
}

impl Feed for PythonFeed {
    fn receive(
        &mut self,
        blob: &Blob<'_>,
        instruments: &mut Instruments,
        out: &mut Records,
    ) -> Result<Rejected> {
        let mark = out.mark();
        Python::with_gil(|py| self.take(py, blob, instruments, out).map_err(|e| refusal(py, &e)))
            .map(|()| Rejected::NONE)
            .inspect_err(|_| out.truncate(mark))
    }

    fn encode(&mut self, _: &Records, _: &Instruments, _: bool, _: &mut Vec<u8>) -> Result<()> {
        Err(Error::invalid("a feed in Python has no encoder"))
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let state = Python::with_gil(|py| {
            let state = staying(|| self.feed.call_method0(py, "snapshot"))?;
            state.extract::<Vec<u8>>(py)
        });
        // 1 and the state, or 0 and why there is none: restoring that is refused, with its reason,
        // and the stage goes back to an older state.
        match state {
            Ok(state) => {
                out.push(1);
                out.extend_from_slice(&state);
            }
            Err(error) => {
                out.push(0);
                out.extend_from_slice(error.to_string().as_bytes());
            }
        }
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        let state = match state {
            [1, state @ ..] => state,
            [] => state,
            [_, reason @ ..] => {
                let reason = String::from_utf8_lossy(reason);
                return Err(Error::invalid(format!("its feed gave no state: {reason}")));
            }
        };
        Python::with_gil(|py| {
            let give = |state| {
                let state = PyBytes::new(py, state);
                staying(|| self.feed.call_method1(py, "restore", (state,)))
            };
            give(state).map(|_| ()).map_err(|error| {
                // Whatever it took in by half is forgotten again.
                let reason = match give(b"") {
                    Ok(_) => error.to_string(),
                    Err(again) => format!("{error}; and it cannot start anew: {again}"),
                };
                Error::invalid(format!("its feed refuses the state: {reason}"))
            })
        })
    }
}

/// What an exception of a decoder means: a dead letter, but for what says nothing of the frame.
fn refusal(py: Python<'_>, error: &PyErr) -> Error {
    if !error.is_instance_of::<PyException>(py) || error.is_instance_of::<PyMemoryError>(py) {
        return Error::invalid(format!("the decoder was interrupted: {error}"));
    }
    let value = error.value(py);
    let named = value.getattr("reason").and_then(|reason| reason.extract::<String>());
    let byte = value.getattr("byte").and_then(|byte| byte.extract::<usize>());
    let reason = named.ok().and_then(|name| DecodeReason::from_name(&name));
    Error::decode(reason.unwrap_or(DecodeReason::Raised), byte.unwrap_or(0))
}

/// The price that `text` says, in units of 1e-9. Never by way of a float.
#[pyfunction]
fn price_units(text: &Bound<'_, PyAny>) -> PyResult<i64> {
    fixed(text, record::PRICE_PLACES, "price")
}

/// The size that `text` says, in units of 1e-8. Never by way of a float.
#[pyfunction]
fn size_units(text: &Bound<'_, PyAny>) -> PyResult<i64> {
    fixed(text, record::SIZE_PLACES, "size")
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Frame>()?;
    module.add_class::<RecordBuilder>()?;
    module.add_function(wrap_pyfunction!(price_units, module)?)?;
    module.add_function(wrap_pyfunction!(size_units, module)?)?;
    Ok(())
}
