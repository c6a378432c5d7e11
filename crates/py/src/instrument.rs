//! Bindings of the core's `instrument`: which instruments are defined.

use pyo3::prelude::*;
use tapeworks_core::processors::Stage;
use tapeworks_core::record;

use crate::ingest::Ingest;
use crate::record::{Records, Symbols};
use crate::released::released;

/// The definitions of all instruments that an ingest and those before it met, if there are more
/// than `known`.
#[pyfunction]
#[pyo3(signature = (ingest, known = 0))]
fn definitions_of(py: Python<'_>, ingest: &Ingest, known: usize) -> PyResult<Option<Records>> {
    ingest.with(py, |inner| {
        let found = inner.normalizer().and_then(Stage::instruments);
        Ok(found.filter(|all| all.len() > known).map(|all| {
            let mut out = record::Records::new();
            all.iter().for_each(|definition| out.push(definition));
            Records::wrap(out, 0, 0)
        }))
    })
}

/// The first instrument of `records` that has no definition among `symbols`; none: all have one.
#[pyfunction]
fn undefined(py: Python<'_>, records: &Records, symbols: &Symbols) -> Option<u32> {
    let is_unknown = |&id: &u32| id != 0 && symbols.inner.rank_of(id) == u32::MAX;
    released(py, || {
        let found = record::records::iterate(records.get().as_bytes());
        found.map(|one| one.header().instrument).find(is_unknown)
    })
}

/// Adds this file's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(definitions_of, module)?)?;
    module.add_function(wrap_pyfunction!(undefined, module)?)
}
