//! Events in batches: what each will need is fetched while those before it are taken in.
//!
//! The orders of a market are more than a cache holds, and where an event's parts lie is known only
//! one after the other: its order by its id, its queue by its order, its neighbours by both. So
//! events go through stages, each some groups of events ahead of the next. Fetching changes
//! nothing: it is by what the books hold now, which may be another order or none when the event's
//! turn comes.

use super::ids::Found;
use super::{Applied, Ladder, OrderBooks};
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
    found: [Found; BLOCK],
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
                self.fetch_ids(&block, turn);
                self.fetch_orders(&mut block, turn.wrapping_sub(1));
                self.fetch_queues(&block, turn.wrapping_sub(2));
                self.fetch_new_queues(&block, turn.wrapping_sub(3));
                self.fetch_last(&block, turn.wrapping_sub(4));
                for at in block.group(turn.wrapping_sub(STAGES)) {
                    let event = block.events[at];
                    each(event, self.apply_found(event, block.found[at]));
                }
            }
        }
    }

    /// First stage: the places of ids, and the sides of books that get an order.
    #[inline(always)]
    fn fetch_ids(&self, block: &Block<'_>, group: usize) {
        for at in block.group(group) {
            self.ids.fetch(block.events[at].order_id);
            self.ids.fetch(named(block.events[at]));
        }
        for event in block.list(&block.adding, group) {
            if let Some(side) = self.side(event.header.instrument, side_of(event)) {
                side.fetch();
            }
        }
    }

    /// Second stage: orders that are there, and where the page of a new one's price is.
    #[inline(always)]
    fn fetch_orders(&self, block: &mut Block<'_>, group: usize) {
        for at in block.naming.group(group) {
            let at = usize::from(block.naming.events[at]);
            block.found[at] = self.ids.guess(named(block.events[at]));
            fetch(&self.nodes, block.found[at].node as usize);
        }
        for event in block.list(&block.adding, group) {
            if let Some(side) = self.side(event.header.instrument, side_of(event)) {
                side.fetch_page(event.price);
            }
        }
    }

    /// Third stage: what is beside an order, and the page of a new one's price.
    #[inline(always)]
    fn fetch_queues(&self, block: &Block<'_>, group: usize) {
        for at in block.naming.group(group) {
            let found = block.found[usize::from(block.naming.events[at])];
            if let Some(node) = self.nodes.get(found.node as usize) {
                fetch(&self.queues, node.queue as usize);
                fetch(&self.nodes, node.before as usize);
                fetch(&self.nodes, node.after as usize);
            }
        }
        for event in block.list(&block.adding, group) {
            if let Some(side) = self.side(event.header.instrument, side_of(event)) {
                side.fetch_standing(&self.pages, event.price);
            }
        }
    }

    /// Fourth stage: the queue that a new order joins, and where a level is that may go.
    #[inline(always)]
    fn fetch_new_queues(&self, block: &Block<'_>, group: usize) {
        for at in block.naming.group(group) {
            let at = usize::from(block.naming.events[at]);
            if let Some(side) = self.side_that_may_empty(block.found[at]) {
                side.fetch();
            }
        }
        for event in block.list(&block.adding, group) {
            if let Some(side) = self.side(event.header.instrument, side_of(event)) {
                fetch(&self.queues, side.get(&self.pages, event.price) as usize);
            }
        }
    }

    /// The side of an order that is the only one at its price.
    #[inline(always)]
    fn side_that_may_empty(&self, found: Found) -> Option<&Ladder> {
        let queue = self.queues.get(self.nodes.get(found.node as usize)?.queue as usize)?;
        let queue = Some(queue).filter(|queue| queue.count == 1)?;
        self.side(queue.instrument(), queue.side())
    }

    /// Fifth stage: the order that a new one comes behind.
    #[inline(always)]
    fn fetch_last(&self, block: &Block<'_>, group: usize) {
        for at in block.naming.group(group) {
            let at = usize::from(block.naming.events[at]);
            if let Some(side) = self.side_that_may_empty(block.found[at]) {
                side.fetch_page(block.events[at].order_price);
            }
        }
        for event in block.list(&block.adding, group) {
            let queue = self.find_queue(event.header.instrument, side_of(event), event.price);
            fetch(&self.nodes, queue.map_or(usize::MAX, |queue| queue.last as usize));
        }
    }
}

impl<'a> Block<'a> {
    fn new(event: &'a Order) -> Self {
        let list = || List { events: [0; BLOCK], ends: [0; GROUPS + 1] };
        let (naming, adding) = (list(), list());
        Self { events: [event; BLOCK], length: 0, found: [Found::NONE; BLOCK], naming, adding }
    }

    /// Takes in `first` and as many of those that follow as there is room for, and gives the next.
    fn fill(
        &mut self,
        mut first: Option<&'a Order>,
        events: &mut impl Iterator<Item = &'a Order>,
    ) -> Option<&'a Order> {
        self.length = 0;
        self.found = [Found::NONE; BLOCK];
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

    /// Those of a group that are in a list.
    #[inline(always)]
    fn list<'b>(
        &'b self,
        list: &'b List,
        group: usize,
    ) -> impl Iterator<Item = &'a Order> + use<'a, 'b> {
        list.events[list.group(group)].iter().map(|&at| self.events[usize::from(at)])
    }
}

impl List {
    #[inline(always)]
    fn group(&self, number: usize) -> std::ops::Range<usize> {
        match self.ends.get(number..number.wrapping_add(2)) {
            Some(&[start, end]) => usize::from(start)..usize::from(end),
            _ => 0..0,
        }
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

#[inline(always)]
const fn side_of(event: &Order) -> Side {
    if event.side == Side::Ask as u8 {
        Side::Ask
    } else {
        Side::Bid
    }
}
