//! Set `latency`: how long events took from the venue's stamp to their receipt here.
//!
//! One-way data cannot tell the offset of two clocks from the least delay of the network: the raw
//! latency may be negative, and what is above its least value within a window is free of a constant
//! offset. A drift d of the clocks makes the floor lag by up to d times the window: keep windows so
//! short that this is far below what is looked for.

use std::collections::VecDeque;

use super::family::{Change, Family, Moment, Print, Set, Terms, Values};
use super::table::{Line, Per};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};

/// Values that may become the least of a window and are kept, at most.
const LEAST_MAX: usize = 1 << 16;

const NO_EVENT: &str = "no event with a venue's time since the value before";
const NOT_KEPT: &str = "no event with a venue's time since the value before, or latencies rose \
                        over 65,536 events, and the least of those within the window was not kept";

const fn line(name: &'static str, per: Per, formula: &'static str) -> Line {
    Line { name, per, formula, unit: "ns", null: NO_EVENT }
}

pub(super) const SET: Set = Set {
    name: "latency",
    doc: "time from the venue's stamp to the receipt, and what of it is above its least value",
    lines: &[
        line("latency_raw", Per::One, "ts_recv - ts_event of the last event; may be negative"),
        line("latency_max", Per::One, "the largest since the value before"),
        Line {
            unit: "events",
            null: "never",
            ..line(
                "latency_negative",
                Per::One,
                "events whose latency was negative, since the start",
            )
        },
        Line {
            null: NOT_KEPT,
            ..line(
                "latency_floor",
                Per::Window,
                "least latency_raw of events received in the window",
            )
        },
        Line {
            null: NOT_KEPT,
            ..line("latency_excess", Per::Window, "latency_raw - latency_floor")
        },
    ],
    build: |terms| Box::new(Latency::new(terms)),
    has_book: false,
};

/// The least of a window: values that may become it, rising, each with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Least {
    length: i64,
    queue: VecDeque<(i64, i64)>,
    most: usize,
    /// The first of those that may become it and were not kept, and the time of the last one. They
    /// rise, too.
    lost: Option<((i64, i64), i64)>,
}

impl Least {
    const fn new(length: i64) -> Self {
        Self { length, queue: VecDeque::new(), most: LEAST_MAX, lost: None }
    }

    /// Takes in the value `latency` of `ts`, and says whether another one went for it.
    fn add(&mut self, ts: i64, latency: i64) -> bool {
        while self.queue.back().is_some_and(|&(_, before)| before >= latency) {
            self.queue.pop_back();
        }
        // None that was not kept becomes it behind one that is no larger.
        self.lost = self.lost.filter(|&((_, least), _)| least < latency);
        let gone = if self.queue.len() == self.most { self.queue.pop_back() } else { None };
        if let Some(gone) = gone {
            self.lost = Some((self.lost.map_or(gone, |(first, _)| first), gone.0));
        }
        self.queue.push_back((ts, latency));
        let from = ts.saturating_sub(self.length);
        while self.queue.front().is_some_and(|&(ts, _)| ts <= from) {
            self.queue.pop_front();
        }
        self.lost = self.lost.filter(|&(_, last)| last > from);
        gone.is_some()
    }

    /// The least value; none where it may be one that was not kept.
    fn value(&self) -> Option<i64> {
        let &(ts, value) = self.queue.front()?;
        self.lost.is_none_or(|((first, _), _)| ts <= first).then_some(value)
    }

    fn reset(&mut self) {
        self.queue.clear();
        self.lost = None;
    }
}

#[derive(Debug)]
struct Latency {
    windows: Vec<Least>,
    last: Option<i64>,
    max: i64,
    events: u64,
    negative: u64,
    total: u64,
    /// Values that were not kept.
    dropped: u64,
}

impl Latency {
    fn new(terms: &Terms) -> Self {
        Self {
            windows: terms.windows.iter().map(|&length| Least::new(length)).collect(),
            last: None,
            max: i64::MIN,
            events: 0,
            negative: 0,
            total: 0,
            dropped: 0,
        }
    }

    fn take(&mut self, ts_recv: i64, latency: Option<i64>) {
        let Some(latency) = latency else { return };
        self.total += 1;
        self.negative += u64::from(latency < 0);
        self.last = Some(latency);
        self.max = self.max.max(latency);
        self.events += 1;
        for least in &mut self.windows {
            self.dropped += u64::from(least.add(ts_recv, latency));
        }
    }
}

impl Family for Latency {
    fn change(&mut self, change: &Change) {
        self.take(change.ts_recv, change.latency);
    }

    fn print(&mut self, print: &Print) {
        self.take(print.ts_recv, print.latency);
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reset(&mut self) {
        (self.last, self.max, self.events) = (None, i64::MIN, 0);
        self.windows.iter_mut().for_each(Least::reset);
    }

    fn sample(&mut self, _: &Moment<'_>, out: &mut Values) {
        let last = self.last.take();
        let events = std::mem::take(&mut self.events);
        let max = std::mem::replace(&mut self.max, i64::MIN);
        out.push(last.map(|value| value as f64), events);
        out.push(last.map(|_| max as f64), events);
        out.push(Some(self.negative as f64), self.total);
        let floor = |least: &Least| last.and(least.value());
        for least in &self.windows {
            out.push(floor(least).map(|value| value as f64), events);
        }
        for least in &self.windows {
            let excess = floor(least).zip(last).map(|(floor, last)| (last - floor) as f64);
            out.push(excess, events);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.flag(self.last.is_some());
        state.i64(self.last.unwrap_or(0));
        state.i64(self.max);
        for value in [self.events, self.negative, self.total, self.dropped] {
            state.u64(value);
        }
        for least in &self.windows {
            state.i64(least.length);
            state.length(least.queue.len());
            for (ts, value) in &least.queue {
                state.i64(*ts);
                state.i64(*value);
            }
            state.flag(least.lost.is_some());
            let ((first, value), last) = least.lost.unwrap_or_default();
            [first, value, last].into_iter().for_each(|value| state.i64(value));
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        let has_last = state.flag()?;
        self.last = Some(state.i64()?).filter(|_| has_last);
        self.max = state.i64()?;
        (self.events, self.negative) = (state.u64()?, state.u64()?);
        (self.total, self.dropped) = (state.u64()?, state.u64()?);
        for least in &mut self.windows {
            if state.i64()? != least.length {
                return Err(Error::invalid("the state is of other windows"));
            }
            least.queue.clear();
            for _ in 0..state.length(16)? {
                least.queue.push_back((state.i64()?, state.i64()?));
            }
            let is_lost = state.flag()?;
            let lost = ((state.i64()?, state.i64()?), state.i64()?);
            least.lost = Some(lost).filter(|_| is_lost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_value_is_that_of_the_window_or_none_where_it_was_not_kept() {
        // Latencies that rise and fall at random, in a window of 20 events, kept three at most.
        let (mut least, mut told) = (Least { most: 3, ..Least::new(20) }, Vec::new());
        let (mut shown, mut random) = (0, 1_u64);
        for ts in 1..=5_000_i64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let fall = if random >> 61 == 0 { 30 } else { 0 };
            let before = told.last().copied().unwrap_or(0);
            told.push(before - fall + (random >> 62) as i64);
            least.add(ts, *told.last().unwrap());
            if let Some(value) = least.value() {
                shown += 1;
                assert_eq!(Some(&value), told.iter().rev().take(20).min(), "at {ts}");
            }
        }
        assert!(shown > 100 && least.queue.len() <= 3);
        // One that is no larger than what was not kept makes up for it.
        let from = told.last().unwrap() - 1_000;
        least.add(5_001, from);
        assert_eq!((least.value(), least.lost), (Some(from), None));
        // Without a bound that is reached there is always one.
        let mut whole = Least::new(20);
        assert!(told.iter().zip(1..).all(|(&value, ts)| !whole.add(ts, value)));
    }
}
