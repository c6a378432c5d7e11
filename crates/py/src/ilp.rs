//! Bindings of the core's `record::ilp`: rows for QuestDB's line protocol.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::record::columns::Layout;
use tapeworks_core::record::ilp::IlpTable;

use crate::copy::{inputs_of, row_error};
use crate::errors::to_python;
use crate::record::{Records, Symbols};
use crate::released::released;
use tapeworks_core::record::store_rows::RowError;

/// How the records of one layout become rows of a table of QuestDB.
#[pyclass(frozen, name = "IlpTable", module = "tapeworks._core")]
struct Table {
    inner: IlpTable,
}

/// Lines, how many, and time and offset of the last.
type Lines<'py> = (Bound<'py, PyBytes>, u64, Option<(i64, u64)>);

/// All rows, or the offset of a record that cannot be a row, and why.
type Encoded<'py> = (Option<Lines<'py>>, Option<(u64, String)>);

#[pymethods]
impl Table {
    #[new]
    fn new(kind: &str, table: &str, ts: &str, columns: Vec<(String, String)>) -> PyResult<Self> {
        let layout = Layout::named(kind).map_err(to_python)?;
        let inner = IlpTable::new(layout, table, ts, &columns).map_err(to_python)?;
        Ok(Self { inner })
    }

    /// The columns but that of the time, each with its type.
    #[getter]
    fn types(&self) -> Vec<(String, String)> {
        self.inner.types()
    }

    /// The rows of `batches` as lines. Raises `LookupError` for an instrument without a symbol.
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
            Ok(lines) => {
                Ok((Some((PyBytes::new(py, &lines.bytes), lines.count, lines.last)), None))
            }
            Err(RowError::Refused { offset, reason }) => Ok((None, Some((offset, reason)))),
            Err(error) => Err(row_error(&error)),
        }
    }
}

/// Adds the bindings of this file.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Table>()
}
