//! Chance from a seed, the same on every machine: only integer and basic float operations, whose
//! results IEEE 754 fixes to the bit.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator for the part called `name` of what `seed` fixes.
    pub fn of(seed: u64, name: &str) -> Self {
        let mut random = Self(seed);
        for byte in name.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random
    }

    /// 64 random bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number from 0 up to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An integer from 0 up to `end`, which is excluded.
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.next() as u128 * end as u128) >> 64) as u64
    }

    /// Whether something of that probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A waiting time of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -logarithm(1.0 - self.unit())
    }

    /// How deep something happens: mostly 0, and now and then far, as a power law; below `end`.
    pub fn depth(&mut self, scale: f64, end: u64) -> u64 {
        let depth = scale * (1.0 / (1.0 - self.unit()) - 1.0);
        // The cast saturates.
        (depth as u64).min(end.saturating_sub(1))
    }

    /// A size of about `base`: doubled or halved a few times, and then anything between.
    pub fn size(&mut self, base: i64) -> i64 {
        let doubled = (self.next().count_ones() as i32 - 32).clamp(-10, 10) / 2;
        let base = if doubled >= 0 { base << doubled } else { base >> -doubled };
        let base = base.max(1) as u64;
        (base / 2 + self.below(base) + 1) as i64
    }
}

/// The natural logarithm of a number above 0 to about seven digits.
fn logarithm(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2 artanh((m - 1) / (m + 1)), a series that converges fast for m from 1 to 2.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = 1.0 / 9.0 + square / 11.0;
    let series = 1.0 / 5.0 + square * (1.0 / 7.0 + square * series);
    let series = 1.0 + square * (1.0 / 3.0 + square * series);
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * ratio * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_is_right() {
        // Against the machine's own, from tiny to one.
        for step in 1..10_000 {
            let value = f64::from(step) / 10_000.0;
            assert!((logarithm(value) - value.ln()).abs() < 1e-6, "{value}");
        }
    }

    #[test]
    fn waiting_times_have_mean_one() {
        let mut random = Random::of(7, "");
        let mean = (0..100_000).map(|_| random.exponential()).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn parts_of_a_seed_differ() {
        let mut first = Random::of(1, "BTCUSDT");
        let mut second = Random::of(1, "ETHUSDT");
        assert_ne!(first.next(), second.next());
    }
}
