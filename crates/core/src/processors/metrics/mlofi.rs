//! Set `mlofi`: order-flow imbalance of each of the best levels (Xu, Gould & Howison 2018).
//!
//! The m-th best prices before and after an update of the verified book are compared as the best
//! ones are by `ofi`. Behind a book that was not verified, the first update has nothing before it.

use super::family::{size, Best, Family, Moment, Set, Terms, Values};
use super::ofi::flow;
use super::table::{Line, Per};
use super::window::Rolling;
use crate::book::L2Book;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Side, NONE};

/// Levels a side.
pub(super) const RANKS: usize = 10;

pub(super) const SET: Set = Set {
    name: "mlofi",
    doc: "order-flow imbalance of each of the ten best levels of the book",
    lines: &[Line {
        name: "mlofi",
        per: Per::RankWindow,
        formula: "as ofi, of the m-th best bid and ask, m = 1 to 10",
        unit: "size",
        null: "the window is not covered, or the book is not verified",
    }],
    build: |terms| Box::new(Levels::new(terms)),
    has_book: true,
};

const NOTHING: Best = Best { bid_price: NONE, bid_size: 0, ask_price: NONE, ask_size: 0 };

#[derive(Debug)]
struct Levels {
    /// The best levels, the m-th bid beside the m-th ask.
    top: Option<[Best; RANKS]>,
    /// Flow of each rank, then updates.
    rolling: Rolling<{ RANKS + 1 }>,
    partial: bool,
}

pub(super) fn top_of(book: &L2Book) -> [Best; RANKS] {
    let mut top = [NOTHING; RANKS];
    for (best, level) in top.iter_mut().zip(book.levels(Side::Bid)) {
        (best.bid_price, best.bid_size) = (level.price, level.size);
    }
    for (best, level) in top.iter_mut().zip(book.levels(Side::Ask)) {
        (best.ask_price, best.ask_size) = (level.price, level.size);
    }
    top
}

impl Levels {
    fn new(terms: &Terms) -> Self {
        Self { top: None, rolling: Rolling::new(&terms.windows), partial: terms.partial }
    }
}

impl Family for Levels {
    fn book(&mut self, ts: i64, book: &L2Book) {
        let after = top_of(book);
        self.rolling.begin(ts);
        if let Some(before) = self.top.replace(after) {
            let mut terms = [0; RANKS + 1];
            for (term, (before, after)) in terms.iter_mut().zip(before.iter().zip(&after)) {
                *term = flow(before, after);
            }
            terms[RANKS] = 1;
            self.rolling.add(terms);
        }
    }

    fn lose_book(&mut self) {
        self.reset();
    }

    fn reset(&mut self) {
        self.top = None;
        self.rolling.reset();
    }

    fn sample(&mut self, moment: &Moment<'_>, out: &mut Values) {
        self.rolling.close(moment.ts);
        for rank in 0..RANKS {
            for index in 0..self.rolling.len() {
                let sums = self.rolling.sums(index);
                let is_shown = self.rolling.is_shown(index, moment.ts, self.partial);
                out.push(is_shown.then(|| size(sums[rank])), sums[RANKS] as u64);
            }
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.rolling.write(state);
        put_top(self.top.as_ref(), state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.rolling.read(state)?;
        self.top = take_top(state)?;
        Ok(())
    }
}

/// Writes the best levels.
pub(super) fn put_top(top: Option<&[Best; RANKS]>, state: &mut StateWriter<'_>) {
    state.flag(top.is_some());
    for best in top.into_iter().flatten() {
        for value in [best.bid_price, best.bid_size, best.ask_price, best.ask_size] {
            state.i64(value);
        }
    }
}

/// Reads what [`put_top`] wrote.
pub(super) fn take_top(state: &mut StateReader<'_>) -> Result<Option<[Best; RANKS]>> {
    if !state.flag()? {
        return Ok(None);
    }
    let mut top = [NOTHING; RANKS];
    for best in &mut top {
        let mut value = || state.i64();
        *best = Best {
            bid_price: value()?,
            bid_size: value()?,
            ask_price: value()?,
            ask_size: value()?,
        };
    }
    Ok(Some(top))
}
