//! The book by price that single orders add up to, and what it shows to the families.

use super::super::family::{latency_of, Best, Change, OrderStep, Values};
use super::super::single_orders::OrderChange;
use super::super::{put_best, take_best};
use super::Measured;
use crate::book::L2Book;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Header, Records, Side, FLAG_OUT_OF_ORDER, NONE};

/// The book by price that single orders add up to.
#[derive(Debug, Default)]
pub(super) struct Derived {
    pub(super) book: L2Book,
    /// Whether all orders of it are known.
    pub(super) is_whole: bool,
    /// Sequence of the last event, and the best prices before it: a trade that it is has them.
    pub(super) sequence: u64,
    pub(super) before: Option<Best>,
}

impl Derived {
    /// The book, if it is whole.
    pub(super) fn whole(&self) -> Option<&L2Book> {
        self.is_whole.then_some(&self.book)
    }

    pub(super) fn best(&self) -> Best {
        let of = |side| self.book.best(side).map_or((NONE, 0), |level| (level.price, level.size));
        let ((bid_price, bid_size), (ask_price, ask_size)) = (of(Side::Bid), of(Side::Ask));
        Best { bid_price, bid_size, ask_price, ask_size }
    }
}

impl Measured {
    /// Takes in what a single order changes. One that is out of order says nothing of the time: it
    /// counts at that of the event before it.
    pub(in super::super) fn order(
        &mut self,
        header: &Header,
        change: &OrderChange,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        let mut ts = self.ts;
        if header.flags & FLAG_OUT_OF_ORDER == 0 {
            ts = self.advance(header.ts_event, known, values, out);
            self.advance_windows(header, known, out);
        }
        let derived = self.derived.get_or_insert_with(Box::default);
        (derived.sequence, derived.before) = (header.sequence, self.best);
        let was_whole = std::mem::replace(&mut derived.is_whole, change.is_whole);
        for &(side, price, size) in change.levels.iter().flatten() {
            derived.book.set(side, price, size);
        }
        if ts == i64::MIN {
            return;
        }
        for step in change.steps.iter().flatten() {
            let step = OrderStep { ts, ..*step };
            self.families.iter_mut().for_each(|family| family.order(&step));
        }
        let touched = change.levels.iter().any(Option::is_some);
        if let Some(book) = derived.whole().filter(|_| touched) {
            let after = derived.best();
            if self.best != Some(after) {
                let latency = latency_of(header);
                let (ts_recv, ts_event) = (header.ts_recv, header.ts_event);
                let (before, tick) = (self.best, self.tick);
                let change = Change { ts, ts_recv, ts_event, latency, tick, before, after };
                self.families.iter_mut().for_each(|family| family.change(&change));
                self.best = Some(after);
            }
            if self.plan.has_books {
                self.families.iter_mut().for_each(|family| family.book(ts, book));
            }
        } else if was_whole && !change.is_whole {
            self.lose_orders();
            self.reset(false, known, values, out);
        }
        if self.plan.interval == 0 {
            self.sample(ts, known, values, out);
        }
    }

    /// Told that the orders that came are gone.
    pub(in super::super) fn forget_orders(&mut self) {
        if self.derived.take().is_some() {
            self.families.iter_mut().for_each(|family| family.lose_book());
        }
    }

    /// Told that not all orders are known any more.
    pub(in super::super) fn lose_orders(&mut self) {
        if let Some(derived) = &mut self.derived {
            derived.is_whole = false;
            self.families.iter_mut().for_each(|family| family.lose_book());
        }
    }

    pub(super) fn write_derived(&self, state: &mut StateWriter<'_>) {
        state.flag(self.derived.is_some());
        if let Some(derived) = &self.derived {
            state.flag(derived.is_whole);
            state.u64(derived.sequence);
            put_best(derived.before, state);
            for side in [Side::Bid, Side::Ask] {
                state.length(derived.book.len(side));
                for level in derived.book.levels(side) {
                    state.i64(level.price);
                    state.i64(level.size);
                }
            }
        }
    }

    pub(super) fn read_derived(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.derived = None;
        if state.flag()? {
            let mut derived = Derived {
                is_whole: state.flag()?,
                sequence: state.u64()?,
                before: take_best(state)?,
                ..Derived::default()
            };
            for side in [Side::Bid, Side::Ask] {
                for _ in 0..state.length(16)? {
                    derived.book.set(side, state.i64()?, state.i64()?);
                }
            }
            self.derived = Some(Box::new(derived));
        }
        Ok(())
    }
}
