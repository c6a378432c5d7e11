//! How a tape says what input it covers where nothing was made of it.

use std::sync::atomic::Ordering;

use super::Tape;
use crate::codec::NO_INPUT;
use crate::error::Result;
use crate::tape::head::{is_of_this_boot, COVERED};

impl Tape {
    /// Publishes that the tape covers the input before `input_offset`, received up to `ts_recv`,
    /// though nothing was made of it. That is a word of the newest segment: a stage that finds
    /// nothing for months calls this each second, and its tape does not grow. Readers see it at
    /// once, and for as long as this machine runs; the next opening for writing goes on where the
    /// last frame does.
    ///
    /// # Errors
    /// As [`Tape::append`]: a frame says it the first time, and where the kernel does not tell one
    /// boot from another.
    pub fn cover(&mut self, input_offset: u64, ts_recv: i64) -> Result<()> {
        if self.input == NO_INPUT || !is_of_this_boot(&self.live.map) {
            return self.cover_by_frame(input_offset, ts_recv);
        }
        if self.needs_reopen() {
            return Err(self.shared.earlier_failure());
        }
        if self.input.max(self.covered) < input_offset {
            self.covered = input_offset;
            self.live.map.word(COVERED).store(input_offset, Ordering::Release);
        }
        self.live.map.intact(&self.live.path)
    }

    /// The same by a frame without items, unless the last one covers as much: the next opening goes
    /// on there.
    ///
    /// # Errors
    /// As [`Tape::append`].
    pub fn cover_by_frame(&mut self, input_offset: u64, ts_recv: i64) -> Result<()> {
        if self.input == NO_INPUT || self.input < input_offset {
            self.append(&[], 0, input_offset, ts_recv)?;
        }
        Ok(())
    }
}
