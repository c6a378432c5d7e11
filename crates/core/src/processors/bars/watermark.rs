//! How far the receive times of a tape are, whatever a single one of them says.
//!
//! Receive times rise. A tape of an earlier version may hold readings of a clock that was set, and
//! one of them, far ahead, must not stamp or close all that follows.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

/// Rising by more than this, in ns, is believed when more records say so: between two sessions.
const LEAP_NS: i64 = 600_000_000_000;
/// Records may be older than this, in ns, without being a sign: what was held back is written late.
const FALL_NS: i64 = 120_000_000_000;
/// So many records in a row are believed.
const AGREEING: u32 = 3;

/// The newest receive time that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    ts: i64,
    /// Records in a row that lie far ahead or far behind, and the newest of them.
    odd: u32,
    ts_odd: i64,
}

impl Default for Watermark {
    fn default() -> Self {
        Self { ts: i64::MIN, odd: 0, ts_odd: i64::MIN }
    }
}

impl Watermark {
    /// The time, `i64::MIN` before the first.
    pub const fn ts(&self) -> i64 {
        self.ts
    }

    /// Takes a receive time in, and says whether the watermark rose.
    #[inline]
    pub fn take(&mut self, ts_recv: i64) -> bool {
        let step = ts_recv.saturating_sub(self.ts);
        if step > -FALL_NS && step <= LEAP_NS || self.ts == i64::MIN {
            self.odd = 0;
            let rises = step > 0 && ts_recv != NONE;
            if rises {
                self.ts = ts_recv;
            }
            return rises;
        }
        ts_recv != NONE && self.doubt(ts_recv)
    }

    #[cold]
    fn doubt(&mut self, ts_recv: i64) -> bool {
        let agrees = self.odd > 0 && ts_recv.abs_diff(self.ts_odd) < FALL_NS as u64;
        self.odd = if agrees { self.odd + 1 } else { 1 };
        self.ts_odd = ts_recv;
        if self.odd < AGREEING {
            return false;
        }
        let rises = ts_recv > self.ts;
        (self.ts, self.odd) = (ts_recv, 0);
        rises
    }

    /// Writes it to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.ts);
        state.u32(self.odd);
        state.i64(self.ts_odd);
    }

    /// Reads it from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self { ts: state.i64()?, odd: state.u32()?, ts_odd: state.i64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400 * SECOND;

    #[test]
    fn one_reading_is_not_believed_and_three_are() {
        // A stamp a month ahead, then a session that begins a day later.
        let mut watermark = Watermark::default();
        assert!(watermark.take(SECOND) && watermark.take(2 * SECOND));
        assert!(!watermark.take(30 * DAY));
        assert!(watermark.take(3 * SECOND));
        assert!(!watermark.take(DAY) && !watermark.take(DAY + 1));
        assert!(watermark.take(DAY + 2));
        assert_eq!(watermark.ts(), DAY + 2);
        // A clock that was set back by an hour.
        assert!(!watermark.take(DAY - 3600 * SECOND) && !watermark.take(DAY - 3599 * SECOND));
        assert!(!watermark.take(DAY - 3598 * SECOND));
        assert!(watermark.take(DAY - 3597 * SECOND));
        assert!(!watermark.take(NONE));
    }
}
