//! Medians of what was: of the last values, and of all sizes.

use std::collections::{BTreeMap, VecDeque};

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// What the median of absolute deviations of a normal distribution is multiplied with to give its
/// standard deviation.
pub(super) const TO_SD: f64 = 1.4826;

/// The last values, up to a number of them.
#[derive(Debug, Clone)]
pub(super) struct History {
    values: VecDeque<f64>,
    most: usize,
}

impl History {
    pub(super) const fn new(most: usize) -> Self {
        Self { values: VecDeque::new(), most }
    }

    pub(super) fn push(&mut self, value: f64) {
        if self.values.len() == self.most {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
    }

    /// The median; none of nothing.
    pub(super) fn median(&self) -> Option<f64> {
        median(&mut self.values.iter().copied().collect::<Vec<_>>())
    }

    /// The median, and the median of the absolute deviations from it.
    pub(super) fn spread(&self) -> Option<(f64, f64)> {
        let mut values: Vec<_> = self.values.iter().copied().collect();
        let middle = median(&mut values)?;
        values.iter_mut().for_each(|value| *value = (*value - middle).abs());
        Some((middle, median(&mut values)?))
    }

    /// The standard deviation about `middle`; none of nothing.
    pub(super) fn deviation_about(&self, middle: f64) -> Option<f64> {
        let squares: f64 = self.values.iter().map(|value| (value - middle).powi(2)).sum();
        (!self.values.is_empty()).then(|| (squares / self.values.len() as f64).sqrt())
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.values.len());
        self.values.iter().for_each(|value| state.u64(value.to_bits()));
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.values.clear();
        for _ in 0..state.length(8)? {
            self.values.push_back(f64::from_bits(state.u64()?));
        }
        Ok(())
    }
}

/// The median of `values`, which are put in another order; none of nothing.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
    let (_, &mut upper, _) = values.select_nth_unstable_by(high, f64::total_cmp);
    if low == high {
        return Some(upper);
    }
    let (_, &mut lower, _) = values[..high].select_nth_unstable_by(low, f64::total_cmp);
    Some((lower + upper) / 2.0)
}

/// Different numbers of which each is counted; one beyond counts as the next smaller that is known.
const DISTINCT_MAX: usize = 4_096;

/// How often each number came.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    times: BTreeMap<i64, u64>,
    total: u64,
}

impl Counted {
    pub(super) fn add(&mut self, value: i64) {
        self.total += 1;
        if let Some(times) = self.times.get_mut(&value) {
            *times += 1;
        } else if self.times.len() < DISTINCT_MAX {
            self.times.insert(value, 1);
        } else if let Some((_, times)) = self.times.range_mut(..value).next_back() {
            *times += 1;
        } else if let Some((_, times)) = self.times.iter_mut().next() {
            *times += 1;
        }
    }

    pub(super) fn remove(&mut self, value: i64) {
        if let Some(times) = self.times.get_mut(&value) {
            *times -= 1;
            self.total -= 1;
            if *times == 0 {
                self.times.remove(&value);
            }
        }
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The median; none of nothing.
    pub(super) fn median(&self) -> Option<f64> {
        let last = self.total.checked_sub(1)?;
        let (low, high) = (self.ranked(last / 2)?, self.ranked(self.total / 2)?);
        Some((low as f64 + high as f64) / 2.0)
    }

    fn ranked(&self, rank: u64) -> Option<i64> {
        let mut before = 0;
        self.times.iter().find_map(|(&value, times)| {
            before += times;
            (before > rank).then_some(value)
        })
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.times.len());
        for (&value, &times) in &self.times {
            state.i64(value);
            state.u64(times);
        }
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        *self = Self::default();
        for _ in 0..state.length(16)? {
            let (value, times) = (state.i64()?, state.u64()?);
            self.times.insert(value, times);
            self.total += times;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_sorting() {
        // Seeded values, of even and odd number; windows that move.
        let (mut seed, mut all) = (7_u64, Vec::new());
        let (mut history, mut counted) = (History::new(50), Counted::default());
        for _ in 0..500 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = (seed >> 40) as i64 % 100 - 50;
            all.push(value);
            history.push(value as f64);
            counted.add(value);
            if all.len() > 100 {
                counted.remove(all[all.len() - 101]);
            }
            let sorted = |count: usize| {
                let mut last = all[all.len().saturating_sub(count)..].to_vec();
                last.sort_unstable();
                (last[(last.len() - 1) / 2] + last[last.len() / 2]) as f64 / 2.0
            };
            assert_eq!(history.median(), Some(sorted(50)));
            assert_eq!(counted.median(), Some(sorted(100)));
        }
        assert_eq!(median(&mut []), None);
    }
}
