//! Counts of whole numbers by their size: quantiles within a thousandth, in bounded memory.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Numbers below this are counted one by one; above it, 1,024 classes an octave.
const EXACT: u64 = 1 << 11;
const CLASS_BITS: u32 = 10;

/// How many numbers there are of each class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    classes: BTreeMap<i32, u64>,
    count: u64,
}

/// The class of a number: classes rise with numbers, and mirror around 0.
fn class_of(value: i64) -> i32 {
    let size = value.unsigned_abs();
    let class = if size < EXACT {
        size as i32
    } else {
        let shift = size.ilog2() - CLASS_BITS;
        ((shift as i32) << CLASS_BITS) + (size >> shift) as i32
    };
    if value < 0 {
        -class
    } else {
        class
    }
}

/// The middle of a class.
fn value_of(class: i32) -> i64 {
    let size = class.unsigned_abs();
    let middle = if u64::from(size) < EXACT {
        u64::from(size)
    } else {
        let shift = (size >> CLASS_BITS) - 1;
        let low = u64::from(size - (shift << CLASS_BITS)) << shift;
        low + ((1_u64 << shift) >> 1)
    };
    let middle = i64::try_from(middle).unwrap_or(i64::MAX);
    if class < 0 {
        -middle
    } else {
        middle
    }
}

impl Histogram {
    pub(super) fn add(&mut self, value: i64) {
        *self.classes.entry(class_of(value)).or_default() += 1;
        self.count += 1;
    }

    /// Numbers that were added.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The nearest-rank quantile: the smallest number that `share` of all are up to, a thousandth
    /// at most off.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        self.classes.iter().find_map(|(&class, &count)| {
            seen += count;
            (seen >= rank).then(|| value_of(class) as f64)
        })
    }

    pub(super) fn clear(&mut self) {
        self.classes.clear();
        self.count = 0;
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.classes.len());
        for (&class, &count) in &self.classes {
            state.i64(class.into());
            state.u64(count);
        }
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.clear();
        for _ in 0..state.length(16)? {
            let (class, count) = (state.i64()?, state.u64()?);
            self.classes.insert(class as i32, count);
            self.count = self.count.saturating_add(count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_within_a_thousandth_of_its_class() {
        let mut last = i32::MIN;
        for bits in 0..63 {
            for value in [(1_i64 << bits) - 1, 1 << bits, (1 << bits) + (1 << bits) / 3] {
                let class = class_of(value);
                assert!(class >= last && class_of(-value) == -class);
                last = last.max(class);
                let off = (value_of(class) - value).unsigned_abs();
                assert!(off as f64 <= value as f64 / 1_000.0, "{value} {off}");
            }
        }
        let mut histogram = Histogram::default();
        [5, -7, 2_000, 100, 3].iter().for_each(|&value| histogram.add(value));
        assert_eq!(histogram.quantile(0.5), Some(5.0));
        assert_eq!((histogram.quantile(0.2), histogram.quantile(1.0)), (Some(-7.0), Some(2_000.0)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
