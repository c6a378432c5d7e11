//! One instrument: its clock, its best prices, its families of metrics.

use std::sync::Arc;

pub(super) use self::books::Part;
use self::books::Reach;
use self::orders::Derived;
use super::event_windows::EventWindows;
use super::family::{latency_of, Best, Change, Family, Moment, Print, Values};
use super::plan::Plan;
use crate::book::{Cursor, SyncedBook};
use crate::error::Result;
use crate::feeds::Updates;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Header, Metric, QuoteState, Records, Trade, FLAG_LAST, FLAG_MAYBE_BAD, NONE};

mod books;
mod breaks;
pub(super) mod missing;
mod orders;
mod windows;

const NS_PER_DAY: i64 = 86_400_000_000_000;
/// As [`crate::record::Status::status`].
const TRADING: u8 = 1;

/// How far receive times were ahead of the newest event when it came: the host's clock against the
/// venue's, and the way between.
#[derive(Debug, Clone, Copy)]
struct Lead {
    newest: i64,
    /// Not behind it, and a day at most.
    ahead: i64,
}

impl Default for Lead {
    fn default() -> Self {
        Self { newest: i64::MIN, ahead: 0 }
    }
}

impl Lead {
    /// Takes in an event, where receive times are at `known`.
    #[inline]
    fn note(&mut self, ts_event: i64, known: i64) {
        if ts_event >= self.newest {
            let ahead = known.saturating_sub(ts_event).clamp(0, NS_PER_DAY);
            *self = Self { newest: ts_event, ahead };
        }
    }
}

/// What is measured of one instrument.
#[derive(Debug)]
pub(super) struct Measured {
    plan: Arc<Plan>,
    instrument: u32,
    feed: u8,
    tick: i64,
    /// As [`crate::record::Status::status`]; 0: not known.
    status: u8,
    /// Whether the stream broke since it was told: it may have ended unseen.
    is_status_old: bool,
    best: Option<Best>,
    /// The book, if a set needs it and anything of it came.
    synced: Option<Box<SyncedBook>>,
    reach: Reach,
    /// What single orders add up to, if the feed tells them.
    derived: Option<Box<Derived>>,
    /// Time of the newest event; it never runs back.
    ts: i64,
    /// When the stream broke last: what comes counts no earlier.
    broken: i64,
    /// The next time of the grid that was not sampled yet; `i64::MAX` before the first event.
    next: i64,
    /// The last sample in which something counted that was known before.
    settled: i64,
    /// How far receive times are ahead of events, and of those that end windows of trades.
    lead: Lead,
    windows_lead: Lead,
    families: Vec<Box<dyn Family>>,
    windows: EventWindows,
    samples: u64,
    late: u64,
}

impl Measured {
    pub(super) fn new(plan: &Arc<Plan>, instrument: u32, feed: u8) -> Self {
        Self {
            plan: Arc::clone(plan),
            instrument,
            feed,
            tick: NONE,
            status: 0,
            is_status_old: false,
            best: None,
            synced: None,
            reach: Reach::default(),
            derived: None,
            ts: i64::MIN,
            broken: i64::MIN,
            next: i64::MAX,
            settled: i64::MIN,
            lead: Lead::default(),
            windows_lead: Lead::default(),
            families: plan.sets.iter().map(|set| (set.build)(&plan.terms)).collect(),
            windows: EventWindows::new(
                &plan.shapes,
                plan.window_delay,
                plan.window_lateness,
                plan.terms.partial,
            ),
            samples: 0,
            late: 0,
        }
    }

    pub(super) const fn samples(&self) -> u64 {
        self.samples
    }

    pub(super) const fn late(&self) -> u64 {
        self.late
    }

    pub(super) fn dropped(&self) -> u64 {
        self.families.iter().map(|family| family.dropped()).sum()
    }

    /// A changed step counts from here on.
    pub(super) fn set_tick(&mut self, tick: i64) {
        self.tick = tick;
    }

    /// Takes in new best prices; none: they cannot be measured.
    #[inline]
    pub(super) fn quote(
        &mut self,
        header: &Header,
        best: Option<Best>,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        let ts = self.advance(header.ts_event, known, values, out);
        self.advance_windows(header, known, out);
        let Some(after) = best else {
            self.reset(false, known, values, out);
            return;
        };
        let latency = latency_of(header);
        let change = Change {
            ts,
            ts_recv: header.ts_recv,
            ts_event: header.ts_event,
            latency,
            tick: self.tick,
            before: self.best,
            after,
        };
        self.families.iter_mut().for_each(|family| family.change(&change));
        self.best = best;
        if self.plan.interval == 0 {
            self.sample(ts, known, values, out);
        }
    }

    /// Whether an event of `ts_event` is behind another one, or behind a sample that should have
    /// held it.
    pub(super) fn is_past(&self, ts_event: i64) -> bool {
        // Without a grid, or before the first event, there is no next sample.
        let is_sampled = self.next != i64::MAX && ts_event <= self.next - self.plan.interval;
        ts_event < self.ts.max(self.broken) || is_sampled
    }

    #[inline]
    pub(super) fn trade(
        &mut self,
        trade: &Trade,
        updates: Updates,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) {
        let ts = self.advance(trade.header.ts_event, known, values, out);
        self.window_trade(trade, updates, known, out);
        let print = self.print_of(trade, updates, ts);
        self.families.iter_mut().for_each(|family| family.print(&print));
        if self.plan.interval == 0 {
            self.sample(ts, known, values, out);
        }
    }

    /// A trade as families see it at `ts`.
    #[inline]
    fn print_of(&self, trade: &Trade, updates: Updates, ts: i64) -> Print {
        Print {
            ts,
            ts_recv: trade.header.ts_recv,
            latency: latency_of(&trade.header),
            ts_event: trade.header.ts_event,
            price: trade.price,
            size: trade.size,
            side: Print::side_of(trade),
            best: match &self.derived {
                Some(derived) if derived.sequence == trade.header.sequence => derived.before,
                _ => self.best,
            },
            sets_price: updates.open_close,
            sets_range: updates.high_low,
            counts: updates.volume,
        }
    }

    /// Writes the samples before `ts_event`, and gives the time at which the event counts.
    #[inline]
    fn advance(
        &mut self,
        ts_event: i64,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) -> i64 {
        let interval = self.plan.interval;
        self.lead.note(ts_event, known);
        let ts = ts_event.max(self.ts).max(self.broken);
        if interval != 0 && ts <= self.next && self.next != i64::MAX {
            // No sample lies before it, and it is not late.
            if ts_event > self.next - interval {
                self.ts = ts;
                return ts;
            }
        }
        self.advance_far(ts_event, known, values, out)
    }

    /// As [`Self::advance`], where samples may lie in between.
    #[inline(never)]
    fn advance_far(
        &mut self,
        ts_event: i64,
        known: i64,
        values: &mut Values,
        out: &mut Records,
    ) -> i64 {
        let interval = self.plan.interval;
        if interval == 0 {
            self.late += u64::from(ts_event < self.ts);
            self.ts = ts_event.max(self.ts).max(self.broken);
            return self.ts;
        }
        if self.next == i64::MAX {
            self.next = on_grid(ts_event, interval);
        }
        let sampled = self.next - interval;
        self.late += u64::from(ts_event <= sampled);
        let ts = ts_event.max(self.ts).max(self.broken).max(sampled + 1);
        self.write_until(ts, known, values, out);
        self.ts = ts;
        ts
    }

    /// Writes the samples before `ts`.
    fn write_until(&mut self, ts: i64, known: i64, values: &mut Values, out: &mut Records) {
        let interval = self.plan.interval;
        while self.next < ts {
            // Where it was silent, once more right before this event.
            self.next = self.upcoming().min(on_grid(ts, interval) - interval);
            self.sample(self.next, known, values, out);
            self.next += interval;
        }
    }

    /// The next time of the grid at which a sample can differ from the one before, if nothing
    /// comes: until all windows have drained, and from then on where something is due.
    #[inline]
    fn upcoming(&self) -> i64 {
        let Plan { longest, interval, .. } = *self.plan;
        let drained = self.ts.max(self.settled).saturating_add(longest).saturating_add(interval);
        if self.next <= drained {
            self.next
        } else {
            self.upcoming_due()
        }
    }

    #[cold]
    fn upcoming_due(&self) -> i64 {
        match self.due_of_families() {
            i64::MAX => i64::MAX,
            due => on_grid(due, self.plan.interval).max(self.next),
        }
    }

    fn due_of_families(&self) -> i64 {
        self.families.iter().map(|family| family.due()).min().unwrap_or(i64::MAX)
    }

    /// The receive time at which the next sample is due if nothing comes: as much later than that
    /// of the newest event as it lies behind it, and a grace. So a host whose clock is ahead of the
    /// venue's, or is set, leaves no event out.
    #[inline]
    pub(super) fn due(&self) -> i64 {
        let windows = self.windows.due().saturating_add(self.windows_lead.ahead);
        self.sample_due().min(windows).saturating_add(self.plan.grace)
    }

    /// As [`Self::due`], of samples and without the grace.
    #[inline]
    fn sample_due(&self) -> i64 {
        if self.plan.interval == 0 || self.next == i64::MAX {
            return i64::MAX;
        }
        self.upcoming().saturating_add(self.lead.ahead)
    }

    /// Writes the samples that are due as receive times are at `watermark`.
    pub(super) fn sweep(&mut self, watermark: i64, values: &mut Values, out: &mut Records) {
        let until = self.plan.silent_until(watermark);
        while self.sample_due() <= until {
            self.next = self.upcoming();
            self.sample(self.next, watermark, values, out);
            self.next += self.plan.interval;
        }
        let until = until.saturating_sub(self.windows_lead.ahead);
        if self.windows.due() <= until {
            let mut rows = Vec::new();
            self.windows.pass_silent(until, &mut rows);
            self.write_windows(&rows, watermark, out);
        }
    }

    fn sample(&mut self, ts: i64, known: i64, values: &mut Values, out: &mut Records) {
        let is_complete = self.plan.interval != 0;
        if is_complete && self.due_of_families() <= ts {
            self.settled = ts;
        }
        let derived = self.derived.as_deref().and_then(Derived::whole);
        let told = self.synced.as_deref().and_then(SyncedBook::book);
        let reach = if told.is_some() { self.reach.prices() } else { [None; 2] };
        let book = told.or(derived);
        let moment = Moment { ts, best: self.best, tick: self.tick, book, reach, is_complete };
        self.families.iter_mut().for_each(|family| family.sample(&moment, values));
        let mut row = self.row(ts, known);
        let Plan { names, is_repeat, .. } = &*self.plan;
        let last = is_repeat.iter().rposition(|is_repeat| !is_repeat);
        for (index, (found, (name, window))) in values.drain().zip(names).enumerate() {
            if is_repeat[index] {
                continue;
            }
            row.value = Metric::bits(found.value);
            (row.count, row.window, row.metric) = (found.count, *window, *name);
            let bound = if found.is_bound { FLAG_MAYBE_BAD } else { 0 };
            row.header.flags = bound | if Some(index) == last { FLAG_LAST } else { 0 };
            out.push(&row);
        }
        self.samples += 1;
    }

    /// A value at `ts`, to be filled in.
    fn row(&self, ts: i64, known: i64) -> Metric {
        Metric {
            header: Header {
                instrument: self.instrument,
                feed: self.feed,
                ts_event: ts,
                ts_recv: known,
                ..Header::of::<Metric>()
            },
            value: 0,
            count: 0,
            window: 0,
            metric: [0; 40],
            state: self.best.map_or(QuoteState::Unknown, |best| best.state()) as u8,
            reserved: [0; 31],
        }
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.u8(self.feed);
        state.u8(self.status);
        state.flag(self.is_status_old);
        for value in [self.tick, self.ts, self.broken, self.next, self.settled] {
            state.i64(value);
        }
        for lead in [self.lead, self.windows_lead] {
            state.i64(lead.newest);
            state.i64(lead.ahead);
        }
        state.u64(self.samples);
        state.u64(self.late);
        super::put_best(self.best, state);
        state.flag(self.synced.is_some());
        if let Some(synced) = &self.synced {
            let mut book = Vec::new();
            synced.store(&mut book);
            state.bytes(&book);
        }
        self.reach.write(state);
        self.write_derived(state);
        self.windows.write(state);
        self.families.iter().for_each(|family| family.write(state));
    }

    pub(super) fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        (self.feed, self.status, self.is_status_old) = (state.u8()?, state.u8()?, state.flag()?);
        (self.tick, self.ts, self.broken) = (state.i64()?, state.i64()?, state.i64()?);
        (self.next, self.settled) = (state.i64()?, state.i64()?);
        for lead in [&mut self.lead, &mut self.windows_lead] {
            (lead.newest, lead.ahead) = (state.i64()?, state.i64()?);
        }
        (self.samples, self.late) = (state.u64()?, state.u64()?);
        self.best = super::take_best(state)?;
        self.synced = None;
        if state.flag()? {
            let mut cursor = Cursor::new(state.bytes()?);
            self.synced = Some(Box::new(SyncedBook::load(&mut cursor)?));
            cursor.end()?;
        }
        self.reach = Reach::read(state)?;
        self.read_derived(state)?;
        self.windows.read(state)?;
        for family in &mut self.families {
            family.read(state)?;
        }
        Ok(())
    }
}

/// The first time of the grid at or behind `ts`.
pub(super) const fn on_grid(ts: i64, interval: i64) -> i64 {
    ts.saturating_add(interval - 1).div_euclid(interval) * interval
}

/// The instrument that a marker names, or all where it names none.
pub(super) fn concerned(
    instruments: &mut [Option<Box<Measured>>],
    instrument: u32,
) -> impl Iterator<Item = &mut Measured> {
    let (first, count) = match instrument as usize {
        0 => (0, usize::MAX),
        at => (at, 1),
    };
    instruments.iter_mut().skip(first).take(count).flatten().map(|measured| &mut **measured)
}
