//! What crosses the border to the JVM: arrays, handles, exceptions.

use std::ffi::CString;
use std::panic::{catch_unwind, AssertUnwindSafe};

use jni_sys::{jbyteArray, jlong, JNIEnv};
use tapeworks_core::{Error, Result};

/// The class of all that is thrown.
const EXCEPTION: &std::ffi::CStr = c"tapeworks/flink/CoreException";

/// A function of the JVM; it has all of version 1.6.
macro_rules! jvm {
    ($env:expr, $name:ident $(, $argument:expr)*) => {
        // SAFETY: the caller has the environment of its thread, and the JVM has this function.
        unsafe { ((**$env).$name.expect("the JVM has it"))($env $(, $argument)*) }
    };
}

/// Runs `work`; what it fails with is thrown, and the default returned.
///
/// # Safety
/// `env` is that of the calling thread.
pub(crate) unsafe fn guarded<T: Returned>(env: *mut JNIEnv, work: impl FnOnce() -> Result<T>) -> T {
    let told = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return value,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("this is a bug of Tapeworks: {}", text.unwrap_or("it panicked"))
        }
    };
    let told = CString::new(told.replace('\0', " ")).unwrap_or_default();
    let class = jvm!(env, FindClass, EXCEPTION.as_ptr());
    if !class.is_null() {
        jvm!(env, ThrowNew, class, told.as_ptr());
    }
    T::none()
}

/// What is returned beside an exception.
pub(crate) trait Returned {
    /// A value that nobody looks at.
    fn none() -> Self;
}

impl Returned for () {
    fn none() -> Self {}
}

impl Returned for jlong {
    fn none() -> Self {
        0
    }
}

impl Returned for jbyteArray {
    fn none() -> Self {
        std::ptr::null_mut()
    }
}

/// A copy of an array of Java.
///
/// # Errors
/// `Error::Invalid`: it is null.
///
/// # Safety
/// As [`guarded`]; `array` is one, or null.
pub(crate) unsafe fn bytes(env: *mut JNIEnv, array: jbyteArray) -> Result<Vec<u8>> {
    if array.is_null() {
        return Err(Error::invalid("expected an array, got null"));
    }
    let length = jvm!(env, GetArrayLength, array);
    let mut copy = Vec::<u8>::with_capacity(length as usize);
    jvm!(env, GetByteArrayRegion, array, 0, length, copy.as_mut_ptr().cast());
    // SAFETY: the JVM wrote all of it, as the length is its own.
    unsafe { copy.set_len(length as usize) };
    Ok(copy)
}

/// A new array of Java.
///
/// # Errors
/// `Error::Invalid`: it is longer than an array can be, or the JVM has no memory.
///
/// # Safety
/// As [`guarded`].
pub(crate) unsafe fn array(env: *mut JNIEnv, bytes: &[u8]) -> Result<jbyteArray> {
    let length = i32::try_from(bytes.len())
        .map_err(|_| Error::invalid(format!("{} bytes exceed an array of Java", bytes.len())))?;
    let array = jvm!(env, NewByteArray, length);
    if array.is_null() {
        return Err(Error::invalid(format!("the JVM has no memory for {length} bytes")));
    }
    jvm!(env, SetByteArrayRegion, array, 0, length, bytes.as_ptr().cast());
    Ok(array)
}

/// Keeps `value` until [`freed`] is called; returns its handle.
pub(crate) fn kept<T>(value: T) -> jlong {
    Box::into_raw(Box::new(value)) as jlong
}

/// The value of a handle.
///
/// # Safety
/// `handle` is of [`kept`] with the same type, is not freed, and is not used at the same time.
pub(crate) unsafe fn held<'a, T>(handle: jlong) -> &'a mut T {
    assert_ne!(handle, 0, "a handle that was freed");
    // SAFETY: the caller says so.
    unsafe { &mut *(handle as *mut T) }
}

/// Drops the value of a handle.
///
/// # Safety
/// As [`held`].
pub(crate) unsafe fn freed<T>(handle: jlong) {
    if handle != 0 {
        // SAFETY: the caller says so.
        drop(unsafe { Box::from_raw(handle as *mut T) });
    }
}
