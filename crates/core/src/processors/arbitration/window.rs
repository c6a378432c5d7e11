//! Bars of the venue: of each interval its last two windows, which later bars replace.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Bar;

/// The last two windows of a venue's bars of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Length of its windows in ms.
    pub interval_ms: u32,
    bars: Vec<Bar>,
}

impl Window {
    /// An interval of which no window was seen.
    pub fn new(interval_ms: u32) -> Self {
        Self { interval_ms, bars: Vec::with_capacity(3) }
    }

    /// Whether `bar` says more than what is known of its window; if so, it is remembered.
    pub fn takes(&mut self, bar: &Bar) -> bool {
        let open = bar.header.ts_event;
        let at = self.bars.partition_point(|known| known.header.ts_event < open);
        let is_full = self.bars.len() == 2;
        match self.bars.get_mut(at).filter(|known| known.header.ts_event == open) {
            Some(known) => {
                let mut same = *bar;
                same.header.ts_recv = known.header.ts_recv;
                let is_newer = known.closed == 0 && bar.count >= known.count && same != *known;
                if is_newer {
                    *known = *bar;
                }
                is_newer
            }
            None if at == 0 && is_full => false,
            None => {
                self.bars.insert(at, *bar);
                if is_full {
                    self.bars.remove(0);
                }
                true
            }
        }
    }

    /// Writes the windows to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.u32(self.interval_ms);
        state.length(self.bars.len());
        self.bars.iter().for_each(|bar| state.plain(bar));
    }

    /// Reads the windows from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut window = Self::new(state.u32()?);
        for _ in 0..state.length(size_of::<Bar>())? {
            window.bars.push(state.plain()?);
        }
        Ok(window)
    }
}
