//! The orders that are alive, as surveillance needs them: by id, and the best prices of them.
//!
//! Where orders were lost, those that are left give no best prices: better ones may stand at the
//! venue. They are known again from where the venue numbers its orders anew, as metrics have it.
//!
//! Everything takes the logarithm of the number of orders. The state is written in the order of
//! ids, whatever came first.

use std::collections::BTreeMap;

use super::detector::{OrderEvent, Resting, Top};
use crate::error::Result;
use crate::processors::metrics::{BrokenOrders, OrderSequence};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Header, Order, OrderAction, Side, FLAG_MAYBE_BAD, NONE};

/// Orders that are followed; further ones are counted and passed over.
const ORDERS_MAX: usize = 4_000_000;

/// Sizes by price, of bids and of asks.
type Levels = [BTreeMap<i64, i64>; 2];

/// The orders of all instruments.
#[derive(Debug, Default)]
pub(super) struct LiveOrders {
    orders: BTreeMap<u64, (u32, Resting)>,
    /// By instrument id.
    levels: Vec<Levels>,
    sequence: OrderSequence,
    broken: BrokenOrders,
    passed: u64,
}

const fn place(side: u8) -> usize {
    (side == Side::Ask as u8) as usize
}

impl LiveOrders {
    /// The best prices of an instrument, if all its orders are known.
    pub(super) fn top(&self, instrument: u32) -> Option<Top> {
        if !self.is_whole(instrument) {
            return None;
        }
        let mut top = Top::EMPTY;
        let Some([bids, asks]) = self.levels.get(instrument as usize) else { return Some(top) };
        if let Some((&price, &size)) = bids.last_key_value() {
            (top.bid_price, top.bid_size) = (price, size);
        }
        if let Some((&price, &size)) = asks.first_key_value() {
            (top.ask_price, top.ask_size) = (price, size);
        }
        Some(top)
    }

    /// Whether all orders of an instrument are known.
    pub(super) fn is_whole(&self, instrument: u32) -> bool {
        self.broken.is_whole(instrument)
    }

    /// Orders that were not followed, as there were too many.
    pub(super) const fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether the venue numbers its orders anew from that of `header` on: no other one is alive.
    pub(super) fn begins_with(&mut self, header: &Header) -> bool {
        self.sequence.falls(header)
    }

    /// No order is open, and all that come are known.
    pub(super) fn begin(&mut self) {
        self.orders.clear();
        self.levels.clear();
        self.broken = BrokenOrders::default();
    }

    /// Takes in one event; gives what it means, at most two things. One that names an order that
    /// never came, or gives one that is not followed, leaves its book unknown.
    pub(super) fn apply(&mut self, event: &Order) -> [Option<OrderEvent>; 2] {
        let Ok(action) = OrderAction::try_from(event.action) else { return [None; 2] };
        let happened = self.step(event, action);
        let is_known = match action {
            OrderAction::Add => happened[0].is_some() || event.size <= 0,
            OrderAction::Replace => {
                happened[0].is_some() && (happened[1].is_some() || event.size <= 0)
            }
            OrderAction::Cancel
            | OrderAction::Delete
            | OrderAction::Execute
            | OrderAction::ExecuteAtPrice
            | OrderAction::Modify => happened[0].is_some(),
            _ => true,
        };
        if !is_known && event.header.flags & FLAG_MAYBE_BAD == 0 {
            self.broken.lose(event.header.instrument);
        }
        happened
    }

    fn step(&mut self, event: &Order, action: OrderAction) -> [Option<OrderEvent>; 2] {
        match action {
            OrderAction::Add => [self.add(event, event.side), None],
            OrderAction::Cancel => [self.cancel(event.order_id, event.size), None],
            OrderAction::Delete => [self.cancel(event.order_id, i64::MAX), None],
            OrderAction::Execute | OrderAction::ExecuteAtPrice => [self.fill(event), None],
            OrderAction::Replace => {
                let side = self.orders.get(&event.previous_id).map(|(_, order)| order.side);
                let gone = self.cancel(event.previous_id, i64::MAX);
                [gone, self.add(event, side.unwrap_or(event.side))]
            }
            OrderAction::Modify => self.modify(event),
            _ => [None; 2],
        }
    }

    /// Told that the stream of an instrument's orders, or of all where it is 0, broke: those that
    /// came are forgotten.
    pub(super) fn lose(&mut self, instrument: u32) {
        self.broken.lose(instrument);
        if instrument == 0 {
            self.orders.clear();
            self.levels.clear();
            return;
        }
        self.orders.retain(|_, (of, _)| *of != instrument);
        if let Some(levels) = self.levels.get_mut(instrument as usize) {
            *levels = Levels::default();
        }
    }

    fn add(&mut self, event: &Order, side: u8) -> Option<OrderEvent> {
        let is_whole = event.price != NONE && event.size > 0 && event.size != NONE;
        if !is_whole || side == Side::None as u8 {
            return None;
        }
        // One of its id was there, as its end was lost.
        self.cancel(event.order_id, i64::MAX);
        if self.orders.len() >= ORDERS_MAX {
            self.passed += 1;
            return None;
        }
        let (instrument, ts) = (event.header.instrument, event.header.ts_event);
        let order = Resting { side, price: event.price, size: event.size, ts };
        self.put(event.order_id, instrument, order);
        Some(OrderEvent::Added { id: event.order_id, order })
    }

    fn put(&mut self, id: u64, instrument: u32, order: Resting) {
        let at = instrument as usize;
        if at >= self.levels.len() {
            self.levels.resize_with(at + 1, Levels::default);
        }
        let size = self.levels[at][place(order.side)].entry(order.price).or_default();
        *size = size.saturating_add(order.size);
        self.orders.insert(id, (instrument, order));
    }

    fn cancel(&mut self, id: u64, size: i64) -> Option<OrderEvent> {
        let (order, size) = self.take(id, size)?;
        Some(OrderEvent::Cancelled { id, order, size })
    }

    fn fill(&mut self, event: &Order) -> Option<OrderEvent> {
        let (order, size) = self.take(event.order_id, event.size)?;
        Some(OrderEvent::Filled { id: event.order_id, order, size })
    }

    fn modify(&mut self, event: &Order) -> [Option<OrderEvent>; 2] {
        let Some((_, order)) = self.orders.get(&event.order_id).copied() else { return [None; 2] };
        if event.price == order.price && event.size <= order.size {
            return [self.cancel(event.order_id, order.size - event.size.max(0)), None];
        }
        [self.cancel(event.order_id, i64::MAX), self.add(event, order.side)]
    }

    /// Takes up to `size` off an order; gives the order as it was, and how much was taken.
    fn take(&mut self, id: u64, size: i64) -> Option<(Resting, i64)> {
        let (instrument, order) = self.orders.get_mut(&id)?;
        let (instrument, before) = (*instrument, *order);
        let taken = size.clamp(0, before.size);
        order.size -= taken;
        if order.size == 0 {
            self.orders.remove(&id);
        }
        let levels = &mut self.levels[instrument as usize][place(before.side)];
        if let Some(left) = levels.get_mut(&before.price) {
            *left -= taken;
            if *left <= 0 {
                levels.remove(&before.price);
            }
        }
        Some((before, taken))
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.u64(self.passed);
        state.u64(self.sequence.last());
        self.broken.write(state);
        state.length(self.orders.len());
        for (&id, (instrument, order)) in &self.orders {
            state.u64(id);
            state.u32(*instrument);
            state.u8(order.side);
            [order.price, order.size, order.ts].iter().for_each(|&value| state.i64(value));
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let (passed, sequence) = (state.u64()?, OrderSequence::behind(state.u64()?));
        let broken = BrokenOrders::read(state)?;
        let mut live = Self { passed, sequence, broken, ..Self::default() };
        for _ in 0..state.length(37)? {
            let (id, instrument, side) = (state.u64()?, state.u32()?, state.u8()?);
            let (price, size, ts) = (state.i64()?, state.i64()?, state.i64()?);
            if instrument as usize <= crate::instrument::INSTRUMENTS_MAX {
                live.put(id, instrument, Resting { side, price, size, ts });
            }
        }
        Ok(live)
    }
}
