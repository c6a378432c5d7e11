//! A bounded list of ranges of sequences.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Disjoint ranges in rising order, both ends included. At most [`Ranges::MOST`]: when one more is
/// added, the lowest is forgotten, as it is the oldest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: Vec<(u64, u64)>,
    /// The highest sequence of a range that was forgotten: of none up to it is known that it is not
    /// in a range. Not part of what [`Ranges::write`] writes.
    pub forgotten: u64,
}

impl Ranges {
    /// How many ranges are remembered.
    pub const MOST: usize = 4096;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The highest sequence.
    pub fn highest(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1)
    }

    /// Whether `sequence` lies in one of the ranges.
    pub fn contains(&self, sequence: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < sequence);
        self.ranges.get(at).is_some_and(|range| range.0 <= sequence)
    }

    /// Whether all of `first` to `last` lie in one of the ranges.
    pub fn covers(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < first);
        self.ranges.get(at).is_some_and(|range| range.0 <= first && last <= range.1)
    }

    /// Whether one of `first` to `last` lies in a range, or may have before it was forgotten.
    pub fn may_touch(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < first);
        first <= self.forgotten || self.ranges.get(at).is_some_and(|range| range.0 <= last)
    }

    /// Adds `first` to `last`, joining what it touches.
    pub fn insert(&mut self, first: u64, last: u64) {
        let start = self.ranges.partition_point(|range| range.1.saturating_add(1) < first);
        let end = self.ranges.partition_point(|range| range.0 <= last.saturating_add(1));
        let (mut low, mut high) = (first, last);
        if start < end {
            low = low.min(self.ranges[start].0);
            high = high.max(self.ranges[end - 1].1);
        }
        self.ranges.splice(start..end, [(low, high)]);
        self.forget();
    }

    fn forget(&mut self) {
        if self.ranges.len() > Self::MOST {
            self.forgotten = self.forgotten.max(self.ranges.remove(0).1);
        }
    }

    /// Takes `sequence` out of the range that holds it, which may split it in two.
    pub fn remove(&mut self, sequence: u64) {
        let at = self.ranges.partition_point(|range| range.1 < sequence);
        let Some(&(first, last)) = self.ranges.get(at).filter(|range| range.0 <= sequence) else {
            return;
        };
        match (first == sequence, last == sequence) {
            (true, true) => drop(self.ranges.remove(at)),
            (true, false) => self.ranges[at].0 = sequence + 1,
            (false, true) => self.ranges[at].1 = sequence - 1,
            (false, false) => {
                self.ranges.splice(at..=at, [(first, sequence - 1), (sequence + 1, last)]);
                self.forget();
            }
        }
    }

    /// Writes the ranges to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.ranges.len());
        for &(first, last) in &self.ranges {
            state.u64(first);
            state.u64(last);
        }
    }

    /// Reads the ranges from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let count = state.length(16)?;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            ranges.push((state.u64()?, state.u64()?));
        }
        Ok(Self { ranges, forgotten: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_equal_a_set_of_numbers() {
        // Random inserts and removals over 64 numbers against a plain set of the same numbers.
        let mut ranges = Ranges::default();
        let mut set = std::collections::BTreeSet::new();
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let first = random % 64;
            if random % 3 == 0 {
                let last = first + (random >> 20) % 4;
                ranges.insert(first, last);
                set.extend(first..=last);
            } else {
                ranges.remove(first);
                set.remove(&first);
            }
            for number in 0..70 {
                assert_eq!(ranges.contains(number), set.contains(&number));
                let mut few = number..=number + 3;
                assert_eq!(ranges.covers(number, number + 3), few.all(|one| set.contains(&one)));
                // No event has the number 0.
                let touched = number == 0 || set.range(number..=number + 3).next().is_some();
                assert_eq!(ranges.may_touch(number, number + 3), touched);
            }
            assert!(ranges.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            assert_eq!(ranges.highest(), set.last().copied());
        }
    }

    #[test]
    fn ranges_forget_the_lowest_at_the_limit() {
        // One range more than the limit, each apart from the next.
        let mut ranges = Ranges::default();
        for number in 0..=Ranges::MOST as u64 {
            ranges.insert(number * 2, number * 2);
        }
        assert!(!ranges.contains(0));
        assert!(ranges.contains(2));
        assert_eq!(ranges.ranges.len(), Ranges::MOST);
        // Of the one that was forgotten it is not known any more; of those above it is.
        let most = Ranges::MOST as u64;
        assert_eq!(
            [(0, 0), (1, 1), (2, 2)].map(|(a, b)| ranges.may_touch(a, b)),
            [true, false, true]
        );
        // A range that is split makes one more.
        ranges.insert(most * 2 + 2, most * 2 + 9);
        ranges.remove(most * 2 + 4);
        assert_eq!((ranges.forgotten, ranges.contains(6)), (4, true));
    }
}
