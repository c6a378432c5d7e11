//! What happens each day: its start, its directory, its auctions, its end.

use std::collections::VecDeque;

use super::message::Head;
use super::ItchMarket;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
/// When the regular hours begin and end, in ns since midnight.
pub(super) const OPEN: u64 = 570 * MINUTE;
pub(super) const CLOSE: u64 = 960 * MINUTE;
/// The largest time of a day.
pub(super) const TIME_MAX: u64 = 86_399_999_999_999;
/// Orders of each side that a stock has before its opening auction.
const SEEDED: usize = 5;
/// Between two messages that nothing spaces out.
const SPIN_NS: u64 = 35_000;

/// One thing that happens for sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A system event, by its code.
    System(u8),
    /// The levels at which the whole market stops.
    Levels,
    /// What is told of a stock at the start.
    Listing(usize),
    /// The first orders of a stock.
    Seed(usize),
    /// An auction of a stock, by its kind.
    Auction(usize, u8),
}

pub(super) fn opening(stocks: usize) -> VecDeque<Item> {
    let mut items = VecDeque::from([Item::System(b'O'), Item::Levels]);
    items.extend((0..stocks).map(Item::Listing));
    items.push_back(Item::System(b'S'));
    items.extend((0..stocks).map(Item::Seed));
    items.push_back(Item::System(b'Q'));
    items.extend((0..stocks).map(|stock| Item::Auction(stock, b'O')));
    items
}

/// Messages of [`opening`]; an auction that finds orders of both sides has four.
pub(super) const fn opening_messages(stocks: usize) -> u64 {
    4 + stocks as u64 * (4 + 2 * SEEDED as u64 + 4)
}

pub(super) fn closing(stocks: usize) -> VecDeque<Item> {
    let mut items = VecDeque::from([Item::System(b'M')]);
    items.extend((0..stocks).map(|stock| Item::Auction(stock, b'C')));
    items.extend([Item::System(b'E'), Item::System(b'C')]);
    items
}

/// Messages of [`closing`], whose auctions execute no order that was shown.
pub(super) const fn closing_messages(stocks: usize) -> u64 {
    3 + stocks as u64 * 2
}

impl ItchMarket {
    pub(super) fn play(&mut self, item: Item) {
        let due = match item {
            Item::System(code) if self.has_own_time => match code {
                b'O' => 182 * MINUTE + 31 * SECOND,
                b'S' => 240 * MINUTE,
                b'Q' => OPEN + 70_000,
                b'M' => CLOSE,
                b'E' => 1200 * MINUTE,
                _ => 1205 * MINUTE,
            },
            _ => 0,
        };
        self.time = due.max((self.time + SPIN_NS).min(self.until.max(self.time)));
        match item {
            Item::System(code) => self.put(b'S', 0, 0, |body| {
                body.text(&[code]);
            }),
            Item::Levels => self.put(b'V', 0, 0, |body| {
                body.u64(457_512_345_678).u64(428_152_500_000).u64(393_643_200_000);
            }),
            Item::Listing(stock) => self.tell_listing(stock),
            Item::Seed(stock) => {
                for at in 0..2 * SEEDED {
                    self.add(stock, at % 2 == 0);
                }
            }
            Item::Auction(stock, kind) => self.hold_auction(stock, kind, kind == b'O'),
        }
    }

    fn tell_listing(&mut self, stock: usize) {
        let locate = self.stocks[stock].locate;
        let symbol = self.stocks[stock].symbol;
        self.put(b'R', locate, 0, |body| {
            body.text(&symbol).text(b"QN").u32(100).text(b"NCZ PNN1N").u32(0).text(b"N");
        });
        self.put(b'H', locate, 0, |body| {
            body.text(&symbol).text(b"T     ");
        });
        self.put(b'Y', locate, 0, |body| {
            body.text(&symbol).text(b"0");
        });
        self.put(b'L', locate, 0, |body| {
            body.text(b"SIMM").text(&symbol).text(b"YNA");
        });
    }

    /// An auction: what it found so far, executions of shown orders that are not printed by
    /// themselves, and the bulk print.
    pub(super) fn hold_auction(&mut self, stock: usize, kind: u8, takes_orders: bool) {
        let of = &self.stocks[stock];
        let (locate, symbol) = (of.locate, of.symbol);
        let fronts = [of.front(true), of.front(false)];
        let price = match (of.best(true), of.best(false)) {
            (Some(bid), Some(ask)) => (bid + ask) / 2,
            _ => 0,
        };
        let shares = if price == 0 { 0 } else { 100 * (1 + self.random.below(500)) };
        self.put(b'I', locate, 0, |body| {
            body.u64(shares).u64(0).text(b"N").text(&symbol).u32(price).u32(price).u32(price);
            body.text(&[kind, b'L']);
        });
        if let ([Some(bid), Some(ask)], true) = (fronts, takes_orders) {
            let left = |id| self.orders.get(id).map_or(0, |order| order.shares);
            let taken = left(bid).min(left(ask));
            for id in [bid, ask] {
                self.execute(id, taken, Some((b'N', price)));
            }
        }
        let number = self.next_match(locate, false);
        self.put(b'Q', locate, 0, |body| {
            body.u64(shares).text(&symbol).u32(price).u64(number).text(&[kind]);
        });
    }

    /// Adds a message at the present time.
    #[inline]
    pub(super) fn put(
        &mut self,
        kind: u8,
        locate: u16,
        tracking: u16,
        fill: impl FnOnce(&mut super::message::Body<'_>),
    ) {
        self.messages.put(kind, Head { locate, tracking, time: self.time }, fill);
    }
}
