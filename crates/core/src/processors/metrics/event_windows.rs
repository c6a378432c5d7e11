//! Trades by windows of the venue's time: tumbling, sliding, by session, by count.
//!
//! A window is [start, end) and is final once an event `delay` behind its end has come, or receive
//! times have passed it. Until `lateness` behind that, a trade that comes late corrects it: its
//! values are written again, flagged as out of order, and the newest row of a moment holds. A trade
//! that is later than that changes nothing; it is counted, and the count is written. So is one that
//! is out of order and ahead of the time: what is out of order says nothing of how far that has
//! come, nor does what is of the venue's history once something came live.
//!
//! A window that the stream does not cover, from its beginning or over a gap, has nulls. A gap that
//! is told when a window in it is final already takes its values back. A late trade of before the
//! stream, or of before its last gap, is in the windows that were whole before, or in none.

use std::collections::btree_map::{BTreeMap, Entry};

use self::slot::Slot;
use super::family::Print;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{FLAG_HISTORICAL, FLAG_OUT_OF_ORDER};

mod shape;
mod slot;

pub(super) use shape::{Shape, FIELDS, KEPT_MAX};
pub(super) use slot::Row;

/// How an event came, by its flags: whether the venue's time has come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// As it happened.
    Live,
    /// Of the venue's history: it tells the time where nothing came live.
    Past,
    /// Out of order: its time may be any.
    OutOfOrder,
}

impl Coming {
    #[inline]
    pub(super) const fn of(flags: u8) -> Self {
        if flags & FLAG_OUT_OF_ORDER != 0 {
            Self::OutOfOrder
        } else if flags & FLAG_HISTORICAL != 0 {
            Self::Past
        } else {
            Self::Live
        }
    }
}

#[derive(Debug)]
struct Windows {
    shape: Shape,
    /// By end; by start where they are sessions, of which no two overlap; a count has one. So ends
    /// rise, and those that are final are in front of the others.
    slots: BTreeMap<i64, Slot>,
    /// The earliest end that is not final; `i64::MAX`: there is none, or it is a count.
    next: i64,
    /// The latest end of those that are forgotten; of a count, the moment of its last row.
    past: i64,
}

impl Windows {
    const fn is_timed(&self) -> bool {
        !matches!(self.shape, Shape::Count(_))
    }

    /// Finds the earliest end that is not final, behind a change.
    fn find_next(&mut self) {
        let is_timed = self.is_timed();
        let open = self.slots.values().rev().take_while(|slot| is_timed && !slot.is_final);
        self.next = open.last().map_or(i64::MAX, |slot| slot.end);
    }

    /// Forgets what ended by `kept`, but for windows of the last trade, of time `traded`: a gap
    /// that is told later begins there, and takes them back.
    fn forget(&mut self, kept: i64, traded: i64) {
        while self.is_timed() {
            let Some(slot) = self.slots.first_entry() else { return };
            let Slot { end, last, .. } = *slot.get();
            if end > kept || last >= traded {
                return;
            }
            slot.remove();
            self.past = self.past.max(end);
        }
    }

    /// The row of a count, at a moment of its own: that of its last trade, or right behind the
    /// count before where that is no earlier.
    fn count_row(&mut self, shape: usize, slot: &Slot) -> Row {
        self.past = slot.last.max(self.past.saturating_add(1));
        Row { ts: self.past, ..slot.row(shape, false, false) }
    }
}

/// The windows of one instrument.
#[derive(Debug)]
pub(super) struct EventWindows {
    windows: Vec<Windows>,
    delay: i64,
    lateness: i64,
    partial: bool,
    /// The time of the event from which on the stream is whole: what lies behind it, not it, as
    /// others of its time may be missing. `i64::MAX` before the first event.
    since: i64,
    /// The end of the last gap in trades: whatever came of within it, it is not whole.
    broken: i64,
    /// How far the venue's time has come.
    now: i64,
    /// Whether an event came live since the stream began.
    is_live: bool,
    /// The time of the newest trade.
    traded: i64,
    late: u64,
}

impl EventWindows {
    pub(super) fn new(shapes: &[Shape], delay: i64, lateness: i64, partial: bool) -> Self {
        let window = |&shape: &Shape| Windows {
            shape,
            slots: BTreeMap::new(),
            next: i64::MAX,
            past: i64::MIN,
        };
        Self {
            windows: shapes.iter().map(window).collect(),
            delay,
            lateness,
            partial,
            since: i64::MAX,
            broken: i64::MIN,
            now: i64::MIN,
            is_live: false,
            traded: i64::MIN,
            late: 0,
        }
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

    /// What ends by then is final.
    const fn until(&self) -> i64 {
        self.now.saturating_sub(self.delay)
    }

    /// What ends by then is over for good.
    const fn kept(&self) -> i64 {
        self.now.saturating_sub(self.delay.saturating_add(self.lateness))
    }

    /// What begins behind it is whole.
    fn whole_from(&self) -> i64 {
        self.since.max(self.broken)
    }

    /// Whether a trade is of before the stream, or of before its last gap.
    const fn is_behind(&self, ts: i64) -> bool {
        ts < self.since && !self.partial
    }

    /// Told of an event at `ts`: makes final what ends by then.
    pub(super) fn advance(&mut self, ts: i64, coming: Coming, rows: &mut Vec<Row>) {
        match coming {
            Coming::Live => self.is_live = true,
            Coming::Past if !self.is_live => {}
            _ => return,
        }
        // What is late says nothing of when the stream goes on.
        if ts > self.now && self.since == i64::MAX {
            self.since = ts;
        }
        self.pass(ts, rows);
    }

    /// Told that nothing came until `ts`: the time comes no further than to the end of what is
    /// open, as that of the next event may be earlier, where the host's clock was set.
    pub(super) fn pass_silent(&mut self, ts: i64, rows: &mut Vec<Row>) {
        let newest = |windows: &Windows| {
            let slot = windows.slots.values().next_back();
            slot.filter(|slot| windows.is_timed() && !slot.is_final).map(|slot| slot.end)
        };
        if let Some(end) = self.windows.iter().filter_map(newest).max() {
            self.pass(ts.min(end.saturating_add(self.delay)), rows);
        }
    }

    /// Told that the venue's time has come to `ts`, by an event or without one.
    fn pass(&mut self, ts: i64, rows: &mut Vec<Row>) {
        if ts <= self.now {
            return;
        }
        self.now = ts;
        let (until, kept) = (self.until(), self.kept());
        for (shape, windows) in self.windows.iter_mut().enumerate() {
            if windows.next <= until {
                let slots = windows.slots.values_mut().rev().skip_while(|slot| slot.end > until);
                let begun = rows.len();
                for slot in slots.take_while(|slot| !slot.is_final) {
                    slot.is_final = true;
                    if !slot.is_told {
                        rows.push(slot.row(shape, self.partial, false));
                    }
                }
                rows[begun..].reverse();
                windows.find_next();
            }
            windows.forget(kept, self.traded);
        }
    }

    /// Takes in a trade by its own time.
    pub(super) fn print(&mut self, print: &Print, coming: Coming, rows: &mut Vec<Row>) {
        if !print.counts {
            return;
        }
        self.advance(print.ts_event, coming, rows);
        if coming == Coming::OutOfOrder && print.ts_event > self.now {
            self.late += 1;
            return;
        }
        let mut is_late = false;
        for shape in 0..self.windows.len() {
            is_late |= match self.windows[shape].shape {
                Shape::Tumbling(length) => self.add(shape, print, (length, length), rows),
                Shape::Sliding(length, step) => self.add(shape, print, (length, step), rows),
                Shape::Session(gap) => self.join(shape, print, gap, rows),
                Shape::Count(count) => self.count(shape, print, count, rows),
            };
        }
        if is_late {
            self.late += 1;
        } else {
            self.traded = self.traded.max(print.ts_event);
        }
    }

    /// Adds a trade to each window that it is in; says whether it was too late for one.
    fn add(
        &mut self,
        shape: usize,
        print: &Print,
        (length, step): (i64, i64),
        rows: &mut Vec<Row>,
    ) -> bool {
        let ts = print.ts_event;
        let (until, kept, is_behind) = (self.until(), self.kept(), self.is_behind(ts));
        let whole_from = self.whole_from();
        let slots = &mut self.windows[shape].slots;
        let mut end = (ts.div_euclid(step) + 1).saturating_mul(step);
        let mut is_late = false;
        while end - length <= ts {
            let mut new = Slot::of(print, end - length, end);
            let mut was_null = false;
            let slot = match slots.entry(end) {
                Entry::Occupied(slot) if end > kept && !(is_behind && slot.get().is_cut) => {
                    let slot = slot.into_mut();
                    was_null = slot.is_null(self.partial);
                    slot.join(&new);
                    Some(slot)
                }
                Entry::Vacant(slot) if end > kept && !is_behind => {
                    new.is_cut = new.start <= whole_from;
                    Some(slot.insert(new))
                }
                _ => None,
            };
            is_late |= slot.is_none();
            if let Some(slot) = slot.filter(|_| end <= until) {
                slot.is_final = true;
                if !was_null {
                    rows.push(slot.row(shape, self.partial, true));
                }
            }
            end = end.saturating_add(step);
        }
        self.bound(shape);
        is_late
    }

    /// Adds a trade to the sessions that it touches, which become one; says whether it was too
    /// late.
    fn join(&mut self, shape: usize, print: &Print, gap: i64, rows: &mut Vec<Row>) -> bool {
        let (ts, end) = (print.ts_event, print.ts_event.saturating_add(gap));
        let (until, kept, is_behind) = (self.until(), self.kept(), self.is_behind(ts));
        let whole_from = self.whole_from();
        let Windows { slots, past, .. } = &mut self.windows[shape];
        let before = slots.range(..end).rev().map(|(_, slot)| *slot);
        let mut touched: Vec<Slot> = before.take_while(|slot| slot.end > ts).collect();
        touched.reverse();
        if end <= kept || ts < *past || touched.iter().any(|slot| slot.end <= kept) {
            return true;
        }
        // Of what was before a gap, a session is known that the trade makes no longer.
        let is_within = |slot: &Slot| !slot.is_cut && slot.start <= ts && end <= slot.end;
        if is_behind && !touched.first().is_some_and(is_within) {
            return true;
        }
        let mut new = Slot::of(print, ts, end);
        new.is_cut = !is_behind && ts.saturating_sub(gap) < whole_from;
        for (at, old) in touched.iter().enumerate() {
            slots.remove(&old.start);
            // The one that came first keeps its first trade.
            let (mut first, later) = if at == 0 { (*old, new) } else { (new, *old) };
            first.join(&later);
            new = first;
        }
        let mut was_null = false;
        for old in &touched {
            if old.end == new.end {
                was_null = old.is_null(self.partial);
            } else if (old.is_final || old.is_told) && (self.partial || !old.is_cut) {
                // It is no session of its own any more.
                rows.push(Row { values: None, ..old.row(shape, false, true) });
            }
        }
        new.is_final = new.end <= until;
        if new.is_final && !was_null {
            rows.push(new.row(shape, self.partial, true));
        }
        slots.insert(new.start, new);
        self.bound(shape);
        false
    }

    /// Adds a trade to the count, whatever its time; says whether it was too late.
    fn count(&mut self, shape: usize, print: &Print, count: u64, rows: &mut Vec<Row>) -> bool {
        if self.is_behind(print.ts_event) {
            return true;
        }
        let windows = &mut self.windows[shape];
        let new = Slot::of(print, print.ts_event, print.ts_event);
        let slot = windows.slots.entry(0).and_modify(|slot| slot.join(&new)).or_insert(new);
        if slot.trades >= count {
            let made = *slot;
            windows.slots.clear();
            rows.push(windows.count_row(shape, &made));
        }
        false
    }

    fn bound(&mut self, shape: usize) {
        let slots = &mut self.windows[shape].slots;
        while slots.len() > KEPT_MAX {
            slots.pop_first();
        }
        self.windows[shape].find_next();
    }

    /// Told that trades from `start` to `end` are missing, from the last one on and to now where
    /// that is not known: takes back the values of what is final and reaches into that.
    pub(super) fn cut(&mut self, start: Option<i64>, end: Option<i64>, rows: &mut Vec<Row>) {
        let (start, end) = (start.unwrap_or(self.traded), end.unwrap_or(self.now));
        self.broken = self.broken.max(end);
        for (shape, windows) in self.windows.iter_mut().enumerate() {
            let gap = if let Shape::Session(gap) = windows.shape { gap } else { 0 };
            let is_final = |slot: &&mut Slot| slot.is_final && !slot.is_cut;
            for slot in windows.slots.values_mut().filter(is_final) {
                if slot.end > start && slot.start.saturating_sub(gap) <= end {
                    slot.is_cut = true;
                    if !self.partial {
                        rows.push(slot.row(shape, false, true));
                    }
                }
            }
        }
    }

    /// Tells what is open: the stream is not whole. What is final stays, for trades that are late.
    pub(super) fn reset(&mut self, rows: &mut Vec<Row>) {
        for (shape, windows) in self.windows.iter_mut().enumerate() {
            if !windows.is_timed() {
                if let Some(slot) = windows.slots.remove(&0) {
                    rows.push(Row { values: None, ..windows.count_row(shape, &slot) });
                }
                continue;
            }
            for slot in windows.slots.values_mut().filter(|slot| !slot.is_final) {
                slot.is_cut = true;
                if !slot.is_told {
                    slot.is_told = true;
                    rows.push(slot.row(shape, self.partial, false));
                }
            }
        }
        (self.since, self.is_live) = (i64::MAX, false);
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        [self.delay, self.lateness, self.since, self.broken, self.now, self.traded]
            .into_iter()
            .for_each(|value| state.i64(value));
        state.u64(self.late);
        state.flag(self.is_live);
        for windows in &self.windows {
            state.i64(windows.past);
            state.length(windows.slots.len());
            for (key, slot) in &windows.slots {
                state.i64(*key);
                slot.write(state);
            }
        }
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        super::same_setting("window_delay_ms", self.delay, state.i64()?)?;
        super::same_setting("window_lateness_ms", self.lateness, state.i64()?)?;
        (self.since, self.broken) = (state.i64()?, state.i64()?);
        (self.now, self.traded, self.late) = (state.i64()?, state.i64()?, state.u64()?);
        self.is_live = state.flag()?;
        for windows in &mut self.windows {
            windows.past = state.i64()?;
            windows.slots.clear();
            for _ in 0..state.length(147)? {
                let key = state.i64()?;
                windows.slots.insert(key, Slot::read(state)?);
            }
            windows.find_next();
        }
        Ok(())
    }
}
