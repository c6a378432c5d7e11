//! What the last events of a stream said, so that a copy is told from a contradiction.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// How many events are remembered: a copy that comes later than that is not compared.
const MOST: usize = 64;

/// The sequences and content hashes of the last events of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    next: usize,
    /// Sequence and content hash. No event has the sequence 0: without one it is not sequenced.
    events: [(u64, u32); MOST],
}

impl Default for Recent {
    fn default() -> Self {
        Self { next: 0, events: [(0, 0); MOST] }
    }
}

impl Recent {
    /// Remembers an event, in the place of the oldest.
    #[inline]
    pub fn push(&mut self, sequence: u64, content: u32) {
        self.events[self.next % MOST] = (sequence, content);
        self.next = (self.next + 1) % MOST;
    }

    /// The content hash of the event of that sequence, if it is remembered.
    pub fn find(&self, sequence: u64) -> Option<u32> {
        let found = self.events.iter().find(|event| event.0 == sequence && sequence != 0);
        found.map(|event| event.1)
    }

    /// Writes the events to a snapshot, oldest first.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        let order = (0..MOST).map(|at| self.events[(self.next + at) % MOST]);
        let known: Vec<_> = order.filter(|event| event.0 != 0).collect();
        state.length(known.len());
        for (sequence, content) in known {
            state.u64(sequence);
            state.u32(content);
        }
    }

    /// Reads the events from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut recent = Self::default();
        for _ in 0..state.length(12)? {
            let (sequence, content) = (state.u64()?, state.u32()?);
            recent.push(sequence, content);
        }
        Ok(recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_events_are_found_and_older_ones_are_not() {
        // 100 events: the last 64 are known by what they said.
        let mut recent = Recent::default();
        (1..=100_u64).for_each(|sequence| recent.push(sequence, sequence as u32 * 7));
        assert_eq!(recent.find(36), None);
        assert_eq!(recent.find(37), Some(37 * 7));
        assert_eq!(recent.find(100), Some(700));
        assert_eq!(Recent::default().find(0), None);
    }
}
