//! What is known of one instrument, and the rules at work on it.

use super::alarm::Alarm;
use super::detector::{Detector, Top};
use super::rule::Rule;
use super::SOURCE;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// A rule at work on one instrument.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) rule: usize,
    pub(super) detector: Box<dyn Detector>,
    pub(super) alarm: Alarm,
}

/// One instrument, or the source as a whole.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) symbol: String,
    pub(super) feed: u8,
    pub(super) tick: i64,
    pub(super) top: Top,
    /// Since when it is not traded, by event time; none: it is, or nothing is known of that.
    pub(super) halted: Option<i64>,
    /// Event time of the newest record that is in order; `i64::MIN` before the first.
    pub(super) newest: i64,
    /// Whether it is recorded, as far as is known since the recorder started again.
    pub(super) is_recorded: bool,
    /// Whether trades came: executions of orders are else taken for them.
    pub(super) has_trades: bool,
    pub(super) slots: Vec<Slot>,
}

impl Watched {
    pub(super) fn new(rules: &[Rule], instrument: u32, symbol: &str, feed: u8) -> Self {
        let applies = |rule: &Rule| {
            if instrument == SOURCE {
                rule.is_of_source || rule.entry.is_of_both && !rule.has_symbols()
            } else {
                !rule.is_of_source && rule.is_for(symbol)
            }
        };
        let slot = |(number, rule): (usize, &Rule)| {
            let detector = (rule.entry.build)(rule);
            applies(rule).then(|| Slot { rule: number, detector, alarm: Alarm::default() })
        };
        Self {
            symbol: symbol.to_owned(),
            feed,
            tick: 0,
            top: Top::EMPTY,
            halted: None,
            newest: i64::MIN,
            is_recorded: true,
            has_trades: false,
            slots: rules.iter().enumerate().filter_map(slot).collect(),
        }
    }

    /// The receive time at which the first of its detectors wants to be told that time passed.
    pub(super) fn due(&self) -> i64 {
        self.slots.iter().map(|slot| slot.detector.due()).min().unwrap_or(i64::MAX)
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.bytes(self.symbol.as_bytes());
        state.u8(self.feed);
        state.i64(self.tick);
        state.flag(self.is_recorded);
        state.flag(self.has_trades);
        self.top.write(state);
        state.flag(self.halted.is_some());
        state.i64(self.halted.unwrap_or_default());
        state.i64(self.newest);
        for slot in &self.slots {
            slot.alarm.write(state);
            slot.detector.write(state);
        }
    }

    pub(super) fn read(
        rules: &[Rule],
        instrument: u32,
        state: &mut StateReader<'_>,
    ) -> Result<Self> {
        let symbol = String::from_utf8_lossy(state.bytes()?).into_owned();
        let feed = state.u8()?;
        let mut watched = Self::new(rules, instrument, &symbol, feed);
        (watched.tick, watched.is_recorded) = (state.i64()?, state.flag()?);
        watched.has_trades = state.flag()?;
        watched.top = Top::read(state)?;
        let is_halted = state.flag()?;
        watched.halted = Some(state.i64()?).filter(|_| is_halted);
        watched.newest = state.i64()?;
        for slot in &mut watched.slots {
            slot.alarm = Alarm::read(state)?;
            slot.detector.read(state)?;
        }
        Ok(watched)
    }
}
