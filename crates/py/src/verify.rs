//! Bindings of the core's `tape/verify.rs` and `tape/repair.rs`.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tapeworks_core::tape;

use crate::errors::to_python;
use crate::released::released;

/// Reads all of the tape at `path` and says what it holds and what is wrong with it.
///
/// `expect` is what `head` of an earlier report said; the tape must still be what it was then.
#[pyfunction]
#[pyo3(signature = (path, expect = None))]
fn verify<'py>(
    py: Python<'py>,
    path: PathBuf,
    expect: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let expected = expect.map(str::parse).transpose().map_err(to_python)?;
    let report = released(py, || tape::verify_against(&path, expected)).map_err(to_python)?;
    let found = PyDict::new(py);
    found.set_item("kind", report.kind.name())?;
    found.set_item("id", report.id.map(|id| id.to_string()))?;
    found.set_item("origin", report.origin.map(|id| id.to_string()))?;
    found.set_item("segments", report.segments)?;
    found.set_item("segments_compressed", report.segments_compressed)?;
    found.set_item("frames", report.frames)?;
    found.set_item("items", report.items)?;
    found.set_item("bytes", report.bytes)?;
    found.set_item("first", report.first)?;
    found.set_item("end", report.end)?;
    found.set_item("durable", report.durable)?;
    found.set_item("links", report.links)?;
    found.set_item("links_pending", report.links_pending)?;
    found.set_item("lost", report.lost)?;
    found.set_item("head", report.head.map(|head| head.to_string()))?;
    found.set_item("verified_from", report.verified_from)?;
    let fault = report.fault.map(|fault| -> PyResult<_> {
        let place = PyDict::new(py);
        place.set_item("path", fault.path.display().to_string())?;
        place.set_item("byte", fault.byte)?;
        place.set_item("reason", fault.reason)?;
        Ok(place)
    });
    found.set_item("fault", fault.transpose()?)?;
    Ok(found)
}

/// SHA-256 over the bytes of all items of the tape at `path`, in hexadecimal digits.
#[pyfunction]
fn tape_hash(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let digest = released(py, || tape::hash(&path)).map_err(to_python)?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes the damaged tape at `path` writable again: what is damaged is moved aside, what is whole
/// stays, and what is lost is told, to be declared as a gap.
#[pyfunction]
fn repair_tape(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let report = released(py, || tape::repair(&path)).map_err(to_python)?;
    to_dict(py, report)
}

/// Empties the tape at `path` under its id, so that its stage makes all of it again.
#[pyfunction]
fn remake_tape(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let report = released(py, || tape::remake(&path)).map_err(to_python)?;
    to_dict(py, report)
}

fn to_dict(py: Python<'_>, report: tape::Repair) -> PyResult<Bound<'_, PyDict>> {
    let done = PyDict::new(py);
    done.set_item("moved_to", report.moved_to.map(|folder| folder.display().to_string()))?;
    done.set_item("moved", report.moved)?;
    let lost = report.lost.iter().map(|lost| -> PyResult<_> {
        let range = PyDict::new(py);
        range.set_item("first", lost.first)?;
        range.set_item("last", lost.last)?;
        range.set_item("ts_start", lost.ts_start)?;
        range.set_item("ts_end", lost.ts_end)?;
        Ok(range)
    });
    done.set_item("lost", lost.collect::<PyResult<Vec<_>>>()?)?;
    done.set_item("remade_from", report.remade_from)?;
    done.set_item("end", report.end)?;
    Ok(done)
}

/// Adds this file's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify, module)?)?;
    module.add_function(wrap_pyfunction!(repair_tape, module)?)?;
    module.add_function(wrap_pyfunction!(remake_tape, module)?)?;
    module.add_function(wrap_pyfunction!(tape_hash, module)?)?;
    Ok(())
}
