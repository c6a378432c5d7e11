//! The GIL, given back while the core works, and what becomes of a thread that has it no more.
//!
//! Once Python has begun to end, a daemon thread that asks for the GIL does not come back: before
//! 3.14 it is ended where it stands, by unwinding its stack. That must not go through the frames
//! that `PyO3` puts around a call, which end the whole process for it (SIGABRT). So the thread
//! stays here, as it does from 3.14 on, until the process has ended.

use std::hint::black_box;
use std::mem;
use std::thread;

use pyo3::marker::Ungil;
use pyo3::prelude::*;

/// Does `work` with the GIL released.
pub fn released<T: Ungil>(py: Python<'_>, work: impl Ungil + FnOnce() -> T) -> T {
    staying(|| py.allow_threads(work))
}

/// Does `call`, which may run code of Python: at any step that may give the GIL back and ask again.
pub fn staying<T>(call: impl FnOnce() -> T) -> T {
    let stay = Stay;
    let (mut call, mut done) = (Some(call), None);
    let mut step = || done = call.take().map(|call| call());
    // Not to be seen through: functions of C count as never unwinding, so that where nothing else
    // is called, the compiler would leave out what is done when they do.
    black_box::<&mut dyn FnMut()>(&mut step)();
    mem::forget(stay);
    done.expect("it was called once")
}

/// What is dropped only where `call` does not come back.
struct Stay;

impl Drop for Stay {
    fn drop(&mut self) {
        // A panic is our bug, and an exception in Python.
        while !thread::panicking() {
            thread::park();
        }
    }
}
