//! `quote_flicker`: best prices that change to and fro without a trade.

use std::collections::VecDeque;

use super::alarm::{Evidence, Scope};
use super::detector::{of_top, Detector, Event, Top};
use super::rule::Rule;
use super::table::{count, positive, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Changes of a window that are remembered; of more the oldest are forgotten.
const CHANGES_MAX: usize = 1_024;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("window_ms", 50.0, "time in which the changes are counted"),
        count("changes", 10.0, "changes of a best price or its size, at least"),
    ],
    has_orders: true,
    unit: "changes",
    ..Entry::new(
        "quote_flicker",
        "the best prices or sizes change many times in a window without a trade, and are in the \
         end what they were",
        "count and value: changes in the window at its peak; detail: both prices",
        |rule| Box::new(Flicker::new(rule)),
    )
};

#[derive(Debug)]
struct Flicker {
    window: i64,
    changes: usize,
    /// Changes since the last trade: when, where, and the best prices before.
    recent: VecDeque<(i64, u64, Top)>,
    top: Option<Top>,
    on: Option<Evidence>,
    due: i64,
}

impl Flicker {
    fn new(rule: &Rule) -> Self {
        Self {
            window: rule.ns("window_ms"),
            changes: rule.count("changes").min(CHANGES_MAX),
            recent: VecDeque::new(),
            top: None,
            on: None,
            due: i64::MAX,
        }
    }

    fn change(&mut self, top: Top, scope: &mut Scope<'_>) {
        let ts = scope.at.ts;
        let before = self.top.replace(top);
        let Some(before) = before.filter(|before| *before != top) else { return };
        self.recent.push_back((ts, scope.at.offset, before));
        let oldest = ts.saturating_sub(self.window);
        while self.recent.len() > CHANGES_MAX
            || self.recent.front().is_some_and(|&(at, _, _)| at <= oldest)
        {
            self.recent.pop_front();
        }
        self.end(ts, scope);
        let enough = self.recent.len().checked_sub(self.changes);
        // What it is now, it was before one of the changes that leave enough behind them.
        let start = enough.and_then(|last| (0..=last).find(|&number| self.recent[number].2 == top));
        let Some(start) = start else { return };
        let (ts_start, first, _) = self.recent[start];
        let count = (self.recent.len() - start) as u64;
        let mut evidence = match self.on.take() {
            None => Evidence { ts_start, first, count: 0, ..of_top(&top, &scope.at) },
            Some(on) => Evidence { ts_end: ts, last: scope.at.offset, ..on },
        };
        evidence.count = evidence.count.max(count);
        (evidence.value, evidence.threshold) = (evidence.count as f64, self.changes as f64);
        scope.raise(&evidence);
        self.due = scope.at.ts_recv.saturating_add(2 * self.window);
        self.on = Some(evidence);
    }

    /// Ends a flicker whose last moment is more than a window before `ts`.
    fn end(&mut self, ts: i64, scope: &mut Scope<'_>) {
        let is_over = |on: &Evidence| ts.saturating_sub(on.ts_end) > self.window;
        if self.on.as_ref().is_some_and(is_over) {
            let on = self.on.take();
            scope.end(on.as_ref().map_or(ts, |on| on.ts_end), on.as_ref());
            self.due = i64::MAX;
        }
    }
}

impl Detector for Flicker {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Top(top) => self.change(*top, scope),
            Event::Print(..) => self.recent.clear(),
            Event::Time if scope.at.ts_recv >= self.due => self.end(i64::MAX, scope),
            Event::Break => {
                self.end(i64::MAX, scope);
                self.recent.clear();
                self.top = None;
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.due
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.recent.len());
        for (ts, offset, top) in &self.recent {
            state.i64(*ts);
            state.u64(*offset);
            top.write(state);
        }
        state.flag(self.top.is_some());
        self.top.unwrap_or(Top::EMPTY).write(state);
        state.flag(self.on.is_some());
        if let Some(on) = &self.on {
            on.write(state);
        }
        state.i64(self.due);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.recent.clear();
        for _ in 0..state.length(48)? {
            self.recent.push_back((state.i64()?, state.u64()?, Top::read(state)?));
        }
        let is_known = state.flag()?;
        self.top = Some(Top::read(state)?).filter(|_| is_known);
        self.on = None;
        if state.flag()? {
            self.on = Some(Evidence::read(state)?);
        }
        self.due = state.i64()?;
        Ok(())
    }
}
