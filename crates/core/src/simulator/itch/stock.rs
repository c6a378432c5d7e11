//! One stock: the queues of its open orders, by price.

use std::collections::{BTreeMap, VecDeque};

use crate::error::{Error, Result};
use crate::simulator::random::Random;

/// A step of prices above one dollar, with four decimals.
pub(super) const CENT: u32 = 100;
/// Prices stay between these.
pub(super) const PRICE_MIN: u32 = CENT;
pub(super) const PRICE_MAX: u32 = 1_999_999_900;

/// An open order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Open {
    pub(super) stock: u32,
    pub(super) price: u32,
    pub(super) shares: u32,
    pub(super) is_bid: bool,
}

/// A queue of orders by price.
pub(super) type Queues = BTreeMap<u32, VecDeque<u64>>;

/// A stock and its book.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) symbol: [u8; 8],
    pub(super) locate: u16,
    /// What the price of the next order is near to where the other side has none.
    pub(super) price: u32,
    pub(super) bids: Queues,
    pub(super) asks: Queues,
    /// Open orders of bids and of offers.
    pub(super) open: [usize; 2],
    length: usize,
}

impl Stock {
    pub(super) fn new(name: &str, locate: u16, mut random: Random) -> Result<Self> {
        let is_symbol = |byte: u8| byte.is_ascii_graphic();
        if name.is_empty() || name.len() > 8 || !name.bytes().all(is_symbol) {
            let told = format!("expected a symbol of 1 to 8 letters, such as AAPL, got {name:?}");
            return Err(Error::invalid(told));
        }
        let mut symbol = [b' '; 8];
        symbol[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self {
            symbol,
            locate,
            price: CENT * (500 + random.below(30_000) as u32),
            bids: Queues::new(),
            asks: Queues::new(),
            open: [0; 2],
            length: name.len(),
        })
    }

    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.symbol[..self.length]).expect("it was made of a string")
    }

    pub(super) fn side(&self, is_bid: bool) -> &Queues {
        if is_bid {
            &self.bids
        } else {
            &self.asks
        }
    }

    pub(super) fn best(&self, is_bid: bool) -> Option<u32> {
        if is_bid {
            self.bids.keys().next_back().copied()
        } else {
            self.asks.keys().next().copied()
        }
    }

    /// The price `steps` behind the best one at which an order does not meet the other side.
    pub(super) fn price_behind(&self, is_bid: bool, steps: u32) -> u32 {
        let far = CENT * (steps + 1);
        let price = match (self.best(!is_bid), is_bid) {
            (Some(other), true) => other.saturating_sub(far),
            (Some(other), false) => other.saturating_add(far),
            (None, true) => self.price.saturating_sub(far),
            (None, false) => self.price.saturating_add(far),
        };
        price.clamp(PRICE_MIN, PRICE_MAX) / CENT * CENT
    }

    /// Whether an order at `price` would meet the other side.
    pub(super) fn crosses(&self, is_bid: bool, price: u32) -> bool {
        match self.best(!is_bid) {
            Some(other) if is_bid => price >= other,
            Some(other) => price <= other,
            None => false,
        }
    }

    pub(super) fn push(&mut self, is_bid: bool, price: u32, id: u64) {
        let side = if is_bid { &mut self.bids } else { &mut self.asks };
        side.entry(price).or_default().push_back(id);
        self.open[usize::from(is_bid)] += 1;
    }

    pub(super) fn remove(&mut self, is_bid: bool, price: u32, id: u64) {
        let side = if is_bid { &mut self.bids } else { &mut self.asks };
        let Some(queue) = side.get_mut(&price) else { return };
        let Some(place) = queue.iter().position(|&one| one == id) else { return };
        queue.remove(place);
        if queue.is_empty() {
            side.remove(&price);
        }
        self.open[usize::from(is_bid)] -= 1;
    }

    /// The first order at the best price.
    pub(super) fn front(&self, is_bid: bool) -> Option<u64> {
        let price = self.best(is_bid)?;
        self.side(is_bid).get(&price)?.front().copied()
    }

    /// An order of a side: often near the best price, any in its queue.
    pub(super) fn any(&self, is_bid: bool, random: &mut Random) -> Option<u64> {
        let side = self.side(is_bid);
        let depth = random.depth(4.0, side.len() as u64) as usize;
        let queue = if is_bid { side.values().rev().nth(depth) } else { side.values().nth(depth) };
        let queue = queue?;
        queue.get(random.below(queue.len() as u64) as usize).copied()
    }

    /// All orders: bids, then offers, the best price first, at one price the oldest.
    pub(super) fn queued(&self) -> impl Iterator<Item = u64> + '_ {
        self.bids.values().rev().chain(self.asks.values()).flatten().copied()
    }
}
