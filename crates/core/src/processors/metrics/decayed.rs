//! Set `decayed`: volatility of the mid in irregular time, older returns counting less and less.
//!
//! The price before a crossed or one-sided quote stands for as long as the window; where there is
//! none for longer, nothing is known, and what comes behind is no change of it.

use super::family::{Change, Family, Moment, Set, Terms, Values};
use super::grid_price::GridPrice;
use super::table::{Line, Per};
use super::window::left_after;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

pub(super) const SET: Set = Set {
    name: "decayed",
    doc: "volatility of the mid by all of its changes, the older the less",
    lines: &[Line {
        name: "ewma_vol",
        per: Per::Window,
        formula:
            "v e^(-dt/tau) + r^2 at each change of the mid, r its log return, tau the length; \
                  decayed to the moment",
        unit: "squared log return of the window",
        null: "the mid did not change in 40 lengths, or there was none for as long as the window",
    }],
    build: |terms| Box::new(Decayed::new(terms)),
    has_book: false,
};

#[derive(Debug)]
struct Decayed {
    lengths: Vec<i64>,
    /// By window, as of the last change of the mid.
    values: Vec<f64>,
    last: i64,
    /// By window.
    changes: Vec<u64>,
    price: GridPrice,
}

impl Decayed {
    fn new(terms: &Terms) -> Self {
        Self {
            lengths: terms.windows.clone(),
            values: vec![0.0; terms.windows.len()],
            last: i64::MIN,
            changes: vec![0; terms.windows.len()],
            price: GridPrice::NONE,
        }
    }

    /// What is left at `ts` of the value of the last change, and of how many changes it is.
    fn left(&self, index: usize, ts: i64) -> Option<(f64, u64)> {
        let changes = Some(self.changes[index]).filter(|&changes| changes > 0)?;
        let left = left_after(ts.saturating_sub(self.last), self.lengths[index])?;
        Some((self.values[index] * left, changes))
    }
}

impl Family for Decayed {
    fn change(&mut self, change: &Change) {
        let before = self.price;
        self.price.set(&change.after, change.ts);
        let now = change.after.mid2();
        if !change.after.is_sound() || now <= 0 || before.newest() == Some(now) {
            return;
        }
        for index in 0..self.lengths.len() {
            let length = self.lengths[index];
            let known = before.mid2(change.ts, length).filter(|&mid2| mid2 > 0);
            let square = known.map(|mid2| (now as f64 / mid2 as f64).ln().powi(2));
            let (left, changes) = self.left(index, change.ts).unwrap_or_default();
            self.values[index] = left + square.unwrap_or(0.0);
            self.changes[index] = changes + u64::from(square.is_some());
        }
        self.last = change.ts;
    }

    fn reset(&mut self) {
        self.values.fill(0.0);
        self.changes.fill(0);
        (self.last, self.price) = (i64::MIN, GridPrice::NONE);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        for (index, &length) in self.lengths.iter().enumerate() {
            let is_known = self.price.mid2(moment.ts, length).is_some();
            let left = self.left(index, moment.ts);
            let value = left.map(|(value, _)| value).filter(|_| is_known);
            out.push(value, left.map_or(0, |(_, changes)| changes));
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.values.iter().for_each(|value| state.u64(value.to_bits()));
        self.changes.iter().for_each(|&changes| state.u64(changes));
        state.i64(self.last);
        self.price.write(state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        for value in &mut self.values {
            *value = f64::from_bits(state.u64()?);
        }
        for changes in &mut self.changes {
            *changes = state.u64()?;
        }
        self.last = state.i64()?;
        self.price = GridPrice::read(state)?;
        Ok(())
    }
}
