//! Set `orders`: how long orders live, since the stream began, or went on behind a break.
//!
//! Of feeds that tell single orders. An order lives from when it came to when it was cancelled or
//! filled as a whole; those that are open still are counted, and have no lifetime. What came before
//! a break counts nowhere, so that what came is always what ended and what is open.

use super::family::{Family, Moment, OrderKind, OrderStep, Set, Values};
use super::histogram::Histogram;
use super::table::{Line, Per};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

const NO_ORDER: &str = "no order came and went since the stream began, or its last break";

const fn line(name: &'static str, formula: &'static str, unit: &'static str) -> Line {
    Line { name, per: Per::One, formula, unit, null: NO_ORDER }
}

pub(super) const SET: Set = Set {
    name: "orders",
    doc:
        "how long single orders live, of those that came since the stream began, or its last break",
    lines: &[
        line("lifetime_p10", "nearest rank, within 0.1 %, of the times from add to end", "ns"),
        line("lifetime_p50", "the same", "ns"),
        line("lifetime_p90", "the same", "ns"),
        line("orders_filled", "orders that ended with a fill", "orders"),
        line("orders_cancelled", "orders that ended with a cancel", "orders"),
        line("orders_open", "orders that came since then, and have not ended", "orders"),
    ],
    build: |_| Box::new(Lifetimes::default()),
    has_book: false,
};

#[derive(Debug, Default)]
struct Lifetimes {
    lifetimes: Histogram,
    added: u64,
    filled: u64,
    /// When the first of those that are counted came, by the venue.
    first: i64,
}

impl Lifetimes {
    /// Whether an order that came at `ts` is one of those that are counted.
    const fn is_counted(&self, ts: i64) -> bool {
        self.added > 0 && ts >= self.first
    }
}

impl Family for Lifetimes {
    fn order(&mut self, step: &OrderStep) {
        match (step.kind, step.lifetime) {
            (OrderKind::Add, _) => {
                if self.added == 0 {
                    self.first = step.ts_event;
                }
                self.added += 1;
            }
            // One of before a break is open behind it, where the orders are known all the same.
            (kind, Some(lifetime)) if self.is_counted(step.ts_event.saturating_sub(lifetime)) => {
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
        state.i64(self.first);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.lifetimes.read(state)?;
        (self.added, self.filled, self.first) = (state.u64()?, state.u64()?, state.i64()?);
        Ok(())
    }
}
