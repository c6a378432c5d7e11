//! What only those streams need of which something is missing, waits, or was dropped.

use super::hold::Hold;
use super::ranges::Ranges;
use super::stale::Stale;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// What only troubled streams need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Sequences that are missing.
    pub missing: Ranges,
    /// Sequences that came from the venue's history and not live.
    pub history: Ranges,
    /// Events that wait.
    pub hold: Hold,
    /// Events dropped as stale since the last that was passed on.
    pub stale: Stale,
}

impl Trouble {
    /// Writes all to a snapshot.
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
        })
    }
}
