//! Bindings of the core's `tape`.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tapeworks_core::record::blob::{self, BlobHeader};
use tapeworks_core::record::{self, records};
use tapeworks_core::tape::{self, NO_INPUT};
use tapeworks_core::{Durability, Error, Reader, Tape, TapeConfig, TapeKind};

use crate::errors::to_python;
use crate::record::Records;
use crate::released::released;

fn kind_named(name: &str) -> PyResult<TapeKind> {
    TapeKind::from_name(name)
        .ok_or_else(|| PyValueError::new_err(format!("expected records or blobs, got {name:?}")))
}

fn durability_named(name: &str, interval_ms: u32) -> PyResult<Durability> {
    match name {
        "every_frame" => Ok(Durability::EveryFrame),
        "interval" => Ok(Durability::IntervalMs(interval_ms)),
        "never" => Ok(Durability::Never),
        _ => Err(PyValueError::new_err(format!(
            "expected every_frame, interval or never, got {name:?}"
        ))),
    }
}

/// How many items `bytes` holds, and the receive time of the last one.
///
/// The core trusts what it appends, since it makes that itself; what comes from Python it does not.
fn measure(kind: TapeKind, bytes: &[u8]) -> Result<(u32, i64), Error> {
    let is_blobs = kind == TapeKind::Blobs;
    let check = if is_blobs { blob::check_layout } else { records::check_layout };
    let (count, ts_recv) = check(bytes)?;
    let count = u32::try_from(count)
        .map_err(|_| Error::invalid(format!("expected less than 2^32 items, got {count}")))?;
    Ok((count, ts_recv))
}

/// A tape, open for writing by this process alone.
#[pyclass(module = "tapeworks._core")]
pub struct TapeWriter {
    inner: Option<Tape>,
    kind: TapeKind,
}

impl TapeWriter {
    fn open(&mut self) -> PyResult<&mut Tape> {
        self.inner.as_mut().ok_or_else(|| PyValueError::new_err("the tape is closed"))
    }

    fn opened(&self) -> PyResult<&Tape> {
        self.inner.as_ref().ok_or_else(|| PyValueError::new_err("the tape is closed"))
    }
}

#[pymethods]
impl TapeWriter {
    /// Opens or makes the tape in the folder `path`; with `source`, one that is made from the tape
    /// there.
    #[new]
    #[pyo3(signature = (path, kind = "records", *, durability = "interval", interval_ms = 50,
        segment_bytes = 268_435_456, retention_bytes = None, retention_ms = None,
        compress_after = None, wait_ms_max = None, source = None))]
    #[allow(clippy::too_many_arguments)] // Each is a setting of the tape.
    fn new(
        py: Python<'_>,
        path: PathBuf,
        kind: &str,
        durability: &str,
        interval_ms: u32,
        segment_bytes: usize,
        retention_bytes: Option<u64>,
        retention_ms: Option<u64>,
        compress_after: Option<usize>,
        wait_ms_max: Option<u64>,
        source: Option<PathBuf>,
    ) -> PyResult<Self> {
        let kind = kind_named(kind)?;
        let durability = durability_named(durability, interval_ms)?;
        let retention = tape::Retention {
            bytes_max: retention_bytes,
            age_ms_max: retention_ms,
            wait_ms_max,
            compress_after,
        };
        let config = TapeConfig { kind, durability, segment_bytes, retention };
        let opened = released(py, || match source {
            Some(source) => Tape::open_from(&path, config, &source),
            None => Tape::open(&path, config),
        });
        let inner = opened.map_err(to_python)?;
        Ok(Self { inner: Some(inner), kind })
    }

    /// Appends whole items as one frame and returns the offset of the first. Without `count` the
    /// items are counted; without `ts` the receive time is that of the last item.
    #[pyo3(signature = (data, count = None, *, input_offset = None, ts = None))]
    fn append(
        &mut self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        count: Option<u32>,
        input_offset: Option<u64>,
        ts: Option<i64>,
    ) -> PyResult<u64> {
        let kind = self.kind;
        let inner = self.open()?;
        let buffer = PyBuffer::<u8>::get(data)?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("expected contiguous bytes"));
        }
        // Another thread may change any other buffer while the lock is released: then a copy is
        // measured, sealed and written.
        let is_fixed = data.is_instance_of::<PyBytes>() || data.is_instance_of::<Records>();
        let copy = if is_fixed { Vec::new() } else { buffer.to_vec(py)? };
        let bytes = if is_fixed {
            // SAFETY: the buffer is contiguous, held until the call ends, and never changes.
            unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
        } else {
            copy.as_slice()
        };
        let appended = released(py, || {
            let (counted, last) = measure(kind, bytes)?;
            if let Some(count) = count.filter(|&count| count != counted) {
                return Err(Error::invalid(format!("expected {count} items, got {counted}")));
            }
            let (count, ts) = (counted, ts.unwrap_or(last));
            inner.append(bytes, count, input_offset.unwrap_or(NO_INPUT), ts)
        });
        appended.map_err(to_python)
    }

    /// Appends one blob and returns its offset.
    #[pyo3(signature = (kind, body, *, ts, context = None, feed = 0, connection = 0, flags = 0))]
    #[allow(clippy::too_many_arguments)] // Each is a field of the blob's header.
    fn append_blob(
        &mut self,
        kind: u8,
        body: &[u8],
        ts: i64,
        context: Option<&[u8]>,
        feed: u8,
        connection: u16,
        flags: u16,
    ) -> PyResult<u64> {
        if self.kind != TapeKind::Blobs {
            return Err(PyValueError::new_err("expected a tape of blobs, this one holds records"));
        }
        let header =
            BlobHeader { kind, feed, connection, flags, ts_recv: ts, ..BlobHeader::default() };
        let mut blobs = blob::Blobs::new();
        blobs.push(header, context.unwrap_or_default(), body).map_err(to_python)?;
        blob::check_layout(blobs.as_bytes()).map_err(to_python)?;
        self.open()?.append(blobs.as_bytes(), 1, NO_INPUT, ts).map_err(to_python)
    }

    /// Publishes that the tape covers the input before `input_offset`, though nothing was made of
    /// it; with `frame` by a frame, where the next opening goes on.
    #[pyo3(signature = (input_offset, ts = None, *, frame = false))]
    fn cover(&mut self, input_offset: u64, ts: Option<i64>, frame: bool) -> PyResult<()> {
        let (tape, ts) = (self.open()?, ts.unwrap_or(record::NONE));
        let cover = if frame { Tape::cover_by_frame } else { Tape::cover };
        cover(tape, input_offset, ts).map_err(to_python)
    }

    /// Makes all that is published durable, and says up to which offset.
    fn sync(&self, py: Python<'_>) -> PyResult<u64> {
        let inner = self.opened()?;
        released(py, || inner.sync()).map_err(to_python)
    }

    /// Whether a sync failed: until `reopen` succeeds nothing can be appended or synced.
    #[getter]
    fn needs_reopen(&self) -> PyResult<bool> {
        Ok(self.opened()?.needs_reopen())
    }

    /// Goes on after a failed sync: writes again what is not known to be on the disk.
    fn reopen(&mut self, py: Python<'_>) -> PyResult<()> {
        let inner = self.open()?;
        released(py, || inner.reopen()).map_err(to_python)
    }

    /// Makes all durable and gives up the right to write.
    fn close(&mut self, py: Python<'_>) {
        let inner = self.inner.take();
        released(py, || drop(inner));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&mut self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    /// Offset after the last item.
    #[getter]
    fn end(&self) -> PyResult<u64> {
        Ok(self.opened()?.end())
    }

    /// Offset after the last item that survives a loss of power.
    #[getter]
    fn durable(&self) -> PyResult<u64> {
        Ok(self.opened()?.durable())
    }

    /// The input offset that the tape covers.
    #[getter]
    fn covered(&self) -> PyResult<Option<u64>> {
        Ok(self.opened()?.last_input_offset())
    }

    /// The tape's id in hexadecimal digits, if it has one.
    #[getter]
    fn id(&self) -> PyResult<Option<String>> {
        Ok(self.opened()?.id().map(|id| id.to_string()))
    }

    /// The id of the tape that this one is made from, if it is known.
    #[getter]
    fn origin(&self) -> PyResult<Option<String>> {
        Ok(self.opened()?.origin().map(|id| id.to_string()))
    }

    /// What went wrong with closed segments when they were last looked at, if anything did.
    #[getter]
    fn upkeep_failure(&self) -> PyResult<Option<String>> {
        Ok(self.opened()?.upkeep_failure())
    }

    /// What opening had to cut.
    #[getter]
    fn recovery<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let recovery = self.opened()?.recovery();
        let report = PyDict::new(py);
        report.set_item("end", recovery.end)?;
        report.set_item("cut_bytes", recovery.cut_bytes)?;
        report.set_item("cut_at", recovery.cut_at)?;
        report.set_item("undone", recovery.undone)?;
        Ok(report)
    }
}

/// One blob of a raw tape.
#[pyclass(frozen, get_all, module = "tapeworks._core")]
pub struct Blob {
    offset: u64,
    kind: u8,
    feed: u8,
    connection: u16,
    flags: u16,
    ts_recv: i64,
    context: Py<PyBytes>,
    body: Py<PyBytes>,
}

/// A position on a tape, from which items are read.
#[pyclass(module = "tapeworks._core")]
pub struct TapeReader {
    inner: Reader,
}

impl TapeReader {
    fn wanted(&self, kind: TapeKind) -> PyResult<()> {
        if self.inner.kind() == kind {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "{} holds {}, expected {}",
            self.inner.path().display(),
            self.inner.kind().name(),
            kind.name()
        )))
    }
}

/// Copies up to `max_items` items, and no further frame once `max_bytes` are copied. Returns how
/// many. What came before an error is given first: the next call meets the error again.
fn gather(
    reader: &mut Reader,
    max_items: usize,
    max_bytes: usize,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<usize, Error> {
    let (mut count, mut bytes) = (0, 0);
    while count < max_items && bytes < max_bytes {
        let batch = match reader.read(max_items - count) {
            Err(_) if count > 0 => break,
            read => read?,
        };
        let Some(batch) = batch else { break };
        take(batch.bytes)?;
        count += batch.count;
        bytes += batch.bytes.len();
    }
    Ok(count)
}

#[pymethods]
impl TapeReader {
    /// Opens the tape in the folder `path`, at `offset` or at its first kept item.
    #[new]
    #[pyo3(signature = (path, offset = None))]
    fn new(py: Python<'_>, path: PathBuf, offset: Option<u64>) -> PyResult<Self> {
        let opened = released(py, || {
            let mut inner = Reader::open(&path)?;
            if let Some(offset) = offset {
                inner.seek(offset)?;
            }
            Ok(inner)
        });
        Ok(Self { inner: opened.map_err(to_python)? })
    }

    /// Reads at most `max_items` records; `None` when all that is published was read.
    #[pyo3(signature = (max_items = 65_536))]
    fn read(&mut self, py: Python<'_>, max_items: usize) -> PyResult<Option<Records>> {
        self.wanted(TapeKind::Records)?;
        let inner = &mut self.inner;
        let first = inner.position();
        let mut batch = tapeworks_core::Records::new();
        let count = released(py, || {
            let ready = inner.end()?.saturating_sub(first);
            batch.reserve(max_items.min(usize::try_from(ready).unwrap_or(max_items)));
            gather(inner, max_items, usize::MAX, |bytes| batch.extend_from_bytes(bytes))
        });
        let count = count.map_err(to_python)?;
        Ok((count > 0).then(|| Records::wrap(batch, first, self.inner.position())))
    }

    /// Reads at most `max_items` blobs; `None` when all that is published was read.
    /// No further frame is read once their bytes reach `max_bytes`.
    #[pyo3(signature = (max_items = 4_096, max_bytes = 16_777_216))]
    fn read_blobs(
        &mut self,
        py: Python<'_>,
        max_items: usize,
        max_bytes: usize,
    ) -> PyResult<Option<Vec<Blob>>> {
        self.wanted(TapeKind::Blobs)?;
        let inner = &mut self.inner;
        let first = inner.position();
        let mut bytes = Vec::new();
        let count = released(py, || {
            gather(inner, max_items, max_bytes, |items| {
                bytes.extend_from_slice(items);
                Ok(())
            })
        });
        if count.map_err(to_python)? == 0 {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (offset, item) in (first..).zip(blob::iterate(&bytes)) {
            all.push(Blob {
                offset,
                kind: item.header.kind,
                feed: item.header.feed,
                connection: item.header.connection,
                flags: item.header.flags,
                ts_recv: item.header.ts_recv,
                context: PyBytes::new(py, item.context).unbind(),
                body: PyBytes::new(py, item.body).unbind(),
            });
        }
        Ok(Some(all))
    }

    /// Goes to `offset`, which may be the end.
    fn seek(&mut self, py: Python<'_>, offset: u64) -> PyResult<()> {
        let inner = &mut self.inner;
        released(py, || inner.seek(offset)).map_err(to_python)
    }

    /// Goes to the first frame whose receive time is `ts_recv` or later.
    fn seek_time(&mut self, py: Python<'_>, ts_recv: i64) -> PyResult<()> {
        let inner = &mut self.inner;
        released(py, || inner.seek_time(ts_recv)).map_err(to_python)
    }

    /// Waits until there is something to read, and says whether there is.
    fn wait(&mut self, py: Python<'_>, timeout_ms: u64) -> bool {
        let inner = &mut self.inner;
        released(py, || inner.wait(Duration::from_millis(timeout_ms)))
    }

    /// The tape's id in hexadecimal digits; `None` while all of it was written by version 1.
    #[getter]
    fn id(&mut self) -> PyResult<Option<String>> {
        Ok(self.inner.id().map_err(to_python)?.map(|id| id.to_string()))
    }

    /// The id of the tape that this one is made from, if it is known.
    #[getter]
    fn origin(&mut self) -> PyResult<Option<String>> {
        Ok(self.inner.origin().map_err(to_python)?.map(|id| id.to_string()))
    }

    /// What stands right before `offset`, as 16 hexadecimal digits; `None` at offset 0 and where
    /// retention took the item before it.
    fn fingerprint(&mut self, py: Python<'_>, offset: u64) -> PyResult<Option<String>> {
        let inner = &mut self.inner;
        let found = released(py, || inner.fingerprint(offset)).map_err(to_python)?;
        Ok(found.map(|print| format!("{print:016x}")))
    }

    /// The ranges of offsets that a repair gave up: first and last of each.
    fn lost_ranges(&self) -> PyResult<Vec<(u64, u64)>> {
        self.inner.lost_ranges().map_err(to_python)
    }

    /// Why the item at `offset`, which is not on the tape, is gone: `damage` where a repair gave it
    /// up, else `retention`.
    fn loss_cause(&self, offset: u64) -> PyResult<&'static str> {
        Ok(self.inner.loss_cause(offset).map_err(to_python)?.name())
    }

    /// Fails unless `offset` is a place on this tape: of the tape `tape_id`, with `fingerprint`
    /// before it. What is `None` is not compared.
    #[pyo3(signature = (offset, *, tape_id = None, fingerprint = None))]
    fn check_place(
        &mut self,
        py: Python<'_>,
        offset: u64,
        tape_id: Option<&str>,
        fingerprint: Option<&str>,
    ) -> PyResult<()> {
        let id = tape_id.map(str::parse).transpose().map_err(to_python)?;
        let number = |text| u64::from_str_radix(text, 16);
        let fingerprint = fingerprint.map(number).transpose().map_err(|_| {
            PyValueError::new_err("fingerprint: expected 16 hexadecimal digits".to_owned())
        })?;
        let (inner, place) = (&mut self.inner, tape::Place { id, offset, fingerprint });
        released(py, || inner.check(&place)).map_err(to_python)
    }

    /// What the items are: `records` or `blobs`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.inner.kind().name()
    }

    /// Offset of the next item to be read.
    #[getter]
    fn position(&self) -> u64 {
        self.inner.position()
    }

    /// First offset that is kept.
    #[getter]
    fn first(&self) -> PyResult<u64> {
        self.inner.first().map_err(to_python)
    }

    /// Offset after the last published item.
    #[getter]
    fn end(&mut self) -> PyResult<u64> {
        self.inner.end().map_err(to_python)
    }

    /// Whether a writer opened the tape since this machine started: before that, one that lost its
    /// tail with the power may still become shorter.
    #[getter]
    fn settled(&mut self) -> PyResult<bool> {
        self.inner.is_settled().map_err(to_python)
    }

    /// Offset after the last item that survives a loss of power.
    #[getter]
    fn durable(&mut self) -> PyResult<u64> {
        self.inner.durable().map_err(to_python)
    }

    /// The input offset that the published tape covers.
    #[getter]
    fn covered(&mut self) -> PyResult<Option<u64>> {
        self.inner.covered().map_err(to_python)
    }
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TapeWriter>()?;
    module.add_class::<TapeReader>()?;
    module.add_class::<Blob>()?;
    Ok(())
}
