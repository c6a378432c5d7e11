//! What the last events of a stream said, so that a copy is told from a contradiction; and what a
//! few of the last minutes said, so that a line that is behind is no venue that counts anew.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// How many events are remembered: a copy that comes later than that is not compared.
const MOST: usize = 64;
/// One event in so many ns is remembered for longer. A line that repeats what was passed on repeats
/// one of these before it can be taken for a venue that counts anew.
const SAMPLE_NS: i64 = 8_000_000_000;
/// How many of these are remembered: those of four minutes.
const SAMPLES: usize = 32;

/// The sequences and content hashes of the last events of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    next: usize,
    /// When the last of the samples was received, in ns.
    sampled_at: i64,
    next_sample: usize,
    /// Sequence and content hash. No event has the sequence 0: without one it is not sequenced.
    events: [(u64, u32); MOST],
    samples: [(u64, u32); SAMPLES],
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            next: 0,
            events: [(0, 0); MOST],
            next_sample: 0,
            sampled_at: i64::MIN,
            samples: [(0, 0); SAMPLES],
        }
    }
}

impl Recent {
    /// Remembers an event that was received at `ts_recv`, in the place of the oldest.
    #[inline]
    pub fn push(&mut self, sequence: u64, content: u32, ts_recv: i64) {
        self.events[self.next % MOST] = (sequence, content);
        self.next = (self.next + 1) % MOST;
        if ts_recv.saturating_sub(self.sampled_at) >= SAMPLE_NS {
            self.sample(sequence, content, ts_recv);
        }
    }

    #[cold]
    fn sample(&mut self, sequence: u64, content: u32, ts_recv: i64) {
        self.samples[self.next_sample % SAMPLES] = (sequence, content);
        self.next_sample = (self.next_sample + 1) % SAMPLES;
        self.sampled_at = ts_recv;
    }

    /// Whether an event is one of the last minutes that is remembered: such a one comes again.
    pub fn is_sample(&self, sequence: u64, content: u32) -> bool {
        sequence != 0 && self.samples.contains(&(sequence, content))
    }

    /// The content hash of the event of that sequence, if it is remembered.
    pub fn find(&self, sequence: u64) -> Option<u32> {
        let found = self.events.iter().find(|event| event.0 == sequence && sequence != 0);
        found.map(|event| event.1)
    }

    /// Writes the events to a snapshot, oldest first.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        let events = (0..MOST).map(|at| self.events[(self.next + at) % MOST]);
        let samples = (0..SAMPLES).map(|at| self.samples[(self.next_sample + at) % SAMPLES]);
        write_events(state, events);
        write_events(state, samples);
        state.i64(self.sampled_at);
    }

    /// Reads the events from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut recent = Self::default();
        for _ in 0..state.length(12)? {
            recent.push(state.u64()?, state.u32()?, i64::MIN);
        }
        for _ in 0..state.length(12)? {
            recent.sample(state.u64()?, state.u32()?, i64::MIN);
        }
        recent.sampled_at = state.i64()?;
        Ok(recent)
    }
}

fn write_events(state: &mut StateWriter<'_>, events: impl Iterator<Item = (u64, u32)>) {
    let known: Vec<_> = events.filter(|event| event.0 != 0).collect();
    state.length(known.len());
    for (sequence, content) in known {
        state.u64(sequence);
        state.u32(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_events_are_found_and_older_ones_are_not() {
        // 100 events: the last 64 are known by what they said.
        let mut recent = Recent::default();
        (1..=100_u64).for_each(|sequence| recent.push(sequence, sequence as u32 * 7, 0));
        assert_eq!(recent.find(36), None);
        assert_eq!(recent.find(37), Some(37 * 7));
        assert_eq!(recent.find(100), Some(700));
        assert_eq!(Recent::default().find(0), None);
    }

    #[test]
    fn one_event_in_eight_seconds_is_known_for_four_minutes() {
        // Ten a second for ten minutes.
        let mut recent = Recent::default();
        for sequence in 1..=6_000_u64 {
            recent.push(sequence, 7, sequence as i64 * 100_000_000);
        }
        let known: Vec<_> = (1..=6_000).filter(|&at| recent.is_sample(at, 7)).collect();
        assert_eq!((known.len(), known[0], known[31]), (32, 3_441, 5_921));
        assert!(!recent.is_sample(5_921, 8) && !recent.is_sample(0, 0));
    }
}
