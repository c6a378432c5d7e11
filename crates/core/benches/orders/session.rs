//! A seeded session of ITCH: what its messages do to the orders of a market, and no more.
//!
//! Types come in the parts of a real day (44 % added, 43 % deleted, 8 % replaced, 5 % executed and
//! cancelled), stocks by a power law, prices around one that moves for each stock. Most orders that
//! change are young; the rest are any of those that rest.

use std::collections::HashMap;

/// Stocks of the session, about those of a day.
pub const STOCKS: usize = 8_000;
/// Orders that rest when the market has filled up.
const RESTING: usize = 1_000_000;
/// Messages since an order was added, on average, when it changes young.
const YOUNG: f64 = 20_000.0;
/// Time of the first message, and between two, in ns.
const BEGIN: u64 = 34_200_000_000_000;
const STEP: u64 = 400;

/// One order that rests.
#[derive(Clone, Copy)]
pub struct Resting {
    pub id: u64,
    pub price: u32,
    pub shares: u32,
    /// Locate of the stock.
    pub stock: u16,
    pub is_bid: bool,
}

/// Splitmix.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Between 0 and 1, neither of them.
    fn part(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.part().ln() * mean
    }
}

/// The market.
pub struct Session {
    random: Random,
    resting: Vec<Resting>,
    prices: Vec<u32>,
    id: u64,
    time: u64,
    matches: u64,
    /// Messages so far.
    pub count: u64,
}

impl Session {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let prices = (0..STOCKS).map(|_| 50_000 + random.below(2_000_000) as u32 / 100 * 100);
        let prices = prices.collect();
        let resting = Vec::with_capacity(RESTING * 2);
        Self { random, resting, prices, id: 0, time: BEGIN, matches: 0, count: 0 }
    }

    /// The orders that rest now, by id.
    pub fn orders(&self) -> HashMap<u64, Resting> {
        self.resting.iter().map(|one| (one.id, *one)).collect()
    }

    /// Appends the start of messages and the directory.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.put(out, b'S', 0, b"O");
        for stock in 1..=STOCKS as u16 {
            let symbol = symbol(stock);
            self.put(out, b'R', stock, &[&symbol[..], b"N \0\0\0\x64NCZ PNN1N\0\0\0\0N"].concat());
        }
    }

    /// Appends the messages of `count` events.
    pub fn go_on(&mut self, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.step(out);
        }
    }

    fn step(&mut self, out: &mut Vec<u8>) {
        let draw = self.random.below(1000);
        // As many are added as go, once the market is full.
        let added = if self.resting.len() < RESTING { 700 } else { 442 };
        if draw < added || self.resting.len() < 1000 {
            let order = self.draw_order();
            self.resting.push(order);
            let side = if order.is_bid { b'B' } else { b'S' };
            let (shares, price) = (order.shares.to_be_bytes(), order.price.to_be_bytes());
            let symbol = symbol(order.stock);
            let body = [&order.id.to_be_bytes()[..], &[side], &shares, &symbol, &price].concat();
            return self.put(out, b'A', order.stock, &body);
        }
        let at = self.pick();
        let order = self.resting[at];
        let id = order.id.to_be_bytes();
        match draw {
            0..880 => {
                self.resting.swap_remove(at);
                self.put(out, b'D', order.stock, &id);
            }
            880..958 => {
                let new = Resting { stock: order.stock, is_bid: order.is_bid, ..self.draw_order() };
                let price = self.price(order.stock, order.is_bid);
                self.resting.swap_remove(at);
                self.resting.push(Resting { price, ..new });
                let (shares, price) = (new.shares.to_be_bytes(), price.to_be_bytes());
                let body = [&id[..], &new.id.to_be_bytes(), &shares, &price].concat();
                self.put(out, b'U', order.stock, &body);
            }
            958..987 => {
                // Most executions take all of an order.
                let shares = if draw < 980 { order.shares } else { 1 + order.shares / 2 };
                self.take(at, shares);
                self.matches += 1;
                let body = [&id[..], &shares.to_be_bytes(), &self.matches.to_be_bytes()].concat();
                self.put(out, b'E', order.stock, &body);
            }
            _ if order.shares > 1 => {
                let shares = order.shares / 2;
                self.take(at, shares);
                self.put(out, b'X', order.stock, &[&id[..], &shares.to_be_bytes()].concat());
            }
            _ => {}
        }
    }

    fn take(&mut self, at: usize, shares: u32) {
        self.resting[at].shares -= shares.min(self.resting[at].shares);
        if self.resting[at].shares == 0 {
            self.resting.swap_remove(at);
        }
    }

    /// An order that changes now.
    fn pick(&mut self) -> usize {
        let length = self.resting.len();
        if self.random.below(10) == 0 {
            return self.random.below(length as u64) as usize;
        }
        length - 1 - (self.random.exponential(YOUNG) as usize).min(length - 1)
    }

    fn draw_order(&mut self) -> Resting {
        let stock = 1 + ((STOCKS as f64).powf(self.random.part()) - 1.0) as u16;
        let is_bid = self.random.next() & 1 == 0;
        let price = self.price(stock, is_bid);
        let shares =
            if self.random.next() & 1 == 0 { 100 } else { 1 + self.random.below(500) as u32 };
        self.id += 1 + self.random.below(3);
        Resting { id: self.id, price, shares, stock, is_bid }
    }

    /// A price some cents from the middle of the stock.
    fn price(&mut self, stock: u16, is_bid: bool) -> u32 {
        let middle = &mut self.prices[usize::from(stock) - 1];
        if self.random.below(64) == 0 {
            *middle = (*middle + 200 * (self.random.next() & 1) as u32 - 100).max(20_000);
        }
        let middle = *middle;
        let away = 100 * (1 + self.random.exponential(8.0).min(150.0) as u32);
        if is_bid {
            middle - away
        } else {
            middle + away
        }
    }

    fn put(&mut self, out: &mut Vec<u8>, kind: u8, locate: u16, body: &[u8]) {
        self.time += self.random.below(2 * STEP);
        self.count += 1;
        out.extend_from_slice(&(body.len() as u16 + 11).to_be_bytes());
        out.push(kind);
        out.extend_from_slice(&locate.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.time.to_be_bytes()[2..]);
        out.extend_from_slice(body);
    }
}

fn symbol(stock: u16) -> [u8; 8] {
    let mut symbol = *b"        ";
    let text = format!("T{stock}");
    symbol[..text.len()].copy_from_slice(text.as_bytes());
    symbol
}
