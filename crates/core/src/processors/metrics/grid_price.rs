//! The mid at the times of a grid, where there is one.
//!
//! A crossed or one-sided quote has no mid that means anything. The price before it stands for less
//! than a step of the grid, so that a moment's disorder loses no change; from then on there is no
//! price, and no change from or to it: what is not known is no price that stands still.

use super::family::Best;
use super::{put_best, take_best};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// The last sound best prices.
#[derive(Debug, Clone, Copy)]
pub(super) struct GridPrice {
    best: Option<Best>,
    /// When they ceased to be the best prices; `i64::MAX` while they are.
    until: i64,
}

impl GridPrice {
    /// None came yet.
    pub(super) const NONE: Self = Self { best: None, until: i64::MAX };

    /// Takes in the best prices as they are from `ts` on.
    #[inline]
    pub(super) fn set(&mut self, best: &Best, ts: i64) {
        if best.is_sound() {
            *self = Self { best: Some(*best), until: i64::MAX };
        } else {
            self.until = self.until.min(ts);
        }
    }

    /// Twice the mid, however long ago it was one.
    #[inline]
    pub(super) fn newest(&self) -> Option<i128> {
        self.best.map(|best| best.mid2())
    }

    /// Twice the mid at the time `ts` of a grid of `step`.
    #[inline]
    pub(super) fn mid2(&self, ts: i64, step: i64) -> Option<i128> {
        let stands = self.until == i64::MAX || ts.saturating_sub(self.until) < step;
        self.best.filter(|_| stands).map(|best| best.mid2())
    }

    /// The log of twice the mid at the time `ts` of a grid of `step`, of one above 0.
    #[inline]
    pub(super) fn log(&self, ts: i64, step: i64) -> Option<f64> {
        self.mid2(ts, step).filter(|&mid2| mid2 > 0).map(|mid2| (mid2 as f64).ln())
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        put_best(self.best, state);
        state.i64(self.until);
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self { best: take_best(state)?, until: state.i64()? })
    }
}
