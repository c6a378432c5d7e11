//! A histogram of durations with logarithmic buckets: fixed memory, at most 1/16 off.

/// Sub-buckets of every power of two.
const SPLIT_BITS: u32 = 4;
const SPLIT: u64 = 1 << SPLIT_BITS;
const BUCKETS: usize = (64 - SPLIT_BITS as usize + 1) * SPLIT as usize;

/// Durations in ns, counted.
#[derive(Debug, Clone)]
pub struct Latency {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0 }
    }
}

impl Latency {
    /// Counts `times` durations of `ns`; one below zero, of a clock that was set back, as zero.
    #[inline]
    pub fn record(&mut self, ns: i64, times: u64) {
        let ns = u64::try_from(ns).unwrap_or(0);
        self.buckets[bucket(ns)] += times;
        self.count += times;
        self.max = self.max.max(ns);
    }

    /// How many durations were counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The duration in ns that the part `quantile` (0 to 1) of all does not exceed; 0 without any.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, times) in self.buckets.iter().enumerate() {
            seen += times;
            if seen >= rank {
                return upper(index).min(self.max);
            }
        }
        self.max
    }

    /// Its count, median, 99th percentile and maximum.
    pub fn quantiles(&self) -> Quantiles {
        (self.count, self.quantile(0.5), self.quantile(0.99), self.max)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Count, median, 99th percentile and maximum, in ns.
pub type Quantiles = (u64, u64, u64, u64);

/// Durations since the start, and those since they were asked for last.
#[derive(Debug, Clone, Default)]
pub struct Timed {
    all: Latency,
    recent: Latency,
}

impl Timed {
    /// Counts `times` durations of `ns`.
    #[inline]
    pub fn record(&mut self, ns: i64, times: u64) {
        self.all.record(ns, times);
        self.recent.record(ns, times);
    }

    /// All durations.
    pub const fn all(&self) -> &Latency {
        &self.all
    }

    /// All durations, and those since the last call.
    pub fn take(&mut self) -> (Quantiles, Quantiles) {
        let told = (self.all.quantiles(), self.recent.quantiles());
        self.recent.clear();
        told
    }
}

fn bucket(ns: u64) -> usize {
    if ns < SPLIT {
        return ns as usize;
    }
    let shift = ns.ilog2() - SPLIT_BITS;
    ((u64::from(shift + 1) << SPLIT_BITS) + ((ns >> shift) & (SPLIT - 1))) as usize
}

/// The largest duration of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < SPLIT {
        return index;
    }
    let shift = (index >> SPLIT_BITS) - 1;
    let low = (SPLIT + (index & (SPLIT - 1))) << shift;
    low + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_at_most_a_sixteenth_off() {
        // Durations over twelve powers of ten: each bucket must hold the value it was counted for.
        for exponent in 0..12 {
            for digit in 1..10_u64 {
                let value = digit * 10_u64.pow(exponent);
                let mut latency = Latency::default();
                latency.record(value as i64, 1);
                latency.record(i64::MAX, 1);
                let found = latency.quantile(0.5);
                assert!(found >= value && found - value <= value / 16, "{value}: {found}");
            }
        }
    }

    #[test]
    fn median_of_many_lies_in_the_middle() {
        // 1 to 1000 ns, counted thrice each.
        let mut latency = Latency::default();
        (1..=1000).for_each(|ns| latency.record(ns, 3));
        assert_eq!(latency.count(), 3000);
        assert!((500..=532).contains(&latency.quantile(0.5)));
        assert_eq!(latency.quantile(1.0), 1000);
        assert_eq!(Latency::default().quantile(0.99), 0);
    }
}
