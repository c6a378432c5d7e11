//! `rate`: more or fewer records a second than there should be.

use std::collections::VecDeque;

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::rule::Rule;
use super::table::{number, positive, Entry, Text, HOURS};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Kind;

/// A window is counted in so many parts, and is always as many whole ones: of the part that is not
/// over yet, nobody knows whether it holds too few.
const PARTS: i64 = 20;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("window_ms", 1_000.0, "the records of how long are counted"),
        number("above", 0.0, "records a second that are too many; 0: never"),
        number("below", 0.0, "records a second that are too few; 0: never"),
    ],
    texts: &[
        Text {
            name: "kinds",
            default: "any",
            doc: "what is counted: any, trade, quote, order or level",
        },
        HOURS[0],
        HOURS[1],
    ],
    may_be_of_source: true,
    check: |rule| {
        if rule.number("above") == 0.0 && rule.number("below") == 0.0 {
            return Err(Error::invalid("expected above or below, got neither"));
        }
        match rule.text("kinds") {
            "any" | "trade" | "quote" | "order" | "level" => Ok(()),
            other => Err(Error::invalid(format!(
                "kinds: expected any, trade, quote, order or level, got {other:?}"
            ))),
        }
    },
    unit: "records/s",
    ..Entry::new(
        "rate",
        "records a second, by their receipt, are `above` or `below` a limit",
        "value: records a second; threshold: the limit; count: records in the window, which ends \
         at a twentieth of its length",
        |rule| Box::new(Rate::new(rule)),
    )
};

#[derive(Debug)]
struct Rate {
    part: i64,
    above: f64,
    below: f64,
    kind: Option<Kind>,
    /// Number of each part that has records, how many, and the offset of the first.
    parts: VecDeque<(i64, u64, u64)>,
    sum: u64,
    /// When counting began, by receive time.
    since: i64,
    is_halted: bool,
    due: i64,
}

impl Rate {
    fn new(rule: &Rule) -> Self {
        Self {
            part: (rule.ns("window_ms") / PARTS).max(1),
            above: rule.number("above"),
            below: rule.number("below"),
            kind: Kind::from_name(rule.text("kinds")),
            parts: VecDeque::new(),
            sum: 0,
            since: i64::MAX,
            is_halted: false,
            due: if rule.has_symbols() && rule.number("below") > 0.0 { i64::MIN } else { i64::MAX },
        }
    }

    fn look(&mut self, scope: &mut Scope<'_>) {
        let now = scope.at.ts_recv;
        self.since = self.since.min(now);
        if self.is_halted {
            self.since = now;
        }
        let current = now.div_euclid(self.part);
        let oldest = current - PARTS;
        while self.parts.front().is_some_and(|&(number, _, _)| number < oldest) {
            self.sum -= self.parts.pop_front().map_or(0, |(_, count, _)| count);
        }
        let count_of = |part: Option<&(i64, u64, u64)>, wanted: i64| {
            part.filter(|&&(number, _, _)| number == wanted).map_or(0, |&(_, count, _)| count)
        };
        // Those of the window that is over, and of the one that the current part belongs to.
        let over = self.sum - count_of(self.parts.back(), current);
        let running = self.sum - count_of(self.parts.front(), oldest);
        let window = self.part * PARTS;
        let rate = |count: u64| count as f64 * 1e9 / window as f64;
        let end = current.saturating_mul(self.part);
        let start = end.saturating_sub(window);
        // What is closed owes nothing: a window is whole once it was open for so long.
        let is_open =
            scope.rule.hours.is_none_or(|hours| hours.is_open(now) && hours.is_open(start));
        let is_low = self.below > 0.0 && rate(over) < self.below && is_open && self.since <= start;
        let most = over.max(running);
        let is_high = self.above > 0.0 && rate(most) > self.above;
        if is_low || is_high {
            let count = if is_high { most } else { over };
            let from = if is_high && over < running { oldest + 1 } else { oldest };
            let first = self.parts.iter().find(|&&(number, _, _)| number >= from);
            scope.raise(&Evidence {
                first: first.map_or(scope.at.offset, |&(_, _, first)| first),
                value: rate(count),
                threshold: if is_high { self.above } else { self.below },
                count,
                subject: self.kind.map_or("any", Kind::name).to_owned(),
                ..Evidence::at(&scope.at)
            });
        } else {
            scope.end(scope.at.ts, None);
        }
        let waits = self.below > 0.0 && !self.is_halted || scope.is_open();
        self.due = if waits { end.saturating_add(self.part) } else { i64::MAX };
    }
}

impl Detector for Rate {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Message(_, kind) if self.kind.is_none_or(|wanted| wanted == *kind) => {
                self.since = self.since.min(scope.at.ts_recv);
                self.sum += 1;
                let number = scope.at.ts_recv.div_euclid(self.part);
                match self.parts.back_mut() {
                    Some((last, count, _)) if *last >= number => *count += 1,
                    _ => {
                        self.parts.push_back((number, 1, scope.at.offset));
                        self.look(scope);
                        return;
                    }
                }
                // Within a part only too many can be news.
                if self.above > 0.0 && !scope.is_open() {
                    self.look(scope);
                }
            }
            Event::Time if scope.at.ts_recv >= self.due => self.look(scope),
            Event::Awaited if self.since == i64::MAX && self.below > 0.0 => {
                (self.since, self.due) = (scope.at.ts_recv, scope.at.ts_recv + self.part);
            }
            Event::Trading(is_on) => {
                self.is_halted = !is_on;
                // Of what is not waited for yet, it says no more than that.
                if self.since != i64::MAX {
                    self.since = scope.at.ts_recv;
                    self.look(scope);
                }
            }
            Event::End => {
                self.parts.clear();
                (self.sum, self.since, self.due) = (0, i64::MAX, i64::MAX);
                scope.end(scope.at.ts, None);
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.due
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.parts.len());
        for &(number, count, first) in &self.parts {
            state.i64(number);
            state.u64(count);
            state.u64(first);
        }
        state.i64(self.since);
        state.flag(self.is_halted);
        state.i64(self.due);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.parts.clear();
        for _ in 0..state.length(24)? {
            self.parts.push_back((state.i64()?, state.u64()?, state.u64()?));
        }
        self.sum = self.parts.iter().map(|&(_, count, _)| count).sum();
        self.since = state.i64()?;
        self.is_halted = state.flag()?;
        self.due = state.i64()?;
        Ok(())
    }
}
