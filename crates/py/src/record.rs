//! Bindings of the core's `record`: batches cross the border whole, as bytes or as columns.

use std::ffi::{c_int, c_void, CString};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use tapeworks_core::record;

use crate::errors::to_python;

/// A batch of records that is never changed once made.
///
/// It gives its bytes through the buffer protocol, read-only. `first_offset` and `next_offset` are
/// the place on the tape that it was read from; both are 0 when it came from elsewhere.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Records {
    inner: record::Records,
    #[pyo3(get)]
    first_offset: u64,
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
            return Err(PyValueError::new_err("wanted contiguous bytes"));
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

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("wanted a view"));
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

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Records>()?;
    Ok(())
}
