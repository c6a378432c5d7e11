//! Set `orders`: how long orders live, since the stream began.
//!
//! Of feeds that tell single orders. An order lives from when it came to when it was cancelled or
//! filled as a whole; those that are open still are counted, and have no lifetime.

use super::family::{Family, Moment, OrderKind, OrderStep, Set, Values};
use super::histogram::Histogram;
use super::table::{Line, Per};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

const NO_ORDER: &str = "no order came and went since the stream began";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: NO_ORDER }
}

pub(super) const SET: Set = Set {
    name: "orders",
    doc: "how long single orders live, since the stream began",
    lines: &[
        line("lifetime_p10", "nearest rank, within 0.1 %, of the times from add to end", "ns"),
        line("lifetime_p50", "the same", "ns"),
        line("lifetime_p90", "the same", "ns"),
        line("orders_filled", "orders that ended with a fill", "orders"),
        line("orders_cancelled", "orders that ended with a cancel", "orders"),
        line("orders_open", "orders that came, and have not ended", "orders"),
    ],
    build: |_| Box::new(Lifetimes::default()),
    has_book: false,
};

#[derive(Debug, Default)]
struct Lifetimes {
    lifetimes: Histogram,
    added: u64,
    filled: u64,
}

impl Family for Lifetimes {
    fn order(&mut self, step: &OrderStep) {
        match (step.kind, step.lifetime) {
            (OrderKind::Add, _) => self.added += 1,
            (kind, Some(lifetime)) => {
                self.filled += u64::from(kind == OrderKind::Fill);
                self.lifetimes.add(lifetime);
            }
            _ => {}
        }
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn sample(&mut self, _: &Moment<'_>, out: &mut Values) {
        let ended = self.lifetimes.count();
        for share in [0.1, 0.5, 0.9] {
            out.push(self.lifetimes.quantile(share), ended);
        }
        let cancelled = ended.saturating_sub(self.filled);
        let open = self.added.saturating_sub(ended);
        for count in [self.filled, cancelled, open] {
            out.push((self.added > 0).then_some(count as f64), self.added);
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.lifetimes.write(state);
        state.u64(self.added);
        state.u64(self.filled);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.lifetimes.read(state)?;
        (self.added, self.filled) = (state.u64()?, state.u64()?);
        Ok(())
    }
}
