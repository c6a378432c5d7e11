//! Set `resilience`: how long the spread takes to come back after it widened.
//!
//! Each change that widens the spread by a tick or more is a widening of its own, and is over when
//! the spread is no wider than before it: one that lasts hides none that come later. One that lasts
//! longer than a window is given up there: it counts as censored. A side that empties, or a crossed
//! quote, ends all of them, and they count nowhere. So what a window holds follows from the quotes
//! of twice its length, and of the one before them.

use std::collections::VecDeque;

use super::family::{Best, Change, Family, Moment, Set, Terms, Values};
use super::table::{Line, Per};
use super::window::Rolling;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

const UNCOVERED: &str = "the window is not covered";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::Window, formula, unit, null: UNCOVERED }
}

pub(super) const SET: Set = Set {
    name: "resilience",
    doc: "how long the spread takes to come back after it widened",
    lines: &[
        Line {
            null: "the window is not covered, or no spread came back in it",
            ..line(
                "resilience",
                "mean time from each widening of the spread by a tick or more until it is no \
                 wider than before, of those that are back within the window and no later than \
                 its length",
                "ns",
            )
        },
        line("spread_recoveries", "how many those are", "1"),
        line("spread_censored", "widenings that were not back after the length", "1"),
    ],
    build: |terms| Box::new(Resilience::new(terms)),
    has_book: false,
};

/// Time of the recoveries, how many, and how many were given up.
const TERMS: usize = 3;

/// Widenings that are not over and are followed at most. Each is from a wider spread than the one
/// before it. Where there are more, the windows begin anew.
const OPEN_MAX: usize = 4_096;

/// A spread that widened.
#[derive(Debug, Clone, Copy)]
struct Widening {
    start: i64,
    /// What it is to come back to.
    spread: i64,
}

#[derive(Debug)]
struct Resilience {
    lengths: Vec<i64>,
    /// One for each length: what one gives up another may still see come back.
    windows: Vec<Rolling<TERMS>>,
    /// Those that are not over, the oldest first: each is from a wider spread than those before it.
    open: VecDeque<Widening>,
    /// By window, how many of them it gave up: the oldest.
    given_up: Vec<usize>,
    /// Widenings that were let go of.
    dropped: u64,
    partial: bool,
}

/// The spread of a quote whose sides are not crossed.
fn spread(best: &Best) -> Option<i64> {
    best.is_sound().then(|| best.ask_price.saturating_sub(best.bid_price))
}

impl Resilience {
    fn new(terms: &Terms) -> Self {
        Self {
            lengths: terms.windows.clone(),
            windows: terms.windows.iter().map(|&length| Rolling::new(&[length])).collect(),
            open: VecDeque::new(),
            given_up: vec![0; terms.windows.len()],
            dropped: 0,
            partial: terms.partial,
        }
    }

    /// Gives up the widenings in the windows that they have outlasted by `ts`.
    fn give_up(&mut self, ts: i64) {
        for (index, &length) in self.lengths.iter().enumerate() {
            let given_up = &mut self.given_up[index];
            while self.open.get(*given_up).is_some_and(|one| ts.saturating_sub(one.start) > length)
            {
                *given_up += 1;
                self.windows[index].add([0, 0, 1]);
            }
        }
        // What all windows gave up is of no use any more.
        let unused = self.given_up.iter().copied().min().unwrap_or(0);
        self.open.drain(..unused);
        self.given_up.iter_mut().for_each(|given_up| *given_up -= unused);
    }

    /// Ends the widenings that `spread` is back from.
    fn recover(&mut self, spread: i64, ts: i64) {
        while let Some(widening) = self.open.back().filter(|one| spread <= one.spread).copied() {
            self.open.pop_back();
            let time = i128::from(ts.saturating_sub(widening.start));
            for (window, given_up) in self.windows.iter_mut().zip(&mut self.given_up) {
                if *given_up > self.open.len() {
                    *given_up = self.open.len();
                } else {
                    window.add([time, 1, 0]);
                }
            }
        }
    }

    fn forget(&mut self) {
        self.open.clear();
        self.given_up.fill(0);
    }
}

impl Family for Resilience {
    fn change(&mut self, change: &Change) {
        self.windows.iter_mut().for_each(|window| window.begin(change.ts));
        self.give_up(change.ts);
        let Some(now) = spread(&change.after) else {
            self.forget();
            return;
        };
        self.recover(now, change.ts);
        let Some(before) = change.before.as_ref().and_then(spread) else { return };
        let least = if change.tick == NONE { 1 } else { change.tick.max(1) };
        if now.saturating_sub(before) < least {
            return;
        }
        if self.open.len() == OPEN_MAX {
            self.dropped += OPEN_MAX as u64;
            self.reset();
            self.windows.iter_mut().for_each(|window| window.begin(change.ts));
        }
        self.open.push_back(Widening { start: change.ts, spread: before });
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reset(&mut self) {
        self.windows.iter_mut().for_each(Rolling::reset);
        self.forget();
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        self.give_up(moment.ts);
        self.windows.iter_mut().for_each(|window| window.close(moment.ts));
        let partial = self.partial;
        for term in 0..TERMS {
            for window in &self.windows {
                let [time, count, censored] = *window.sums(0);
                let value = match term {
                    0 if count == 0 => None,
                    0 => Some(time as f64 / count as f64),
                    1 => Some(count as f64),
                    _ => Some(censored as f64),
                };
                let is_shown = window.is_shown(0, moment.ts, partial);
                out.push(value.filter(|_| is_shown), (count + censored) as u64);
            }
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.windows.iter().for_each(|window| window.write(state));
        self.given_up.iter().for_each(|&given_up| state.length(given_up));
        state.u64(self.dropped);
        state.length(self.open.len());
        for widening in &self.open {
            state.i64(widening.start);
            state.i64(widening.spread);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.windows.iter_mut().try_for_each(|window| window.read(state))?;
        for given_up in &mut self.given_up {
            *given_up = state.u64()? as usize;
        }
        self.dropped = state.u64()?;
        self.open.clear();
        for _ in 0..state.length(16)? {
            self.open.push_back(Widening { start: state.i64()?, spread: state.i64()? });
        }
        let open = self.open.len();
        self.given_up.iter_mut().for_each(|given_up| *given_up = (*given_up).min(open));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::metrics::plan::Plan;
    use crate::processors::Settings;

    #[test]
    fn a_window_is_not_covered_where_widenings_could_not_be_followed() {
        // A spread that widens by a tick each moment, and is back at once.
        for count in [OPEN_MAX as i64, OPEN_MAX as i64 + 1] {
            let mut settings = Settings::default();
            let mut one = Resilience::new(&Plan::of(&mut settings).unwrap().terms);
            let best =
                |ticks: i64| Best { bid_price: 1, bid_size: 1, ask_price: 1 + ticks, ask_size: 1 };
            let mut before = None;
            for ts in 0..=count + 1 {
                let after = best(if ts <= count { ts } else { 0 });
                let (ts_recv, ts_event, latency) = (ts, ts, None);
                let ts = 60_000_000_000 * i64::from(before.is_some()) + ts;
                one.change(&Change { ts, ts_recv, ts_event, latency, tick: 1, before, after });
                before = Some(after);
            }
            let moment = Moment {
                ts: 60_000_010_000,
                best: before,
                tick: 1,
                book: None,
                reach: [None; 2],
                is_complete: true,
            };
            let mut values = Values::default();
            one.sample(&moment, &mut values);
            let recoveries = values.drain().nth(5).unwrap();
            let is_whole = count == OPEN_MAX as i64;
            assert_eq!(recoveries.value, is_whole.then_some(count as f64));
            assert_eq!(one.dropped() > 0, !is_whole);
        }
    }
}
