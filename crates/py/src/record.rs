//! Bindings of the core's `record`: batches cross the border whole, as bytes or as columns.

use std::collections::{HashMap, HashSet};
use std::ffi::{c_int, c_void, CString};
use std::sync::Mutex;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};
use tapeworks_core::record::arrow::{self, ArrowArray, ArrowSchema};
use tapeworks_core::record::columns::{Layout, Meaning};
use tapeworks_core::record::rows;
use tapeworks_core::record::select::{self, Selection};
use tapeworks_core::record::snapshots;
use tapeworks_core::record::{self, Kind};

use crate::errors::to_python;
use crate::released::released;

/// A batch of records that is never changed once made.
///
/// It gives its bytes through the buffer protocol, read-only. `first_offset` and `next_offset` are
/// the place on the tape that it was read from; both are 0 when it came from elsewhere.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Records {
    inner: record::Records,
    #[pyo3(get)]
    pub(crate) first_offset: u64,
    #[pyo3(get)]
    next_offset: u64,
}

impl Records {
    /// Hands a batch of the core to Python.
    pub const fn wrap(inner: record::Records, first_offset: u64, next_offset: u64) -> Self {
        Self { inner, first_offset, next_offset }
    }

    /// The batch.
    pub const fn get(&self) -> &record::Records {
        &self.inner
    }
}

#[pymethods]
impl Records {
    /// Copies whole records out of any contiguous bytes-like object.
    #[staticmethod]
    #[pyo3(signature = (data, first_offset = 0, next_offset = 0))]
    fn from_bytes(data: &Bound<'_, PyAny>, first_offset: u64, next_offset: u64) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(data)?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("expected contiguous bytes"));
        }
        // SAFETY: the buffer is contiguous and held for the copy; the GIL is held as well.
        let bytes = unsafe {
            std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes())
        };
        let inner = record::Records::from_bytes(bytes).map_err(to_python)?;
        Ok(Self::wrap(inner, first_offset, next_offset))
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __repr__(&self) -> String {
        format!(
            "Records({} records, {} bytes, offsets {} to {})",
            self.inner.len(),
            self.inner.as_bytes().len(),
            self.first_offset,
            self.next_offset
        )
    }

    /// The records of one kind as Arrow columns, with their `tape_offset` if `offsets` says so.
    #[pyo3(signature = (kind, symbols = None, offsets = false))]
    fn arrow(
        &self,
        py: Python<'_>,
        kind: &str,
        symbols: Option<&Symbols>,
        offsets: bool,
    ) -> PyResult<Columns> {
        let layout = Layout::named(kind).map_err(to_python)?;
        let symbols = symbols.map(|symbols| &symbols.inner);
        released(py, || {
            let mut rows = rows::Rows::new(layout);
            rows.extend(self.inner.as_bytes(), self.first_offset, 0);
            Columns::build(&rows, 0, rows.len(), symbols, offsets)
        })
    }

    /// The records of one kind, back to back, for NumPy to read with `dtype_descr(kind)`.
    fn numpy<'py>(&self, py: Python<'py>, kind: &str) -> PyResult<Bound<'py, PyBytes>> {
        let layout = Layout::named(kind).map_err(to_python)?;
        let rows = released(py, || {
            let mut rows = rows::Rows::new(layout);
            rows.extend(self.inner.as_bytes(), 0, 0);
            rows
        });
        Ok(PyBytes::new(py, rows.as_bytes()))
    }

    /// The records from number `start` up to `end`, with their offsets.
    fn slice(&self, start: usize, end: usize) -> PyResult<Self> {
        let inner = self.inner.part(start, end).map_err(to_python)?;
        Ok(Self::wrap(inner, self.first_offset + start as u64, self.first_offset + end as u64))
    }

    /// Number of records by kind.
    fn counts(&self, py: Python<'_>) -> Vec<(u8, usize)> {
        released(py, || {
            let mut counts = [0; 256];
            self.inner.iter().for_each(|record| counts[record.kind() as usize] += 1);
            (0..=u8::MAX).zip(counts).filter(|&(_, count)| count > 0).collect()
        })
    }

    /// Kinds of the records.
    fn kinds(&self, py: Python<'_>) -> HashSet<u8> {
        let found = released(py, || record::records::kinds_of(self.inner.as_bytes()));
        (0..=u8::MAX).zip(found).filter_map(|(kind, found)| found.then_some(kind)).collect()
    }

    /// The records of the given kinds and instruments with `start <= ts_recv < end`; those of one
    /// layout only, if it is given.
    #[pyo3(signature = (
        kinds, instruments = None, start = i64::MIN, end = i64::MAX, layout = None,
    ))]
    fn select(
        &self,
        py: Python<'_>,
        kinds: Vec<u8>,
        instruments: Option<Vec<u32>>,
        start: i64,
        end: i64,
        layout: Option<&str>,
    ) -> PyResult<Self> {
        let layout = layout.map(Layout::named).transpose().map_err(to_python)?;
        let mut bits = 0;
        for number in kinds {
            bits |= Selection::bit(Kind::try_from(number).map_err(to_python)?);
        }
        let mut instruments = instruments;
        if let Some(ids) = &mut instruments {
            ids.sort_unstable();
        }
        let selection = Selection { kinds: bits, instruments, start, end, layout };
        let inner = released(py, || {
            let mut out = record::Records::new();
            selection.select(self.inner.as_bytes(), &mut out);
            out
        });
        Ok(Self::wrap(inner, self.first_offset, self.next_offset))
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("expected a view"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("records are read-only"));
        }
        let bytes = slf.get().inner.as_bytes();
        // SAFETY: the view keeps a reference to this object, whose bytes never move or change.
        unsafe {
            (*view).buf = bytes.as_ptr().cast_mut().cast::<c_void>();
            (*view).len = bytes.len() as isize;
            (*view).readonly = 1;
            (*view).itemsize = 1;
            (*view).format = std::ptr::null_mut();
            if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                (*view).format = CString::from(c"B").into_raw();
            }
            (*view).ndim = 1;
            (*view).shape = std::ptr::null_mut();
            if flags & ffi::PyBUF_ND == ffi::PyBUF_ND {
                (*view).shape = &raw mut (*view).len;
            }
            (*view).strides = std::ptr::null_mut();
            if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                (*view).strides = &raw mut (*view).itemsize;
            }
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `format` is null or came from `CString::into_raw` in `__getbuffer__`.
        unsafe {
            if !(*view).format.is_null() {
                drop(CString::from_raw((*view).format));
            }
        }
    }
}

/// Arrow columns on their way to another library, which takes them once.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Columns {
    parts: Mutex<Option<(ArrowSchema, ArrowArray)>>,
    length: usize,
}

impl Columns {
    fn build(
        rows: &rows::Rows,
        start: usize,
        end: usize,
        symbols: Option<&rows::Symbols>,
        offsets: bool,
    ) -> PyResult<Self> {
        let columns = arrow::columns(rows, start, end, symbols, offsets).map_err(to_python)?;
        Ok(Self::export(columns, end - start))
    }

    /// Hands columns of equal length to Python.
    pub fn export(columns: Vec<arrow::Column>, length: usize) -> Self {
        Self { parts: Mutex::new(Some(arrow::export(columns, length))), length }
    }
}

#[pymethods]
impl Columns {
    fn __len__(&self) -> usize {
        self.length
    }

    /// The Arrow C data interface: a schema and a struct array.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // Casting is the receiver's business: the interface lets a producer ignore the request.
        let _ = requested_schema;
        let taken = self.parts.lock().ok().and_then(|mut parts| parts.take());
        let (schema, array) =
            taken.ok_or_else(|| PyValueError::new_err("these columns were taken before"))?;
        Ok((
            PyCapsule::new(py, schema, Some(c"arrow_schema".to_owned()))?,
            PyCapsule::new(py, array, Some(c"arrow_array".to_owned()))?,
        ))
    }
}

/// The symbols of instrument ids, as the definitions of a tape give them.
#[pyclass(module = "tapeworks._core")]
#[derive(Default)]
pub struct Symbols {
    pub(crate) inner: rows::Symbols,
}

#[pymethods]
impl Symbols {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes in the definitions among `records` and says how many there were.
    fn load(&mut self, py: Python<'_>, records: &Records) -> usize {
        released(py, || self.inner.load(records.inner.as_bytes()))
    }

    /// Instrument ids by symbol; a symbol that was used twice has several.
    fn ids(&self) -> Vec<(String, u32)> {
        let pair = |definition: &record::Definition| {
            (record::unpadded(&definition.symbol).to_owned(), definition.header.instrument)
        };
        self.inner.iter().map(pair).collect()
    }

    /// All definitions as records, by id.
    fn records(&self) -> Records {
        let mut out = record::Records::new();
        self.inner.iter().for_each(|definition| out.push(definition));
        Records::wrap(out, 0, 0)
    }
}

/// Records of one kind, gathered from batches and put in the order of a file.
#[pyclass(module = "tapeworks._core")]
pub struct Rows {
    inner: rows::Rows,
}

#[pymethods]
impl Rows {
    #[new]
    fn new(kind: &str) -> PyResult<Self> {
        Ok(Self { inner: rows::Rows::grouped(Layout::named(kind).map_err(to_python)?) })
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.inner.byte_length()
    }

    /// Where reading must begin again to complete what is not over: rows are always whole.
    #[getter]
    const fn resume(&self) -> Option<u64> {
        None
    }

    /// Takes the records of this kind out of `records`, but none before `from_offset`, and says
    /// how many it took.
    #[pyo3(signature = (records, from_offset = 0))]
    fn extend(&mut self, py: Python<'_>, records: &Records, from_offset: u64) -> usize {
        let bytes = records.inner.as_bytes();
        released(py, || self.inner.extend(bytes, records.first_offset, from_offset))
    }

    /// Orders by day, symbol and time. Gives `(day since the epoch, first row, end row)`.
    fn sort(&mut self, py: Python<'_>, symbols: &Symbols) -> PyResult<Vec<(i64, usize, usize)>> {
        let days = released(py, || self.inner.sort(&symbols.inner)).map_err(to_python)?;
        Ok(days.iter().map(|day| (day.day, day.start, day.end)).collect())
    }

    /// Rows `start` to `end` as Arrow columns, with the symbol first and the tape offset last.
    fn arrow(
        &self,
        py: Python<'_>,
        symbols: &Symbols,
        start: usize,
        end: usize,
    ) -> PyResult<Columns> {
        check_range(start, end, self.inner.len())?;
        released(py, || Columns::build(&self.inner, start, end, Some(&symbols.inner), true))
    }

    fn clear(&mut self) {
        self.inner.clear();
    }
}

/// Whole books on a tape as rows of the best levels; used as [`Rows`] is.
#[pyclass(module = "tapeworks._core")]
#[derive(Default)]
pub struct Snapshots {
    inner: snapshots::Snapshots,
}

#[pymethods]
impl Snapshots {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.inner.byte_length()
    }

    /// Where reading must begin again to complete the snapshot that is not over.
    #[getter]
    fn resume(&self) -> Option<u64> {
        self.inner.resume()
    }

    /// Takes the snapshots that end in `records`, but none before `from_offset`, and says how
    /// many it took.
    #[pyo3(signature = (records, from_offset = 0))]
    fn extend(&mut self, py: Python<'_>, records: &Records, from_offset: u64) -> usize {
        let bytes = records.inner.as_bytes();
        released(py, || self.inner.extend(bytes, records.first_offset, from_offset))
    }

    /// Orders by day, symbol and time. Gives `(day since the epoch, first row, end row)`.
    fn sort(&mut self, py: Python<'_>, symbols: &Symbols) -> PyResult<Vec<(i64, usize, usize)>> {
        let days = released(py, || self.inner.sort(&symbols.inner)).map_err(to_python)?;
        Ok(days.iter().map(|day| (day.day, day.start, day.end)).collect())
    }

    /// Rows `start` to `end` as Arrow columns.
    fn arrow(
        &self,
        py: Python<'_>,
        symbols: &Symbols,
        start: usize,
        end: usize,
    ) -> PyResult<Columns> {
        check_range(start, end, self.inner.len())?;
        let columns = released(py, || self.inner.columns(start, end, &symbols.inner));
        Ok(Columns::export(columns, end - start))
    }

    fn clear(&mut self) {
        self.inner.clear();
    }
}

/// Streams of records merged by the time of their receipt.
#[pyclass(module = "tapeworks._core")]
pub struct Merge {
    inner: select::Merge,
    count: usize,
}

#[pymethods]
impl Merge {
    #[new]
    fn new(count: usize) -> Self {
        Self { inner: select::Merge::new(count), count }
    }

    /// Adds the next records of a stream; `None` says that it has ended.
    fn push(&mut self, py: Python<'_>, stream: usize, records: Option<&Records>) -> PyResult<()> {
        if stream >= self.count {
            return Err(PyValueError::new_err(format!("expected a stream below {}", self.count)));
        }
        match records {
            Some(records) => released(py, || self.inner.push(stream, &records.inner)),
            None => self.inner.end(stream),
        }
        Ok(())
    }

    /// The stream that must be pushed to before more can be taken.
    fn wanting(&self) -> Option<usize> {
        self.inner.wanting()
    }

    /// The next records in order, up to `max_items`.
    fn take(&mut self, py: Python<'_>, max_items: usize) -> Records {
        let inner = released(py, || {
            let mut out = record::Records::new();
            self.inner.take(max_items, &mut out);
            out
        });
        Records::wrap(inner, 0, 0)
    }
}

fn check_range(start: usize, end: usize, length: usize) -> PyResult<()> {
    if start <= end && end <= length {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("expected rows within 0 to {length}, got {start} to {end}")))
}

/// The fields of a kind as NumPy describes a structured type.
#[pyfunction]
fn dtype_descr(kind: &str) -> PyResult<Vec<(String, String)>> {
    Ok(Layout::named(kind).map_err(to_python)?.descr())
}

/// The number of the kind of record that a layout is of: 8 of `gap`, which are markers.
#[pyfunction]
fn kind_of(layout: &str) -> PyResult<u8> {
    Ok(Layout::named(layout).map_err(to_python)?.kind as u8)
}

/// The fields of a kind whose numbers stand for names, and the names; an empty one is absent.
#[pyfunction]
fn field_names(kind: &str) -> PyResult<HashMap<&'static str, Vec<&'static str>>> {
    let layout = Layout::named(kind).map_err(to_python)?;
    let named = layout.fields().filter_map(|field| match field.meaning {
        Meaning::Name(names) => Some((field.name, names.to_vec())),
        _ => None,
    });
    Ok(named.collect())
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Records>()?;
    module.add_class::<Columns>()?;
    module.add_class::<Symbols>()?;
    module.add_class::<Rows>()?;
    module.add_class::<Snapshots>()?;
    module.add_class::<Merge>()?;
    module.add_function(wrap_pyfunction!(dtype_descr, module)?)?;
    module.add_function(wrap_pyfunction!(field_names, module)?)?;
    module.add_function(wrap_pyfunction!(kind_of, module)?)?;
    module.add("NONE", record::NONE)
}
