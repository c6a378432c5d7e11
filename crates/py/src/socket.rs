//! Bindings of the core's `websocket` and `ingest/socket.rs`.

use std::sync::{Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::ingest::socket::SocketEvent;
use tapeworks_core::websocket::{
    WebSocketLimits, WebSocketReader, BINARY, CLOSE, NO_CLOSE_CODE, PING, TEXT,
};

use crate::ingest::Ingest;

/// Stands in the place of an opcode for a fault of the venue.
const FAULT: u8 = 0;

/// Reads the frames of one WebSocket into an ingest: all of one read in one call.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct SocketReader {
    ingest: Py<Ingest>,
    connection: u16,
    inner: Mutex<WebSocketReader>,
}

/// Opcode (0 for a fault), close code (0 where there is none), payload or reason.
type Event<'py> = (u8, u16, Bound<'py, PyBytes>);

#[pymethods]
impl SocketReader {
    #[new]
    #[pyo3(signature = (ingest, connection, *, message_bytes_max, fragments_max))]
    fn new(
        ingest: Py<Ingest>,
        connection: u16,
        message_bytes_max: usize,
        fragments_max: u32,
    ) -> Self {
        let limits = WebSocketLimits { message_bytes_max, fragments_max };
        Self { ingest, connection, inner: Mutex::new(WebSocketReader::new(limits)) }
    }

    /// Takes in the first `count` bytes of `buffer`, one read of the socket, received at `ts_recv`.
    /// Returns what the session should look at.
    fn receive<'py>(
        &self,
        py: Python<'py>,
        buffer: &Bound<'py, PyAny>,
        count: usize,
        ts_recv: i64,
    ) -> PyResult<Vec<Event<'py>>> {
        let buffer = PyBuffer::<u8>::get(buffer)?;
        if !buffer.is_c_contiguous() || count > buffer.len_bytes() {
            return Err(PyValueError::new_err(format!(
                "expected {count} contiguous bytes, got a buffer of {}",
                buffer.len_bytes()
            )));
        }
        // SAFETY: the buffer is contiguous, at least that long, and held for the call, as is the
        // GIL, so that nothing writes to it meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), count) };
        let mut events = Vec::new();
        let mut reader = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.ingest.get().with(py, |ingest| {
            ingest.receive_read(&mut reader, self.connection, ts_recv, bytes, &mut events)
        })?;
        Ok(events.iter().map(|event| to_tuple(py, event)).collect())
    }

    /// Kind and fragments so far of a message that has not ended; None if there is none.
    fn unfinished<'py>(&self, py: Python<'py>) -> Option<(u8, Bound<'py, PyBytes>)> {
        let reader = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        reader.unfinished().map(|(opcode, bytes)| (opcode, PyBytes::new(py, bytes)))
    }
}

fn to_tuple<'py>(py: Python<'py>, event: &SocketEvent) -> Event<'py> {
    let (opcode, code, bytes) = match event {
        SocketEvent::Text(body) => (TEXT, 0, body.as_slice()),
        SocketEvent::Binary(body) => (BINARY, 0, body.as_slice()),
        SocketEvent::Ping(body) => (PING, 0, body.as_slice()),
        SocketEvent::Close { code: NO_CLOSE_CODE, reason } => (CLOSE, 0, reason.as_bytes()),
        SocketEvent::Close { code, reason } => (CLOSE, *code, reason.as_bytes()),
        SocketEvent::Fault(fault) => (FAULT, fault.code, fault.reason.as_bytes()),
    };
    (opcode, code, PyBytes::new(py, bytes))
}

/// Adds this file's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SocketReader>()
}
