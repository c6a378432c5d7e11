//! What the venue's answers said last of each story: they are asked for again and again.
//!
//! A story that says what it said the last time is a repeat. One that is corrected, and then
//! corrected back, says something new each time.

use std::collections::HashMap;

use super::alike::{identity_of, mixed};
use super::Arbiter;
use crate::error::Result;
use crate::instrument::FastHash;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Marker, Plain};

/// So many stories are remembered at most, in two halves, of which the older is forgotten at once.
const STORIES_MAX: usize = 1 << 20;

/// By story, a hash of what was said of it last.
#[derive(Debug, Default)]
pub(super) struct Stories {
    young: HashMap<u64, u64, FastHash>,
    old: HashMap<u64, u64, FastHash>,
}

impl Stories {
    /// Whether nothing was told.
    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// What was said last of the story `id`, in the place of which `said` is remembered.
    fn replace(&mut self, id: u64, said: u64) -> Option<u64> {
        let before = self.young.insert(id, said).or_else(|| self.old.get(&id).copied());
        if self.young.len() >= STORIES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        before
    }

    /// Writes all to a snapshot.
    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        for half in [&self.old, &self.young] {
            let mut sorted: Vec<_> = half.iter().map(|(&id, &said)| (id, said)).collect();
            sorted.sort_unstable();
            state.length(sorted.len());
            for (id, said) in sorted {
                state.u64(id);
                state.u64(said);
            }
        }
    }

    /// Reads what [`Stories::write`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut stories = Self::default();
        for half in [&mut stories.old, &mut stories.young] {
            for _ in 0..state.length(16)? {
                half.insert(state.u64()?, state.u64()?);
            }
        }
        Ok(stories)
    }
}

impl Arbiter {
    /// Whether the venue's history told a story with this text the last time that it told it.
    pub fn is_story_retold(&mut self, story: &Marker, text: &[u8]) -> bool {
        let digest = text.chunks(8).fold(text.len() as u64, |digest, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mixed(digest, u64::from_le_bytes(word))
        });
        let known = Marker { count: 0, first: digest, last: 0, ..*story };
        let said = identity_of(known.as_bytes());
        match self.stories.replace(story.header.sequence, said) {
            Some(before) => before == said,
            // A state of before remembers stories among all else that was told.
            None => self.retold.has(known.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_each_of_many_stories_is_remembered() {
        // One story is told all the time, of the others only the last half million are known.
        let mut stories = Stories::default();
        assert_eq!(stories.replace(1, 7), None);
        for id in 2..STORIES_MAX as u64 * 2 {
            stories.replace(id, id);
            if id % 1000 == 0 {
                assert_eq!(stories.replace(1, 7), Some(7));
            }
        }
        assert!(stories.young.len() + stories.old.len() <= STORIES_MAX);
        assert_eq!(stories.replace(2, 2), None);
        let last = STORIES_MAX as u64 * 2 - 1;
        assert_eq!(stories.replace(last, 9), Some(last));
        let mut bytes = Vec::new();
        stories.write(&mut StateWriter::new(&mut bytes, "test", 1));
        let mut state = StateReader::new(&bytes, "test", 1).unwrap();
        let mut read = Stories::read(&mut state).unwrap();
        state.finish().unwrap();
        assert_eq!([read.replace(last, 8), read.replace(last, 9)], [Some(9), Some(8)]);
    }
}
