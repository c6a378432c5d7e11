//! `stale`: an instrument, or a whole source, of which nothing came for too long.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::rule::Rule;
use super::table::{positive, Entry, Text, HOURS};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Kind;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[positive("after_ms", 10_000.0, "how long nothing came")],
    texts: &[
        Text {
            name: "kinds",
            default: "any",
            doc: "what is waited for: any, trade, quote, order or level",
        },
        HOURS[0],
        HOURS[1],
    ],
    may_be_of_source: true,
    check: |rule| kind_of(rule).map(|_| ()),
    unit: "s",
    ..Entry::new(
        "stale",
        "nothing came for `after_ms`, while the market was open and the recorder ran",
        "value: seconds since the last record; last_offset: that record",
        |rule| Box::new(Stale::new(rule)),
    )
};

/// Looked at again so long after, in ns, where the market was closed when it was due.
const CLOSED_NS: i64 = 1_000_000_000;
/// The recorder stopped, and has not subscribed it again.
const STOPPED: i64 = i64::MAX;
/// Nothing says yet that it is waited for, but a rule that names it.
const UNKNOWN: i64 = i64::MIN;

#[derive(Debug)]
struct Stale {
    after: i64,
    /// None: any.
    kind: Option<Kind>,
    /// Receive time, event time and offset of the last record.
    last: Option<(i64, i64, u64)>,
    /// Since when the market is open without a record, by receive time; [`STOPPED`]: it is not
    /// waited for.
    since: i64,
    is_halted: bool,
    due: i64,
}

fn kind_of(rule: &Rule) -> Result<Option<Kind>> {
    match rule.text("kinds") {
        "any" => Ok(None),
        name @ ("trade" | "quote" | "order" | "level") => Ok(Kind::from_name(name)),
        other => Err(Error::invalid(format!(
            "kinds: expected any, trade, quote, order or level, got {other:?}"
        ))),
    }
}

impl Stale {
    fn new(rule: &Rule) -> Self {
        Self {
            after: rule.ns("after_ms"),
            kind: kind_of(rule).unwrap_or_default(),
            last: None,
            since: UNKNOWN,
            is_halted: false,
            due: if rule.has_symbols() { i64::MIN } else { i64::MAX },
        }
    }

    fn await_from(&mut self, now: i64) {
        (self.since, self.due) = (now, now.saturating_add(self.after));
    }

    fn look(&mut self, scope: &mut Scope<'_>) {
        let now = scope.at.ts_recv;
        if self.last.is_none() && self.since == UNKNOWN {
            self.await_from(now);
        }
        // Of what never came nothing is known but since when it is waited for.
        let (known, ts, offset) = self.last.unwrap_or((self.since, self.since, scope.at.offset));
        let hours = scope.rule.hours.filter(|hours| !hours.is_open(now));
        if self.is_halted || hours.is_some() {
            // It ended with the session, however much later that is looked at; or with the halt.
            let waited = known.max(self.since).saturating_add(self.after);
            let close = hours.and_then(|hours| hours.close_of(waited)).filter(|&ts| ts <= now);
            // What is closed owes nothing; the wait begins anew when it opens.
            self.since = now;
            self.due = if self.is_halted { i64::MAX } else { now.saturating_add(CLOSED_NS) };
            scope.end(close.unwrap_or(scope.at.ts), None);
            return;
        }
        let silent = now.saturating_sub(known.max(self.since));
        if silent < self.after {
            self.due = now.saturating_add(self.after - silent);
            return;
        }
        scope.raise(&Evidence {
            ts_start: ts,
            ts_end: now,
            first: offset,
            last: offset,
            value: silent as f64 / 1e9,
            threshold: self.after as f64 / 1e9,
            subject: self.kind.map_or("any", Kind::name).to_owned(),
            ..Evidence::at(&scope.at)
        });
        self.due = now.saturating_add(self.after);
    }
}

impl Detector for Stale {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Message(_, kind) if self.kind.is_none_or(|wanted| wanted == *kind) => {
                self.last = Some((scope.at.ts_recv, scope.at.ts, scope.at.offset));
                if self.since == STOPPED {
                    self.since = scope.at.ts_recv;
                }
                scope.end(scope.at.ts, None);
                // Moved on when it is reached: a record costs no look at all others.
                if self.due == i64::MAX && !self.is_halted {
                    self.due = scope.at.ts_recv.saturating_add(self.after);
                }
            }
            Event::Trading(is_on) => {
                self.is_halted = !is_on;
                self.since = scope.at.ts_recv;
                self.due = scope.at.ts_recv.saturating_add(self.after);
                if self.is_halted {
                    self.look(scope);
                }
            }
            Event::Time if scope.at.ts_recv >= self.due => self.look(scope),
            // A recorder that stopped waits for nothing.
            Event::End => {
                scope.end(scope.at.ts, None);
                (self.since, self.due) = (STOPPED, i64::MAX);
            }
            Event::Awaited
                if self.since == STOPPED || self.last.is_none() && self.due == i64::MAX =>
            {
                self.await_from(scope.at.ts_recv);
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.due
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.flag(self.last.is_some());
        if let Some((known, ts, offset)) = self.last {
            state.i64(known);
            state.i64(ts);
            state.u64(offset);
        }
        state.i64(self.since);
        state.flag(self.is_halted);
        state.i64(self.due);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.last = None;
        if state.flag()? {
            self.last = Some((state.i64()?, state.i64()?, state.u64()?));
        }
        self.since = state.i64()?;
        self.is_halted = state.flag()?;
        self.due = state.i64()?;
        Ok(())
    }
}
