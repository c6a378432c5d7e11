//! Trades by windows of the venue's time: tumbling, sliding, by session, by count.
//!
//! A window is [start, end) and is final once an event `delay` behind its end has come, or receive
//! times have passed it. Until `lateness` behind that, a trade that comes late corrects it: its
//! values are written again, flagged as out of order, and the newest row of a moment holds. A trade
//! that is later than that changes nothing; it is counted, and the count is written.
//!
//! A window that the stream does not cover, from its beginning or over a gap, has nulls.

use std::collections::BTreeMap;

use super::family::Print;
use super::window::{put_wide, take_wide};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};

/// Windows of one shape that are kept, at most; beyond it the oldest one goes as it is.
pub(super) const KEPT_MAX: usize = 1 << 14;
/// Sliding windows that one trade is in, at most.
const OVERLAP_MAX: i64 = 1_000;
const MS: i64 = 1_000_000;

/// What the values of a window are called, behind the name of its shape.
pub(super) const FIELDS: [&str; 8] =
    ["open", "high", "low", "close", "vwap", "volume", "buy_volume", "trades"];

/// How trades are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Windows of a length, each right behind the one before.
    Tumbling(i64),
    /// Windows of a length, one for each step.
    Sliding(i64, i64),
    /// Trades that are no further apart.
    Session(i64),
    /// So many trades, in the order of the tape.
    Count(u64),
}

impl Shape {
    /// The shapes that `text` names, with commas between them.
    ///
    /// # Errors
    /// `Error::Invalid`: there is no such shape, or a length that cannot be.
    pub(super) fn list(text: &str) -> Result<Vec<Self>> {
        let words = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        words.map(Self::of).collect()
    }

    fn of(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let found = match words[..] {
            ["tumbling", length] => length_of(length).map(Self::Tumbling),
            ["sliding", length, step] => match (length_of(length), length_of(step)) {
                (Some(length), Some(step))
                    if length % step == 0 && length / step <= OVERLAP_MAX =>
                {
                    Some(Self::Sliding(length, step))
                }
                _ => None,
            },
            ["session", gap] => length_of(gap).map(Self::Session),
            ["count", count] => count.parse().ok().filter(|&n| n > 0).map(Self::Count),
            _ => None,
        };
        found.ok_or_else(|| {
            Error::invalid(format!(
                "trade_windows: expected any of \"tumbling 10ms\", \"sliding 1s 100ms\" (a \
                 multiple of its step, {OVERLAP_MAX} at most), \"session 5s\", \"count 100\", got \
                 {text:?}"
            ))
        })
    }

    /// Whether so many windows at most are kept for `kept` ns.
    pub(super) fn fits(&self, kept: i64) -> bool {
        let most = KEPT_MAX as i64;
        match *self {
            Self::Tumbling(step) | Self::Session(step) => kept / step < most,
            Self::Sliding(length, step) => kept.saturating_add(length) / step < most,
            Self::Count(_) => true,
        }
    }

    /// Its name, as names of metrics begin.
    pub(super) fn name(&self) -> String {
        let text = super::table::length_text;
        match *self {
            Self::Tumbling(length) => format!("tumbling_{}", text(length)),
            Self::Sliding(length, step) => format!("sliding_{}_{}", text(length), text(step)),
            Self::Session(gap) => format!("session_{}", text(gap)),
            Self::Count(count) => format!("count_{count}"),
        }
    }
}

/// A length such as `10ms` or `5s`, in ns: at least a millisecond, at most a day.
fn length_of(text: &str) -> Option<i64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, MS),
        None => (text.strip_suffix('s')?, 1_000 * MS),
    };
    let length = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (MS..=86_400_000 * MS).contains(&length).then_some(length)
}

/// The trades of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    start: i64,
    end: i64,
    /// Times of the trades that are first and last by the venue's time.
    first: i64,
    last: i64,
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: i128,
    buys: i128,
    turnover: i128,
    trades: u64,
    is_final: bool,
}

impl Slot {
    fn of(print: &Print, start: i64, end: i64) -> Self {
        let (ts, price, size) = (print.ts_event, print.price, i128::from(print.size));
        Self {
            start,
            end,
            first: ts,
            last: ts,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: size,
            buys: if print.side > 0 { size } else { 0 },
            turnover: size * i128::from(price),
            trades: 1,
            is_final: false,
        }
    }

    /// Adds the trades of another one, which came later.
    fn join(&mut self, other: &Self) {
        (self.start, self.end) = (self.start.min(other.start), self.end.max(other.end));
        // Of trades of one time, that which came first is the first one.
        if other.first < self.first {
            (self.first, self.open) = (other.first, other.open);
        }
        if other.last >= self.last {
            (self.last, self.close) = (other.last, other.close);
        }
        (self.high, self.low) = (self.high.max(other.high), self.low.min(other.low));
        self.volume += other.volume;
        self.buys += other.buys;
        self.turnover = self.turnover.saturating_add(other.turnover);
        self.trades += other.trades;
    }
}

/// Values of a window that is final, or is corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// Which shape it is of.
    pub(super) shape: usize,
    /// Its end: of a count, the time of its last trade.
    pub(super) ts: i64,
    /// Its length.
    pub(super) length: i64,
    pub(super) trades: u64,
    pub(super) is_correction: bool,
    /// In the order of [`FIELDS`]; none: not covered, or no window any more.
    pub(super) values: Option<[f64; 8]>,
}

#[derive(Debug)]
struct Windows {
    shape: Shape,
    /// By end; by start where they are sessions, of which no two overlap; a count has one. So ends
    /// rise, and those that are final are in front of the others.
    slots: BTreeMap<i64, Slot>,
    /// The earliest end that is not final; `i64::MAX`: there is none, or it is a count.
    next: i64,
}

impl Windows {
    /// Finds the earliest end that is not final, behind a change.
    fn find_next(&mut self) {
        let is_timed = !matches!(self.shape, Shape::Count(_));
        let open = self.slots.values().rev().take_while(|slot| is_timed && !slot.is_final);
        self.next = open.last().map_or(i64::MAX, |slot| slot.end);
    }
}

/// The windows of one instrument.
#[derive(Debug)]
pub(super) struct EventWindows {
    windows: Vec<Windows>,
    delay: i64,
    lateness: i64,
    partial: bool,
    /// From when on the stream is whole; `i64::MAX` before the first event.
    since: i64,
    /// How far the venue's time has come.
    now: i64,
    late: u64,
}

impl EventWindows {
    pub(super) fn new(shapes: &[Shape], delay: i64, lateness: i64, partial: bool) -> Self {
        let window = |&shape: &Shape| Windows { shape, slots: BTreeMap::new(), next: i64::MAX };
        let windows = shapes.iter().map(window).collect();
        Self { windows, delay, lateness, partial, since: i64::MAX, now: i64::MIN, late: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Trades that came too late for their windows.
    pub(super) const fn late(&self) -> u64 {
        self.late
    }

    /// The receive time behind which nothing is final that is not yet, if nothing else comes; the
    /// clocks of venue and host are told apart by a grace that the caller adds.
    #[inline]
    pub(super) fn due(&self) -> i64 {
        let next = self.windows.iter().map(|windows| windows.next).min();
        match next.unwrap_or(i64::MAX) {
            i64::MAX => i64::MAX,
            end => end.saturating_add(self.delay),
        }
    }

    /// Told that the venue's time has come to `ts`: makes final what ends by then.
    pub(super) fn advance(&mut self, ts: i64, rows: &mut Vec<Row>) {
        if ts <= self.now {
            return;
        }
        // What is late says nothing of when the stream goes on.
        if self.since == i64::MAX {
            self.since = ts;
        }
        self.now = ts;
        let (until, kept) =
            (ts.saturating_sub(self.delay), self.delay.saturating_add(self.lateness));
        let kept = ts.saturating_sub(kept);
        for (shape, windows) in self.windows.iter_mut().enumerate() {
            if windows.next <= until {
                let is_over = |slot: &&mut Slot| !slot.is_final;
                let slots = windows.slots.values_mut().rev().skip_while(|slot| slot.end > until);
                let begun = rows.len();
                for slot in slots.take_while(is_over) {
                    slot.is_final = true;
                    let is_covered = self.partial || slot.start >= self.since;
                    rows.push(row(shape, slot, is_covered, false));
                }
                rows[begun..].reverse();
                windows.find_next();
            }
            if !matches!(windows.shape, Shape::Count(_)) {
                while windows.slots.first_entry().is_some_and(|slot| slot.get().end <= kept) {
                    windows.slots.pop_first();
                }
            }
        }
    }

    /// Takes in a trade by its own time.
    pub(super) fn print(&mut self, print: &Print, rows: &mut Vec<Row>) {
        if !print.counts || print.ts_event < self.since && self.since != i64::MAX && !self.partial {
            // What is before the stream, or a gap in it, is in no window that is covered.
            self.late += u64::from(print.counts);
            return;
        }
        self.advance(print.ts_event, rows);
        let kept = self.now.saturating_sub(self.delay.saturating_add(self.lateness));
        let mut is_late = false;
        for shape in 0..self.windows.len() {
            match self.windows[shape].shape {
                Shape::Tumbling(length) => {
                    is_late |= self.add(shape, print, (length, length), kept, rows);
                }
                Shape::Sliding(length, step) => {
                    is_late |= self.add(shape, print, (length, step), kept, rows);
                }
                Shape::Session(gap) => is_late |= self.join(shape, print, gap, kept, rows),
                Shape::Count(count) => self.count(shape, print, count, rows),
            }
        }
        self.late += u64::from(is_late);
    }

    /// Adds a trade to each window that it is in; says whether one was over for good.
    fn add(
        &mut self,
        shape: usize,
        print: &Print,
        (length, step): (i64, i64),
        kept: i64,
        rows: &mut Vec<Row>,
    ) -> bool {
        let ts = print.ts_event;
        let until = self.now.saturating_sub(self.delay);
        let mut end = (ts.div_euclid(step) + 1).saturating_mul(step);
        let mut is_late = false;
        while end - length <= ts {
            if end <= kept {
                is_late = true;
            } else {
                let new = Slot::of(print, end - length, end);
                let slots = &mut self.windows[shape].slots;
                let slot = slots.entry(end).and_modify(|slot| slot.join(&new)).or_insert(new);
                if end <= until {
                    slot.is_final = true;
                    let is_covered = self.partial || slot.start >= self.since;
                    rows.push(row(shape, slot, is_covered, true));
                }
            }
            end = end.saturating_add(step);
        }
        self.bound(shape);
        is_late
    }

    /// Adds a trade to the sessions that it touches, which become one.
    fn join(
        &mut self,
        shape: usize,
        print: &Print,
        gap: i64,
        kept: i64,
        rows: &mut Vec<Row>,
    ) -> bool {
        let ts = print.ts_event;
        let until = self.now.saturating_sub(self.delay);
        if ts.saturating_add(gap) <= kept {
            return true;
        }
        let mut new = Slot::of(print, ts, ts.saturating_add(gap));
        let slots = &mut self.windows[shape].slots;
        let touches = |slot: &Slot| ts < slot.end && ts.saturating_add(gap) > slot.first;
        let touched: Vec<i64> =
            slots.iter().filter(|(_, slot)| touches(slot)).map(|(&key, _)| key).collect();
        for (at, key) in touched.into_iter().enumerate() {
            let Some(mut slot) = slots.remove(&key) else { continue };
            let old = slot;
            if at == 0 {
                // The one that came first keeps its first trade.
                slot.join(&new);
                new = slot;
            } else {
                new.join(&slot);
            }
            if old.is_final && old.end != new.end {
                // It is no session of its own any more.
                rows.push(Row { values: None, ..row(shape, &old, false, true) });
            }
        }
        new.is_final = new.end <= until;
        if new.is_final {
            let is_covered = self.partial || new.start >= self.since;
            rows.push(row(shape, &new, is_covered, true));
        }
        self.windows[shape].slots.insert(new.start, new);
        self.bound(shape);
        false
    }

    fn count(&mut self, shape: usize, print: &Print, count: u64, rows: &mut Vec<Row>) {
        let slots = &mut self.windows[shape].slots;
        let new = Slot::of(print, print.ts_event, print.ts_event);
        let slot = slots.entry(0).and_modify(|slot| slot.join(&new)).or_insert(new);
        if slot.trades >= count {
            let made = Slot { end: slot.last, ..*slot };
            slots.remove(&0);
            rows.push(row(shape, &made, true, false));
        }
    }

    fn bound(&mut self, shape: usize) {
        let slots = &mut self.windows[shape].slots;
        while slots.len() > KEPT_MAX {
            slots.pop_first();
        }
        self.windows[shape].find_next();
    }

    /// Forgets what is open: the stream is not whole.
    pub(super) fn reset(&mut self, rows: &mut Vec<Row>) {
        for (shape, windows) in self.windows.iter_mut().enumerate() {
            let open = windows.slots.values().filter(|slot| !slot.is_final);
            rows.extend(open.map(|slot| row(shape, slot, false, false)));
            windows.slots.clear();
            windows.next = i64::MAX;
        }
        self.since = i64::MAX;
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        [self.delay, self.lateness, self.since, self.now]
            .into_iter()
            .for_each(|value| state.i64(value));
        state.u64(self.late);
        for windows in &self.windows {
            state.length(windows.slots.len());
            for (key, slot) in &windows.slots {
                let Slot { start, end, first, last, open, high, low, close, .. } = *slot;
                for value in [*key, start, end, first, last, open, high, low, close] {
                    state.i64(value);
                }
                for value in [slot.volume, slot.buys, slot.turnover] {
                    put_wide(value, state);
                }
                state.u64(slot.trades);
                state.flag(slot.is_final);
            }
        }
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("window_delay_ms", self.delay, state.i64()?)?;
        super::same_setting("window_lateness_ms", self.lateness, state.i64()?)?;
        (self.since, self.now, self.late) = (state.i64()?, state.i64()?, state.u64()?);
        for windows in &mut self.windows {
            windows.slots.clear();
            for _ in 0..state.length(129)? {
                let key = state.i64()?;
                let slot = Slot {
                    start: state.i64()?,
                    end: state.i64()?,
                    first: state.i64()?,
                    last: state.i64()?,
                    open: state.i64()?,
                    high: state.i64()?,
                    low: state.i64()?,
                    close: state.i64()?,
                    volume: take_wide(state)?,
                    buys: take_wide(state)?,
                    turnover: take_wide(state)?,
                    trades: state.u64()?,
                    is_final: state.flag()?,
                };
                windows.slots.insert(key, slot);
            }
            windows.find_next();
        }
        Ok(())
    }
}

/// The values of a window; none where the stream does not cover it.
fn row(shape: usize, slot: &Slot, is_covered: bool, is_correction: bool) -> Row {
    use super::family::{price, size};
    let values = || {
        let vwap = price(slot.turnover) / slot.volume.max(1) as f64;
        [
            price(slot.open.into()),
            price(slot.high.into()),
            price(slot.low.into()),
            price(slot.close.into()),
            if slot.volume > 0 { vwap } else { f64::NAN },
            size(slot.volume),
            size(slot.buys),
            slot.trades as f64,
        ]
    };
    Row {
        shape,
        ts: slot.end,
        length: slot.end.saturating_sub(slot.start),
        trades: slot.trades,
        is_correction,
        values: is_covered.then(values),
    }
}
