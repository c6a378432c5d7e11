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

/// Least values that are kept of a window, at most; beyond it the newest of equal rank wins.
const LEAST_MAX: usize = 1 << 16;

const NO_EVENT: &str = "no event with a venue's time since the value before";

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
        line("latency_floor", Per::Window, "least latency_raw of events received in the window"),
        line("latency_excess", Per::Window, "latency_raw - latency_floor"),
    ],
    build: |terms| Box::new(Latency::new(terms)),
    has_book: false,
};

/// The least of a window: values that may become it, rising, each with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Least {
    length: i64,
    queue: VecDeque<(i64, i64)>,
}

#[derive(Debug)]
struct Latency {
    windows: Vec<Least>,
    last: Option<i64>,
    max: i64,
    events: u64,
    negative: u64,
    total: u64,
}

impl Latency {
    fn new(terms: &Terms) -> Self {
        let least = |&length: &i64| Least { length, queue: VecDeque::new() };
        Self {
            windows: terms.windows.iter().map(least).collect(),
            last: None,
            max: i64::MIN,
            events: 0,
            negative: 0,
            total: 0,
        }
    }

    fn take(&mut self, ts_recv: i64, latency: Option<i64>) {
        let Some(latency) = latency else { return };
        self.total += 1;
        self.negative += u64::from(latency < 0);
        self.last = Some(latency);
        self.max = self.max.max(latency);
        self.events += 1;
        for Least { length, queue } in &mut self.windows {
            while queue.back().is_some_and(|&(_, before)| before >= latency) {
                queue.pop_back();
            }
            if queue.len() == LEAST_MAX {
                queue.pop_back();
            }
            queue.push_back((ts_recv, latency));
            let from = ts_recv.saturating_sub(*length);
            while queue.front().is_some_and(|&(ts, _)| ts <= from) {
                queue.pop_front();
            }
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

    fn reset(&mut self) {
        (self.last, self.max, self.events) = (None, i64::MIN, 0);
        self.windows.iter_mut().for_each(|least| least.queue.clear());
    }

    fn sample(&mut self, _: &Moment<'_>, out: &mut Values) {
        let last = self.last.take();
        let events = std::mem::take(&mut self.events);
        let max = std::mem::replace(&mut self.max, i64::MIN);
        out.push(last.map(|value| value as f64), events);
        out.push(last.map(|_| max as f64), events);
        out.push(Some(self.negative as f64), self.total);
        let floor = |least: &Least| last.and(least.queue.front()).map(|&(_, value)| value);
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
        for value in [self.events, self.negative, self.total] {
            state.u64(value);
        }
        for least in &self.windows {
            state.i64(least.length);
            state.length(least.queue.len());
            for (ts, value) in &least.queue {
                state.i64(*ts);
                state.i64(*value);
            }
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        let has_last = state.flag()?;
        self.last = Some(state.i64()?).filter(|_| has_last);
        self.max = state.i64()?;
        (self.events, self.negative) = (state.u64()?, state.u64()?);
        self.total = state.u64()?;
        for least in &mut self.windows {
            if state.i64()? != least.length {
                return Err(Error::invalid("the state is of other windows"));
            }
            least.queue.clear();
            for _ in 0..state.length(16)? {
                least.queue.push_back((state.i64()?, state.i64()?));
            }
        }
        Ok(())
    }
}
