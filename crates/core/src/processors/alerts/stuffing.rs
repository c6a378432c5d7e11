//! `stuffing`: a burst of messages that hardly trades (Egginton, Van Ness and Van Ness 2016).

use std::collections::VecDeque;

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event, OrderEvent};
use super::history::Counted;
use super::rule::Rule;
use super::table::{count, positive, share, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Messages of a window that are remembered one by one; of a longer burst the oldest are forgotten.
const MESSAGES_MAX: usize = 65_536;
/// Counts without which nothing is unusual.
const COUNTS_MIN: u64 = 100;
/// Windows without a message that are counted one by one: after a longer silence they are all that
/// is remembered.
const EMPTY_MAX: i64 = 100_000;

const ADDED: u8 = 0;
const CANCELLED: u8 = 1;
const FILLED: u8 = 2;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("window_ms", 100.0, "length of the window in which messages are counted"),
        count("least", 50.0, "messages below which there is no burst"),
        positive("factor", 10.0, "times the median of the counts before"),
        count("history", 3_000.0, "counts of windows, none overlapping, that are what was before"),
        share("cancels", 0.4, "share of the messages that must be cancels"),
        share("trades", 0.01, "share of the messages that may be fills"),
    ],
    has_orders: true,
    unit: "messages",
    ..Entry::new(
        "stuffing",
        "messages of orders in a window are many times their median, mostly adds and cancels",
        "count and value: messages in the window at its peak; threshold: the limit; detail: \
         shares of cancels and fills",
        |rule| Box::new(Stuffing::new(rule)),
    )
};

#[derive(Debug)]
struct Stuffing {
    window: i64,
    least: f64,
    factor: f64,
    history: usize,
    cancels_min: f64,
    trades_max: f64,
    /// Time, offset and kind of the messages of the window.
    recent: VecDeque<(i64, u64, u8)>,
    kinds: [u64; 3],
    /// Number of the counted window that is open, and its messages.
    open: (i64, i64),
    counts: VecDeque<i64>,
    counted: Counted,
    limit: f64,
    /// The burst that is on: its last moment and its peak.
    burst: Option<Evidence>,
    due: i64,
}

impl Stuffing {
    fn new(rule: &Rule) -> Self {
        Self {
            window: rule.ns("window_ms").max(1),
            least: rule.number("least"),
            factor: rule.number("factor"),
            history: rule.count("history"),
            cancels_min: rule.number("cancels"),
            trades_max: rule.number("trades"),
            recent: VecDeque::new(),
            kinds: [0; 3],
            open: (i64::MIN, 0),
            counts: VecDeque::new(),
            counted: Counted::default(),
            limit: f64::INFINITY,
            burst: None,
            due: i64::MAX,
        }
    }

    fn close_window(&mut self, count: i64) {
        self.counts.push_back(count);
        self.counted.add(count);
        if self.counts.len() > self.history {
            if let Some(oldest) = self.counts.pop_front() {
                self.counted.remove(oldest);
            }
        }
    }

    /// Counts the windows that ended before `ts`.
    fn move_to(&mut self, ts: i64) {
        let number = ts.div_euclid(self.window);
        if self.open.0 == i64::MIN {
            self.open = (number, 0);
        }
        if number <= self.open.0 {
            return;
        }
        self.close_window(self.open.1);
        for _ in 0..(number - self.open.0 - 1).min(EMPTY_MAX.min(self.history as i64)) {
            self.close_window(0);
        }
        self.open = (number, 0);
        let median = self.counted.median().filter(|_| self.counted.total() >= COUNTS_MIN);
        self.limit = median.map_or(f64::INFINITY, |median| self.least.max(self.factor * median));
    }

    fn take(&mut self, kind: u8, scope: &mut Scope<'_>) {
        let ts = scope.at.ts;
        self.move_to(ts);
        self.open.1 += 1;
        self.recent.push_back((ts, scope.at.offset, kind));
        self.kinds[kind as usize] += 1;
        let oldest = ts.saturating_sub(self.window);
        while self.recent.len() > MESSAGES_MAX
            || self.recent.front().is_some_and(|&(at, _, _)| at <= oldest)
        {
            if let Some((_, _, kind)) = self.recent.pop_front() {
                self.kinds[kind as usize] -= 1;
            }
        }
        self.end_burst(ts, scope);
        let count = self.recent.len() as f64;
        let (cancels, trades) = (
            self.kinds[CANCELLED as usize] as f64 / count,
            self.kinds[FILLED as usize] as f64 / count,
        );
        if count < self.limit || cancels < self.cancels_min || trades > self.trades_max {
            return;
        }
        let mut evidence = match self.burst.take() {
            None => {
                let first = self.recent.front().map_or(scope.at.offset, |&(_, first, _)| first);
                Evidence { first, value: 0.0, ..Evidence::at(&scope.at) }
            }
            Some(burst) => Evidence { ts_end: ts, last: scope.at.offset, ..burst },
        };
        if count > evidence.value {
            (evidence.value, evidence.threshold) = (count, self.limit);
            evidence.count = self.recent.len() as u64;
            evidence.detail = format!("cancels={cancels:.3} fills={trades:.3}");
        }
        scope.raise(&evidence);
        self.due = scope.at.ts_recv.saturating_add(2 * self.window);
        self.burst = Some(evidence);
    }

    /// Ends a burst whose last moment is more than a window before `ts`.
    fn end_burst(&mut self, ts: i64, scope: &mut Scope<'_>) {
        let is_over = |burst: &Evidence| ts.saturating_sub(burst.ts_end) > self.window;
        if self.burst.as_ref().is_some_and(is_over) {
            let burst = self.burst.take();
            scope.end(burst.as_ref().map_or(ts, |burst| burst.ts_end), burst.as_ref());
            self.due = i64::MAX;
        }
    }
}

impl Detector for Stuffing {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Order(OrderEvent::Added { .. }, _) => self.take(ADDED, scope),
            Event::Order(OrderEvent::Cancelled { .. }, _) => self.take(CANCELLED, scope),
            Event::Order(OrderEvent::Filled { .. }, _) => self.take(FILLED, scope),
            Event::Time if scope.at.ts_recv >= self.due => {
                // Nothing came for two windows of receive time: the burst is over.
                self.end_burst(i64::MAX, scope);
            }
            Event::Break => {
                self.end_burst(i64::MAX, scope);
                self.recent.clear();
                (self.kinds, self.open) = ([0; 3], (i64::MIN, 0));
            }
            _ => {}
        }
    }

    fn due(&self) -> i64 {
        self.due
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.recent.len());
        for &(ts, offset, kind) in &self.recent {
            state.i64(ts);
            state.u64(offset);
            state.u8(kind);
        }
        state.i64(self.open.0);
        state.i64(self.open.1);
        state.length(self.counts.len());
        self.counts.iter().for_each(|&count| state.i64(count));
        state.u64(self.limit.to_bits());
        state.flag(self.burst.is_some());
        if let Some(burst) = &self.burst {
            burst.write(state);
        }
        state.i64(self.due);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.recent.clear();
        self.counts.clear();
        (self.kinds, self.counted, self.burst) = ([0; 3], Counted::default(), None);
        for _ in 0..state.length(17)? {
            let message = (state.i64()?, state.u64()?, state.u8()?.min(FILLED));
            self.kinds[message.2 as usize] += 1;
            self.recent.push_back(message);
        }
        self.open = (state.i64()?, state.i64()?);
        for _ in 0..state.length(8)? {
            let count = state.i64()?;
            self.counts.push_back(count);
            self.counted.add(count);
        }
        self.limit = f64::from_bits(state.u64()?);
        if state.flag()? {
            self.burst = Some(Evidence::read(state)?);
        }
        self.due = state.i64()?;
        Ok(())
    }
}
