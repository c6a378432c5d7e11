//! Bindings of the core's `scheduling`.

use std::time::Duration;

use pyo3::prelude::*;
use tapeworks_core::scheduling;

/// Asks that this thread runs for so many microseconds at most where others want its processor, and
/// so gets it the sooner. Returns whether the system took it.
#[pyfunction]
fn request_slice(slice_us: u64) -> bool {
    scheduling::request_slice(Duration::from_micros(slice_us))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(request_slice, module)?)
}
