//! Bindings of the core's `tape/offsets.rs`.

use std::path::PathBuf;

use pyo3::prelude::*;
use tapeworks_core::tape;

use crate::errors::to_python;
use crate::released::released;

/// Keeps `offset` under `name` with the tape at `path`, on the disk.
#[pyfunction]
fn save_offset(py: Python<'_>, path: PathBuf, name: &str, offset: u64) -> PyResult<()> {
    released(py, || tape::save_offset(&path, name, offset)).map_err(to_python)
}

/// The offset that is kept under `name`; `None` if none ever was.
#[pyfunction]
fn load_offset(path: PathBuf, name: &str) -> PyResult<Option<u64>> {
    tape::load_offset(&path, name).map_err(to_python)
}

/// All named offsets of the tape at `path`.
#[pyfunction]
fn list_offsets(path: PathBuf) -> PyResult<std::collections::BTreeMap<String, u64>> {
    Ok(tape::list_offsets(&path).map_err(to_python)?.into_iter().collect())
}

/// Adds this file's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(save_offset, module)?)?;
    module.add_function(wrap_pyfunction!(load_offset, module)?)?;
    module.add_function(wrap_pyfunction!(list_offsets, module)?)?;
    Ok(())
}
