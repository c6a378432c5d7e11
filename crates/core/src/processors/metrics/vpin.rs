//! Set `vpin`: imbalance of volume in buckets of equal volume (Easley, Lopez de Prado & O'Hara
//! 2012), with the sides of the trades and with those of bulk classification.
//!
//! A bucket holds exactly so much volume: a trade that overshoots is split. Bulk classification
//! spreads each bar of time over the buckets with one share of bought volume, by the change of the
//! price against its size in the 50 bars before; it never looks at the bar itself or ahead.
//!
//! Where no size is given, it follows from the volumes of whole days: one in which the stream
//! began, or of which more than a little was not recorded, is no day to go by.

use std::collections::VecDeque;

use super::family::{Family, Moment, Print, Set, Values};
use super::sign::{taker, TickRule};
use super::table::{Line, Per};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

/// Changes of bars that their usual size is made of, and at least.
const CHANGES_MAX: usize = 50;
const CHANGES_MIN: usize = 20;
/// Buckets that one trade or bar may fill, at most: what is beyond makes no difference.
const BUCKETS_AT_ONCE_MAX: i128 = 1 << 12;
/// Days whose mean volume makes the size of a bucket where the settings name none.
const DAYS_MAX: usize = 20;
const DAY: i64 = 86_400_000_000_000;
/// Of a whole day at most so much may be missing: a quarter of an hour.
const MISSING_MAX: i64 = DAY / 96;
/// Times that are missing from a day, at most: of more the last are taken together.
const HOLES_MAX: usize = 256;

const FEW: &str = "fewer buckets than `vpin_buckets` were filled, or their size is not known yet";

pub(super) const SET: Set = Set {
    name: "vpin",
    doc: "imbalance of volume over the last buckets of equal volume",
    lines: &[
        Line {
            name: "vpin_true",
            per: Per::One,
            formula: "sum of abs(bought - sold) / volume over the last buckets, sides as in flow",
            unit: "0 to 1",
            null: FEW,
        },
        Line {
            name: "vpin_bvc",
            per: Per::One,
            formula:
                "the same; of the volume of a bar, Phi(dP / rms of the 50 dP before) is bought",
            unit: "0 to 1",
            null: FEW,
        },
        Line {
            name: "vpin_bucket",
            per: Per::One,
            formula:
                "volume of a bucket: `vpin_volume`, or a fiftieth of the mean whole day before",
            unit: "size",
            null: "no whole day was recorded yet",
        },
    ],
    build: |terms| Box::new(Vpin::new((terms.vpin_volume, terms.vpin_buckets, terms.bar))),
    has_book: false,
};

/// Buckets of equal volume, the last of them not full yet.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets {
    /// abs(bought - sold) of the full ones.
    full: VecDeque<f64>,
    bought: f64,
    filled: i128,
}

impl Buckets {
    /// Fills in volume of which `share` was bought; keeps `count` buckets of `volume` each.
    fn fill(&mut self, mut amount: i128, share: f64, volume: i128, count: usize) {
        let whole = amount / volume;
        if whole > BUCKETS_AT_ONCE_MAX {
            amount -= (whole - BUCKETS_AT_ONCE_MAX) * volume;
        }
        while amount > 0 {
            let part = amount.min(volume - self.filled);
            self.bought += part as f64 * share;
            self.filled += part;
            amount -= part;
            if self.filled == volume {
                self.full.push_back((2.0 * self.bought - volume as f64).abs());
                (self.bought, self.filled) = (0.0, 0);
                if self.full.len() > count {
                    self.full.pop_front();
                }
            }
        }
    }

    fn value(&self, volume: i128, count: usize) -> Option<f64> {
        let sum: f64 = self.full.iter().sum();
        (self.full.len() == count).then(|| sum / (count as f64 * volume as f64))
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.full.len());
        self.full.iter().for_each(|value| state.u64(value.to_bits()));
        state.u64(self.bought.to_bits());
        super::window::put_wide(self.filled, state);
    }

    fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut full = VecDeque::new();
        for _ in 0..state.length(8)? {
            full.push_back(f64::from_bits(state.u64()?));
        }
        let bought = f64::from_bits(state.u64()?);
        Ok(Self { full, bought, filled: super::window::take_wide(state)? })
    }
}

#[derive(Debug)]
struct Vpin {
    /// Volume of a bucket (0: by the days before), buckets, length of a bar.
    settings: (i64, i64, i64),
    tick: TickRule,
    signed: Buckets,
    bulk: Buckets,
    /// The bar that is open: its end, its volume and its last price.
    end: i64,
    bar_volume: i128,
    bar_close: i64,
    /// Close of the bar before.
    close: i64,
    changes: VecDeque<f64>,
    /// Day of the last trade, its volume so far, and the volumes of the whole days before.
    day: i64,
    day_volume: i128,
    days: VecDeque<i128>,
    /// Time of the last trade; `i64::MIN` before the first.
    last: i64,
    /// Between which times trades are missing, of that day and later: in order, none overlapping.
    holes: VecDeque<(i64, i64)>,
}

/// The standard normal distribution (Marsaglia 2004).
pub(super) fn normal(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut power) = (x, x, 1.0);
    loop {
        power += 2.0;
        term *= x * x / power;
        let next = sum + term;
        if next == sum {
            // The density: 1 / sqrt(2 pi) is e to the power of -0.9189...
            return 0.5 + sum * (-0.5 * x * x - 0.918_938_533_204_672_8).exp();
        }
        sum = next;
    }
}

impl Vpin {
    fn new(settings: (i64, i64, i64)) -> Self {
        Self {
            settings,
            tick: TickRule::default(),
            signed: Buckets::default(),
            bulk: Buckets::default(),
            end: i64::MIN,
            bar_volume: 0,
            bar_close: NONE,
            close: NONE,
            changes: VecDeque::new(),
            day: i64::MIN,
            day_volume: 0,
            days: VecDeque::new(),
            last: i64::MIN,
            holes: VecDeque::new(),
        }
    }

    /// The size of a bucket, if it is known.
    fn volume(&self) -> Option<i128> {
        if self.settings.0 > 0 {
            return Some(self.settings.0.into());
        }
        let sum: i128 = self.days.iter().sum();
        let volume = sum.checked_div(self.days.len() as i128)? / 50;
        (volume > 0).then_some(volume)
    }

    /// Ends the open bar if it is over at `ts`.
    fn advance(&mut self, ts: i64) {
        if self.bar_close == NONE || ts < self.end {
            return;
        }
        if self.close != NONE {
            let change = (self.bar_close - self.close) as f64;
            let count = self.changes.len();
            if let Some(volume) = self.volume().filter(|_| count >= CHANGES_MIN) {
                let squares: f64 = self.changes.iter().map(|change| change * change).sum();
                let size = (squares / count as f64).sqrt();
                let share = if size > 0.0 { normal(change / size) } else { 0.5 };
                self.bulk.fill(self.bar_volume, share, volume, self.settings.1 as usize);
            }
            if count == CHANGES_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(change);
        }
        (self.close, self.bar_close, self.bar_volume) = (self.bar_close, NONE, 0);
    }

    /// How much of the day of the last trade is missing.
    fn missing(&self) -> i64 {
        let start = self.day.saturating_mul(DAY);
        let end = start.saturating_add(DAY);
        let within = |&(from, to): &(i64, i64)| to.min(end).saturating_sub(from.max(start)).max(0);
        self.holes.iter().map(within).sum()
    }

    /// A trade of `ts` was recorded: nothing is missing from there on.
    fn end_holes(&mut self, ts: i64) {
        while let Some(last) = self.holes.back_mut().filter(|last| last.1 > ts) {
            if last.0 < ts {
                last.1 = ts;
                break;
            }
            self.holes.pop_back();
        }
    }

    fn count_day(&mut self, ts: i64, size: i128) {
        let day = ts.div_euclid(DAY);
        if self.day == i64::MIN {
            // What was traded before the stream began is not known.
            self.miss(i64::MIN, ts);
        }
        self.end_holes(ts);
        self.last = ts;
        if self.day != day {
            let is_whole = self.missing() <= MISSING_MAX;
            self.holes.retain(|&(_, to)| to.div_euclid(DAY) >= day);
            if self.day_volume > 0 && is_whole {
                if self.days.len() == DAYS_MAX {
                    self.days.pop_front();
                }
                self.days.push_back(self.day_volume);
                if self.settings.0 == 0 {
                    // Buckets of another size do not stand beside these.
                    (self.signed, self.bulk) = (Buckets::default(), Buckets::default());
                }
            }
            (self.day, self.day_volume) = (day, 0);
        }
        self.day_volume += size;
    }
}

impl Family for Vpin {
    fn print(&mut self, print: &Print) {
        self.advance(print.ts);
        let tick = if print.sets_price { self.tick.take(print.price) } else { 0 };
        if !print.counts {
            return;
        }
        let size = i128::from(print.size);
        self.count_day(print.ts, size);
        if let Some(volume) = self.volume() {
            let share = match taker(print, tick) {
                1 => 1.0,
                -1 => 0.0,
                _ => 0.5,
            };
            self.signed.fill(size, share, volume, self.settings.1 as usize);
        }
        if self.bar_close == NONE {
            self.end = (print.ts.div_euclid(self.settings.2) + 1).saturating_mul(self.settings.2);
        }
        self.bar_volume += size;
        if print.sets_price || self.bar_close == NONE {
            self.bar_close = print.price;
        }
    }

    fn reset(&mut self) {
        let days = std::mem::take(&mut self.days);
        let holes = std::mem::take(&mut self.holes);
        let (day, day_volume, last) = (self.day, self.day_volume, self.last);
        // Volumes of days are of the days, whatever broke the stream.
        *self = Self { days, holes, day, day_volume, last, ..Self::new(self.settings) };
    }

    fn miss(&mut self, from: i64, to: i64) {
        let mut from = if from == i64::MIN { self.last } else { from };
        let mut holes: Vec<_> = std::mem::take(&mut self.holes).into();
        if let Some(&(since, i64::MAX)) = holes.last() {
            // The recorder ended then, and now it is known until when it was away.
            holes.pop();
            from = from.min(since);
        }
        holes.push((from, to.max(from)));
        holes.sort_unstable();
        for (from, to) in holes {
            let is_full = self.holes.len() == HOLES_MAX;
            match self.holes.back_mut() {
                Some(last) if from <= last.1 || is_full => last.1 = last.1.max(to),
                _ => self.holes.push_back((from, to)),
            }
        }
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        self.advance(moment.ts);
        let (volume, count) = (self.volume(), self.settings.1 as usize);
        for buckets in [&self.signed, &self.bulk] {
            let value = volume.and_then(|volume| buckets.value(volume, count));
            out.push(value, buckets.full.len() as u64);
        }
        out.push(volume.map(super::family::size), u64::from(volume.is_some()));
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        for value in [self.settings.0, self.settings.1, self.settings.2] {
            state.i64(value);
        }
        self.tick.write(state);
        self.signed.write(state);
        self.bulk.write(state);
        for value in [self.end, self.bar_close, self.close, self.day] {
            state.i64(value);
        }
        super::window::put_wide(self.bar_volume, state);
        super::window::put_wide(self.day_volume, state);
        state.length(self.changes.len());
        self.changes.iter().for_each(|change| state.u64(change.to_bits()));
        state.length(self.days.len());
        self.days.iter().for_each(|&volume| super::window::put_wide(volume, state));
        state.i64(self.last);
        state.length(self.holes.len());
        for &(from, to) in &self.holes {
            state.i64(from);
            state.i64(to);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("vpin_volume", self.settings.0, state.i64()?)?;
        super::same_setting("vpin_buckets", self.settings.1, state.i64()?)?;
        super::same_setting("bar_ms", self.settings.2, state.i64()?)?;
        self.tick = TickRule::read(state)?;
        self.signed = Buckets::read(state)?;
        self.bulk = Buckets::read(state)?;
        (self.end, self.bar_close) = (state.i64()?, state.i64()?);
        (self.close, self.day) = (state.i64()?, state.i64()?);
        self.bar_volume = super::window::take_wide(state)?;
        self.day_volume = super::window::take_wide(state)?;
        self.changes.clear();
        for _ in 0..state.length(8)? {
            self.changes.push_back(f64::from_bits(state.u64()?));
        }
        self.days.clear();
        for _ in 0..state.length(16)? {
            self.days.push_back(super::window::take_wide(state)?);
        }
        self.last = state.i64()?;
        self.holes.clear();
        for _ in 0..state.length(16)? {
            self.holes.push_back((state.i64()?, state.i64()?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trade_that_overshoots_is_split_between_buckets() {
        // Buckets of 10: 7 bought, then 8 sold fill one with 7 of 10 bought, and 5 of the next.
        let mut buckets = Buckets::default();
        buckets.fill(7, 1.0, 10, 2);
        buckets.fill(8, 0.0, 10, 2);
        assert_eq!((buckets.full.len(), buckets.full[0], buckets.filled), (1, 4.0, 5));
        assert_eq!(buckets.value(10, 2), None);
        buckets.fill(25, 0.0, 10, 2);
        assert_eq!((buckets.value(10, 2), buckets.filled), (Some(1.0), 0));
    }

    #[test]
    fn normal_distribution_is_right_to_fifteen_digits() {
        let known = [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-2.5, 0.006_209_665_325_776_132),
            (4.0, 0.999_968_328_758_166_9),
        ];
        for (x, value) in known {
            assert!((normal(x) - value).abs() < 1e-15, "{x}: {}", normal(x));
        }
        assert_eq!((normal(9.0), normal(-9.0)), (1.0, 0.0));
    }
}
