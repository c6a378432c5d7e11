//! Events that wait for what is missing before them.

use std::collections::VecDeque;

use super::event::Event;
use super::lines::Lines;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::sequencing::Rule;

/// One event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The sequence that must come before it.
    pub previous: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Its time by the venue, in ns.
    pub ts_event: i64,
    /// When waiting ends, on the arbiter's own clock, in ns.
    pub deadline: i64,
    /// Its channel.
    pub channel: u8,
    /// Serial of the line that brought it.
    pub line: u32,
    /// Hash of what it says.
    pub content: u32,
    /// Its records.
    pub bytes: Vec<u8>,
}

/// The events of one stream that wait, in order of sequence, and how far each line has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hold {
    events: VecDeque<Held>,
    past: Vec<(u16, u64)>,
}

impl Hold {
    /// How many events of one stream may wait. When one more comes, the first hole is declared a
    /// gap at once, so that memory is bounded and nothing is dropped.
    pub const MOST: usize = 4096;

    /// The first event that waits.
    pub fn first(&self) -> Option<&Held> {
        self.events.front()
    }

    /// Whether no more may wait.
    pub fn is_full(&self) -> bool {
        self.events.len() >= Self::MOST
    }

    /// Takes in an event that came on `connection`. `false`: a copy of it waits already.
    pub fn add(
        &mut self,
        event: &Event,
        bytes: &[u8],
        (connection, line): (u16, u32),
        deadline: i64,
    ) -> bool {
        match self.past.iter_mut().find(|line| line.0 == connection) {
            Some(line) => line.1 = line.1.max(event.sequence),
            None => self.past.push((connection, event.sequence)),
        }
        let at = self.events.partition_point(|held| held.sequence < event.sequence);
        if self.events.get(at).is_some_and(|held| held.sequence == event.sequence) {
            return false;
        }
        let held = Held {
            previous: event.previous,
            sequence: event.sequence,
            ts_event: event.ts_event,
            deadline,
            channel: event.channel,
            line,
            content: event.content,
            bytes: bytes.to_vec(),
        };
        self.events.insert(at, held);
        true
    }

    /// Removes the first event.
    pub fn take(&mut self) -> Option<Held> {
        self.events.pop_front()
    }

    /// Whether every open line of `group` has come to the first event: since a line keeps order,
    /// none of them can still bring what is missing before it.
    pub fn is_past(&self, lines: &Lines, group: u16) -> bool {
        let Some(first) = self.events.front() else {
            return false;
        };
        lines.of(group).all(|connection| {
            self.past.iter().any(|line| line.0 == connection && line.1 >= first.sequence)
        })
    }

    /// Forgets how far the lines have come: nothing waits any more.
    pub fn clear(&mut self) {
        self.events.clear();
        self.past.clear();
    }

    /// Writes the events to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.events.len());
        for held in &self.events {
            state.u64(held.previous);
            state.u64(held.sequence);
            state.i64(held.ts_event);
            state.i64(held.deadline);
            state.u8(held.channel);
            state.u32(held.line);
            state.u32(held.content);
            state.bytes(&held.bytes);
        }
        state.length(self.past.len());
        for &(connection, sequence) in &self.past {
            state.u32(u32::from(connection));
            state.u64(sequence);
        }
    }

    /// Reads the events from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut hold = Self::default();
        for _ in 0..state.length(49)? {
            hold.events.push_back(Held {
                previous: state.u64()?,
                sequence: state.u64()?,
                ts_event: state.i64()?,
                deadline: state.i64()?,
                channel: state.u8()?,
                line: state.u32()?,
                content: state.u32()?,
                bytes: state.bytes()?.to_vec(),
            });
        }
        for _ in 0..state.length(12)? {
            hold.past.push((state.u32()? as u16, state.u64()?));
        }
        Ok(hold)
    }
}

impl Held {
    /// The event as it was when it came.
    pub fn event(&self, instrument: u32, now: i64) -> Event {
        Event {
            rule: Rule::Contiguous,
            channel: self.channel,
            historical: false,
            instrument,
            previous: self.previous,
            sequence: self.sequence,
            ts_event: self.ts_event,
            ts_recv: now,
            length: self.bytes.len(),
            count: (self.bytes.len() / 64) as u32,
            content: self.content,
            is_live: true,
            is_numbered: true,
            is_known_by_number: true,
        }
    }
}
