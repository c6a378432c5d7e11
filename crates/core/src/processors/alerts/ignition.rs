//! `momentum_ignition_like`: a fast move on many trades that is soon taken back.

use std::collections::VecDeque;

use super::alarm::{Evidence, Scope};
use super::detector::{told, Detector, Event};
use super::history::{History, TO_SD};
use super::rule::Rule;
use super::table::{count, positive, share, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// A window is looked at in so many parts.
const PARTS: i64 = 10;
/// Returns without which nothing is unusual.
const RETURNS_MIN: usize = 60;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("window_ms", 1_000.0, "time in which the price moves"),
        positive("deviations", 8.0, "robust standard deviations of the returns before"),
        positive("factor", 5.0, "times the median of the trades in a window before"),
        positive("back_ms", 60_000.0, "how long the price may take to come back"),
        share("back", 0.5, "share of the move that it must come back"),
        count("history", 600.0, "windows that are what was before; at least 60 must have come"),
    ],
    has_orders: true,
    unit: "deviations",
    ..Entry::new(
        "momentum_ignition_like",
        "the price of trades moves by `deviations` within a window, on many trades, and comes back",
        "price: the furthest; value: the return in deviations; count: trades in the window; \
         detail: prices of the start and of the end",
        |rule| Box::new(Ignition::new(rule)),
    )
};

/// What happened within one part of a window.
#[derive(Debug, Clone, Copy)]
struct Part {
    number: i64,
    trades: u64,
    /// Price of its first trade.
    price: i64,
    offset: u64,
}

/// A move that may come back.
#[derive(Debug, Clone)]
struct Move {
    start: i64,
    furthest: i64,
    evidence: Evidence,
}

#[derive(Debug)]
struct Ignition {
    part: i64,
    deviations: f64,
    factor: f64,
    back: i64,
    share: f64,
    parts: VecDeque<Part>,
    /// Last price of the window that is open, its number and its trades.
    window: Option<(i64, i64, u64)>,
    last: Option<i64>,
    returns: History,
    trades: History,
    open: Option<Move>,
}

impl Ignition {
    fn new(rule: &Rule) -> Self {
        let history = rule.count("history").max(RETURNS_MIN);
        Self {
            part: (rule.ns("window_ms") / PARTS).max(1),
            deviations: rule.number("deviations"),
            factor: rule.number("factor"),
            back: rule.ns("back_ms"),
            share: rule.number("back"),
            parts: VecDeque::new(),
            window: None,
            last: None,
            returns: History::new(history),
            trades: History::new(history),
            open: None,
        }
    }

    /// Notes the return and the trades of whole windows, none overlapping.
    fn close_windows(&mut self, ts: i64, price: i64) {
        let number = ts.div_euclid(self.part * PARTS);
        match self.window {
            Some((known, ref mut last, ref mut trades)) if known == number => {
                (*last, *trades) = (price, *trades + 1);
            }
            before => {
                if let Some((_, last, trades)) = before {
                    if let Some(earlier) = self.last.filter(|&earlier| earlier > 0 && last > 0) {
                        self.returns.push((last as f64 / earlier as f64).ln());
                    }
                    self.trades.push(trades as f64);
                    self.last = Some(last);
                }
                self.window = Some((number, price, 1));
            }
        }
    }

    fn print(&mut self, price: i64, scope: &mut Scope<'_>) {
        let ts = scope.at.ts;
        let number = ts.div_euclid(self.part);
        match self.parts.back_mut() {
            Some(part) if part.number >= number => part.trades += 1,
            _ => self.parts.push_back(Part { number, trades: 1, price, offset: scope.at.offset }),
        }
        while self.parts.front().is_some_and(|part| part.number <= number - PARTS) {
            self.parts.pop_front();
        }
        self.follow(price, scope);
        if self.open.is_none() {
            self.look(price, scope);
        }
        self.close_windows(ts, price);
    }

    fn look(&mut self, price: i64, scope: &Scope<'_>) {
        let Some(first) = self.parts.front().copied() else { return };
        if self.returns.len() < RETURNS_MIN || first.price <= 0 || price <= 0 {
            return;
        }
        let trades: u64 = self.parts.iter().map(|part| part.trades).sum();
        let usual = self.trades.median().unwrap_or(0.0).max(1.0);
        if (trades as f64) <= self.factor * usual {
            return;
        }
        let Some((middle, deviation)) = self.returns.spread() else { return };
        // A price that hardly ever moves is taken to move by a step at a time.
        let least = (TO_SD * deviation).max(scope.tick as f64 / price as f64);
        let moved = (price as f64 / first.price as f64).ln();
        if least <= 0.0 || (moved - middle).abs() <= self.deviations * least {
            return;
        }
        let evidence = Evidence {
            first: first.offset,
            value: (moved - middle).abs() / least,
            threshold: self.deviations,
            count: trades,
            side: if moved > 0.0 { 1 } else { 2 },
            ..Evidence::at(&scope.at)
        };
        self.open = Some(Move { start: first.price, furthest: price, evidence });
    }

    /// Follows a move until it came back, or too long has passed.
    fn follow(&mut self, price: i64, scope: &mut Scope<'_>) {
        let Some(open) = self.open.as_mut() else { return };
        let rises = open.furthest > open.start;
        if (rises && price > open.furthest) || (!rises && price < open.furthest) {
            open.furthest = price;
        }
        let length = (open.furthest - open.start) as f64;
        let returned = (open.furthest - price) as f64 / length;
        let waited = scope.at.ts.saturating_sub(open.evidence.ts_start);
        if waited > self.back {
            self.open = None;
        } else if returned >= self.share {
            let mut evidence = open.evidence.clone();
            (evidence.ts_end, evidence.last) = (scope.at.ts, scope.at.offset);
            evidence.price = open.furthest;
            evidence.detail = format!("start={} end={}", told(open.start), told(price));
            scope.tell(&evidence);
            self.open = None;
        }
    }
}

impl Detector for Ignition {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Print(print, _) if print.sets_price => self.print(print.price, scope),
            Event::Break => {
                self.parts.clear();
                (self.window, self.last, self.open) = (None, None, None);
                self.returns.clear();
                self.trades.clear();
            }
            _ => {}
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.parts.len());
        for part in &self.parts {
            state.i64(part.number);
            state.u64(part.trades);
            state.i64(part.price);
            state.u64(part.offset);
        }
        state.flag(self.window.is_some());
        let (number, last, trades) = self.window.unwrap_or_default();
        state.i64(number);
        state.i64(last);
        state.u64(trades);
        state.flag(self.last.is_some());
        state.i64(self.last.unwrap_or_default());
        self.returns.write(state);
        self.trades.write(state);
        state.flag(self.open.is_some());
        if let Some(open) = &self.open {
            state.i64(open.start);
            state.i64(open.furthest);
            open.evidence.write(state);
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.parts.clear();
        for _ in 0..state.length(32)? {
            let (number, trades) = (state.i64()?, state.u64()?);
            self.parts.push_back(Part {
                number,
                trades,
                price: state.i64()?,
                offset: state.u64()?,
            });
        }
        let has_window = state.flag()?;
        let window = (state.i64()?, state.i64()?, state.u64()?);
        self.window = has_window.then_some(window);
        let has_last = state.flag()?;
        let last = state.i64()?;
        self.last = has_last.then_some(last);
        self.returns.read(state)?;
        self.trades.read(state)?;
        self.open = None;
        if state.flag()? {
            let (start, furthest) = (state.i64()?, state.i64()?);
            self.open = Some(Move { start, furthest, evidence: Evidence::read(state)? });
        }
        Ok(())
    }
}
