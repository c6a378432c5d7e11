//! What happens while the market is open, in about the parts of a real day.

use super::stock::{Open, CENT};
use super::{ItchMarket, MATCHES_KEPT};

/// Orders of a side beyond which as many are deleted as are added.
const OPEN_MAX: usize = 64;
/// Orders of a side below which orders are added and none is deleted.
const OPEN_MIN: usize = 4;
/// The most messages that one event gives.
const EVENT_MESSAGES_MAX: u64 = 8;
/// Steps behind the best price that orders are entered at, at most.
const STEPS_MAX: u64 = 300;

impl ItchMarket {
    /// Lets one event happen, of one message where only `left` are left.
    pub(super) fn happen(&mut self, left: u64) {
        let stock = self.random.below(self.stocks.len() as u64) as usize;
        let is_bid = self.random.next() & 1 == 0;
        let open = self.stocks[stock].open[usize::from(is_bid)];
        if open < OPEN_MIN {
            self.add(stock, is_bid);
            return;
        }
        let is_free = left > EVENT_MESSAGES_MAX;
        match self.random.below(10_000) {
            0..4_475 if open < OPEN_MAX => self.add(stock, is_bid),
            0..8_775 => self.delete(stock, is_bid),
            8_775..9_515 => self.replace(stock, is_bid),
            9_515..9_735 => self.take_orders(stock, is_bid, is_free),
            9_735..9_860 => self.cancel(stock, is_bid),
            9_860..9_950 => self.tell_imbalance(stock),
            9_950..9_986 => self.trade_hidden(stock),
            9_986..9_991 => self.execute_better(stock, is_bid),
            9_991..9_993 => self.declare_void(),
            9_993..9_994 if is_free => self.pause(stock),
            _ => self.tell_rare(stock),
        }
    }

    pub(super) fn add(&mut self, stock: usize, is_bid: bool) {
        let steps = self.random.depth(3.0, STEPS_MAX) as u32;
        let shares = self.order_size();
        let is_attributed = self.random.below(100) == 0;
        self.order_last += 1;
        let id = self.order_last;
        let of = &mut self.stocks[stock];
        let price = of.price_behind(is_bid, steps);
        if of.crosses(is_bid, price) {
            // At the edge of all prices there is no room: the other side has the place.
            self.delete(stock, !is_bid);
            return;
        }
        of.push(is_bid, price, id);
        let (locate, symbol) = (of.locate, of.symbol);
        self.orders.insert(id, Open { stock: stock as u32, price, shares, is_bid });
        let side = if is_bid { b"B" } else { b"S" };
        let kind = if is_attributed { b'F' } else { b'A' };
        self.put(kind, locate, 0, |body| {
            body.u64(id).text(side).u32(shares).text(&symbol).u32(price);
            if is_attributed {
                body.text(b"SIMM");
            }
        });
    }

    /// Mostly round lots, a third of them less, as just after a real opening.
    fn order_size(&mut self) -> u32 {
        match self.random.below(100) {
            0..47 => 100,
            47..81 => 1 + self.random.below(99) as u32,
            81..95 => 100 * (2 + self.random.below(4) as u32),
            _ => 100 * (1 + self.random.below(178) as u32),
        }
    }

    fn delete(&mut self, stock: usize, is_bid: bool) {
        let Some(id) = self.stocks[stock].any(is_bid, &mut self.random) else {
            self.tell_imbalance(stock);
            return;
        };
        self.forget(id);
        self.put(b'D', stock as u16 + 1, 0, |body| {
            body.u64(id);
        });
    }

    fn forget(&mut self, id: u64) {
        if let Some(order) = self.orders.remove(id) {
            self.stocks[order.stock as usize].remove(order.is_bid, order.price, id);
        }
    }

    fn replace(&mut self, stock: usize, is_bid: bool) {
        let Some(id) = self.stocks[stock].any(is_bid, &mut self.random) else {
            self.tell_imbalance(stock);
            return;
        };
        self.forget(id);
        let steps = self.random.depth(3.0, STEPS_MAX) as u32;
        let shares = self.order_size();
        self.order_last += 1;
        let new = self.order_last;
        let of = &mut self.stocks[stock];
        let price = of.price_behind(is_bid, steps);
        of.push(is_bid, price, new);
        self.orders.insert(new, Open { stock: stock as u32, price, shares, is_bid });
        self.put(b'U', stock as u16 + 1, 0, |body| {
            body.u64(id).u64(new).u32(shares).u32(price);
        });
    }

    fn cancel(&mut self, stock: usize, is_bid: bool) {
        let id = self.stocks[stock].any(is_bid, &mut self.random);
        let Some((id, shares)) = id.and_then(|id| Some((id, self.orders.get(id)?.shares))) else {
            self.tell_imbalance(stock);
            return;
        };
        if shares < 2 {
            self.delete(stock, is_bid);
            return;
        }
        let less = 1 + self.random.below(u64::from(shares) - 1) as u32;
        if let Some(order) = self.orders.get_mut(id) {
            order.shares -= less;
        }
        self.put(b'X', stock as u16 + 1, 0, |body| {
            body.u64(id).u32(less);
        });
    }

    /// An order comes in and takes from the best of a side: one order, or several.
    fn take_orders(&mut self, stock: usize, is_bid: bool, is_free: bool) {
        let most = if is_free { 1 + self.random.depth(0.4, 4) } else { 1 };
        self.tracking = 0;
        for _ in 0..most {
            let Some(id) = self.stocks[stock].front(is_bid) else { break };
            let Some(order) = self.orders.get(id).copied() else { break };
            self.stocks[stock].price = order.price;
            let whole = self.random.chance(0.6);
            let shares = if whole || order.shares < 2 {
                order.shares
            } else {
                1 + self.random.below(u64::from(order.shares) - 1) as u32
            };
            self.tracking += 2;
            self.execute(id, shares, None);
            if shares < order.shares {
                break;
            }
        }
        if self.tracking == 0 {
            self.tell_imbalance(stock);
        }
        self.tracking = 0;
    }

    /// Takes `shares` from an order: at its own price, or at another, printed or not.
    pub(super) fn execute(&mut self, id: u64, shares: u32, other: Option<(u8, u32)>) {
        let Some(order) = self.orders.get_mut(id) else { return };
        order.shares -= shares;
        let (stock, left) = (order.stock as u16, order.shares);
        if left == 0 {
            self.forget(id);
        }
        let (locate, tracking) = (stock + 1, self.tracking);
        let is_printed = other.is_none_or(|(printed, _)| printed == b'Y');
        let number = self.next_match(locate, is_printed);
        let kind = if other.is_none() { b'E' } else { b'C' };
        self.put(kind, locate, tracking, |body| {
            body.u64(id).u32(shares).u64(number);
            if let Some((printed, price)) = other {
                body.text(&[printed]).u32(price);
            }
        });
    }

    /// The number of an execution, which may be declared void later.
    pub(super) fn next_match(&mut self, locate: u16, may_be_void: bool) -> u64 {
        self.match_last += 1;
        if may_be_void {
            if self.matches.len() == MATCHES_KEPT {
                self.matches.pop_front();
            }
            self.matches.push_back((self.match_last, locate));
        }
        self.match_last
    }

    /// An execution at a better price than that of the order.
    fn execute_better(&mut self, stock: usize, is_bid: bool) {
        let id = self.stocks[stock].front(is_bid);
        let Some((id, order)) = id.and_then(|id| Some((id, *self.orders.get(id)?))) else {
            self.tell_imbalance(stock);
            return;
        };
        let price = if is_bid { order.price + CENT / 2 } else { order.price - CENT / 2 };
        let shares = 1 + self.random.below(u64::from(order.shares)) as u32;
        self.execute(id, shares, Some((b'Y', price)));
    }

    /// A trade of an order that was not shown, between the best prices.
    fn trade_hidden(&mut self, stock: usize) {
        let shares = self.order_size();
        let of = &self.stocks[stock];
        let (locate, symbol) = (of.locate, of.symbol);
        let price = of.best(true).unwrap_or(of.price) + CENT / 2;
        let number = self.next_match(locate, true);
        self.put(b'P', locate, 2, |body| {
            body.u64(0).text(b"B").u32(shares).text(&symbol).u32(price).u64(number);
        });
    }

    fn declare_void(&mut self) {
        let place = self.random.below(self.matches.len().max(1) as u64) as usize;
        let Some((number, locate)) = self.matches.remove(place) else {
            self.tell_imbalance(0);
            return;
        };
        self.put(b'B', locate, 0, |body| {
            body.u64(number);
        });
    }

    fn tell_imbalance(&mut self, stock: usize) {
        let shares = 100 * self.random.below(1_000);
        let of = &self.stocks[stock];
        let (locate, symbol, price) = (of.locate, of.symbol, of.price);
        self.put(b'I', locate, 0, |body| {
            body.u64(shares).u64(shares / 4).text(b"B").text(&symbol);
            body.u32(price).u32(price).u32(price).text(b"CL");
        });
    }

    /// A pause for volatility, and the auction that ends it.
    fn pause(&mut self, stock: usize) {
        let of = &self.stocks[stock];
        let (locate, symbol, price) = (of.locate, of.symbol, of.price);
        self.put(b'H', locate, 0, |body| {
            body.text(&symbol).text(b"P LUDP");
        });
        self.put(b'J', locate, 0, |body| {
            body.text(&symbol).u32(price).u32(price + price / 20).u32(price - price / 20).u32(0);
        });
        self.hold_auction(stock, b'H', false);
        self.put(b'H', locate, 0, |body| {
            body.text(&symbol).text(b"T     ");
        });
    }

    /// One of the messages that a day has a few of, or none.
    fn tell_rare(&mut self, stock: usize) {
        let of = &self.stocks[stock];
        let (locate, symbol, price) = (of.locate, of.symbol, of.price);
        let seconds = (self.time / 1_000_000_000) as u32;
        let near = self.time;
        match self.random.below(7) {
            0 => self.put(b'h', locate, 0, |body| {
                body.text(&symbol).text(b"QH");
            }),
            1 => self.put(b'h', locate, 0, |body| {
                body.text(&symbol).text(b"QT");
            }),
            2 => self.put(b'Y', locate, 0, |body| {
                body.text(&symbol).text(b"1");
            }),
            3 => self.put(b'N', locate, 0, |body| {
                body.text(&symbol).text(b"A");
            }),
            4 => self.put(b'K', 0, 0, |body| {
                body.text(&symbol).u32(seconds).text(b"A").u32(price);
            }),
            5 => self.put(b'L', locate, 0, |body| {
                body.text(b"SIMM").text(&symbol).text(b"NNA");
            }),
            _ => self.put(b'O', locate, 0, |body| {
                body.text(&symbol).text(b"N").u32(price).u32(price).u32(price);
                body.u64(near).u32(price).u32(price);
            }),
        }
    }
}
