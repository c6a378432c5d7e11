//! The durable watermark of a tape that is made from another one follows that of its input.

use std::collections::VecDeque;

use super::Reader;
use crate::error::Result;

/// So many ends wait for their input at most; then the newest stands for those before.
const WAITING_MAX: usize = 1024;
/// What holds back the durable mark of a tape that is made from another one.
///
/// Both tapes reach the disk apart. Were an item called durable while its input is not, a loss of
/// power could leave it without the input that it is made of, and it would have to be taken back.
#[derive(Debug)]
pub(crate) struct Gate {
    input: Reader,
    /// Ends that are on the disk, and the input that each covers, oldest first.
    waiting: VecDeque<(u64, u64)>,
}

impl Gate {
    pub(crate) fn new(input: Reader) -> Self {
        Self { input, waiting: VecDeque::new() }
    }

    /// Takes in that the tape is on the disk up to `end`, which covers the input before `covered`.
    /// Gives the newest end whose input is durable, if there is one that was not given yet.
    pub(crate) fn pass(&mut self, end: u64, covered: u64) -> Result<Option<u64>> {
        if self.waiting.back().is_none_or(|&(last, _)| last < end) {
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_back();
            }
            self.waiting.push_back((end, covered));
        }
        let durable = self.input.durable()?;
        let ready = self.waiting.partition_point(|&(_, covered)| covered <= durable);
        Ok(self.waiting.drain(..ready).next_back().map(|(end, _)| end))
    }

    /// Whether something is on the disk whose input is not durable yet.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
