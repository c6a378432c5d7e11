//! Books of single orders, of any number of instruments: who stands where in which queue.
//!
//! Every event takes the same time, however many orders there are: an order is found by its id in
//! one table, a level by its price in another, and the orders of a level are linked in the order of
//! their priority. Next to them each instrument has an [`L2Book`] of the same levels, so that all
//! that can be asked of a book by price can be asked here. Ids must be unique over all instruments
//! of one `OrderBooks`. Nothing is allocated once as many orders were open as ever are; an order
//! takes 40 bytes, and its place in the table of ids 24 to 48 more.

use super::ladder::PriceLevel;
use super::L2Book;
use crate::id_table::{push_to_large, IdTable};
use crate::record::{Order, OrderAction, Side, NONE};

mod ahead;

/// No order, no level.
const NOTHING: u32 = u32::MAX;
/// Shift of the side above the instrument's number.
const SIDE_SHIFT: u32 = 30;

/// One order that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOrder {
    /// The venue's id.
    pub id: u64,
    /// Units of 1e-9.
    pub price: i64,
    /// What is left of it, units of 1e-8.
    pub size: i64,
    /// When it took its place in the queue, in ns.
    pub ts_event: i64,
    /// Its side.
    pub side: Side,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// Orders of its level that come first.
    pub orders_ahead: u32,
    /// Their sizes together, units of 1e-8.
    pub size_ahead: i64,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The book changed as the event says.
    Changed,
    /// Nothing of the book is concerned.
    Unconcerned,
    /// It names an order that is not there, or does not tell its side.
    Unknown,
    /// It takes more from an order than was there: the order is gone.
    Excess,
    /// An order of its id was there: the new one took its place.
    Repeated,
}

/// How many events were not as a whole recording has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts {
    /// Of [`Applied::Unknown`].
    pub unknown: u64,
    /// Of [`Applied::Excess`].
    pub excess: u64,
    /// Of [`Applied::Repeated`].
    pub repeated: u64,
}

/// An order and its neighbours. None lies across two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Node {
    id: u64,
    size: i64,
    queue: u32,
    before: u32,
    /// Of one that is free: the next free one.
    after: u32,
}

/// The orders of a level.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Queue {
    price: i64,
    size: i64,
    count: u32,
    first: u32,
    last: u32,
    /// Instrument and side.
    owner: u32,
}

const _: () = assert!(size_of::<Node>() == 32 && size_of::<Queue>() == 32);

/// The book of one instrument.
#[derive(Debug, Default)]
struct Instrument {
    levels: L2Book,
    /// Queues by price: bids, asks.
    queues: [IdTable<u32>; 2],
}

/// The orders of any number of instruments.
#[derive(Debug, Default)]
pub struct OrderBooks {
    /// By instrument id; a book is made for the first order.
    books: Vec<Option<Box<Instrument>>>,
    ids: IdTable<u32>,
    nodes: Vec<Node>,
    /// When each of `nodes` took its place.
    times: Vec<i64>,
    /// The first free one of `nodes`, plus 1.
    free_node: u32,
    queues: Vec<Queue>,
    free_queues: Vec<u32>,
    doubts: Doubts,
}

/// The key of a price: any price has one, and prices in a row do not share low bits.
#[inline]
const fn key(price: i64) -> u64 {
    (price as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

impl OrderBooks {
    /// No orders.
    pub fn new() -> Self {
        Self::default()
    }

    /// Orders that are open.
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is open.
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many events were not as a whole recording has them.
    pub const fn doubts(&self) -> Doubts {
        self.doubts
    }

    /// Takes in one event.
    #[inline]
    pub fn apply(&mut self, event: &Order) -> Applied {
        let applied = self.step(event);
        match applied {
            Applied::Changed | Applied::Unconcerned => {}
            Applied::Unknown => self.doubts.unknown += 1,
            Applied::Excess => self.doubts.excess += 1,
            Applied::Repeated => self.doubts.repeated += 1,
        }
        applied
    }

    #[inline]
    fn step(&mut self, event: &Order) -> Applied {
        const ADD: u8 = OrderAction::Add as u8;
        const MODIFY: u8 = OrderAction::Modify as u8;
        const CANCEL: u8 = OrderAction::Cancel as u8;
        const EXECUTE: u8 = OrderAction::Execute as u8;
        const REPLACE: u8 = OrderAction::Replace as u8;
        const DELETE: u8 = OrderAction::Delete as u8;
        const AT_PRICE: u8 = OrderAction::ExecuteAtPrice as u8;
        match event.action {
            ADD => self.add(event, Side::try_from(event.side).unwrap_or(Side::None)),
            CANCEL | EXECUTE | AT_PRICE => self.reduce(event.order_id, event.size),
            DELETE => match self.ids.remove(event.order_id) {
                Some(node) => {
                    self.remove(node);
                    Applied::Changed
                }
                None => Applied::Unknown,
            },
            REPLACE => self.replace(event),
            MODIFY => self.modify(event),
            _ => Applied::Unconcerned,
        }
    }

    fn add(&mut self, event: &Order, side: Side) -> Applied {
        let mut applied = Applied::Changed;
        if let Some(node) = self.ids.remove(event.order_id) {
            self.remove(node);
            applied = Applied::Repeated;
        }
        let is_numbered = event.header.instrument >> SIDE_SHIFT == 0;
        if side == Side::None || event.price == NONE || !is_numbered {
            return Applied::Unknown;
        }
        if event.size <= 0 || event.size == NONE {
            return applied;
        }
        let queue = self.queue(event.header.instrument, side, event.price);
        let last = self.queues[queue as usize].last;
        let (id, size) = (event.order_id, event.size);
        let node = Node { id, size, queue, before: last, after: NOTHING };
        let at = self.put(node, event.header.ts_event);
        self.ids.insert(event.order_id, at);
        if last != NOTHING {
            self.nodes[last as usize].after = at;
        }
        let level = &mut self.queues[queue as usize];
        level.last = at;
        if level.first == NOTHING {
            level.first = at;
        }
        level.count += 1;
        level.size = level.size.saturating_add(event.size);
        self.show(queue);
        applied
    }

    /// Puts an order into a free place, and gives that.
    #[inline]
    fn put(&mut self, node: Node, ts_event: i64) -> u32 {
        let Some(at) = self.free_node.checked_sub(1) else {
            push_to_large(&mut self.nodes, node);
            push_to_large(&mut self.times, ts_event);
            return self.nodes.len() as u32 - 1;
        };
        self.free_node = self.nodes[at as usize].after;
        self.nodes[at as usize] = node;
        self.times[at as usize] = ts_event;
        at
    }

    fn reduce(&mut self, id: u64, size: i64) -> Applied {
        let Some(&at) = self.ids.get(id) else { return Applied::Unknown };
        let node = &mut self.nodes[at as usize];
        let (had, queue) = (node.size, node.queue);
        if size >= had {
            self.ids.remove(id);
            self.remove(at);
            return if size > had { Applied::Excess } else { Applied::Changed };
        }
        node.size -= size.max(0);
        self.queues[queue as usize].size -= size.max(0);
        self.show(queue);
        Applied::Changed
    }

    fn replace(&mut self, event: &Order) -> Applied {
        let mut side = Side::try_from(event.side).unwrap_or(Side::None);
        let found = self.ids.remove(event.previous_id);
        if let Some(node) = found {
            side = self.queues[self.nodes[node as usize].queue as usize].side();
            self.remove(node);
        }
        match self.add(event, side) {
            Applied::Changed if found.is_none() => Applied::Unknown,
            applied => applied,
        }
    }

    /// One that gets smaller at its price keeps its place; any other goes to the end.
    fn modify(&mut self, event: &Order) -> Applied {
        let Some(&at) = self.ids.get(event.order_id) else { return Applied::Unknown };
        let node = self.nodes[at as usize];
        let queue = self.queues[node.queue as usize];
        if event.price == queue.price && event.size <= node.size {
            return self.reduce(event.order_id, node.size - event.size.max(0));
        }
        self.ids.remove(event.order_id);
        self.remove(at);
        self.add(event, queue.side())
    }

    /// The queue at a price, which is made if there is none.
    #[inline]
    fn queue(&mut self, instrument: u32, side: Side, price: i64) -> u32 {
        let at = instrument as usize;
        if at >= self.books.len() {
            self.books.resize_with(at + 1, || None);
        }
        let book = self.books[at].get_or_insert_with(Box::default);
        let levels = &mut book.queues[usize::from(side == Side::Ask)];
        if let Some(&queue) = levels.get(key(price)) {
            return queue;
        }
        let owner = instrument | (side as u32) << SIDE_SHIFT;
        let queue = Queue { price, size: 0, count: 0, first: NOTHING, last: NOTHING, owner };
        let place = match self.free_queues.pop() {
            Some(place) => {
                self.queues[place as usize] = queue;
                place
            }
            None => {
                push_to_large(&mut self.queues, queue);
                self.queues.len() as u32 - 1
            }
        };
        levels.insert(key(price), place);
        place
    }

    /// Takes an order, whose id is not in the table any more, out of its queue.
    #[inline]
    fn remove(&mut self, at: u32) {
        let node = self.nodes[at as usize];
        self.nodes[at as usize].after = self.free_node;
        self.free_node = at + 1;
        let queue = &mut self.queues[node.queue as usize];
        queue.count -= 1;
        queue.size -= node.size;
        match node.before {
            NOTHING => queue.first = node.after,
            before => self.nodes[before as usize].after = node.after,
        }
        match node.after {
            NOTHING => self.queues[node.queue as usize].last = node.before,
            after => self.nodes[after as usize].before = node.before,
        }
        self.show(node.queue);
    }

    /// Sets the level of a queue in the book by price; an empty one goes.
    #[inline]
    fn show(&mut self, queue: u32) {
        let level = self.queues[queue as usize];
        let Some(book) = &mut self.books[level.instrument() as usize] else { return };
        let side = level.side();
        book.levels.set(side, level.price, level.size);
        if level.count == 0 {
            book.queues[usize::from(side == Side::Ask)].remove(key(level.price));
            self.free_queues.push(queue);
        }
    }

    /// The levels of an instrument: what an L2 book of it holds.
    pub fn levels(&self, instrument: u32) -> Option<&L2Book> {
        self.book(instrument).map(|book| &book.levels)
    }

    /// The instruments of which an order ever came, in order of id.
    pub fn instruments(&self) -> impl Iterator<Item = u32> + '_ {
        let present = self.books.iter().enumerate().filter(|(_, book)| book.is_some());
        present.map(|(instrument, _)| instrument as u32)
    }

    /// Number of orders at a price.
    pub fn count_at(&self, instrument: u32, side: Side, price: i64) -> u32 {
        self.find(instrument, side, price).map_or(0, |queue| queue.count)
    }

    /// The orders at a price, the first to be executed first.
    pub fn orders_at(
        &self,
        instrument: u32,
        side: Side,
        price: i64,
    ) -> impl Iterator<Item = OpenOrder> + '_ {
        let first = self.find(instrument, side, price).map_or(NOTHING, |queue| queue.first);
        let here = |at: u32| (at != NOTHING).then_some(at);
        let walk =
            std::iter::successors(here(first), move |&at| here(self.nodes[at as usize].after));
        walk.map(|at| self.shown(at))
    }

    /// All orders of a side, by price, the best first, and at a price by their priority.
    pub fn orders(&self, instrument: u32, side: Side) -> impl Iterator<Item = OpenOrder> + '_ {
        let levels = self.book(instrument).map(|book| book.levels.levels(side));
        let prices = levels.into_iter().flatten().map(|PriceLevel { price, .. }| price);
        prices.flat_map(move |price| self.orders_at(instrument, side, price))
    }

    /// The order of that id.
    pub fn get(&self, id: u64) -> Option<OpenOrder> {
        self.ids.get(id).map(|&at| self.shown(at))
    }

    /// Where the order of that id stands. Takes as long as there are orders ahead of it.
    pub fn place(&self, id: u64) -> Option<QueuePlace> {
        let mut at = self.nodes[*self.ids.get(id)? as usize].before;
        let mut place = QueuePlace { orders_ahead: 0, size_ahead: 0 };
        while at != NOTHING {
            let node = &self.nodes[at as usize];
            place.orders_ahead += 1;
            place.size_ahead += node.size;
            at = node.before;
        }
        Some(place)
    }

    fn book(&self, instrument: u32) -> Option<&Instrument> {
        self.books.get(instrument as usize)?.as_deref()
    }

    fn find(&self, instrument: u32, side: Side, price: i64) -> Option<&Queue> {
        let levels = &self.book(instrument)?.queues[usize::from(side == Side::Ask)];
        Some(&self.queues[*levels.get(key(price))? as usize])
    }

    fn shown(&self, at: u32) -> OpenOrder {
        let Node { id, size, queue, .. } = self.nodes[at as usize];
        let queue = &self.queues[queue as usize];
        let ts_event = self.times[at as usize];
        OpenOrder { id, price: queue.price, size, ts_event, side: queue.side() }
    }
}

impl Queue {
    const fn instrument(&self) -> u32 {
        self.owner & ((1 << SIDE_SHIFT) - 1)
    }

    const fn side(&self) -> Side {
        if self.owner >> SIDE_SHIFT == Side::Ask as u32 {
            Side::Ask
        } else {
            Side::Bid
        }
    }
}
