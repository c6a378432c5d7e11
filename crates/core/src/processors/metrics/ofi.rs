//! Set `ofi`: order-flow imbalance of the best prices (Cont, Kukanov & Stoikov 2014).

use super::family::{size, Best, Change, Family, Moment, Set, Terms, Values};
use super::table::{Line, Per};
use super::window::Rolling;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

const UNCOVERED: &str = "the window is not covered";

pub(super) const SET: Set = Set {
    name: "ofi",
    doc: "order-flow imbalance: what changes of the best prices and sizes add and take away",
    lines: &[
        Line {
            name: "ofi",
            per: Per::Window,
            formula: "sum of e: bid size gained less ask size gained at the best prices, by the \
                      change of each price",
            unit: "size",
            null: UNCOVERED,
        },
        Line {
            name: "ofi_norm",
            per: Per::Window,
            formula: "ofi / mean over the changes of (qb + qa) / 2",
            unit: "1",
            null: "the window is not covered, or had no change",
        },
    ],
    build: |terms| Box::new(Ofi::new(terms)),
    has_book: false,
};

#[derive(Debug)]
struct Ofi {
    /// Sums of e, of both sizes, and of changes.
    rolling: Rolling<3>,
    partial: bool,
}

impl Ofi {
    fn new(terms: &Terms) -> Self {
        Self { rolling: Rolling::new(&terms.windows), partial: terms.partial }
    }
}

/// What a change adds to the bids, less what it adds to the asks. A side that is empty stands at
/// an infinite price with no size, so that one that appears counts with all its size.
#[inline]
pub(super) fn flow(before: &Best, after: &Best) -> i128 {
    // Absent prices are the largest number: right for asks; bids look at the smallest.
    let bid = |price: i64| if price == NONE { i64::MIN } else { price };
    let (bid_before, bid_after) = (bid(before.bid_price), bid(after.bid_price));
    // Prices move at random: a branch for each would be foretold wrongly every third time.
    let only = |counts: bool, size: i64| i128::from(size & -i64::from(counts));
    only(bid_after >= bid_before, after.bid_size)
        - only(bid_after <= bid_before, before.bid_size)
        - only(after.ask_price <= before.ask_price, after.ask_size)
        + only(after.ask_price >= before.ask_price, before.ask_size)
}

impl Family for Ofi {
    fn change(&mut self, change: &Change) {
        self.rolling.begin(change.ts);
        // The first change behind a reset has nothing before it.
        if let Some(before) = &change.before {
            self.rolling.add([flow(before, &change.after), change.after.size(), 1]);
        }
    }

    fn reset(&mut self) {
        self.rolling.reset();
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        self.rolling.close(moment.ts);
        let shown = |index: usize| self.rolling.is_shown(index, moment.ts, self.partial);
        for index in 0..self.rolling.len() {
            let &[sum, _, count] = self.rolling.sums(index);
            out.push(shown(index).then(|| size(sum)), count as u64);
        }
        for index in 0..self.rolling.len() {
            let &[sum, sizes, count] = self.rolling.sums(index);
            let value =
                (shown(index) && sizes > 0).then(|| sum as f64 * 2.0 * count as f64 / sizes as f64);
            out.push(value, count as u64);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.rolling.write(state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.rolling.read(state)
    }
}
