//! Bars of the venue: of each interval its last two windows, which later bars replace.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Bar;

const NS_PER_MS: i64 = 1_000_000;

/// What a bar says beside what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// More. It is remembered.
    News,
    /// The same, or of a window that is over, and no revision of it.
    Known,
    /// Less of its window than another bar did.
    Contrary,
}

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

    /// Takes in what `bar` says more than what is known of its window, received when it was `now`
    /// at most by the venue's clock.
    pub fn takes(&mut self, bar: &Bar, now: i64) -> Taken {
        let open = bar.header.ts_event;
        let Some(known) = self.bars.iter().find(|known| known.header.ts_event == open) else {
            let is_older = self.bars.len() == 2 && open < self.bars[0].header.ts_event;
            // One that goes on now is not over, whatever else was told of.
            if is_older && !(open <= now && now < self.end_of(bar)) {
                return Taken::Known;
            }
            self.replace(bar, now);
            return Taken::News;
        };
        let mut same = self.believed(bar, now);
        same.header.ts_recv = known.header.ts_recv;
        if same == *known || known.closed != 0 && !is_revision(bar, known) {
            return Taken::Known;
        }
        if bar.count < known.count {
            return Taken::Contrary;
        }
        self.replace(bar, now);
        Taken::News
    }

    /// Remembers `bar`, whatever is known. Where there were two other windows, the older is
    /// forgotten, or the newest where that did not begin yet.
    pub fn replace(&mut self, bar: &Bar, now: i64) {
        let bar = self.believed(bar, now);
        let open = bar.header.ts_event;
        let at = self.bars.partition_point(|known| known.header.ts_event < open);
        match self.bars.get_mut(at).filter(|known| known.header.ts_event == open) {
            Some(known) => *known = bar,
            None => self.bars.insert(at, bar),
        }
        if self.bars.len() > 2 {
            self.bars.remove(if at == 0 { 2 } else { 0 });
        }
    }

    /// What of a bar is remembered: that its window is over only once it can be.
    fn believed(&self, bar: &Bar, now: i64) -> Bar {
        Bar { closed: if now < self.end_of(bar) { 0 } else { bar.closed }, ..*bar }
    }

    fn end_of(&self, bar: &Bar) -> i64 {
        bar.header.ts_event.saturating_add(i64::from(self.interval_ms) * NS_PER_MS)
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

/// Whether `bar` is one that was over before, `known`, with trades that came late.
const fn is_revision(bar: &Bar, known: &Bar) -> bool {
    bar.closed != 0 && bar.count > known.count && bar.volume >= known.volume
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Channel, Header, Turnover};

    const MINUTE_NS: i64 = 60_000_000_000;

    fn bar(count: u64, volume: i64, closed: u8) -> Bar {
        let header = Header { ts_event: MINUTE_NS, ..Header::of::<Bar>() };
        Bar {
            header,
            open: 1,
            high: 1,
            low: 1,
            close: 1,
            volume,
            buy_volume: 0,
            turnover: Turnover::default(),
            buy_turnover: Turnover::default(),
            count,
            interval_ms: 60_000,
            closed,
            channel: Channel::Kline as u8,
            reserved: [0; 2],
        }
    }

    #[test]
    fn a_bar_that_is_over_is_revised_by_late_trades_alone() {
        // A minute is over with three trades. What its venue tells of it after that is known but
        // for a bar that is over too, and has more trades and no less volume: also a second time.
        let (mut window, now) = (Window::new(60_000), 3 * MINUTE_NS);
        assert_eq!(window.takes(&bar(3, 30, 1), now), Taken::News);
        for (count, volume, closed) in [(3, 30, 1), (4, 40, 0), (4, 29, 1), (2, 20, 1), (3, 31, 1)]
        {
            assert_eq!(window.takes(&bar(count, volume, closed), now), Taken::Known, "{count}");
        }
        assert_eq!(window.takes(&bar(4, 40, 1), now), Taken::News);
        for count in [3, 4] {
            assert_eq!(window.takes(&bar(count, 40, 1), now), Taken::Known, "{count}");
        }
        assert_eq!(window.takes(&bar(9, 90, 1), now), Taken::News);
    }
}
