//! `marking_close_like`: trades of one side that move the price in the last moments of a session.

use super::alarm::{Evidence, Scope};
use super::detector::{told, Detector, Event, Print};
use super::history::{History, TO_SD};
use super::rule::Rule;
use super::table::{count, positive, share, Entry, HOURS};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Side;

/// Returns without which nothing is unusual.
const RETURNS_MIN: usize = 30;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("window_ms", 60_000.0, "time before the close that is looked at"),
        share("share", 0.9, "share of the volume whose takers are of one side"),
        positive("deviations", 3.0, "robust standard deviations of the returns before"),
        count("least", 5.0, "trades below which nothing is said"),
        count("history", 390.0, "windows that are what was before; at least 30 must have come"),
    ],
    texts: HOURS,
    has_orders: true,
    check: |rule| match rule.hours {
        Some(_) => Ok(()),
        None => Err(Error::invalid("expected hours, whose end is the close, got none")),
    },
    unit: "deviations",
    ..Entry::new(
        "marking_close_like",
        "in the last window of a session nearly all volume takes one side, and the price moves by \
         `deviations`",
        "side: who took; value: the return in deviations; size: volume; price: of the last trade; \
         count: trades; detail: share of the side, price before",
        |rule| Box::new(Marking::new(rule)),
    )
};

/// The trades of one window.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// Its start, in ns.
    start: i64,
    first: u64,
    last: u64,
    trades: u64,
    bought: i128,
    sold: i128,
    /// Of the last trade before it; 0: not known.
    before: i64,
    price: i64,
    ts: i64,
}

#[derive(Debug)]
struct Marking {
    window: i64,
    share: f64,
    deviations: f64,
    least: u64,
    returns: History,
    open: Option<Window>,
    /// The last price.
    price: i64,
}

impl Marking {
    fn new(rule: &Rule) -> Self {
        Self {
            window: rule.ns("window_ms"),
            share: rule.number("share"),
            deviations: rule.number("deviations"),
            least: rule.count("least") as u64,
            returns: History::new(rule.count("history").max(RETURNS_MIN)),
            open: None,
            price: 0,
        }
    }

    /// Ends the open window, and looks whether it was the last of a session.
    fn close(&mut self, scope: &mut Scope<'_>) {
        let Some(window) = self.open.take() else { return };
        let moved = if window.before > 0 && window.price > 0 {
            (window.price as f64 / window.before as f64).ln()
        } else {
            0.0
        };
        let hours = scope.rule.hours;
        let close = hours.and_then(|hours| hours.close_of(window.start));
        let is_last = close.is_some_and(|close| window.start + self.window == close);
        if is_last {
            self.judge(&window, moved, scope);
        }
        self.returns.push(moved);
    }

    fn judge(&self, window: &Window, moved: f64, scope: &mut Scope<'_>) {
        let volume = window.bought + window.sold;
        if window.trades < self.least || volume <= 0 || self.returns.len() < RETURNS_MIN {
            return;
        }
        let (side, taken) = if window.bought >= window.sold {
            (Side::Bid, window.bought)
        } else {
            (Side::Ask, window.sold)
        };
        let share = taken as f64 / volume as f64;
        let Some((middle, deviation)) = self.returns.spread() else { return };
        let step = scope.tick as f64 / window.price.max(1) as f64;
        let least = (TO_SD * deviation).max(step);
        let away = (moved - middle) / if least > 0.0 { least } else { return };
        // A buyer lifts the price: what moved the other way was not moved by this side.
        let signed = if side == Side::Bid { away } else { -away };
        if share <= self.share || signed <= self.deviations {
            return;
        }
        scope.tell(&Evidence {
            ts_start: window.start,
            ts_end: window.ts,
            first: window.first,
            last: window.last,
            value: signed,
            threshold: self.deviations,
            price: window.price,
            size: i64::try_from(volume).unwrap_or(i64::MAX - 1),
            count: window.trades,
            side: side as u8,
            detail: format!("share={share:.3} before={}", told(window.before)),
            ..Evidence::at(&scope.at)
        });
    }

    fn print(&mut self, print: &Print, scope: &mut Scope<'_>) {
        let (ts, offset) = (scope.at.ts, scope.at.offset);
        let close = scope.rule.hours.and_then(|hours| hours.close_of(ts));
        // Windows are counted back from the close, so that the last one ends there.
        let edge = close.unwrap_or(0);
        let start = edge + (ts - edge).div_euclid(self.window) * self.window;
        if self.open.is_some_and(|window| window.start != start) {
            self.close(scope);
        }
        let before = self.price;
        let window =
            self.open.get_or_insert(Window { start, first: offset, before, ..Window::default() });
        window.trades += 1;
        (window.last, window.price, window.ts) = (offset, print.price, ts);
        if print.side == Side::Bid as u8 {
            window.bought += i128::from(print.size);
        } else if print.side == Side::Ask as u8 {
            window.sold += i128::from(print.size);
        }
        self.price = print.price;
    }
}

impl Detector for Marking {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Print(print, _) if print.sets_price => self.print(print, scope),
            Event::Time if scope.at.ts_recv >= self.due() => self.close(scope),
            Event::Break => {
                (self.open, self.price) = (None, 0);
                self.returns.clear();
            }
            _ => {}
        }
    }

    /// A window is over when receive times are past its end, by as much as it is long at most.
    fn due(&self) -> i64 {
        let slack = self.window.min(1_000_000_000);
        self.open.map_or(i64::MAX, |window| window.start.saturating_add(self.window + slack))
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        self.returns.write(state);
        state.i64(self.price);
        state.flag(self.open.is_some());
        let window = self.open.unwrap_or_default();
        [window.start, window.before, window.price, window.ts]
            .iter()
            .for_each(|&value| state.i64(value));
        [window.first, window.last, window.trades].iter().for_each(|&value| state.u64(value));
        for sum in [window.bought, window.sold] {
            state.i64((sum >> 64) as i64);
            state.u64(sum as u64);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.returns.read(state)?;
        self.price = state.i64()?;
        let is_open = state.flag()?;
        let mut window = Window {
            start: state.i64()?,
            before: state.i64()?,
            price: state.i64()?,
            ts: state.i64()?,
            first: state.u64()?,
            last: state.u64()?,
            trades: state.u64()?,
            ..Window::default()
        };
        for sum in [&mut window.bought, &mut window.sold] {
            *sum = i128::from(state.i64()?) << 64 | i128::from(state.u64()?);
        }
        self.open = is_open.then_some(window);
        Ok(())
    }
}
