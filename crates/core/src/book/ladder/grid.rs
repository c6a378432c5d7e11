//! The grid on which the prices of a ladder lie: exact, without a division.

use std::num::NonZeroU64;

/// The step between prices, and what turns a price into a number of steps without dividing.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Grid {
    /// Inverse of the odd part of `step` modulo 2^64.
    inverse: i64,
    /// How many numbers of steps have a price that fits, less one.
    index_range: u64,
    /// Number of factors 2 in `step`.
    shift: u32,
    /// 0, or -1 where numbers of steps are turned around.
    mirror: i32,
    /// Greatest common divisor of the prices so far; 0 while there was none but 0.
    pub(super) step: i64,
}

impl Grid {
    /// That of no price but 0; numbers of steps are turned around with a `mirror` of -1.
    pub(super) const fn empty(mirror: i32) -> Self {
        Self { inverse: 1, index_range: 0, shift: 0, mirror, step: 0 }
    }

    pub(super) const fn new(step: i64, mirror: i32) -> Self {
        let shift = step.trailing_zeros();
        let odd = step >> shift;
        // Newton: an odd number is its own inverse modulo 8; each round doubles the right bits.
        let mut inverse = odd;
        let mut round = 0;
        while round < 5 {
            inverse = inverse.wrapping_mul(2_i64.wrapping_sub(odd.wrapping_mul(inverse)));
            round += 1;
        }
        let index_min = i64::MIN / step;
        let index_range = (i64::MAX / step).wrapping_sub(index_min) as u64;
        Self { inverse, index_range, shift, mirror, step }
    }

    /// What turns a number of steps from 0 into one from the best price on, and back.
    #[inline(always)]
    pub(super) const fn mirror(&self) -> i64 {
        self.mirror as i64
    }

    /// Smallest number of steps whose price fits: there is one more below 0 than above, or as many.
    #[inline(always)]
    const fn index_min(&self) -> i64 {
        ((self.index_range >> 1) + (self.index_range & 1)).wrapping_neg() as i64
    }

    /// How many steps `price` is from 0. `None` if it is not a whole number of them.
    ///
    /// A multiple of the step times the odd part's inverse is the quotient shifted left, without
    /// overflow. Any other price leaves low bits, or a quotient whose price would not fit: if both
    /// checks hold, quotient times step equals the price modulo 2^64 and both fit, so are equal.
    #[inline(always)]
    pub(super) const fn index(&self, price: i64) -> Option<i64> {
        let product = price.wrapping_mul(self.inverse);
        let index = product >> self.shift;
        if index << self.shift == product
            && index.wrapping_sub(self.index_min()) as u64 <= self.index_range
        {
            Some(index)
        } else {
            None
        }
    }

    /// The coarsest grid on which lie all prices of this one, and `price`.
    pub(super) fn with(&self, price: i64) -> Self {
        let (mut a, mut b) = (self.step.unsigned_abs(), price.unsigned_abs());
        while let Some(divisor) = NonZeroU64::new(b) {
            (a, b) = (b, a % divisor);
        }
        match i64::try_from(a) {
            Ok(0) => Self::empty(self.mirror),
            Ok(step) => Self::new(step, self.mirror),
            // Only i64::MIN has 2^63 as its step.
            Err(_) => Self::new(1 << 62, self.mirror),
        }
    }
}
