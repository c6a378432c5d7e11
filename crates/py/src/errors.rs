//! The only place where an error of the core becomes an exception of Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tapeworks_core::{DecodeReason, Error};

use crate::released::staying;

const ENOENT: i32 = 2;

/// The exception of `python/tapeworks/errors.py` that `error` is.
pub fn to_python(error: Error) -> PyErr {
    let class = match &error {
        Error::Decode { .. } | Error::DoesNotFit { .. } => "DecodeError",
        Error::Corrupt { .. } => "CorruptTapeError",
        Error::FutureVersion { .. } => "TapeVersionError",
        Error::Locked { .. } => "TapeLockedError",
        Error::Replaced { .. } => "TapeReplacedError",
        Error::OutOfRange { .. } => "TapeRangeError",
        Error::DiskFull { .. } => "DiskFullError",
        Error::Invalid { .. } => return pyo3::exceptions::PyValueError::new_err(error.to_string()),
        Error::Io { source, .. } => {
            // What is looked for and not there is a `FileNotFoundError`, whoever found out.
            let is_missing = source.kind() == std::io::ErrorKind::NotFound;
            let errno = source.raw_os_error().or(is_missing.then_some(ENOENT));
            return match errno {
                Some(errno) => pyo3::exceptions::PyOSError::new_err((errno, error.to_string())),
                None => pyo3::exceptions::PyOSError::new_err(error.to_string()),
            };
        }
        _ => "TapeworksError",
    };
    Python::with_gil(|py| staying(|| build(py, class, &error)).unwrap_or_else(|failure| failure))
}

/// The exception for a value of a frame that `message` refuses.
pub fn decode_error(py: Python<'_>, reason: DecodeReason, message: &str) -> PyErr {
    let made = || -> PyResult<PyErr> {
        let class = py.import("tapeworks.errors")?.getattr("DecodeError")?;
        let instance = class.call1((message,))?;
        instance.setattr("reason", reason.name())?;
        Ok(PyErr::from_value(instance))
    };
    staying(made).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, class: &str, error: &Error) -> PyResult<PyErr> {
    let module = py.import("tapeworks.errors")?;
    let instance = module.getattr(class)?.call1((error.to_string(),))?;
    let fields = PyDict::new(py);
    match error {
        Error::Decode { reason, byte } => {
            fields.set_item("reason", reason.name())?;
            fields.set_item("byte", byte)?;
        }
        Error::DoesNotFit { byte, .. } => {
            fields.set_item("reason", DecodeReason::DoesNotFit.name())?;
            fields.set_item("byte", byte)?;
        }
        Error::Corrupt { path, byte, .. } => {
            fields.set_item("path", path.display().to_string())?;
            fields.set_item("byte", byte)?;
        }
        Error::OutOfRange { wanted, first, end } => {
            fields.set_item("wanted", wanted)?;
            fields.set_item("first", first)?;
            fields.set_item("end", end)?;
        }
        Error::Locked { path, holder } => {
            fields.set_item("path", path.display().to_string())?;
            fields.set_item("holder", holder)?;
        }
        Error::Replaced { path, .. } => fields.set_item("path", path.display().to_string())?,
        _ => {}
    }
    for (name, value) in fields.iter() {
        instance.setattr(name.extract::<String>()?.as_str(), value)?;
    }
    Ok(PyErr::from_value(instance))
}
