//! Metrics of market microstructure, as values over time.
//!
//! Each instrument has the families of metrics that its settings name. They see the best prices
//! and the trades in the order of the tape, and are sampled on a grid of event time: a sample at t
//! holds all events of `ts_event <= t`, and is written when an event behind t arrives, or when the
//! receive times of the tape pass t by `grace_ms`. With `interval_ms = 0` there is a sample after
//! each event instead. All values of a sample are written, those that are null as well.
//!
//! An instrument that is silent is sampled until its longest window has drained, the same again
//! from the end of each horizon that is later, then once more right before its next event. An event
//! that comes behind the sample that should have held it counts in the next one, and is counted as
//! late. A quote from the venue's history counts in its place or not at all: one behind an event or
//! a sample of its instrument is left out, and counted.
//!
//! Whatever breaks the stream (a gap, the end of a session, a halt or its end) empties all windows,
//! and writes a sample of nulls: what is not known is null, never the last value carried on.

use std::sync::Arc;

use self::breaks::broken_at;
use self::family::{Best, Values};
use self::measured::{Measured, Part};
use self::parts::{is_of_book, put_best, same_setting, take_best};
use self::plan::Plan;
use self::single_orders::SingleOrders;
use super::bars::{after, Watermark};
use super::books::concerns_book;
use super::state::{StateReader, StateWriter};
use super::{Batch, Processor, Settings};
use crate::book::SyncedBook;
use crate::error::{Error, Result};
use crate::feeds::{updates_of, BarSpan};
use crate::instrument::INSTRUMENTS_MAX;
use crate::record::{
    records, unpadded, Definition, GapState, Header, Level, Marker, MarkerCode, Order, Plain,
    Quote, Record, Records, Status, Trade, FLAG_HISTORICAL, FLAG_OUT_OF_ORDER, NONE, ORDERS_BEGIN,
};

mod breaks;
mod clocks;
mod cost;
mod decayed;
mod dependence;
mod depth;
mod event_windows;
mod family;
mod flow;
mod grid_price;
mod histogram;
mod impact;
mod integrated;
mod intensity;
mod l1;
mod latency;
mod lifetimes;
mod measured;
mod microprice;
mod mlofi;
mod noise;
mod ofi;
mod ofi_beta;
mod order_events;
mod parts;
mod plan;
mod ranges;
mod rates;
mod resilience;
mod sign;
mod signs;
mod single_orders;
mod table;
mod volatility;
mod vpin;
mod window;

pub(crate) use single_orders::{BrokenOrders, OrderSequence};
pub use table::{lines, sets, Line};

const NAME: &str = "metrics";
const VERSION: u32 = 12;
/// Prices and sizes from here on are not measured: their products would exceed 128 bits.
const UNITS_MAX: u64 = 1 << 62;
/// So are trades whose price times size has more bits than this.
const TURNOVER_BITS_MAX: u32 = 96;

/// Builds the processor, by the settings that [`Plan::of`] lists.
pub(super) fn build(settings: &mut Settings) -> Result<Box<dyn Processor>> {
    Ok(Box::new(Metrics::new(Plan::of(settings)?)))
}

/// As [`build`], with the names of all metrics that it makes.
pub(super) fn build_named(settings: &mut Settings) -> Result<(Box<dyn Processor>, Vec<String>)> {
    let plan = Plan::of(settings)?;
    let of_windows = plan.window_names.iter().flatten();
    let names = plan.names.iter().map(|(name, _)| name).chain(of_windows);
    let names = names.map(|name| unpadded(name).to_owned()).collect();
    Ok((Box::new(Metrics::new(plan)), names))
}

/// The processor `metrics`.
#[derive(Debug)]
struct Metrics {
    plan: Arc<Plan>,
    /// By instrument id; none of those that are not measured, or of which nothing came.
    instruments: Vec<Option<Box<Measured>>>,
    /// Ids of instruments that the settings leave out.
    left_out: Vec<bool>,
    /// Of feeds that tell single orders.
    orders: SingleOrders,
    watermark: Watermark,
    /// The earliest receive time at which a sample may be due.
    deadline: i64,
    values: Values,
    /// Trades and quotes that the stream leaves out: out of order, or from history too late.
    passed: u64,
    /// What is too large to be measured.
    oversized: u64,
}

impl Metrics {
    fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            instruments: Vec::new(),
            left_out: Vec::new(),
            orders: SingleOrders::default(),
            watermark: Watermark::default(),
            deadline: i64::MAX,
            values: Values::default(),
            passed: 0,
            oversized: 0,
        }
    }

    /// The instrument of `header`, if it is measured.
    #[inline]
    fn measured(&mut self, header: &Header) -> Option<&mut Measured> {
        self.know(header);
        self.instruments.get_mut(header.instrument as usize)?.as_deref_mut()
    }

    /// Begins to measure the instrument of `header`, if it is to be and is not yet.
    #[inline]
    fn know(&mut self, header: &Header) {
        if !matches!(self.instruments.get(header.instrument as usize), Some(Some(_))) {
            self.begin(header);
        }
    }

    #[cold]
    fn begin(&mut self, header: &Header) {
        let at = header.instrument as usize;
        if at > INSTRUMENTS_MAX {
            return;
        }
        if at >= self.instruments.len() {
            self.instruments.resize_with(at + 1, || None);
        }
        if self.left_out.get(at).copied().unwrap_or(!self.plan.symbols.is_empty()) {
            return;
        }
        let made = Measured::new(&self.plan, header.instrument, header.feed);
        self.instruments[at] = Some(Box::new(made));
    }

    /// Takes in when a sample or a window is due: looked at by the next time of the grid, whoever's
    /// record that is.
    #[inline]
    fn note_due(&mut self, due: i64) {
        if due < self.deadline {
            let past = (due - 1).max(self.watermark.ts());
            self.deadline = self.deadline.min(after(past, self.plan.grid, self.plan.grace));
        }
    }

    #[inline]
    fn quote(&mut self, quote: &Quote, out: &mut Records) {
        let odd = quote.header.flags & (FLAG_HISTORICAL | FLAG_OUT_OF_ORDER);
        if (odd != 0 && self.is_passed(&quote.header)) || quote.header.ts_event == NONE {
            self.passed += 1;
            return;
        }
        let best = Best::of(quote);
        let is_large = |value: i64| (value != NONE) & (value.unsigned_abs() >= UNITS_MAX);
        let values = [best.bid_price, best.bid_size, best.ask_price, best.ask_size];
        let is_oversized = values.into_iter().fold(false, |found, value| found | is_large(value));
        let best = (!is_oversized).then_some(best);
        self.oversized += u64::from(is_oversized);
        self.know(&quote.header);
        let known = self.watermark.ts();
        if let Some(Some(measured)) = self.instruments.get_mut(quote.header.instrument as usize) {
            measured.quote(&quote.header, best, known, &mut self.values, out);
            let due = measured.due();
            self.note_due(due);
        }
    }

    /// Whether a quote that is out of order or from history is left out.
    #[cold]
    fn is_passed(&mut self, header: &Header) -> bool {
        header.flags & FLAG_OUT_OF_ORDER != 0
            || self.measured(header).is_none_or(|measured| measured.is_past(header.ts_event))
    }

    #[inline]
    fn trade(&mut self, trade: &Trade, out: &mut Records) {
        if trade.channel != self.plan.channel {
            return;
        }
        if trade.header.ts_event == NONE || trade.price == NONE || trade.size == NONE {
            self.passed += 1;
            return;
        }
        let bits = |value: i64| u64::BITS - value.unsigned_abs().leading_zeros();
        if bits(trade.price) + bits(trade.size) > TURNOVER_BITS_MAX || trade.size < 0 {
            self.oversized += 1;
            return;
        }
        let updates = updates_of(trade.header.feed, trade.conditions, BarSpan::Intraday);
        let known = self.watermark.ts();
        if trade.header.flags & (FLAG_HISTORICAL | FLAG_OUT_OF_ORDER) != 0 {
            self.passed += 1;
            if let Some(measured) = self.measured(&trade.header) {
                measured.window_trade(trade, updates, known, out);
                let due = measured.due();
                self.note_due(due);
            }
            return;
        }
        self.know(&trade.header);
        if let Some(Some(measured)) = self.instruments.get_mut(trade.header.instrument as usize) {
            measured.trade(trade, updates, known, &mut self.values, out);
            let due = measured.due();
            self.note_due(due);
        }
    }

    fn define(&mut self, definition: &Definition) {
        let at = definition.header.instrument as usize;
        if at > INSTRUMENTS_MAX {
            return;
        }
        if !self.plan.symbols.is_empty() {
            if at >= self.left_out.len() {
                self.left_out.resize(at + 1, true);
            }
            let symbol = unpadded(&definition.symbol);
            self.left_out[at] = !self.plan.symbols.iter().any(|name| name == symbol);
        }
        let tick = definition.tick_size;
        if let Some(measured) = self.measured(&definition.header) {
            measured.set_tick(tick);
        }
    }

    /// Takes in what concerns a book: a level, or a marker of its stream.
    fn book(&mut self, part: Part<'_>, out: &mut Records) {
        let known = self.watermark.ts();
        let mut values = std::mem::take(&mut self.values);
        if let Some(measured) = self.measured(part.header()) {
            measured.book(part, known, &mut values, out);
            let due = measured.due();
            self.note_due(due);
        }
        self.values = values;
    }

    fn marker(&mut self, marker: &Marker, out: &mut Records) {
        self.note_missing(marker);
        if let Some((instrument, broken)) = broken_at(marker, self.plan.channel) {
            self.complete_until(instrument, broken, out);
        }
        if self.plan.has_books && concerns_book(marker) {
            self.book(Part::Marker(marker), out);
        }
        match MarkerCode::try_from(marker.code) {
            Ok(MarkerCode::EndOfSession) => {
                self.end_streams(&marker.header, |book| book.marker(marker), out);
            }
            Ok(MarkerCode::Gap) if marker.state != GapState::Repaired as u8 => {
                self.gap(marker, out);
            }
            Ok(MarkerCode::Heartbeat) if marker.state == ORDERS_BEGIN => {
                self.begin_orders_as_told(&marker.header, out);
            }
            _ => {}
        }
    }

    #[cold]
    fn sweep(&mut self, out: &mut Records) {
        let watermark = self.watermark.ts();
        self.deadline = i64::MAX;
        let mut values = std::mem::take(&mut self.values);
        let mut due = i64::MAX;
        for measured in self.instruments.iter_mut().flatten() {
            measured.sweep(watermark, &mut values, out);
            due = due.min(measured.due());
        }
        self.values = values;
        self.note_due(due);
    }
}

impl Processor for Metrics {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()> {
        const TRADE: u8 = Trade::KIND as u8;
        const QUOTE: u8 = Quote::KIND as u8;
        const ORDER: u8 = Order::KIND as u8;
        const LEVEL: u8 = Level::KIND as u8;
        const MARKER: u8 = Marker::KIND as u8;
        const STATUS: u8 = Status::KIND as u8;
        const DEFINITION: u8 = Definition::KIND as u8;
        for record in records::iterate(batch.bytes) {
            if self.watermark.take(record.header().ts_recv) && self.watermark.ts() >= self.deadline
            {
                self.sweep(out);
            }
            match record.kind() {
                QUOTE => record.with(|quote| self.quote(quote, out)),
                TRADE => record.with(|trade| self.trade(trade, out)),
                ORDER => {
                    if let Some(order) = Order::read_from(record.bytes()) {
                        self.order(&order, out);
                    }
                }
                LEVEL if self.plan.has_books => {
                    let level = Level::read_from(record.bytes());
                    if let Some(level) = level.filter(|level| is_of_book(level.channel)) {
                        self.book(Part::Level(&level), out);
                    }
                }
                MARKER => {
                    if let Some(marker) = Marker::read_from(record.bytes()) {
                        self.marker(&marker, out);
                    }
                }
                STATUS => {
                    if let Some(status) = Status::read_from(record.bytes()) {
                        self.status(&status, out);
                    }
                }
                DEFINITION => {
                    if let Some(definition) = Definition::read_from(record.bytes()) {
                        self.define(&definition);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn lost(&mut self, gap: &Marker, out: &mut Records) -> Result<()> {
        self.note_missing(gap);
        self.complete_until(0, gap.ts_start, out);
        self.end_streams(&gap.header, SyncedBook::lost, out);
        Ok(())
    }

    fn due_grids(&self) -> Vec<(i64, i64)> {
        match self.plan.grid {
            0 => Vec::new(),
            grid => vec![(grid, self.plan.grace)],
        }
    }

    fn reads_definitions(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let sum = |count: fn(&Measured) -> u64| {
            self.instruments.iter().flatten().map(|one| count(one)).sum()
        };
        vec![
            ("samples", sum(Measured::samples)),
            ("late", sum(Measured::late)),
            ("late_trades", sum(Measured::late_trades)),
            ("dropped", sum(Measured::dropped)),
            ("passed", self.passed),
            ("oversized", self.oversized),
        ]
    }

    fn snapshot(&self, out: &mut Vec<u8>) {
        let mut state = StateWriter::new(out, NAME, VERSION);
        let shapes = format!("{:?}", self.plan.shapes);
        state.bytes(shapes.as_bytes());
        state.length(self.plan.names.len());
        for (name, window) in &self.plan.names {
            state.bytes(name);
            state.u64(*window);
        }
        self.watermark.write(&mut state);
        self.orders.write(&mut state);
        state.i64(self.deadline);
        state.u64(self.passed);
        state.u64(self.oversized);
        state.length(self.left_out.len());
        self.left_out.iter().for_each(|&left_out| state.flag(left_out));
        state.length(self.instruments.len());
        for slot in &self.instruments {
            state.flag(slot.is_some());
            if let Some(measured) = slot {
                measured.write(&mut state);
            }
        }
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut state = StateReader::new(bytes, NAME, VERSION)?;
        if state.bytes()? != format!("{:?}", self.plan.shapes).as_bytes() {
            return Err(Error::invalid("the state is of other trade_windows"));
        }
        let mut names: Vec<table::Name> = Vec::new();
        for _ in 0..state.length(56)? {
            let mut name = [0; 40];
            let found = state.bytes()?;
            let kept = found.len().min(name.len());
            name[..kept].copy_from_slice(&found[..kept]);
            names.push((name, state.u64()?));
        }
        if names != self.plan.names {
            return Err(Error::invalid("the state is of other sets, windows or horizons"));
        }
        let (watermark, orders) = (Watermark::read(&mut state)?, SingleOrders::read(&mut state)?);
        let deadline = state.i64()?;
        let (passed, oversized) = (state.u64()?, state.u64()?);
        let mut left_out = Vec::new();
        for _ in 0..state.length(1)? {
            left_out.push(state.flag()?);
        }
        let mut instruments = Vec::new();
        for at in 0..state.length(1)? {
            let mut slot = None;
            if state.flag()? {
                let mut measured = Measured::new(&self.plan, at as u32, 0);
                measured.read(&mut state)?;
                slot = Some(Box::new(measured));
            }
            instruments.push(slot);
        }
        state.finish()?;
        (self.watermark, self.deadline, self.left_out) = (watermark, deadline, left_out);
        (self.passed, self.oversized, self.instruments) = (passed, oversized, instruments);
        self.orders = orders;
        Ok(())
    }
}
