//! Records of one tape that come on several lines, each in order, put in order again.

use std::collections::VecDeque;

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{RecordRef, Records};

/// Bytes that were taken out before the memory is used again.
const SPENT_MAX: usize = 1 << 16;

/// What came on one line and waits for what stands before it on the tape.
#[derive(Debug, Default)]
struct Queue {
    offsets: VecDeque<u64>,
    records: Records,
    /// Bytes of `records` that were taken out.
    spent: usize,
}

impl Queue {
    fn compact(&mut self) -> Result<()> {
        if self.offsets.is_empty() {
            self.records.clear();
            self.spent = 0;
        } else if self.spent > SPENT_MAX && self.spent * 2 > self.records.as_bytes().len() {
            self.records = Records::from_bytes(&self.records.as_bytes()[self.spent..])?;
            self.spent = 0;
        }
        Ok(())
    }
}

/// All lines of a source.
#[derive(Debug, Default)]
pub(super) struct Queues {
    lines: Vec<Queue>,
    waiting: usize,
}

impl Queues {
    /// Number of records that wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of the records that wait.
    pub(super) fn byte_length(&self) -> usize {
        self.lines.iter().map(|line| line.records.as_bytes().len()).sum()
    }

    /// Keeps a record of that offset.
    pub(super) fn push(&mut self, line: u32, offset: u64, record: RecordRef<'_>) {
        let at = line as usize;
        if at >= self.lines.len() {
            self.lines.resize_with(at + 1, Queue::default);
        }
        self.lines[at].offsets.push_back(offset);
        self.lines[at].records.push_ref(record);
        self.waiting += 1;
    }

    /// The lowest offset that waits.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.lines.iter().filter_map(|line| line.offsets.front().copied()).min()
    }

    /// Takes the record of that offset out, if it stands first on a line. What stands before it
    /// there is dropped: it was taken before. `each` sees the record; says how many were dropped.
    pub(super) fn take(
        &mut self,
        offset: u64,
        each: impl FnOnce(RecordRef<'_>) -> Result<()>,
    ) -> Result<(bool, u64)> {
        let mut dropped = 0;
        for line in &mut self.lines {
            while let Some(&first) = line.offsets.front() {
                if first > offset {
                    break;
                }
                let rest = &line.records.as_bytes()[line.spent..];
                let Some(record) = crate::record::records::iterate(rest).next() else { break };
                let length = record.bytes().len();
                self.waiting -= 1;
                line.offsets.pop_front();
                if first == offset {
                    each(record)?;
                    line.spent += length;
                    line.compact()?;
                    return Ok((true, dropped));
                }
                line.spent += length;
                line.compact()?;
                dropped += 1;
            }
        }
        Ok((false, dropped))
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.lines.len());
        for line in &self.lines {
            state.length(line.offsets.len());
            line.offsets.iter().for_each(|&offset| state.u64(offset));
            state.bytes(&line.records.as_bytes()[line.spent..]);
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut queues = Self::default();
        for _ in 0..state.length(16)? {
            let mut line = Queue::default();
            for _ in 0..state.length(8)? {
                line.offsets.push_back(state.u64()?);
            }
            line.records = Records::from_bytes(state.bytes()?)?;
            if line.records.len() != line.offsets.len() {
                return Err(crate::Error::invalid("the state of a router is not whole"));
            }
            queues.waiting += line.offsets.len();
            queues.lines.push(line);
        }
        Ok(queues)
    }
}
