//! Sums over rolling windows, exact: integers in, integers out.
//!
//! A window of length W at time t is (t - W, t]. What happens between two samples is one bucket,
//! stamped with the time of the sample behind it. Where samples lie on a grid of which every
//! window is a multiple, memory follows the number of grid steps in the longest window, never the
//! number of events. All windows of a metric share one ring.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};

/// Buckets that are kept at most. Beyond it the oldest goes, and windows that reach so far back
/// are not covered: their metrics are null, never wrong.
pub(super) const BUCKETS_MAX: usize = 1 << 18;
/// Of what decays by the length of a window nothing is left after so many lengths: less than 1e-17.
const DECAYED: i64 = 40;

/// The part that is left after `time` of what decays by the length of a window; none: it is
/// forgotten, so that no value hangs on how far back records go.
pub(super) fn left_after(time: i64, length: i64) -> Option<f64> {
    let is_left = time <= length.saturating_mul(DECAYED);
    is_left.then(|| (-(time as f64) / length as f64).exp())
}

/// What happened between the sample before `end` and that at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket<const N: usize> {
    end: i64,
    sums: [i128; N],
}

/// Sums of `N` terms over one window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window<const N: usize> {
    length: i64,
    sums: [i128; N],
    /// Buckets at the front of the ring that are outside of it.
    outside: usize,
}

/// Sums of `N` terms over several windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rolling<const N: usize> {
    ring: VecDeque<Bucket<N>>,
    open: [i128; N],
    windows: Vec<Window<N>>,
    /// From when on all that happened is in the ring; `i64::MAX` before the first event.
    since: i64,
    /// End of the newest bucket that was dropped or is outside of all windows.
    before: i64,
}

impl<const N: usize> Rolling<N> {
    /// Empty windows of these lengths, in ns.
    pub(super) fn new(lengths: &[i64]) -> Self {
        let window = |&length: &i64| Window { length, sums: [0; N], outside: 0 };
        Self {
            ring: VecDeque::new(),
            open: [0; N],
            windows: lengths.iter().map(window).collect(),
            since: i64::MAX,
            before: i64::MIN,
        }
    }

    /// Says that events are complete from `ts` on, if that was not said since the last reset.
    #[inline]
    pub(super) fn begin(&mut self, ts: i64) {
        if self.since == i64::MAX {
            (self.since, self.before) = (ts, ts);
        }
    }

    /// Adds the terms of an event.
    #[inline]
    pub(super) fn add(&mut self, terms: [i128; N]) {
        add(&mut self.open, &terms);
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.ring.clear();
        self.open = [0; N];
        (self.since, self.before) = (i64::MAX, i64::MIN);
        for window in &mut self.windows {
            (window.sums, window.outside) = ([0; N], 0);
        }
    }

    /// Ends the open bucket at `ts` and moves all windows there.
    pub(super) fn close(&mut self, ts: i64) {
        if self.since == i64::MAX {
            return;
        }
        self.end_bucket(ts);
        self.slide(ts);
    }

    /// Adds what happened to the ring, as a bucket that ends at `ts`.
    fn end_bucket(&mut self, ts: i64) {
        let open = std::mem::replace(&mut self.open, [0; N]);
        for window in &mut self.windows {
            add(&mut window.sums, &open);
        }
        match self.ring.back_mut() {
            Some(newest) if newest.end >= ts => add(&mut newest.sums, &open),
            _ => self.ring.push_back(Bucket { end: ts, sums: open }),
        }
    }

    /// Moves all windows to `ts`, as [`Self::close`] does, where nothing was added since the last
    /// close: there is no bucket of nothing.
    pub(super) fn slide(&mut self, ts: i64) {
        for window in &mut self.windows {
            while let Some(bucket) = self.ring.get(window.outside) {
                if bucket.end > ts.saturating_sub(window.length) {
                    break;
                }
                subtract(&mut window.sums, &bucket.sums);
                window.outside += 1;
            }
        }
        let mut unused = self.windows.iter().map(|window| window.outside).min().unwrap_or(0);
        if self.ring.len() - unused > BUCKETS_MAX {
            unused += 1;
            self.since = self.ring[unused - 1].end;
        }
        for _ in 0..unused {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(bucket) = self.ring.pop_front() else { return };
        self.before = bucket.end;
        for window in &mut self.windows {
            if window.outside == 0 {
                subtract(&mut window.sums, &bucket.sums);
            } else {
                window.outside -= 1;
            }
        }
    }

    /// The sums of window `index` as of the last close.
    #[inline]
    pub(super) fn sums(&self, index: usize) -> &[i128; N] {
        &self.windows[index].sums
    }

    /// Whether window `index` may be shown at `ts`: its events are all known, or it is enough that
    /// there were any since the last reset, with `partial`.
    #[inline]
    pub(super) fn is_shown(&self, index: usize, ts: i64, partial: bool) -> bool {
        let from = ts.saturating_sub(self.windows[index].length);
        self.since != i64::MAX && (partial || from >= self.since)
    }

    /// The sums of the part of the oldest bucket of window `index` that lies before the window, of
    /// terms that were spread evenly over the bucket.
    ///
    /// A bucket is cut only where samples do not lie on the grid, or an instrument was silent: then
    /// the value was the same all the time of that bucket, and the part is exact to one unit.
    pub(super) fn cut(&self, index: usize, ts: i64) -> [i128; N] {
        let window = &self.windows[index];
        let from = ts.saturating_sub(window.length);
        let Some(bucket) = self.ring.get(window.outside) else { return [0; N] };
        let start = match window.outside.checked_sub(1) {
            Some(last) => self.ring[last].end,
            None => self.before,
        };
        if start >= from || bucket.end <= start {
            return [0; N];
        }
        let (part, whole) = (i128::from(from - start), i128::from(bucket.end - start));
        bucket.sums.map(|sum| mul_div(sum, part, whole))
    }

    /// The sums of each bucket of window `index`, the oldest first.
    pub(super) fn buckets(&self, index: usize) -> impl Iterator<Item = &[i128; N]> + '_ {
        self.ring.range(self.windows[index].outside..).map(|bucket| &bucket.sums)
    }

    /// Number of windows.
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.since);
        state.i64(self.before);
        put(&self.open, state);
        state.length(self.windows.len());
        for window in &self.windows {
            state.i64(window.length);
            state.length(window.outside);
        }
        state.length(self.ring.len());
        for bucket in &self.ring {
            state.i64(bucket.end);
            put(&bucket.sums, state);
        }
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        let (since, before, open) = (state.i64()?, state.i64()?, take(state)?);
        let mut windows = Vec::new();
        for _ in 0..state.length(16)? {
            let (length, outside) = (state.i64()?, state.u64()? as usize);
            windows.push(Window { length, sums: [0; N], outside });
        }
        let lengths = |windows: &[Window<N>]| -> Vec<i64> {
            windows.iter().map(|window| window.length).collect()
        };
        if lengths(&windows) != lengths(&self.windows) {
            return Err(Error::invalid(format!(
                "expected windows of {:?} ns, got a state of {:?} ns",
                lengths(&self.windows),
                lengths(&windows)
            )));
        }
        let mut ring = VecDeque::new();
        for _ in 0..state.length(8 + 16 * N)? {
            ring.push_back(Bucket { end: state.i64()?, sums: take(state)? });
        }
        for window in &mut windows {
            window.outside = window.outside.min(ring.len());
            ring.iter().skip(window.outside).for_each(|bucket| add(&mut window.sums, &bucket.sums));
        }
        *self = Self { ring, open, windows, since, before };
        Ok(())
    }
}

#[inline]
fn add<const N: usize>(sums: &mut [i128; N], terms: &[i128; N]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum = sum.wrapping_add(*term));
}

#[inline]
fn subtract<const N: usize>(sums: &mut [i128; N], terms: &[i128; N]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum = sum.wrapping_sub(*term));
}

/// `value * part / whole`, rounded towards zero, of `part` up to `whole`, both of 64 bits.
const fn mul_div(value: i128, part: i128, whole: i128) -> i128 {
    // In two steps, so that no product exceeds 128 bits.
    value / whole * part + value % whole * part / whole
}

/// Writes a number of 128 bits.
pub(super) fn put_wide(value: i128, state: &mut StateWriter<'_>) {
    state.u64(value as u64);
    state.i64((value >> 64) as i64);
}

/// Reads a number of 128 bits.
pub(super) fn take_wide(state: &mut StateReader<'_>) -> Result<i128> {
    let low = state.u64()?;
    Ok(i128::from(state.i64()?) << 64 | i128::from(low))
}

fn put<const N: usize>(values: &[i128; N], state: &mut StateWriter<'_>) {
    values.iter().for_each(|&value| put_wide(value, state));
}

fn take<const N: usize>(state: &mut StateReader<'_>) -> Result<[i128; N]> {
    let mut values = [0; N];
    for value in &mut values {
        *value = take_wide(state)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_holds_the_event_at_its_end_and_not_the_one_exactly_its_length_old() {
        // One event a step of 10, a window of 30.
        let mut rolling = Rolling::<1>::new(&[30]);
        rolling.begin(10);
        for ts in (10..=60).step_by(10) {
            rolling.add([i128::from(ts)]);
            rolling.close(ts);
        }
        assert_eq!(rolling.sums(0), &[60 + 50 + 40]);
        assert!(rolling.is_shown(0, 40, false) && !rolling.is_shown(0, 39, false));
    }

    #[test]
    fn buckets_beyond_the_bound_uncover_their_windows() {
        // A window longer than the ring may be: its sum is that of what is kept, and not shown.
        let mut rolling = Rolling::<1>::new(&[5, i64::MAX]);
        rolling.begin(0);
        let last = BUCKETS_MAX as i64 + 10;
        for ts in 1..=last {
            rolling.add([1]);
            rolling.close(ts);
        }
        assert_eq!(rolling.ring.len(), BUCKETS_MAX);
        assert_eq!((rolling.sums(0), rolling.sums(1)), (&[5], &[BUCKETS_MAX as i128]));
        assert!(rolling.is_shown(0, last, false) && !rolling.is_shown(1, last, false));
    }

    #[test]
    fn a_bucket_that_the_window_cuts_counts_by_its_part() {
        // A value of 7 held from 0 to 100: of a window of 30 at 100, 70 of it lie before.
        let mut rolling = Rolling::<2>::new(&[30]);
        rolling.begin(0);
        rolling.add([700, 100]);
        rolling.close(100);
        let cut = rolling.cut(0, 100);
        assert_eq!((700 - cut[0], 100 - cut[1]), (210, 30));
        assert_eq!(mul_div(-i128::MAX, 1 << 62, 1 << 62), -i128::MAX);
    }
}
