//! Events in batches: what each will need is fetched while those before it are taken in.
//!
//! The orders of a market are more than a cache holds, and where an event's parts lie is known only
//! one after the other: its order by its id, its queue by its order, its neighbours by both. So
//! events go through stages, each some groups of events ahead of the next. Fetching changes
//! nothing: it is by what the books hold now, which may be another order or none when the event's
//! turn comes.

use super::{Applied, Ladder, OrderBooks, NOTHING};
use crate::id_table::fetch;
use crate::record::{Order, OrderAction, Side};

/// Events that go through a stage together.
const GROUP: usize = 16;
/// Groups of which something is kept.
const GROUPS: usize = 16;
const BLOCK: usize = GROUP * GROUPS;
/// Stages of fetching.
const STAGES: usize = 5;

/// What is known of the events of a block.
struct Block<'a> {
    events: [&'a Order; BLOCK],
    length: usize,
    /// Where the orders that they name were.
    found: [u32; BLOCK],
    /// Of those that bring an order: the sides that get it, and the queues that it joins, as far as
    /// there were any.
    sides: [u32; BLOCK],
    joined: [u32; BLOCK],
    /// The events that name an order, and those that bring one, by number; and for each group where
    /// its own end. Two lists, as no branch foretells which of the two the next event is.
    naming: List,
    adding: List,
}

/// Numbers of events of a block.
struct List {
    events: [u8; BLOCK],
    ends: [u16; GROUPS + 1],
}

impl OrderBooks {
    /// Takes in `events` in their order, and tells `each` what became of one. Quicker than one by
    /// one where the orders of the market are many.
    pub fn apply_all<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a Order>,
        mut each: impl FnMut(&'a Order, Applied),
    ) {
        let mut events = events.into_iter();
        let Some(first) = events.next() else { return };
        let mut block = Block::new(first);
        let mut next = Some(first);
        while next.is_some() {
            next = block.fill(next, &mut events);
            let groups = block.length.div_ceil(GROUP);
            for turn in 0..groups + STAGES {
                self.fetch_ids(&mut block, turn);
                self.fetch_orders(&mut block, turn.wrapping_sub(1));
                self.fetch_queues(&block, turn.wrapping_sub(2));
                self.fetch_new_queues(&mut block, turn.wrapping_sub(3));
                self.fetch_last(&block, turn.wrapping_sub(4));
                for at in block.group(turn.wrapping_sub(STAGES)) {
                    let event = block.events[at];
                    each(event, self.apply_found(event, block.found[at], block.joined[at]));
                }
            }
        }
    }

    /// First stage: the places of ids, and the sides of books that get an order.
    #[inline(always)]
    fn fetch_ids(&self, block: &mut Block<'_>, group: usize) {
        let Block { events, sides, naming, adding, .. } = block;
        for at in naming.of(group) {
            self.ids.fetch(named(events[at]));
        }
        for at in adding.of(group) {
            let event = events[at];
            self.ids.fetch(event.order_id);
            if let Some(book) = self.number(event.header.instrument) {
                let is_ask = event.side == Side::Ask as u8;
                sides[at] = (2 * book + usize::from(is_ask)) as u32;
                self.sides[book][usize::from(is_ask)].fetch();
            }
        }
    }

    /// Second stage: orders that are there, and where the page of a new one's price is.
    #[inline(always)]
    fn fetch_orders(&self, block: &mut Block<'_>, group: usize) {
        let Block { events, found, sides, naming, adding, .. } = block;
        for at in naming.of(group) {
            let order = self.ids.get(named(events[at])).copied().unwrap_or(NOTHING);
            found[at] = order;
            fetch(&self.nodes, order as usize);
        }
        for at in adding.of(group) {
            if let Some(side) = self.side_numbered(sides[at]) {
                side.fetch_page(events[at].price);
            }
        }
    }

    /// Third stage: what is beside an order, and the page of a new one's price.
    #[inline(always)]
    fn fetch_queues(&self, block: &Block<'_>, group: usize) {
        for at in block.naming.of(group) {
            if let Some(node) = self.nodes.get(block.found[at] as usize) {
                fetch(&self.queues, node.queue as usize);
                fetch(&self.nodes, node.before as usize);
                fetch(&self.nodes, node.after as usize);
            }
        }
        for at in block.adding.of(group) {
            if let Some(side) = self.side_numbered(block.sides[at]) {
                side.fetch_standing(&self.pages, block.events[at].price);
            }
        }
    }

    /// Fourth stage: the queue that a new order joins, and where a level is that may go.
    #[inline(always)]
    fn fetch_new_queues(&self, block: &mut Block<'_>, group: usize) {
        let Block { events, found, sides, joined, naming, adding, .. } = block;
        for at in naming.of(group) {
            if let Some(side) = self.side_that_may_empty(found[at]) {
                side.fetch();
            }
        }
        for at in adding.of(group) {
            if let Some(side) = self.side_numbered(sides[at]) {
                joined[at] = side.get(&self.pages, events[at].price);
                fetch(&self.queues, joined[at] as usize);
            }
        }
    }

    /// The side of an order that is the only one at its price.
    #[inline(always)]
    fn side_that_may_empty(&self, found: u32) -> Option<&Ladder> {
        let queue = self.queues.get(self.nodes.get(found as usize)?.queue as usize)?;
        let queue = Some(queue).filter(|queue| queue.count == 1)?;
        self.side(queue.instrument(), queue.side())
    }

    /// Fifth stage: the order that a new one comes behind.
    #[inline(always)]
    fn fetch_last(&self, block: &Block<'_>, group: usize) {
        for at in block.naming.of(group) {
            if let Some(side) = self.side_that_may_empty(block.found[at]) {
                side.fetch_page(block.events[at].order_price);
            }
        }
        for at in block.adding.of(group) {
            let queue = self.queues.get(block.joined[at] as usize);
            fetch(&self.nodes, queue.map_or(usize::MAX, |queue| queue.last as usize));
        }
    }

    /// A side by its number; none of [`NOTHING`].
    #[inline(always)]
    fn side_numbered(&self, number: u32) -> Option<&Ladder> {
        self.sides.get(number as usize / 2).map(|sides| &sides[number as usize % 2])
    }
}

impl<'a> Block<'a> {
    fn new(event: &'a Order) -> Self {
        let list = || List { events: [0; BLOCK], ends: [0; GROUPS + 1] };
        let (naming, adding) = (list(), list());
        Self {
            events: [event; BLOCK],
            length: 0,
            found: [NOTHING; BLOCK],
            sides: [NOTHING; BLOCK],
            joined: [NOTHING; BLOCK],
            naming,
            adding,
        }
    }

    /// Takes in `first` and as many of those that follow as there is room for, and gives the next.
    fn fill(
        &mut self,
        mut first: Option<&'a Order>,
        events: &mut impl Iterator<Item = &'a Order>,
    ) -> Option<&'a Order> {
        self.length = 0;
        (self.found, self.sides) = ([NOTHING; BLOCK], [NOTHING; BLOCK]);
        self.joined = [NOTHING; BLOCK];
        let (mut naming, mut adding) = (0, 0);
        while let Some(event) = first {
            if self.length == BLOCK {
                break;
            }
            self.events[self.length] = event;
            self.naming.events[naming] = self.length as u8;
            self.adding.events[adding] = self.length as u8;
            naming += usize::from(event.action != OrderAction::Add as u8);
            adding += usize::from(
                event.action == OrderAction::Add as u8
                    || event.action == OrderAction::Replace as u8,
            );
            let group = self.length / GROUP + 1;
            (self.naming.ends[group], self.adding.ends[group]) = (naming as u16, adding as u16);
            self.length += 1;
            first = events.next();
        }
        let groups = self.length.div_ceil(GROUP);
        self.naming.ends[groups..].fill(naming as u16);
        self.adding.ends[groups..].fill(adding as u16);
        first
    }

    /// The events of a group, none where there is no such group.
    #[inline(always)]
    fn group(&self, number: usize) -> std::ops::Range<usize> {
        let start = number.saturating_mul(GROUP).min(self.length);
        start..(start + GROUP).min(self.length)
    }
}

impl List {
    /// The numbers of the events of a group, which are in this list.
    #[inline(always)]
    fn of(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        let range = match self.ends.get(group..group.wrapping_add(2)) {
            Some(&[start, end]) => usize::from(start)..usize::from(end),
            _ => 0..0,
        };
        self.events[range].iter().map(|&at| usize::from(at))
    }
}

/// The order that an event is of, as it stands in the book before it.
#[inline(always)]
const fn named(event: &Order) -> u64 {
    if event.action == OrderAction::Replace as u8 {
        event.previous_id
    } else {
        event.order_id
    }
}
