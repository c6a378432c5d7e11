//! `lag`: records that arrive later than they did before.

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event};
use super::history::{median, History};
use super::rule::Rule;
use super::table::{count, number, positive, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{FLAG_HISTORICAL, FLAG_NO_EVENT_TIME, NONE};

/// Blocks without which there is no history to compare with.
const BLOCKS_MIN: usize = 10;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("factor", 5.0, "how many times the median of before"),
        number("least_ms", 10.0, "a lag below this is passed over"),
        count("records", 100.0, "records of which a median is taken"),
        count("history", 100.0, "medians that are what was before"),
    ],
    is_of_source: true,
    may_be_of_source: true,
    unit: "ms",
    ..Entry::new(
        "lag",
        "the median time from the venue to the receipt is `factor` times its own median of before",
        "value: median lag in ms; threshold: what it may be; count: records",
        |rule| Box::new(Lag::new(rule)),
    )
};

#[derive(Debug)]
struct Lag {
    factor: f64,
    least_ms: f64,
    records: usize,
    /// Lags of the block that is not whole, in ms.
    open: Vec<f64>,
    first: u64,
    history: History,
}

impl Lag {
    fn new(rule: &Rule) -> Self {
        Self {
            factor: rule.number("factor"),
            least_ms: rule.number("least_ms"),
            records: rule.count("records"),
            open: Vec::new(),
            first: 0,
            history: History::new(rule.count("history").max(BLOCKS_MIN)),
        }
    }

    fn close(&mut self, scope: &mut Scope<'_>) {
        let lag = median(&mut self.open).unwrap_or(0.0);
        self.open.clear();
        let usual = self.history.median().filter(|_| self.history.len() >= BLOCKS_MIN);
        let limit = usual.map_or(f64::INFINITY, |usual| (usual * self.factor).max(self.least_ms));
        if lag > limit {
            // What is too late is not what is usual: else a lag would end by lasting.
            scope.raise(&Evidence {
                first: self.first,
                value: lag,
                threshold: limit,
                count: self.records as u64,
                ..Evidence::at(&scope.at)
            });
        } else {
            self.history.push(lag);
            scope.end(scope.at.ts, None);
        }
    }
}

impl Detector for Lag {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        match event {
            Event::Message(header, _) => {
                let is_live = header.flags & (FLAG_HISTORICAL | FLAG_NO_EVENT_TIME) == 0;
                if !is_live || header.ts_event == NONE || header.ts_recv == NONE {
                    return;
                }
                if self.open.is_empty() {
                    self.first = scope.at.offset;
                }
                self.open.push(header.ts_recv.saturating_sub(header.ts_event) as f64 / 1e6);
                if self.open.len() >= self.records {
                    self.close(scope);
                }
            }
            Event::Break => {
                self.open.clear();
                scope.end(scope.at.ts, None);
            }
            _ => {}
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.open.len());
        self.open.iter().for_each(|lag| state.u64(lag.to_bits()));
        state.u64(self.first);
        self.history.write(state);
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.open.clear();
        for _ in 0..state.length(8)? {
            self.open.push(f64::from_bits(state.u64()?));
        }
        self.first = state.u64()?;
        self.history.read(state)
    }
}
