//! A seeded day of NASDAQ at the level of orders, as messages of ITCH 5.0.
//!
//! The market holds every open order, so that its end state is what a book made of its messages
//! must be. A day begins with the directory and an opening auction of each stock, ends with a
//! closing one, and has every kind of message in between; orders are left open at its end. Chance
//! comes from the seed alone: the same seed, stocks and calls give the same bytes.

mod flow;
mod message;
mod packets;
mod script;
mod stock;

use std::collections::VecDeque;

use self::message::Messages;
use self::script::Item;
use self::stock::{Open, Stock};
use super::random::Random;
use crate::error::{Error, Result};
use crate::id_table::IdTable;

pub use packets::{mold_packets, MoldPacket};

/// Stocks that a market has at most: locates are of two bytes.
const STOCKS_MAX: usize = 20_000;
/// Executions that may be declared void.
const MATCHES_KEPT: usize = 64;

/// An order that is open, as the market knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOrder {
    /// Its reference number.
    pub id: u64,
    /// Whether it buys.
    pub is_bid: bool,
    /// Four decimals.
    pub price: u32,
    /// What is left of it.
    pub shares: u32,
}

/// A seeded market at the level of orders.
#[derive(Debug)]
pub struct ItchMarket {
    random: Random,
    stocks: Vec<Stock>,
    orders: IdTable<Open>,
    script: VecDeque<Item>,
    messages: Messages,
    /// Messages of the day; 0: until [`ItchMarket::finish`].
    messages_max: u64,
    is_closing: bool,
    /// In ns since midnight.
    time: u64,
    /// Mean time between two events, and what none is behind.
    gap_ns: f64,
    until: u64,
    /// Whether times are those of a day, whenever the messages are made.
    has_own_time: bool,
    order_last: u64,
    match_last: u64,
    matches: VecDeque<(u64, u16)>,
    tracking: u16,
}

impl ItchMarket {
    /// A market of `symbols`, whose day has `messages` messages; with 0 it has no end of its own.
    ///
    /// # Errors
    /// `Error::Invalid`: no symbol, too many, one twice, or one that is no symbol of the venue; or
    /// so few messages that a day cannot begin and end.
    pub fn new(symbols: &[String], seed: u64, messages: u64) -> Result<Self> {
        let mut symbols = symbols.to_vec();
        symbols.sort_unstable();
        if symbols.is_empty() || symbols.len() > STOCKS_MAX {
            let told = format!("expected 1 to {STOCKS_MAX} symbols, got {}", symbols.len());
            return Err(Error::invalid(told));
        }
        if let Some(twice) = symbols.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("{} is listed twice", twice[0])));
        }
        let mut stocks = Vec::with_capacity(symbols.len());
        for (at, symbol) in symbols.iter().enumerate() {
            stocks.push(Stock::new(symbol, at as u16 + 1, Random::of(seed, symbol))?);
        }
        let mut market = Self {
            random: Random::of(seed, "itch"),
            script: script::opening(stocks.len()),
            stocks,
            orders: IdTable::new(),
            messages: Messages::default(),
            messages_max: messages,
            is_closing: false,
            time: 0,
            gap_ns: 0.0,
            until: 0,
            has_own_time: true,
            order_last: 0,
            match_last: 0,
            matches: VecDeque::with_capacity(MATCHES_KEPT),
            tracking: 0,
        };
        let least = script::opening_messages(market.stocks.len()) + market.closing_messages();
        if messages != 0 && messages < least {
            return Err(Error::invalid(format!(
                "expected {least} messages or more, as a day of {} stocks has, got {messages}",
                market.stocks.len()
            )));
        }
        market.pace(None, 1);
        Ok(market)
    }

    /// Lets events happen until they gave `count` messages more, or the day is over; appends these
    /// to `out`, each behind its length, and returns how many there are: a few more than `count`
    /// where one event gives several. Their times are up to `until`, in ns since midnight; without
    /// it they are those of a whole day.
    pub fn take(&mut self, count: u64, until: Option<u64>, out: &mut Vec<u8>) -> u64 {
        self.pace(until, count);
        let before = self.messages.count;
        while self.messages.count < before.saturating_add(count) && !self.is_over() {
            self.step();
        }
        out.append(&mut self.messages.bytes);
        self.messages.count - before
    }

    /// Ends the day: the next messages are those of its end.
    pub fn finish(&mut self) {
        if !self.is_closing {
            // What has not begun is not begun any more.
            self.close();
        }
    }

    /// Whether the last message of the day was given.
    pub fn is_over(&self) -> bool {
        self.is_closing && self.script.is_empty()
    }

    /// Messages given so far.
    pub const fn sent(&self) -> u64 {
        self.messages.count
    }

    /// The letters of messages, and how many of each there were.
    pub fn counts(&self) -> impl Iterator<Item = (char, u64)> + '_ {
        let counts = self.messages.counts.iter().enumerate();
        counts.filter(|(_, &count)| count > 0).map(|(kind, &count)| (kind as u8 as char, count))
    }

    /// The open orders of `symbol`: bids, then offers, the best price first, at one price the
    /// oldest. `None` where there is no such stock.
    pub fn orders(&self, symbol: &str) -> Option<Vec<OpenOrder>> {
        let stock = self.stocks.iter().find(|stock| stock.name() == symbol)?;
        let of = |id: u64| {
            let order = self.orders.get(id).expect("a queue holds open orders alone");
            let (is_bid, price, shares) = (order.is_bid, order.price, order.shares);
            OpenOrder { id, is_bid, price, shares }
        };
        Some(stock.queued().map(of).collect())
    }

    /// The symbols, in the order of their locates.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.stocks.iter().map(Stock::name)
    }

    /// How fast time goes on in the next `count` messages.
    fn pace(&mut self, until: Option<u64>, count: u64) {
        self.has_own_time = until.is_none();
        match until {
            Some(until) => {
                self.until = until.min(script::TIME_MAX).max(self.time);
                self.gap_ns = (self.until - self.time) as f64 / count.max(1) as f64;
            }
            None => {
                let day = (script::CLOSE - script::OPEN) as f64;
                self.until = script::TIME_MAX;
                self.gap_ns = day / self.messages_max.max(1) as f64;
            }
        }
    }

    /// Lets one event happen.
    fn step(&mut self) {
        if let Some(item) = self.script.pop_front() {
            self.play(item);
            return;
        }
        let left = match self.messages_max {
            0 => u64::MAX,
            most => most.saturating_sub(self.messages.count + self.closing_messages()),
        };
        if left == 0 {
            self.close();
            return;
        }
        let gap = self.random.exponential() * self.gap_ns;
        let end = if self.has_own_time { script::CLOSE - 1 } else { self.until };
        self.time = (self.time + gap as u64).min(end.max(self.time));
        self.happen(left);
    }

    fn close(&mut self) {
        self.is_closing = true;
        self.script = script::closing(self.stocks.len());
    }

    fn closing_messages(&self) -> u64 {
        script::closing_messages(self.stocks.len())
    }
}

#[cfg(test)]
mod tests;
