//! Set `microprice`: the mid that is expected, given the spread and the imbalance (Stoikov 2018).
//!
//! The table of adjustments is made of the steps of the last day, by UTC, that had any, and is used
//! from the next one on: never on what it is made of. A step is from one quote to the next. A tick
//! size that changes begins the count anew.

use super::family::{price, Best, Change, Family, Moment, Set, Values};
use super::table::{Line, Per};
use crate::error::Result;
use crate::estimators::microprice::{Grid, Steps};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

const DAY: i64 = 86_400_000_000_000;
const NONE_FITTED: &str =
    "no day before, a spread of more than 4 ticks, a side is empty, or no such state that day";

pub(super) const SET: Set = Set {
    name: "microprice",
    doc: "the mid that is expected, given spread and imbalance, by the steps of the day before",
    lines: &[
        Line {
            name: "microprice_stoikov",
            per: Per::One,
            formula: "mid + adjustment of the spread, 1 to 4 ticks, and of the fifth of the \
                      imbalance",
            unit: "price",
            null: NONE_FITTED,
        },
        Line {
            name: "microprice_adjustment",
            per: Per::One,
            formula: "g + B g + ... + B^5 g: changes of the mid that are expected of the next six \
                      moves",
            unit: "ticks",
            null: NONE_FITTED,
        },
    ],
    build: |_| Box::new(Stoikov::new()),
    has_book: false,
};

#[derive(Debug)]
struct Stoikov {
    grid: Grid,
    tick: i64,
    /// The day that is counted; `i64::MIN` before the first quote.
    day: i64,
    steps: Steps,
    /// The state of the last quote, and twice its mid.
    before: Option<(usize, i128)>,
    /// By state: what is added to the mid, in ticks, and of how many steps it is made.
    table: Vec<(Option<f64>, u64)>,
}

impl Stoikov {
    fn new() -> Self {
        let grid = Grid::default();
        let (steps, table) = (Steps::new(grid), Vec::new());
        Self { grid, tick: NONE, day: i64::MIN, steps, before: None, table }
    }

    /// The state of a quote, and twice its mid.
    fn state(&self, best: &Best) -> Option<(usize, i128)> {
        if !best.is_sound() || self.tick == NONE {
            return None;
        }
        let spread = i128::from(best.ask_price) - i128::from(best.bid_price);
        let state = self.grid.state(spread, self.tick, best.bid_size, best.ask_size)?;
        Some((state, best.mid2()))
    }

    fn begin_day(&mut self, ts: i64) {
        let day = ts.div_euclid(DAY);
        if day <= self.day {
            return;
        }
        if let Some(table) = self.steps.fit(self.tick) {
            self.table = table.adjustment.into_iter().zip(table.counts).collect();
        }
        self.steps = Steps::new(self.grid);
        (self.day, self.before) = (day, None);
    }
}

impl Family for Stoikov {
    fn change(&mut self, change: &Change) {
        self.begin_day(change.ts);
        if change.tick != self.tick {
            let before = std::mem::replace(&mut self.tick, change.tick);
            if before != NONE {
                (self.steps, self.table) = (Steps::new(self.grid), Vec::new());
            }
            self.before = None;
        }
        let now = self.state(&change.after);
        let before = self.before.filter(|_| change.before.is_some());
        if let (Some(before), Some(now)) = (before, now) {
            // Twice the mid of two quotes that are apart by more than 63 bits is no step.
            if let Ok(moved) = i64::try_from(now.1 - before.1) {
                self.steps.add(before.0, now.0, moved);
            }
        }
        self.before = now;
    }

    fn reset(&mut self) {
        // What was counted holds; the next quote does not continue the last one.
        self.before = None;
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        if self.day != i64::MIN {
            self.begin_day(moment.ts);
        }
        let best = moment.best.filter(|_| moment.tick == self.tick);
        let state = best.and_then(|best| self.state(&best));
        let (mut value, mut ticks, mut count) = (None, None, 0);
        if let Some((state, mid2)) = state {
            if let Some(&(Some(adjustment), steps)) = self.table.get(state) {
                (ticks, count) = (Some(adjustment), steps);
                value = Some(price(mid2) / 2.0 + adjustment * price(self.tick.into()));
            }
        }
        out.push(value, count);
        out.push(ticks, count);
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.i64(self.tick);
        state.i64(self.day);
        self.steps.still.iter().chain(&self.steps.moved).for_each(|&count| state.u32(count));
        self.steps.changes.iter().for_each(|&change| state.i64(change));
        state.flag(self.before.is_some());
        let (before, mid2) = self.before.unwrap_or_default();
        state.length(before);
        super::window::put_wide(mid2, state);
        state.length(self.table.len());
        for (value, count) in &self.table {
            state.u64(value.unwrap_or(f64::NAN).to_bits());
            state.u64(*count);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        (self.tick, self.day) = (state.i64()?, state.i64()?);
        for count in self.steps.still.iter_mut().chain(&mut self.steps.moved) {
            *count = state.u32()?;
        }
        for change in &mut self.steps.changes {
            *change = state.i64()?;
        }
        let has_before = state.flag()?;
        let before = (state.u64()? as usize).min(self.grid.len() - 1);
        self.before = Some((before, super::window::take_wide(state)?)).filter(|_| has_before);
        self.table.clear();
        for _ in 0..state.length(16)? {
            let value = f64::from_bits(state.u64()?);
            self.table.push((Some(value).filter(|value| !value.is_nan()), state.u64()?));
        }
        Ok(())
    }
}
