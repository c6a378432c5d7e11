//! A lock around state of the core that Python reaches from several threads, and from within.
//!
//! Whoever holds it may call into Python, which may let another thread run, collect garbage or call
//! back. So nobody waits for it while holding the GIL, and who holds it already is told so: neither
//! can end in a deadlock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::released::released;

/// State that one thread uses at a time.
#[derive(Debug, Default)]
pub struct Turns<T> {
    state: Mutex<T>,
    /// The mark of the thread whose turn it is; 0 for none.
    holder: AtomicUsize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a, T> {
    state: MutexGuard<'a, T>,
    holder: &'a AtomicUsize,
}

/// A number of this thread, never 0.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}

impl<T: Send> Turns<T> {
    /// Wraps `state`.
    pub const fn new(state: T) -> Self {
        Self { state: Mutex::new(state), holder: AtomicUsize::new(0) }
    }

    /// Waits for a turn, with the GIL released meanwhile.
    ///
    /// # Errors
    /// `RuntimeError`: this thread has it already, further out; or Python ends meanwhile.
    #[inline]
    pub fn take(&self, py: Python<'_>) -> PyResult<Turn<'_, T>> {
        loop {
            let state = match self.state.try_lock() {
                Ok(state) => state,
                // A panic is our bug; what it left is still a valid state, or says that it is not.
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    self.wait(py)?;
                    continue;
                }
            };
            self.holder.store(this_thread(), Ordering::Relaxed);
            return Ok(Turn { state, holder: &self.holder });
        }
    }

    #[cold]
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if self.holder.load(Ordering::Relaxed) == this_thread() {
            return Err(PyRuntimeError::new_err(
                "called from within a call of the same object: a decoder, or code that runs when \
                 an object goes away, must not use what is using it",
            ));
        }
        // Then no other thread comes back from where it is, and this one would wait for good. Late
        // in the end nothing can be imported either.
        let ends = py.import("sys").and_then(|sys| sys.call_method0("is_finalizing")?.is_truthy());
        if ends.unwrap_or(true) {
            return Err(PyRuntimeError::new_err("in use by another thread as Python ends"));
        }
        released(py, || drop(self.state.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(())
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.holder.store(0, Ordering::Relaxed);
    }
}
