//! Bindings of the core's `record::copy`: rows for PostgreSQL's binary COPY.

use pyo3::exceptions::PyLookupError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::record::columns::Layout;
use tapeworks_core::record::copy::{CopyTable, END, HEAD};
use tapeworks_core::record::store_rows::{RowError, RowInput};

use crate::errors::to_python;
use crate::record::{Records, Symbols};
use crate::released::released;

/// How the records of one layout become rows of a table of PostgreSQL.
#[pyclass(frozen, name = "CopyTable", module = "tapeworks._core")]
struct Table {
    inner: CopyTable,
}

/// The rows of one day: its number since 1970, how many, and their bytes.
type Part<'py> = (i64, u64, Bound<'py, PyBytes>);

/// All rows, or the offset of a record that cannot be a row, and why.
type Encoded<'py> = (Vec<Part<'py>>, Option<(u64, String)>);

#[pymethods]
impl Table {
    /// What a stream begins with.
    #[classattr]
    #[pyo3(name = "HEAD")]
    fn head(py: Python<'_>) -> Bound<'_, PyBytes> {
        PyBytes::new(py, HEAD)
    }

    /// What a stream ends with.
    #[classattr]
    #[pyo3(name = "END")]
    fn end(py: Python<'_>) -> Bound<'_, PyBytes> {
        PyBytes::new(py, &END)
    }

    #[new]
    #[pyo3(signature = (kind, columns, day_of = None))]
    fn new(kind: &str, columns: Vec<String>, day_of: Option<&str>) -> PyResult<Self> {
        let layout = Layout::named(kind).map_err(to_python)?;
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        Ok(Self { inner: CopyTable::new(layout, &columns, day_of).map_err(to_python)? })
    }

    /// The rows of `batches` by day. Raises `LookupError` for an instrument without a symbol.
    /// A record that cannot be a row takes the place of all rows.
    #[pyo3(signature = (batches, symbols, provider, instruments = None))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        batches: Vec<PyRef<'py, Records>>,
        symbols: &Symbols,
        provider: &str,
        instruments: Option<Vec<u32>>,
    ) -> PyResult<Encoded<'py>> {
        let mut instruments = instruments;
        let inputs = inputs_of(&batches, instruments.as_mut());
        let symbols = &symbols.inner;
        match released(py, || self.inner.encode(&inputs, symbols, provider)) {
            Ok(parts) => {
                let parts = parts.iter();
                let parts = parts.map(|part| (part.day, part.count, PyBytes::new(py, &part.bytes)));
                Ok((parts.collect(), None))
            }
            Err(RowError::Refused { offset, reason }) => Ok((Vec::new(), Some((offset, reason)))),
            Err(error) => Err(row_error(&error)),
        }
    }
}

/// What the core makes rows of; `instruments` are ordered for it.
pub(crate) fn inputs_of<'a>(
    batches: &'a [PyRef<'_, Records>],
    instruments: Option<&'a mut Vec<u32>>,
) -> Vec<RowInput<'a>> {
    let instruments: Option<&[u32]> = instruments.map(|ids| {
        ids.sort_unstable();
        ids.as_slice()
    });
    let input = |batch: &'a PyRef<'_, Records>| RowInput {
        bytes: batch.get().as_bytes(),
        first_offset: batch.first_offset,
        instruments,
    };
    batches.iter().map(input).collect()
}

/// The exception of a record that is no row yet.
pub(crate) fn row_error(error: &RowError) -> PyErr {
    match error {
        RowError::Unknown { instrument } => {
            PyLookupError::new_err(format!("instrument {instrument} has no definition"))
        }
        RowError::Refused { offset, reason } => {
            PyLookupError::new_err(format!("offset {offset}: {reason}"))
        }
    }
}

/// Adds the bindings of this file.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Table>()
}
