//! Books of single orders, of any number of instruments: who stands where in which queue.
//!
//! Every event takes the same time, however many orders there are: an order is found by its id in
//! one table, a level by its price in the [`Ladder`] of its side, and the orders of a level are
//! linked in the order of their priority. The size of a level stands in its queue alone; the ladder
//! says which queue that is, and which price is next. Ids must be unique over all instruments of
//! one `OrderBooks`. Nothing is allocated once as many orders were open as ever are; an order takes
//! 40 bytes, and its place in the table of ids 4 to 48 more; a level 32, and its part of a page.

use super::ladder::{Ladder, Pages, PriceLevel};
use super::L2Book;
use crate::id_table::{fetch, push_to_large, RecentTable};
use crate::record::{Order, OrderAction, Side, NONE};

use self::queue::{side_of, Queue};

mod ahead;
mod queue;

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
    /// It names an order that is not there, or does not tell its side, price or size.
    Unknown,
    /// It takes more from an order than was there: the order is gone.
    Excess,
    /// An order of its id was there: the new one took its place.
    Repeated,
    /// The sizes of its level would be more than can be told: the order was not taken in.
    DoesNotFit,
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
    /// Of [`Applied::DoesNotFit`].
    pub unfit: u64,
}

/// An order and its neighbours. None lies across two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Node {
    id: u64,
    size: i64,
    /// Of one that is free: [`NOTHING`].
    queue: u32,
    before: u32,
    /// Of one that is free: the next free one.
    after: u32,
}

const _: () = assert!(size_of::<Node>() == 32 && size_of::<Queue>() == 32);

/// The orders of any number of instruments.
#[derive(Debug)]
pub struct OrderBooks {
    /// By instrument id: the number of its book, plus 1. A book is made for the first order.
    numbers: Vec<u32>,
    /// Queues by price: bids and asks of each book.
    sides: Vec<[Ladder; 2]>,
    pages: Pages<u32>,
    /// Numbers of `nodes` by id.
    ids: RecentTable<u32>,
    nodes: Vec<Node>,
    /// When each of `nodes` took its place.
    times: Vec<i64>,
    /// The first free one of `nodes`, plus 1.
    free_node: u32,
    queues: Vec<Queue>,
    free_queues: Vec<u32>,
    doubts: Doubts,
}

impl Default for OrderBooks {
    fn default() -> Self {
        Self::new()
    }
}

impl OrderBooks {
    /// No orders.
    pub const fn new() -> Self {
        Self::with_doubts(Doubts { unknown: 0, excess: 0, repeated: 0, unfit: 0 })
    }

    /// No orders, after events that were in doubt.
    pub(super) const fn with_doubts(doubts: Doubts) -> Self {
        Self {
            numbers: Vec::new(),
            sides: Vec::new(),
            pages: Pages::new(),
            ids: RecentTable::new(),
            nodes: Vec::new(),
            times: Vec::new(),
            free_node: 0,
            queues: Vec::new(),
            free_queues: Vec::new(),
            doubts,
        }
    }

    /// Orders that are open.
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is open.
    pub const fn is_empty(&self) -> bool {
        self.ids.len() == 0
    }

    /// How many events were not as a whole recording has them.
    pub const fn doubts(&self) -> Doubts {
        self.doubts
    }

    /// Takes in one event.
    #[inline]
    pub fn apply(&mut self, event: &Order) -> Applied {
        self.apply_found(event, NOTHING, NOTHING)
    }

    /// As [`OrderBooks::apply`], with where the order was that the event names, and the queue that
    /// one joins, if they were looked for. Both may have changed since.
    #[inline(always)]
    fn apply_found(&mut self, event: &Order, hint: u32, joined: u32) -> Applied {
        let applied = self.step(event, hint, joined);
        match applied {
            Applied::Changed | Applied::Unconcerned => {}
            Applied::Unknown => self.doubts.unknown += 1,
            Applied::Excess => self.doubts.excess += 1,
            Applied::Repeated => self.doubts.repeated += 1,
            Applied::DoesNotFit => self.doubts.unfit += 1,
        }
        applied
    }

    #[inline(always)]
    fn step(&mut self, event: &Order, hint: u32, joined: u32) -> Applied {
        const ADD: u8 = OrderAction::Add as u8;
        const MODIFY: u8 = OrderAction::Modify as u8;
        const CANCEL: u8 = OrderAction::Cancel as u8;
        const EXECUTE: u8 = OrderAction::Execute as u8;
        const REPLACE: u8 = OrderAction::Replace as u8;
        const DELETE: u8 = OrderAction::Delete as u8;
        const AT_PRICE: u8 = OrderAction::ExecuteAtPrice as u8;
        match event.action {
            ADD => self.add(event, side_of(event.side), joined),
            CANCEL | EXECUTE | AT_PRICE => match self.find(event.order_id, hint) {
                Some(found) => self.reduce(found, event.size),
                None => Applied::Unknown,
            },
            DELETE => match self.find(event.order_id, hint) {
                Some(found) => {
                    self.remove(found);
                    Applied::Changed
                }
                None => Applied::Unknown,
            },
            REPLACE => self.replace(event, hint, joined),
            MODIFY => self.modify(event, hint),
            _ => Applied::Unconcerned,
        }
    }

    #[inline(always)]
    fn find(&self, id: u64, hint: u32) -> Option<u32> {
        if self.nodes.get(hint as usize).is_some_and(|node| node.id == id && node.queue != NOTHING)
        {
            return Some(hint);
        }
        self.ids.get(id).copied()
    }

    #[inline]
    fn add(&mut self, event: &Order, side: Side, joined: u32) -> Applied {
        let mut applied = Applied::Changed;
        if let Some(&found) = self.ids.get(event.order_id) {
            self.remove(found);
            applied = Applied::Repeated;
        }
        let is_numbered = event.header.instrument >> SIDE_SHIFT == 0;
        if side == Side::None || event.price == NONE || event.size == NONE || !is_numbered {
            return Applied::Unknown;
        }
        if event.size <= 0 {
            return applied;
        }
        let owner = event.header.instrument | (side as u32) << SIDE_SHIFT;
        let queue = match self.queues.get(joined as usize) {
            Some(level) if level.is_at(owner, event.price) => joined,
            _ => self.queue(event.header.instrument, side, event.price),
        };
        let level = &mut self.queues[queue as usize];
        // Also after this no sum of some of its orders overflows.
        let Some(sum) = level.size.checked_add(event.size) else { return Applied::DoesNotFit };
        (level.size, level.count) = (sum, level.count + 1);
        let last = level.last;
        let (id, size) = (event.order_id, event.size);
        let node = Node { id, size, queue, before: last, after: NOTHING };
        let at = self.put(node, event.header.ts_event);
        self.ids.insert(event.order_id, at);
        let level = &mut self.queues[queue as usize];
        level.last = at;
        match last {
            NOTHING => level.first = at,
            last => self.nodes[last as usize].after = at,
        }
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
        // The next one that is put in goes there.
        fetch(&self.nodes, (self.free_node as usize).wrapping_sub(1));
        fetch(&self.times, (self.free_node as usize).wrapping_sub(1));
        self.nodes[at as usize] = node;
        self.times[at as usize] = ts_event;
        at
    }

    #[inline]
    fn reduce(&mut self, found: u32, size: i64) -> Applied {
        let node = &mut self.nodes[found as usize];
        let had = node.size;
        if size >= had {
            if size == NONE {
                return Applied::Unknown;
            }
            self.remove(found);
            return if size > had { Applied::Excess } else { Applied::Changed };
        }
        node.size -= size.max(0);
        self.queues[node.queue as usize].size -= size.max(0);
        Applied::Changed
    }

    fn replace(&mut self, event: &Order, hint: u32, joined: u32) -> Applied {
        let mut side = side_of(event.side);
        let found = self.find(event.previous_id, hint);
        if let Some(found) = found {
            side = self.queues[self.nodes[found as usize].queue as usize].side();
            self.remove(found);
        }
        match self.add(event, side, joined) {
            Applied::Changed if found.is_none() => Applied::Unknown,
            applied => applied,
        }
    }

    /// One that gets smaller at its price keeps its place; any other goes to the end. Where price
    /// or size is not told, the order stays as it is.
    fn modify(&mut self, event: &Order, hint: u32) -> Applied {
        let Some(found) = self.find(event.order_id, hint) else { return Applied::Unknown };
        if event.size == NONE || event.price == NONE {
            return Applied::Unknown;
        }
        let node = self.nodes[found as usize];
        let queue = self.queues[node.queue as usize];
        if event.price == queue.price && event.size <= node.size {
            return self.reduce(found, node.size - event.size.max(0));
        }
        self.remove(found);
        self.add(event, queue.side(), NOTHING)
    }

    /// The queue at a price, which is made if there is none.
    #[inline]
    fn queue(&mut self, instrument: u32, side: Side, price: i64) -> u32 {
        let book = match self.number(instrument) {
            Some(book) => book,
            None => self.open(instrument),
        };
        let side_at = usize::from(side == Side::Ask);
        let found = self.sides[book][side_at].get(&self.pages, price);
        if found != NOTHING {
            return found;
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
        self.sides[book][side_at].set(&mut self.pages, price, place);
        place
    }

    /// The number of an instrument's book.
    #[inline(always)]
    fn number(&self, instrument: u32) -> Option<usize> {
        (*self.numbers.get(instrument as usize)? as usize).checked_sub(1)
    }

    /// Makes the book of an instrument, and gives its number.
    #[cold]
    fn open(&mut self, instrument: u32) -> usize {
        let at = instrument as usize;
        if at >= self.numbers.len() {
            self.numbers.resize(at + 1, 0);
        }
        push_to_large(&mut self.sides, [Ladder::new(true), Ladder::new(false)]);
        self.numbers[at] = self.sides.len() as u32;
        self.sides.len() - 1
    }

    /// Takes an order out of the table and of its queue; an empty queue goes.
    #[inline]
    fn remove(&mut self, found: u32) {
        let node = self.nodes[found as usize];
        self.ids.remove(node.id);
        let free = &mut self.nodes[found as usize];
        (free.queue, free.after) = (NOTHING, self.free_node);
        self.free_node = found + 1;
        let queue = &mut self.queues[node.queue as usize];
        queue.count -= 1;
        queue.size -= node.size;
        match node.before {
            NOTHING => queue.first = node.after,
            before => self.nodes[before as usize].after = node.after,
        }
        match node.after {
            NOTHING => queue.last = node.before,
            after => self.nodes[after as usize].before = node.before,
        }
        if queue.count == 0 {
            let level = *queue;
            let book = self.numbers[level.instrument() as usize] as usize - 1;
            let side = &mut self.sides[book][usize::from(level.side() == Side::Ask)];
            side.set(&mut self.pages, level.price, NOTHING);
            self.free_queues.push(node.queue);
        }
    }

    /// The levels of a side, best first: what an L2 book of the instrument holds.
    pub fn levels(&self, instrument: u32, side: Side) -> impl Iterator<Item = PriceLevel> + '_ {
        let walk = self.side(instrument, side).map(|side| side.walk(&self.pages));
        let walk = walk.into_iter().flatten();
        walk.map(|(price, queue)| PriceLevel { price, size: self.queues[queue as usize].size })
    }

    /// The L2 book of an instrument: a copy of all its levels.
    pub fn by_price(&self, instrument: u32) -> Option<L2Book> {
        self.number(instrument)?;
        let mut book = L2Book::new();
        for side in [Side::Bid, Side::Ask] {
            self.levels(instrument, side).for_each(|level| book.set(side, level.price, level.size));
        }
        Some(book)
    }

    /// The instruments of which an order ever came, in order of id.
    pub fn instruments(&self) -> impl Iterator<Item = u32> + '_ {
        let present = self.numbers.iter().enumerate().filter(|(_, book)| **book != 0);
        present.map(|(instrument, _)| instrument as u32)
    }

    /// The size of all orders at a price.
    pub fn size_at(&self, instrument: u32, side: Side, price: i64) -> i64 {
        self.find_queue(instrument, side, price).map_or(0, |queue| queue.size)
    }

    /// Number of orders at a price.
    pub fn count_at(&self, instrument: u32, side: Side, price: i64) -> u32 {
        self.find_queue(instrument, side, price).map_or(0, |queue| queue.count)
    }

    /// The orders at a price, the first to be executed first.
    pub fn orders_at(
        &self,
        instrument: u32,
        side: Side,
        price: i64,
    ) -> impl Iterator<Item = OpenOrder> + '_ {
        let first = self.find_queue(instrument, side, price).map_or(NOTHING, |queue| queue.first);
        let here = |at: u32| (at != NOTHING).then_some(at);
        let walk =
            std::iter::successors(here(first), move |&at| here(self.nodes[at as usize].after));
        walk.map(|at| self.shown(at))
    }

    /// All orders of a side, by price, the best first, and at a price by their priority.
    pub fn orders(&self, instrument: u32, side: Side) -> impl Iterator<Item = OpenOrder> + '_ {
        let prices = self.levels(instrument, side).map(|level| level.price);
        prices.flat_map(move |price| self.orders_at(instrument, side, price))
    }

    /// The order of that id.
    pub fn get(&self, id: u64) -> Option<OpenOrder> {
        self.ids.get(id).map(|&found| self.shown(found))
    }

    /// Where the order of that id stands. Takes as long as there are orders ahead of it.
    pub fn place(&self, id: u64) -> Option<QueuePlace> {
        let &found = self.ids.get(id)?;
        let mut at = self.nodes[found as usize].before;
        let mut place = QueuePlace { orders_ahead: 0, size_ahead: 0 };
        while at != NOTHING {
            let node = &self.nodes[at as usize];
            place.orders_ahead += 1;
            place.size_ahead += node.size;
            at = node.before;
        }
        Some(place)
    }

    #[inline(always)]
    fn side(&self, instrument: u32, side: Side) -> Option<&Ladder> {
        Some(&self.sides[self.number(instrument)?][usize::from(side == Side::Ask)])
    }

    fn find_queue(&self, instrument: u32, side: Side, price: i64) -> Option<&Queue> {
        self.queues.get(self.side(instrument, side)?.get(&self.pages, price) as usize)
    }

    fn shown(&self, at: u32) -> OpenOrder {
        let Node { id, size, queue, .. } = self.nodes[at as usize];
        let queue = &self.queues[queue as usize];
        let ts_event = self.times[at as usize];
        OpenOrder { id, price: queue.price, size, ts_event, side: queue.side() }
    }
}
