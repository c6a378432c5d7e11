//! Bindings of the core's `tape/lock.rs`.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tapeworks_core::tape;

use crate::errors::to_python;

/// The right to write a folder, held until `release` or the end of the process.
#[pyclass(module = "tapeworks._core")]
pub struct FolderLock {
    inner: Option<tape::FolderLock>,
}

#[pymethods]
impl FolderLock {
    /// Takes the right to write the folder `path`, which is made if it is not there.
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        Ok(Self { inner: Some(tape::FolderLock::take(&path).map_err(to_python)?) })
    }

    /// Fails if the path no longer leads to the folder that is locked.
    fn check(&self) -> PyResult<()> {
        match &self.inner {
            Some(lock) => lock.check().map_err(to_python),
            None => Err(PyValueError::new_err("the lock is released")),
        }
    }

    /// Gives up the right to write.
    fn release(&mut self) {
        self.inner = None;
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&mut self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.release();
    }
}

/// Adds this file's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FolderLock>()
}
