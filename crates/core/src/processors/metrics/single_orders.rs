//! Orders of feeds that tell single ones: what each event changes of the book by price.
//!
//! A book is whole from the first order of its source on. What breaks the stream of orders leaves
//! it unknown, and so does an event of an order that never came; a sequence that begins anew, as it
//! does each day, begins an empty one. Feeds that say themselves that their books are not whole
//! (LOBSTER, whose rows are of a window of levels) have the book that their events derive.

use super::family::{OrderKind, OrderStep};
use crate::book::{Applied, OpenOrder, OrderBooks};
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::{Header, Order, OrderAction, Side, FLAG_MAYBE_BAD, NONE};

/// A level that an event touched, and its size behind it.
pub(super) type Touched = (Side, i64, i64);

/// What an event changes.
#[derive(Debug, Default)]
pub(super) struct OrderChange {
    /// Steps of orders; their time is filled in by whoever counts it.
    pub(super) steps: [Option<OrderStep>; 2],
    pub(super) levels: [Option<Touched>; 2],
    /// Whether the book is whole behind it.
    pub(super) is_whole: bool,
}

/// The numbers of a source's orders, of whichever instruments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OrderSequence(u64);

impl OrderSequence {
    /// The sequence of the last order that had one.
    pub(crate) const fn last(self) -> u64 {
        self.0
    }

    /// Goes on behind the order of `sequence`; 0 before the first.
    pub(crate) const fn behind(sequence: u64) -> Self {
        Self(sequence)
    }

    /// Takes in an order, and says whether the venue numbers them anew from it on. One without a
    /// number says nothing of that.
    #[inline]
    pub(crate) fn falls(&mut self, order: &Header) -> bool {
        let before = self.0;
        if order.sequence != 0 {
            self.0 = order.sequence;
        }
        self.0 < before
    }
}

/// The instruments of a source of which not all orders are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BrokenOrders {
    all: bool,
    /// In order.
    instruments: Vec<u32>,
}

impl BrokenOrders {
    /// Told that orders of an instrument, or of all where it is 0, were lost.
    pub(crate) fn lose(&mut self, instrument: u32) {
        if instrument == 0 {
            self.all = true;
            self.instruments.clear();
        } else if let Err(at) = self.instruments.binary_search(&instrument) {
            self.instruments.insert(at, instrument);
        }
    }

    /// Whether all orders of an instrument are known.
    #[inline]
    pub(crate) fn is_whole(&self, instrument: u32) -> bool {
        !self.all && self.instruments.binary_search(&instrument).is_err()
    }

    pub(crate) fn write(&self, state: &mut StateWriter<'_>) {
        state.flag(self.all);
        state.length(self.instruments.len());
        self.instruments.iter().for_each(|&instrument| state.u32(instrument));
    }

    pub(crate) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut found = Self { all: state.flag()?, ..Self::default() };
        for _ in 0..state.length(4)? {
            found.instruments.push(state.u32()?);
        }
        Ok(found)
    }
}

/// The orders of all instruments that are measured.
#[derive(Debug, Default)]
pub(super) struct SingleOrders {
    books: OrderBooks,
    /// Of all instruments, those that are not measured as well.
    sequence: OrderSequence,
    broken: BrokenOrders,
}

impl SingleOrders {
    /// Told that the stream of an instrument's orders, or of all where it is 0, broke.
    pub(super) fn lose(&mut self, instrument: u32) {
        if instrument == 0 {
            self.books = OrderBooks::new();
        }
        self.broken.lose(instrument);
    }

    /// Whether the venue numbers its orders anew from that of `header` on.
    #[inline]
    pub(super) fn begins_with(&mut self, header: &Header) -> bool {
        self.sequence.falls(header)
    }

    /// Told that the venue numbers its orders anew: no order is open, and all that come are known.
    pub(super) fn begin(&mut self) {
        (self.books, self.broken) = (OrderBooks::new(), BrokenOrders::default());
    }

    /// As [`Self::begin`], by one who saw the orders of all instruments: those seen here begin
    /// with the next one, whatever its number is.
    pub(super) fn begin_as_told(&mut self) {
        self.begin();
        self.sequence = OrderSequence::default();
    }

    /// Takes in an event.
    pub(super) fn take(&mut self, event: &Order) -> OrderChange {
        let header = &event.header;
        let action = OrderAction::try_from(event.action).ok();
        let named =
            if action == Some(OrderAction::Replace) { event.previous_id } else { event.order_id };
        let before = self.books.get(named).filter(|_| action != Some(OrderAction::Add));
        let applied = self.books.apply(event);
        let mut change = OrderChange::default();
        if let Some(action) = action.filter(|_| applied != Applied::Unconcerned) {
            if applied == Applied::Unknown && header.flags & FLAG_MAYBE_BAD == 0 {
                self.broken.lose(header.instrument);
            }
            let after = self.books.get(event.order_id);
            change.steps = steps_of(event, action, before, after);
            change.levels = self.touched(header.instrument, [before, after]);
        }
        change.is_whole = self.broken.is_whole(header.instrument);
        change
    }

    fn touched(&self, instrument: u32, orders: [Option<OpenOrder>; 2]) -> [Option<Touched>; 2] {
        orders.map(|order| {
            let OpenOrder { side, price, .. } = order?;
            Some((side, price, self.books.size_at(instrument, side, price)))
        })
    }

    pub(super) fn write(&self, state: &mut StateWriter<'_>) {
        state.u64(self.sequence.last());
        self.broken.write(state);
        state.length(self.books.len());
        for instrument in self.books.instruments() {
            for side in [Side::Bid, Side::Ask] {
                for order in self.books.orders(instrument, side) {
                    state.u32(instrument);
                    state.u8(side as u8);
                    state.u64(order.id);
                    for value in [order.price, order.size, order.ts_event] {
                        state.i64(value);
                    }
                }
            }
        }
    }

    pub(super) fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let sequence = OrderSequence::behind(state.u64()?);
        let broken = BrokenOrders::read(state)?;
        let mut found = Self { sequence, broken, ..Self::default() };
        for _ in 0..state.length(37)? {
            let (instrument, side, order_id) = (state.u32()?, state.u8()?, state.u64()?);
            let (price, size, ts_event) = (state.i64()?, state.i64()?, state.i64()?);
            let header = Header { instrument, ts_event, ..Header::of::<Order>() };
            let order = Order { header, price, size, order_id, side, ..ADDED };
            if found.books.apply(&order) != Applied::Changed {
                return Err(Error::invalid("the state holds an order that cannot be"));
            }
        }
        Ok(found)
    }
}

/// An order that comes.
const ADDED: Order = Order {
    header: Header::of::<Order>(),
    price: NONE,
    size: 0,
    order_id: 0,
    previous_id: 0,
    match_id: 0,
    order_price: NONE,
    remaining: NONE,
    participant: [0; 8],
    action: OrderAction::Add as u8,
    side: 0,
    cross: 0,
    printed: 0,
    reserved: [0; 28],
};

/// What became of orders with an event.
fn steps_of(
    event: &Order,
    action: OrderAction,
    before: Option<OpenOrder>,
    after: Option<OpenOrder>,
) -> [Option<OrderStep>; 2] {
    let ts = event.header.ts_event;
    let told = Side::try_from(event.side).unwrap_or(Side::None);
    let step = |kind, size: i64, side, ended: Option<OpenOrder>| {
        let lifetime = ended.map(|order| ts.saturating_sub(order.ts_event));
        let is_known = side != Side::None && size > 0 && size != NONE;
        is_known.then_some(OrderStep { ts, ts_event: ts, side, kind, size, lifetime })
    };
    let side = before.or(after).map_or(told, |order| order.side);
    let told_size = Some(event.size).filter(|&size| size > 0 && size != NONE);
    let gone = |kind, told: Option<i64>| {
        let size = told.or(before.map(|order| order.size)).unwrap_or(0);
        step(kind, size, side, before)
    };
    let came = after.and_then(|order| step(OrderKind::Add, order.size, side, None));
    let left = |kind| step(kind, event.size, side, before.filter(|_| after.is_none()));
    match action {
        OrderAction::Add => [came, None],
        OrderAction::Cancel => [left(OrderKind::Cancel), None],
        OrderAction::Execute | OrderAction::ExecuteAtPrice => [left(OrderKind::Fill), None],
        OrderAction::Delete => [gone(OrderKind::Cancel, told_size), None],
        OrderAction::Replace => [gone(OrderKind::Cancel, None), came],
        OrderAction::Modify => match (before, after) {
            (Some(old), Some(new)) if old.price == new.price && new.size <= old.size => {
                [step(OrderKind::Cancel, old.size - new.size, side, None), None]
            }
            _ => [gone(OrderKind::Cancel, None), came],
        },
        _ => [None, None],
    }
}
