//! Set `decayed`: volatility of the mid in irregular time, older returns counting less and less.

use super::family::{Best, Change, Family, Moment, Set, Terms, Values};
use super::table::{Line, Per};
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
        null: "no mid, or it did not change yet",
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
    changes: u64,
    /// Those of the mid that returns are from.
    best: Option<Best>,
}

impl Decayed {
    fn new(terms: &Terms) -> Self {
        Self {
            lengths: terms.windows.clone(),
            values: vec![0.0; terms.windows.len()],
            last: i64::MIN,
            changes: 0,
            best: None,
        }
    }

    /// How much of a value of the last change is left at `ts`.
    fn left(&self, index: usize, ts: i64) -> f64 {
        (-(ts.saturating_sub(self.last) as f64) / self.lengths[index] as f64).exp()
    }
}

impl Family for Decayed {
    fn change(&mut self, change: &Change) {
        // Crossed and one-sided quotes are passed over: the price before them stands.
        if !change.after.is_sound() || change.after.mid2() <= 0 {
            return;
        }
        let now = change.after.mid2();
        let before = self.best.replace(change.after).map(|best| best.mid2());
        let Some(before) = before.filter(|&before| before != now) else { return };
        let square = (now as f64 / before as f64).ln().powi(2);
        for index in 0..self.values.len() {
            let left = if self.changes == 0 { 0.0 } else { self.left(index, change.ts) };
            self.values[index] = self.values[index] * left + square;
        }
        self.last = change.ts;
        self.changes += 1;
    }

    fn reset(&mut self) {
        self.values.fill(0.0);
        (self.last, self.changes, self.best) = (i64::MIN, 0, None);
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        for index in 0..self.values.len() {
            let value =
                (self.changes > 0).then(|| self.values[index] * self.left(index, moment.ts));
            out.push(value, self.changes);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.values.iter().for_each(|value| state.u64(value.to_bits()));
        state.i64(self.last);
        state.u64(self.changes);
        super::put_best(self.best, state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        for value in &mut self.values {
            *value = f64::from_bits(state.u64()?);
        }
        self.last = state.i64()?;
        self.changes = state.u64()?;
        self.best = super::take_best(state)?;
        Ok(())
    }
}
