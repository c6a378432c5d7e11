//! Events in batches: what each will need is fetched while those before it are taken in.
//!
//! The orders of a market are more than a cache holds, and an event touches about nine lines of
//! them. Fetching changes nothing: it is by what the books hold now, which may be another order or
//! none when the event's turn comes.

use super::{key, Applied, OrderBooks, NOTHING};
use crate::id_table::fetch;
use crate::record::{Order, OrderAction, Side, NONE};

/// How many events ahead the place of an id is fetched, then the order, then what is beside it.
const ID_AHEAD: usize = 16;
const ORDER_AHEAD: usize = 10;
const QUEUE_AHEAD: usize = 5;

impl OrderBooks {
    /// Takes in `events` in their order, and tells `each` what became of one. Quicker than one by
    /// one where the orders of the market are many.
    pub fn apply_all(
        &mut self,
        events: impl Iterator<Item = Order> + Clone,
        mut each: impl FnMut(&Order, Applied),
    ) {
        let (mut ids, mut orders, mut queues) = (events.clone(), events.clone(), events.clone());
        // By number of the event: where its order was when it was looked for.
        let mut found = [NOTHING; ID_AHEAD];
        ids.by_ref().take(ID_AHEAD).for_each(|event| self.fetch_id(&event));
        for (number, event) in orders.by_ref().take(ORDER_AHEAD).enumerate() {
            found[number] = self.fetch_order(&event);
        }
        for (number, event) in queues.by_ref().take(QUEUE_AHEAD).enumerate() {
            self.fetch_queue(&event, found[number]);
        }
        for (number, event) in events.enumerate() {
            if let Some(coming) = ids.next() {
                self.fetch_id(&coming);
            }
            if let Some(coming) = orders.next() {
                found[(number + ORDER_AHEAD) % ID_AHEAD] = self.fetch_order(&coming);
            }
            if let Some(coming) = queues.next() {
                self.fetch_queue(&coming, found[(number + QUEUE_AHEAD) % ID_AHEAD]);
            }
            let applied = self.apply(&event);
            each(&event, applied);
        }
    }

    /// Begins to fetch where the order of an event will be looked for, and its book.
    #[inline]
    fn fetch_id(&self, event: &Order) {
        self.ids.fetch(named(event));
        if let Some(book) = self.book(event.header.instrument) {
            book.levels.fetch_side(side_of(event));
        }
    }

    /// Begins to fetch the order of an event, and gives its place: a hint, as it may not be open
    /// yet, or not any more.
    #[inline]
    fn fetch_order(&self, event: &Order) -> u32 {
        let at = self.ids.get(named(event)).copied().unwrap_or(NOTHING);
        fetch(&self.nodes, at as usize);
        if let Some(book) = self.book(event.header.instrument) {
            book.levels.fetch_page(side_of(event), price_of(event));
            if at == NOTHING {
                book.queues[usize::from(side_of(event) == Side::Ask)].fetch(key(event.price));
            }
        }
        at
    }

    /// Begins to fetch what is beside the order at `at`, and the size of the event's level.
    #[inline]
    fn fetch_queue(&self, event: &Order, at: u32) {
        if let Some(node) = self.nodes.get(at as usize) {
            fetch(&self.queues, node.queue as usize);
            fetch(&self.nodes, node.before as usize);
            fetch(&self.nodes, node.after as usize);
        }
        if let Some(book) = self.book(event.header.instrument) {
            book.levels.fetch_size(side_of(event), price_of(event));
        }
    }
}

/// The order that an event is of, as it stands in the book before it.
#[inline]
const fn named(event: &Order) -> u64 {
    if event.action == OrderAction::Replace as u8 {
        event.previous_id
    } else {
        event.order_id
    }
}

/// The level of that order, or of a new one.
#[inline]
const fn price_of(event: &Order) -> i64 {
    if event.order_price == NONE {
        event.price
    } else {
        event.order_price
    }
}

#[inline]
const fn side_of(event: &Order) -> Side {
    if event.side == Side::Ask as u8 {
        Side::Ask
    } else {
        Side::Bid
    }
}
