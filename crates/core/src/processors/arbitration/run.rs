//! Events of one stream that are set aside one after another, each in agreement with the last.

use super::event::Event;
use super::plausible::AHEAD_NS;
use crate::error::{DecodeReason, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::sequencing::Rule;

/// So many events of a stream wait to be believed. One more makes a dead letter of the oldest.
const HELD_MOST: usize = 64;
/// A sequence that is below its stream by no more than this may be one that came late.
pub const LATE_MOST: u64 = 1 << 20;

/// An event that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub offset: u64,
    pub line: u32,
    pub bytes: Vec<u8>,
}

/// Events of one stream that were set aside one after another, each in agreement with the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub reason: DecodeReason,
    /// Those whose outcome is open.
    pub held: Vec<Suspect>,
    /// Sequence, time and content of each, in order, of those that became dead letters as well.
    /// Never empty.
    pub said: Vec<(u64, i64, u32)>,
    pub deadline: i64,
}

impl Run {
    /// Sequence of the first.
    pub fn first(&self) -> u64 {
        self.said.first().map_or(0, |said| said.0)
    }

    /// Sequence of the last.
    pub fn last(&self) -> u64 {
        self.said.last().map_or(0, |said| said.0)
    }

    /// Takes out the oldest beyond those that may wait; with `is_full` none may.
    pub fn trim(&mut self, is_full: bool) -> Option<Suspect> {
        if self.said.len() > HELD_MOST {
            self.said.remove(0);
        }
        let is_over = self.held.len() > HELD_MOST || (is_full && !self.held.is_empty());
        is_over.then(|| self.held.remove(0))
    }

    /// Whether `event` is one of them again, as another line brings it.
    pub fn has(&self, event: &Event) -> bool {
        self.said.contains(&(event.sequence, event.ts_event, event.content))
    }

    /// Whether `event` goes on where the run ends, for a stream that stood at `last`.
    pub fn is_continued_by(&self, event: &Event, last: u64) -> bool {
        let ts_last = self.said.last().map_or(0, |said| said.1);
        let is_in_time = event.ts_event.abs_diff(ts_last) <= AHEAD_NS as u64;
        let is_sequenced = matches!(event.rule, Rule::Contiguous | Rule::Rising);
        let far = self.first().abs_diff(last).max(LATE_MOST).saturating_mul(2);
        let step = event.sequence.saturating_sub(self.last());
        let in_order = (1..=far).contains(&step);
        is_in_time && (in_order || !is_sequenced)
    }

    /// Whether the steps within the run are as large as the one that led to it: then these are the
    /// steps that the stream takes.
    pub fn is_coarse(&self, last: u64) -> bool {
        let steps = self.said.len().max(2) as u64 - 1;
        let step = self.last().saturating_sub(self.first()) / steps;
        step.saturating_mul(1024) >= self.first().saturating_sub(last)
    }

    /// Writes it to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.u8(self.reason as u8);
        state.length(self.said.len());
        for &(sequence, ts_event, content) in &self.said {
            state.u64(sequence);
            state.i64(ts_event);
            state.u32(content);
        }
        state.i64(self.deadline);
        state.length(self.held.len());
        for suspect in &self.held {
            state.u64(suspect.offset);
            state.u32(suspect.line);
            state.bytes(&suspect.bytes);
        }
    }

    /// Reads it from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let reason = if state.u8()? == DecodeReason::ImplausibleTime as u8 {
            DecodeReason::ImplausibleTime
        } else {
            DecodeReason::ImplausibleSequence
        };
        let mut said = Vec::new();
        for _ in 0..state.length(20)? {
            said.push((state.u64()?, state.i64()?, state.u32()?));
        }
        let mut run = Run { reason, held: Vec::new(), said, deadline: state.i64()? };
        for _ in 0..state.length(20)? {
            let (offset, line) = (state.u64()?, state.u32()?);
            run.held.push(Suspect { offset, line, bytes: state.bytes()?.to_vec() });
        }
        Ok(run)
    }
}
