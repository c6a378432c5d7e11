//! The recent windows of one instrument, at every interval, and what may be missing in them.

use std::collections::VecDeque;

use super::gone::Gone;
use super::lost::Lost;
use crate::error::Result;
use crate::feeds::{updates_of, BarSpan, Updates};
use crate::processors::state::{StateReader, StateWriter};
use crate::processors::ticks::total;
use crate::record::{
    Bar, Header, Side, Trade, Turnover, FLAG_HISTORICAL, FLAG_LAST, FLAG_MAYBE_BAD,
    FLAG_OUT_OF_ORDER, NONE,
};

/// How many windows of one interval are kept that are over, so that late trades may revise them.
const OVER_MOST: usize = 8;
/// How many are kept in all. Beyond it, what got no trade for longest is written and dropped:
/// first of those that the venue's history alone made, so that it drops none that goes on.
const WINDOWS_MOST: usize = 96;
/// How many gaps are kept; when one more comes, the oldest is forgotten.
const GAPS_MOST: usize = 32;
/// A window whose trades come after its end is closed at a multiple of this in receive time, in ns:
/// so it is known in advance when anything may be closed.
pub const LATE_GRID_NS: i64 = 100_000_000;
/// Bytes that a window takes at least in a snapshot.
const WINDOW_BYTES: usize = size_of::<Bar>() + 26;

/// One window of one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The bar so far. `sequence` of its header is that of its last trade.
    pub bar: Bar,
    /// Sequence of its first trade.
    first: u64,
    /// When its first trade and its last were: of trades without a sequence, times say which is.
    times: [i64; 2],
    /// When it is closed by the clock of `ts_recv`, in ns.
    pub deadline: i64,
    /// Whether it was not written yet.
    pub is_open: bool,
    /// Whether a recording began or ended within it.
    is_part: bool,
    /// Whether a trade of it came live, and not as history.
    is_live: bool,
    /// Number of its last trade among those of the series.
    touched: u64,
}

/// The recent windows of one instrument.
///
/// Trades that come for a window that was dropped would make a bar of a piece: it does not come
/// back as long as it is known, see [`Gone`]. Those that are kept are the ones that got trades
/// last, not the newest by what the trades say: so some trades that say a time ahead of all others
/// drop no window that goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// By interval, in order of the setting; windows in order of start.
    pub windows: Vec<VecDeque<Window>>,
    /// What was dropped, by interval.
    gone: Vec<Gone>,
    /// By interval. In no snapshot: what it does not know is found out.
    pace: Vec<Pace>,
    lost: Vec<Lost>,
    /// Trades taken in.
    trades: u64,
}

/// What need not be asked of each window at each trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    /// While the receive times stand before it, no more windows are over than are kept.
    due: i64,
    /// Whether all windows but the newest are known to be written.
    is_settled: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { due: i64::MIN, is_settled: false }
    }
}

impl Window {
    fn new(start: i64, interval_ms: u32, trade: &Trade) -> Self {
        let bar = Bar {
            header: Header {
                feed: trade.header.feed,
                instrument: trade.header.instrument,
                flags: FLAG_LAST,
                ts_event: start,
                ts_recv: trade.header.ts_recv,
                sequence: trade.header.sequence,
                ..Header::of::<Bar>()
            },
            open: NONE,
            high: NONE,
            low: NONE,
            close: NONE,
            volume: 0,
            buy_volume: 0,
            turnover: Turnover::default(),
            buy_turnover: Turnover::default(),
            count: 0,
            interval_ms,
            closed: 1,
            channel: trade.channel,
            reserved: [0; 2],
        };
        Self {
            bar,
            first: trade.header.sequence,
            times: [trade.header.ts_event; 2],
            deadline: i64::MAX,
            is_open: true,
            is_part: false,
            is_live: false,
            touched: 0,
        }
    }

    /// Takes of a trade what `updates` says. Sequences, or else times, tell which trade is first
    /// and which last in the window, so that a late one finds its place.
    #[inline]
    fn add(&mut self, trade: &Trade, updates: Updates, grace_ns: i64) {
        if updates.high_low {
            let (high, low) = (self.bar.high, self.bar.low);
            self.bar.high = if high == NONE { trade.price } else { high.max(trade.price) };
            self.bar.low = if low == NONE { trade.price } else { low.min(trade.price) };
        }
        if updates.open_close {
            self.set_open_close(trade);
        }
        if updates.volume {
            self.add_volume(trade);
        }
        // A window whose trades come late waits from the last of them on, so that it is not
        // written again for each.
        self.is_live |= trade.header.flags & FLAG_HISTORICAL == 0;
        let (ts_recv, end) = (trade.header.ts_recv, self.end());
        let over = if ts_recv == NONE || ts_recv <= end { end } else { late_grid(ts_recv) };
        self.deadline = over.saturating_add(grace_ns);
    }

    #[inline]
    fn set_open_close(&mut self, trade: &Trade) {
        let bar = &mut self.bar;
        let is_only = bar.open == NONE;
        let Header { sequence, ts_event, .. } = trade.header;
        if is_only || (sequence, ts_event) < (self.first, self.times[0]) {
            (self.first, self.times[0]) = (sequence, ts_event);
            bar.open = trade.price;
        }
        if is_only || (sequence, ts_event) >= (bar.header.sequence, self.times[1]) {
            (bar.header.sequence, self.times[1]) = (sequence, ts_event);
            bar.close = trade.price;
        }
    }

    #[inline]
    fn add_volume(&mut self, trade: &Trade) {
        let bar = &mut self.bar;
        let turnover = i128::from(trade.price) * i128::from(trade.size);
        bar.volume = total(bar.volume, trade.size);
        // Where a sum of products is too large, that of the sizes was too large long before.
        bar.turnover = i128::from(bar.turnover).saturating_add(turnover).into();
        // Who took is not known in advance: without a branch.
        let is_buy = i64::from(trade.side == Side::Bid as u8);
        bar.buy_volume = total(bar.buy_volume, trade.size & -is_buy);
        let bought = turnover & -i128::from(is_buy);
        bar.buy_turnover = i128::from(bar.buy_turnover).saturating_add(bought).into();
        bar.count += u64::from(trade.count);
    }

    /// Takes in that a recording began or ended within it: it is never whole.
    pub fn cut(&mut self) {
        self.is_part = true;
        self.bar.header.flags |= FLAG_MAYBE_BAD;
        self.bar.closed = 0;
    }

    /// The first moment after the window, in ns.
    #[inline]
    pub fn end(&self) -> i64 {
        self.bar.header.ts_event.saturating_add(i64::from(self.bar.interval_ms) * 1_000_000)
    }
}

impl Series {
    /// A series of the instrument, for that many intervals.
    pub fn new(intervals: usize) -> Self {
        Self {
            windows: vec![VecDeque::new(); intervals],
            gone: vec![Gone::default(); intervals],
            pace: vec![Pace::default(); intervals],
            ..Self::default()
        }
    }

    /// Takes a trade into the newest window of the interval number `at` and gives the deadline of
    /// that; `None`, and nothing is done, unless it goes on and all before it were written.
    #[inline]
    pub fn extend(
        &mut self,
        at: usize,
        interval_ms: u32,
        trade: &Trade,
        grace_ns: i64,
    ) -> Option<i64> {
        let pace = self.pace.get_mut(at).filter(|pace| pace.is_settled)?;
        let newest = self.windows.get_mut(at)?.back_mut()?;
        let Header { ts_event: ts, feed, .. } = trade.header;
        if !newest.is_open || ts < newest.bar.header.ts_event || ts >= newest.end() {
            return None;
        }
        self.trades += 1;
        newest.touched = self.trades;
        newest.add(trade, updates_of(feed, trade.conditions, BarSpan::of(interval_ms)), grace_ns);
        pace.due = pace.due.min(newest.deadline);
        Some(newest.deadline)
    }

    /// Notes that all windows before place `place` of the interval number `at` were written.
    pub fn settle(&mut self, at: usize, place: usize) {
        self.pace[at].is_settled = place + 1 == self.windows[at].len();
    }

    /// Takes a trade into its window of the interval number `at`. Gives the window's place, or
    /// `None` if that was dropped.
    pub fn add(
        &mut self,
        at: usize,
        interval_ms: u32,
        trade: &Trade,
        grace_ns: i64,
    ) -> Option<usize> {
        let ts = trade.header.ts_event;
        let span = BarSpan::of(interval_ms);
        let updates = updates_of(trade.header.feed, trade.conditions, span);
        self.trades += 1;
        let windows = &mut self.windows[at];
        if let Some(newest) = windows.back_mut() {
            if newest.bar.header.ts_event <= ts && ts < newest.end() {
                newest.touched = self.trades;
                newest.add(trade, updates, grace_ns);
                self.pace[at].due = self.pace[at].due.min(newest.deadline);
                return Some(windows.len() - 1);
            }
        }
        let length = i64::from(interval_ms) * 1_000_000;
        let start = ts - ts.rem_euclid(length);
        let place = windows.partition_point(|window| window.bar.header.ts_event < start);
        let is_known = windows.get(place).is_some_and(|w| w.bar.header.ts_event == start);
        if !is_known {
            let flags = trade.header.flags & (FLAG_HISTORICAL | FLAG_OUT_OF_ORDER);
            let is_old = place == 0 && !windows.is_empty();
            // History from before the recording would come in pieces, and make bars of pieces.
            if is_old && flags == FLAG_HISTORICAL
                || self.gone[at].has(start, start.saturating_add(length))
            {
                return None;
            }
            // The recording began in the middle of its first window, unless at the first trade.
            let is_part = windows.is_empty() && ts > start && trade.trade_id > 1;
            let mut window = Window::new(start, interval_ms, trade);
            let mut touching = self.lost.iter().filter(|lost| lost.touches(&window)).peekable();
            let is_bad = touching.peek().is_some();
            if is_part || touching.any(Lost::is_not_recorded) {
                window.cut();
            } else if is_bad {
                window.bar.header.flags |= FLAG_MAYBE_BAD;
            }
            windows.insert(place, window);
            self.pace[at].is_settled = false;
        }
        windows[place].touched = self.trades;
        windows[place].add(trade, updates, grace_ns);
        self.pace[at].due = self.pace[at].due.min(windows[place].deadline);
        Some(place)
    }

    /// Drops windows beyond those that are kept: those that got no trade for longest. Which are
    /// over say the receive times, which stand at `watermark`. `written` is called for each that
    /// was open.
    #[inline]
    pub fn trim(&mut self, at: usize, watermark: i64, written: impl FnMut(&Bar)) {
        if watermark >= self.pace[at].due || self.windows[at].len() > WINDOWS_MOST {
            self.drop_some(at, watermark, written);
            let mut deadlines: Vec<_> = self.windows[at].iter().map(|it| it.deadline).collect();
            deadlines.sort_unstable();
            self.pace[at].due = deadlines.get(OVER_MOST).copied().unwrap_or(i64::MAX);
        }
    }

    #[cold]
    fn drop_some(&mut self, at: usize, watermark: i64, mut written: impl FnMut(&Bar)) {
        let windows = &mut self.windows[at];
        loop {
            let is_over = |window: &Window| !window.is_open && window.deadline <= watermark;
            let count = windows.iter().filter(|window| is_over(window)).count();
            let is_full = windows.len() > WINDOWS_MOST;
            if !is_full && count <= OVER_MOST {
                return;
            }
            let places = windows.iter().enumerate();
            let found = places.filter(|(_, window)| count == 0 || is_over(window));
            let oldest = found.min_by_key(|(_, it)| (count == 0 && it.is_live, it.touched));
            let Some((place, _)) = oldest else { return };
            let Some(window) = windows.remove(place) else { return };
            if window.is_open {
                written(&window.bar);
            }
            self.gone[at].add(&window, place == 0);
        }
    }

    /// Takes in that trades may be missing. Written windows that it touches are open to be
    /// written again: `revised` is called for each.
    pub fn lose(&mut self, lost: Lost, mut revised: impl FnMut(&mut Bar)) {
        if self.lost.len() >= GAPS_MOST {
            self.lost.remove(0);
        }
        self.lost.push(lost);
        for window in self.windows.iter_mut().flatten() {
            if !lost.touches(window) {
                continue;
            }
            let was = window.bar;
            if lost.is_not_recorded() {
                window.cut();
            }
            window.bar.header.flags |= FLAG_MAYBE_BAD;
            if window.bar != was {
                revise(window, &mut revised);
            }
        }
    }

    /// Takes in that the trades of `gap`, from the number `first` to `last` or, where they have
    /// none, of its time, came after all. Windows in which nothing is missing any more lose their
    /// flag.
    pub fn repair(&mut self, gap: &Lost, mut revised: impl FnMut(&mut Bar)) {
        let is_filled =
            |lost: &Lost| lost.is_outage() && gap.start <= lost.start && lost.end <= gap.end;
        if gap.is_outage() {
            while let Some(at) = self.lost.iter().position(is_filled) {
                self.forget(at, &mut revised);
            }
            return;
        }
        let (first, last) = (gap.first, gap.last);
        let Some(at) = self.lost.iter().position(|lost| lost.first <= first && last <= lost.last)
        else {
            return;
        };
        let lost = &mut self.lost[at];
        lost.missing = lost.missing.saturating_sub((last - first).saturating_add(1));
        if lost.missing == 0 {
            self.forget(at, revised);
        }
    }

    /// Takes in that the outage that began at `start` is over, and that what is missing of it, if
    /// anything, is told by itself.
    pub fn end_outage(&mut self, start: i64, revised: impl FnMut(&mut Bar)) {
        let is_it = |lost: &Lost| lost.start == start && lost.is_outage();
        if let Some(at) = self.lost.iter().position(is_it) {
            self.forget(at, revised);
        }
    }

    /// Forgets the loss at place `at` of the list.
    fn forget(&mut self, at: usize, mut revised: impl FnMut(&mut Bar)) {
        let found = self.lost.remove(at);
        let Self { windows, lost, .. } = self;
        for window in windows.iter_mut().flatten() {
            let is_bad = window.is_part || lost.iter().any(|lost| lost.touches(window));
            if found.touches(window) && !is_bad {
                window.bar.header.flags &= !FLAG_MAYBE_BAD;
                revise(window, &mut revised);
            }
        }
    }

    /// Writes the series to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.length(self.windows.len());
        for windows in &self.windows {
            state.length(windows.len());
            for window in windows {
                state.plain(&window.bar);
                state.u64(window.first);
                state.i64(window.deadline);
                state.flag(window.is_open);
                state.flag(window.is_part);
                state.flag(window.is_live);
                state.u64(window.touched);
                window.times.iter().for_each(|&time| state.i64(time));
            }
        }
        state.length(self.gone.len());
        for gone in &self.gone {
            state.flag(gone.until.is_some());
            state.i64(gone.until.unwrap_or(0));
            state.length(gone.later.len());
            gone.later.iter().for_each(|&start| state.i64(start));
        }
        state.u64(self.trades);
        state.length(self.lost.len());
        for lost in &self.lost {
            state.i64(lost.start);
            state.i64(lost.end);
            state.u64(lost.first);
            state.u64(lost.last);
            state.u64(lost.missing);
        }
    }

    /// Reads a series from a snapshot. One of an older layout has no times of windows, or does not
    /// know which are live.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>, has_times: bool, knows_live: bool) -> Result<Self> {
        let mut series = Self::default();
        for _ in 0..state.length(8)? {
            let mut windows = VecDeque::new();
            for _ in 0..state.length(WINDOW_BYTES)? {
                windows.push_back(Window {
                    bar: state.plain()?,
                    first: state.u64()?,
                    deadline: state.i64()?,
                    is_open: state.flag()?,
                    is_part: state.flag()?,
                    is_live: !knows_live || state.flag()?,
                    touched: state.u64()?,
                    times: if has_times { [state.i64()?, state.i64()?] } else { [i64::MIN; 2] },
                });
            }
            series.windows.push(windows);
            series.pace.push(Pace::default());
        }
        for _ in 0..state.length(17)? {
            let (is_known, until) = (state.flag()?, state.i64()?);
            let mut gone = Gone { until: is_known.then_some(until), ..Gone::default() };
            for _ in 0..state.length(8)? {
                gone.later.push_back(state.i64()?);
            }
            series.gone.push(gone);
        }
        series.trades = state.u64()?;
        for _ in 0..state.length(40)? {
            series.lost.push(Lost {
                start: state.i64()?,
                end: state.i64()?,
                first: state.u64()?,
                last: state.u64()?,
                missing: state.u64()?,
            });
        }
        Ok(series)
    }
}

/// The first time of the grid at or behind `ts`.
const fn late_grid(ts: i64) -> i64 {
    ts.saturating_add(LATE_GRID_NS - 1).div_euclid(LATE_GRID_NS) * LATE_GRID_NS
}

/// A written window changed: it is written again, as out of order.
fn revise(window: &mut Window, revised: &mut impl FnMut(&mut Bar)) {
    if !window.is_open {
        window.bar.header.flags |= FLAG_OUT_OF_ORDER;
        revised(&mut window.bar);
    }
}
