//! Alerts: rules that look for conditions in the stream of each instrument.
//!
//! A rule names one of the [`detectors`], its parameters and the symbols that it is for. Each
//! instrument has the detectors of its rules; they see records in the order of the tape, and what
//! they say follows from those alone: the same tape gives the same alerts. Time is that of the
//! records: a detector that waits is told when receive times are past the moment that it waits
//! for, at most ten times a second.
//!
//! A halt lasts until the venue says so, until a trade behind it, or until the stream breaks: what
//! ended it may have been lost then, and a rule that is silent for it would be silent for ever.
//!
//! What comes from the venue's history is no message of now, and its trades are no prints. Its
//! quotes set the top as long as nothing newer of their instrument came.
//!
//! Metrics that rules name are made here, of the same records, by the processor `metrics`, so that
//! an alert does not depend on whether they are recorded. What the host measured, and who has seen
//! an alert, stands on the tape as records of alerts: see [`noted`].

use self::alarm::{Moment, Scope};
use self::detector::Event;
use self::live::LiveOrders;
use self::rule::Rule;
use self::told::Told;
use self::watched::Watched;
use super::bars::Watermark;
use super::state::{StateReader, StateWriter};
use super::ticks::trade_channel;
use super::{metrics, Batch, Processor, Settings};
use crate::error::{Error, Result};
use crate::instrument::INSTRUMENTS_MAX;
use crate::record::{
    records, unpadded, Alert, Definition, Header, Kind, Marker, Metric, Order, Plain, Quote,
    RecordRef, Records, Status, Subscription, Trade, FLAG_HISTORICAL, FLAG_OUT_OF_ORDER, NONE,
};

mod alarm;
mod crossed;
mod detector;
mod fat_finger;
mod flicker;
mod gaps;
mod history;
mod hours;
mod ignition;
mod lag;
mod layering;
mod live;
mod marking;
mod measured;
pub mod noted;
mod prices;
mod rate;
mod rule;
mod sla;
mod spike;
mod spread;
mod stale;
mod stream;
mod stuffing;
mod table;
mod told;
mod wash;
mod watched;

pub use table::{Entry, Number, Text};

/// All detectors, in the order of the table.
pub fn detectors() -> impl Iterator<Item = &'static Entry> {
    table::DETECTORS.iter()
}

const NAME: &str = "alerts";
const VERSION: u32 = 6;
/// Detectors that wait are looked at so often, in ns.
const SWEEP_NS: i64 = 100_000_000;
/// Number of the source as a whole among instruments.
const SOURCE: u32 = 0;

/// Builds the processor. Settings: `rules`, see [`rule`]; `channel`, `trade` or `agg_trade`; and
/// where rules name metrics, those of the processor `metrics`.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    let rules = rule::rules_of(&settings.text("rules", None)?)?;
    // Both read it where metrics are made.
    let channel = trade_channel(&mut settings.clone())? as u8;
    let needs = |rule: &&Rule| !rule.text("metric").is_empty();
    let measures = if rules.iter().any(|rule| needs(&rule)) {
        let (processor, names) = metrics::build_named(settings)?;
        for rule in rules.iter().filter(needs) {
            let wanted = rule.text("metric");
            if !names.iter().any(|name| name == wanted) {
                return Err(Error::invalid(format!(
                    "the rule {:?}: [metrics] makes no {wanted:?}; its sets and windows give: {}",
                    rule.name,
                    names.join(", ")
                )));
            }
        }
        Some(processor)
    } else {
        trade_channel(settings)?;
        None
    };
    let follows = rules.iter().any(|rule| rule.entry.has_orders);
    let source = Watched::new(&rules, SOURCE, "", 0);
    Ok(Box::new(Alerts {
        rules,
        channel,
        measures,
        scratch: Records::new(),
        watched: vec![Some(Box::new(source))],
        orders: follows.then(LiveOrders::default),
        watermark: Watermark::default(),
        swept: i64::MIN,
        deadline: i64::MAX,
        has_restarted: false,
        give_up: i64::MAX,
        ids: 0,
        told: Told::default(),
    }))
}

/// The processor `alerts`.
struct Alerts {
    rules: Vec<Rule>,
    channel: u8,
    /// What makes the metrics that rules name.
    measures: Option<Box<dyn Processor>>,
    scratch: Records,
    /// By instrument id; the source itself is number 0.
    watched: Vec<Option<Box<Watched>>>,
    orders: Option<LiveOrders>,
    watermark: Watermark,
    /// When detectors that wait were looked at last, by receive time.
    swept: i64,
    /// The earliest receive time that any of them waits for.
    deadline: i64,
    /// Whether the recorder stopped, and did not say yet what it records since.
    has_restarted: bool,
    /// The receive time at which what is not recorded any more is given up; `i64::MAX` for never.
    give_up: i64,
    ids: u64,
    /// What the output holds, while the state is made anew.
    told: Told,
}

impl Alerts {
    fn watched(&mut self, instrument: u32, feed: u8) -> Option<&mut Watched> {
        let at = instrument as usize;
        if at >= self.watched.len() {
            if at > INSTRUMENTS_MAX {
                return None;
            }
            self.watched.resize_with(at + 1, || None);
        }
        let rules = &self.rules;
        let made = || Box::new(Watched::new(rules, instrument, "", feed));
        Some(self.watched[at].get_or_insert_with(made))
    }

    /// Gives `event` to all detectors of an instrument.
    fn tell(&mut self, instrument: u32, event: &Event<'_>, at: Moment, out: &mut Records) {
        self.tell_those(|_| true, instrument, event, at, out);
    }

    /// Gives `event` to the detectors of an instrument whose rules are `meant`.
    fn tell_those(
        &mut self,
        meant: impl Fn(&Rule) -> bool,
        instrument: u32,
        event: &Event<'_>,
        at: Moment,
        out: &mut Records,
    ) {
        let Some(Some(watched)) = self.watched.get_mut(instrument as usize) else { return };
        for slot in watched.slots.iter_mut().filter(|slot| meant(&self.rules[slot.rule])) {
            if matches!(event, Event::Time) && slot.detector.due() > at.ts_recv {
                self.deadline = self.deadline.min(slot.detector.due());
                continue;
            }
            let mut scope = Scope {
                at,
                rule: &self.rules[slot.rule],
                tick: watched.tick,
                feed: watched.feed,
                instrument,
                alarm: &mut slot.alarm,
                ids: &mut self.ids,
                out,
            };
            slot.detector.event(event, &mut scope);
            self.deadline = self.deadline.min(slot.detector.due());
        }
    }

    /// Gives `event` to the detectors of all instruments and of the source.
    fn tell_all(&mut self, event: &Event<'_>, at: Moment, out: &mut Records) {
        for instrument in 0..self.watched.len() as u32 {
            if self.watched[instrument as usize].is_some() {
                self.tell(instrument, event, at, out);
            }
        }
    }

    fn sweep(&mut self, offset: u64, out: &mut Records) {
        let now = self.watermark.ts();
        (self.swept, self.deadline) = (now, i64::MAX);
        let at = Moment { offset, ts: now, ts_recv: now };
        self.tell_all(&Event::Time, at, out);
        self.give_up_dropped(at, out);
    }

    fn message(&mut self, header: &Header, kind: Kind, at: Moment, out: &mut Records) {
        // What a venue's history fills in later says nothing of now.
        if header.flags & FLAG_HISTORICAL != 0 {
            return;
        }
        let event = Event::Message(header, kind);
        if let Some(watched) = self.watched(SOURCE, header.feed) {
            watched.feed = header.feed;
        }
        let is_newest = header.flags & FLAG_OUT_OF_ORDER == 0 && header.ts_event != NONE;
        if let Some(watched) = self.watched(header.instrument, header.feed) {
            watched.is_recorded = true;
            if is_newest {
                watched.newest = watched.newest.max(header.ts_event);
            }
        }
        self.tell(header.instrument, &event, at, out);
        self.tell(SOURCE, &event, at, out);
    }

    fn define(&mut self, definition: &Definition, at: Moment, out: &mut Records) {
        let (symbol, instrument) = (unpadded(&definition.symbol), definition.header.instrument);
        let (place, feed) = (instrument as usize, definition.header.feed);
        if instrument == SOURCE || self.watched(instrument, feed).is_none() {
            return;
        }
        if self.watched[place].as_ref().is_none_or(|watched| watched.symbol != symbol) {
            let made = Watched::new(&self.rules, instrument, symbol, feed);
            // Those that wait for what may never come are looked at by time.
            self.deadline = self.deadline.min(made.due());
            if let Some(mut before) = self.watched[place].replace(Box::new(made)) {
                self.end_all(instrument, &mut before, at, out);
            }
        }
        if let Some(watched) = self.watched[place].as_mut() {
            watched.tick = if definition.tick_size == NONE { 0 } else { definition.tick_size };
        }
    }

    /// Ends all alerts of what is watched no more, so that none stays open for ever.
    fn end_all(&mut self, instrument: u32, watched: &mut Watched, at: Moment, out: &mut Records) {
        for slot in &mut watched.slots {
            let mut scope = Scope {
                at,
                rule: &self.rules[slot.rule],
                tick: watched.tick,
                feed: watched.feed,
                instrument,
                alarm: &mut slot.alarm,
                ids: &mut self.ids,
                out,
            };
            scope.end(at.ts, None);
        }
    }

    fn record(&mut self, record: &RecordRef<'_>, at: Moment, out: &mut Records) {
        let bytes = record.bytes();
        match record.known_kind() {
            Some(Kind::Trade) => {
                Trade::read_from(bytes).iter().for_each(|trade| self.trade(trade, at, out));
            }
            Some(Kind::Quote) => {
                Quote::read_from(bytes).iter().for_each(|quote| self.quote(quote, at, out));
            }
            Some(Kind::Order) => {
                Order::read_from(bytes).iter().for_each(|order| self.order(order, at, out));
            }
            Some(Kind::Level) => self.message(&record.header(), Kind::Level, at, out),
            Some(Kind::Marker) => {
                Marker::read_from(bytes).iter().for_each(|marker| self.marker(marker, at, out));
            }
            Some(Kind::Status) => {
                Status::read_from(bytes).iter().for_each(|status| self.status(status, at, out));
            }
            Some(Kind::Definition) => {
                Definition::read_from(bytes).iter().for_each(|one| self.define(one, at, out));
            }
            Some(Kind::Subscription) => {
                Subscription::read_from(bytes).iter().for_each(|one| self.subscribe(one, at, out));
            }
            Some(Kind::Alert) => {
                Alert::read_from(bytes).iter().for_each(|note| self.note(note, at, out));
            }
            _ => {}
        }
    }

    /// Makes the metrics of a record, and gives them to the detectors.
    fn measure(&mut self, record: &RecordRef<'_>, at: Moment, out: &mut Records) -> Result<()> {
        let Some(measures) = self.measures.as_mut() else { return Ok(()) };
        let mut made = std::mem::take(&mut self.scratch);
        made.clear();
        let batch = Batch { first_offset: at.offset, count: 1, bytes: record.bytes() };
        let done = measures.process(batch, &mut made);
        for metric in made.iter().filter_map(|one| Metric::read_from(one.bytes())) {
            let at = Moment { ts: metric.header.ts_event, ..at };
            self.tell(metric.header.instrument, &Event::Metric(&metric), at, out);
        }
        self.scratch = made;
        done
    }
}

impl Processor for Alerts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        for (number, record) in records::iterate(batch.bytes).enumerate() {
            let (offset, header) = (batch.first_offset + number as u64, record.header());
            if self.watermark.take(header.ts_recv) {
                let now = self.watermark.ts();
                if now >= self.deadline && now.saturating_sub(self.swept) >= SWEEP_NS {
                    self.sweep(offset, out);
                }
            }
            let known = self.watermark.ts();
            let ts = if header.ts_event == NONE { known } else { header.ts_event };
            let at = Moment { offset, ts, ts_recv: known };
            self.record(&record, at, out);
            self.measure(&record, at, out)?;
        }
        Ok(())
    }

    fn lost(&mut self, gap: &Marker, out: &mut Records) -> Result<()> {
        let known = self.watermark.ts();
        let at = Moment { offset: gap.last, ts: known, ts_recv: known };
        self.tell(SOURCE, &Event::Gap(gap), at, out);
        self.break_all(SOURCE, at, out);
        self.end_halts(SOURCE, at, out);
        if let Some(measures) = self.measures.as_mut() {
            measures.lost(gap, &mut Records::new())?;
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        true
    }

    fn take_output(&mut self, written: Batch<'_>) {
        self.told.take(written);
    }

    fn reconcile(&mut self, out: &mut Records) {
        self.follow_told(out);
    }

    fn reads_definitions(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let slots = self.watched.iter().flatten().flat_map(|watched| &watched.slots);
        let open = slots.filter(|slot| slot.alarm.id().is_some()).count();
        let passed = self.orders.as_ref().map_or(0, LiveOrders::passed);
        vec![("opened", self.ids), ("open", open as u64), ("orders_passed", passed)]
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        state.length(self.rules.len());
        self.rules.iter().for_each(|rule| state.bytes(rule.name.as_bytes()));
        self.watermark.write(&mut state);
        state.i64(self.swept);
        state.i64(self.deadline);
        state.flag(self.has_restarted);
        state.i64(self.give_up);
        state.u64(self.ids);
        state.length(self.watched.len());
        for watched in &self.watched {
            state.flag(watched.is_some());
            if let Some(watched) = watched {
                watched.write(&mut state);
            }
        }
        if let Some(orders) = &self.orders {
            orders.write(&mut state);
        }
        let mut inner = Vec::new();
        if let Some(measures) = &self.measures {
            measures.snapshot(&mut inner);
        }
        state.bytes(&inner);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = StateReader::new(bytes, NAME, VERSION)?;
        let mut names = Vec::new();
        for _ in 0..state.length(8)? {
            names.push(String::from_utf8_lossy(state.bytes()?).into_owned());
        }
        if !names.iter().eq(self.rules.iter().map(|rule| &rule.name)) {
            return Err(Error::invalid("the state is of other rules"));
        }
        let watermark = Watermark::read(&mut state)?;
        let (swept, deadline) = (state.i64()?, state.i64()?);
        let (has_restarted, give_up, ids) = (state.flag()?, state.i64()?, state.u64()?);
        let mut watched: Vec<Option<Box<Watched>>> = Vec::new();
        for instrument in 0..state.length(1)? {
            if !state.flag()? {
                watched.push(None);
                continue;
            }
            let one = Watched::read(&self.rules, instrument as u32, &mut state)?;
            watched.push(Some(Box::new(one)));
        }
        let orders = match &self.orders {
            Some(_) => Some(LiveOrders::read(&mut state)?),
            None => None,
        };
        let inner = state.bytes()?;
        state.finish()?;
        if let Some(measures) = self.measures.as_mut() {
            measures.restore(inner)?;
        }
        (self.watermark, self.swept, self.deadline) = (watermark, swept, deadline);
        (self.has_restarted, self.give_up) = (has_restarted, give_up);
        (self.ids, self.watched, self.orders) = (ids, watched, orders);
        Ok(())
    }
}
