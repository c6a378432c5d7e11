//! What only those streams need of which something is missing, waits, or was dropped.

use super::hold::Hold;
use super::ranges::Ranges;
use super::stale::Stale;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// What only troubled streams need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Sequences that are missing.
    pub missing: Ranges,
    /// Sequences that came from the venue's history and not live.
    pub history: Ranges,
    /// Events that wait.
    pub hold: Hold,
    /// Events dropped as stale since the last that was passed on.
    pub stale: Stale,
    /// Up to when the venue counted otherwise, by its own time in ns: what was missing then is not
    /// known any more. `i64::MIN` if it always counted so.
    pub ts_reset: i64,
}

impl Default for Trouble {
    fn default() -> Self {
        Self {
            missing: Ranges::default(),
            history: Ranges::default(),
            hold: Hold::default(),
            stale: Stale::default(),
            ts_reset: i64::MIN,
        }
    }
}

impl Trouble {
    /// Whether something is not known any more that a repair would have to know.
    pub fn has_forgotten(&self) -> bool {
        self.missing.forgotten > 0 || self.history.forgotten > 0 || self.ts_reset != i64::MIN
    }

    /// Writes all to a snapshot, but for what [`Trouble::write_forgotten`] does.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        self.missing.write(state);
        self.history.write(state);
        self.hold.write(state);
        self.stale.write(state);
    }

    /// Reads all from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        Ok(Self {
            missing: Ranges::read(state)?,
            history: Ranges::read(state)?,
            hold: Hold::read(state)?,
            stale: Stale::read(state)?,
            ..Self::default()
        })
    }

    /// Writes up to where something is not known any more.
    pub fn write_forgotten(&self, state: &mut StateWriter<'_>) {
        state.u64(self.missing.forgotten);
        state.u64(self.history.forgotten);
        state.i64(self.ts_reset);
    }

    /// Reads what [`Trouble::write_forgotten`] wrote.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read_forgotten(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        self.missing.forgotten = state.u64()?;
        self.history.forgotten = state.u64()?;
        self.ts_reset = state.i64()?;
        Ok(())
    }
}
