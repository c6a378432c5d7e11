//! The trades of one window, and the values that are told of them.

use super::super::family::{price, size, Print};
use super::super::window::{put_wide, take_wide};
use super::FIELDS;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::NONE;

/// The trades of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) start: i64,
    pub(super) end: i64,
    /// Times of the trades that are first and last by the venue's time.
    pub(super) first: i64,
    pub(super) last: i64,
    /// Those of the trades that set `open` and `close`. What sets no price, by its conditions, is
    /// in the sizes alone.
    opened: i64,
    closed: i64,
    /// [`NONE`]: no trade set it.
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: i128,
    buys: i128,
    turnover: i128,
    pub(super) trades: u64,
    pub(super) is_final: bool,
    /// Whether it was told while it was open, as the stream broke, and has had no trade since.
    pub(super) is_told: bool,
    /// Whether trades of it may be missing.
    pub(super) is_cut: bool,
}

impl Slot {
    /// A window of one trade.
    pub(super) fn of(print: &Print, start: i64, end: i64) -> Self {
        let (ts, price, size) = (print.ts_event, print.price, i128::from(print.size));
        let last = if print.sets_price { price } else { NONE };
        let extreme = if print.sets_range { price } else { NONE };
        Self {
            start,
            end,
            first: ts,
            last: ts,
            opened: ts,
            closed: ts,
            open: last,
            high: extreme,
            low: extreme,
            close: last,
            volume: size,
            buys: if print.side > 0 { size } else { 0 },
            turnover: size * i128::from(price),
            trades: 1,
            is_final: false,
            is_told: false,
            is_cut: false,
        }
    }

    /// Adds the trades of another one, which came later.
    pub(super) fn join(&mut self, other: &Self) {
        (self.start, self.end) = (self.start.min(other.start), self.end.max(other.end));
        // Of trades of one time, that which came first is the first one.
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
        if other.open != NONE && (self.open == NONE || other.opened < self.opened) {
            (self.opened, self.open) = (other.opened, other.open);
        }
        if other.close != NONE && (self.close == NONE || other.closed >= self.closed) {
            (self.closed, self.close) = (other.closed, other.close);
        }
        if self.high == NONE {
            (self.high, self.low) = (other.high, other.low);
        } else if other.high != NONE {
            (self.high, self.low) = (self.high.max(other.high), self.low.min(other.low));
        }
        self.volume += other.volume;
        self.buys += other.buys;
        self.turnover = self.turnover.saturating_add(other.turnover);
        self.trades += other.trades;
        (self.is_told, self.is_cut) = (false, self.is_cut | other.is_cut);
    }

    /// Whether it was told to be null, and stays so.
    pub(super) const fn is_null(&self, partial: bool) -> bool {
        self.is_final && self.is_cut && !partial
    }

    /// Its values; none where trades may be missing, unless `partial`.
    pub(super) fn row(&self, shape: usize, partial: bool, is_correction: bool) -> Row {
        let values = || {
            let vwap = price(self.turnover) / self.volume.max(1) as f64;
            let set = |of: i64| if of == NONE { f64::NAN } else { price(of.into()) };
            [
                set(self.open),
                set(self.high),
                set(self.low),
                set(self.close),
                if self.volume > 0 { vwap } else { f64::NAN },
                size(self.volume),
                size(self.buys),
                self.trades as f64,
            ]
        };
        Row {
            shape,
            ts: self.end,
            length: self.end.saturating_sub(self.start),
            trades: self.trades,
            is_correction,
            values: (partial || !self.is_cut).then(values),
        }
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        let Self { start, end, first, last, opened, closed, open, high, low, close, .. } = *self;
        for value in [start, end, first, last, opened, closed, open, high, low, close] {
            state.i64(value);
        }
        for value in [self.volume, self.buys, self.turnover] {
            put_wide(value, state);
        }
        state.u64(self.trades);
        for flag in [self.is_final, self.is_told, self.is_cut] {
            state.flag(flag);
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self {
            start: state.i64()?,
            end: state.i64()?,
            first: state.i64()?,
            last: state.i64()?,
            opened: state.i64()?,
            closed: state.i64()?,
            open: state.i64()?,
            high: state.i64()?,
            low: state.i64()?,
            close: state.i64()?,
            volume: take_wide(state)?,
            buys: take_wide(state)?,
            turnover: take_wide(state)?,
            trades: state.u64()?,
            is_final: state.flag()?,
            is_told: state.flag()?,
            is_cut: state.flag()?,
        })
    }
}

/// Values of a window that is final, or is corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Row {
    /// Which shape it is of.
    pub(in super::super) shape: usize,
    /// Its end: of a count, the time of its last trade, or right behind the count before.
    pub(in super::super) ts: i64,
    /// Its length.
    pub(in super::super) length: i64,
    pub(in super::super) trades: u64,
    pub(in super::super) is_correction: bool,
    /// In the order of [`FIELDS`]; none: not covered, or no window any more.
    pub(in super::super) values: Option<[f64; FIELDS.len()]>,
}
