//! The market as Massive tells of it: events of its streams, rows of its REST interface.
//!
//! Stocks, options, indices and pairs of crypto are in one market; a venue's path serves one of
//! them. Each frame
//! holds one event, to be put into arrays on their way out. Streams tell milliseconds, and rows
//! nanoseconds.

use std::sync::Arc;

use super::frames::{Frames, Names, VenueFrame, Wrapping};
use super::market::{Event, Facts, Market, MarketConfig};
use super::past::{one, Rows};
use super::streams::StreamKind;
use crate::error::{Error, Result};
use crate::feeds::events::INDEX;
use crate::feeds::massive::{encode_object, encode_row, MASSIVE};
use crate::instrument::Instruments;
use crate::record::{Bar, Mark, Quote, Records, NONE};

mod listing;

/// The number of the exchange on which all pairs trade.
const PAIR_EXCHANGE: u8 = 1;
const SECOND_MS: u32 = 1_000;
const MINUTE_MS: u32 = 60_000;
const NS_PER_MS: i64 = 1_000_000;
/// Levels a side of a book, and how often it is told, in ms.
const BOOK_LEVELS: u32 = 100;
const BOOK_MS: u32 = 100;

/// A [`Market`] that speaks as Massive does.
#[derive(Debug)]
pub struct MassiveMarket {
    market: Market,
    /// As the market's, with the one exchange on which a pair trades.
    told: Instruments,
    names: Names,
    /// By stream: the time in ms of the last quote of a pair; none of all else.
    quoted: Vec<Option<i64>>,
}

impl MassiveMarket {
    /// A market of `symbols` that opens as `config` says.
    ///
    /// # Errors
    /// `Error::Invalid`: no symbols, one twice, or one that is neither a stock nor a pair.
    pub fn new(symbols: &[String], config: &MarketConfig) -> Result<Self> {
        let listings = symbols.iter().map(|symbol| listing::listing_of(symbol));
        let listings = listings.collect::<Result<Vec<_>>>()?;
        let mut told = Instruments::new();
        for listing in &listings {
            let mut listing = listing.clone();
            if is_pair(&listing.symbol) {
                listing.symbol = format!("{}@{PAIR_EXCHANGE}", listing.symbol);
            }
            listing.define(&mut told, MASSIVE.number(), config.start)?;
        }
        let market = Market::new(MASSIVE, listings, config)?;
        Ok(Self { market, told, names: Arc::default(), quoted: Vec::new() })
    }

    /// The time up to which everything has happened, in ns.
    pub const fn now(&self) -> i64 {
        self.market.now()
    }

    /// The number of the stream called `name`, such as `T.AAPL`, opened if it was not. `None`: the
    /// venue accepts the name and never sends anything.
    pub fn stream(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.names.iter().position(|known| **known == *name) {
            return Some(known as u32);
        }
        let (channel, symbol) = name.split_once('.')?;
        let is_index = symbol.starts_with("I:");
        let kind = match (channel, is_pair(symbol)) {
            ("V", false) if is_index => StreamKind::Mark { every_ms: SECOND_MS },
            // An index is nothing that is traded.
            _ if is_index => return None,
            ("FMV", _) => StreamKind::Mark { every_ms: SECOND_MS },
            ("LULD", false) if !symbol.starts_with("O:") => {
                StreamKind::Bands { every_ms: SECOND_MS }
            }
            ("T", false) | ("XT", true) => StreamKind::Trade,
            ("Q", false) | ("XQ", true) => StreamKind::BookTicker,
            ("A", false) | ("XAS", true) => {
                StreamKind::Kline { interval_ms: SECOND_MS, every_ms: SECOND_MS }
            }
            ("AM", false) | ("XA", true) => {
                StreamKind::Kline { interval_ms: MINUTE_MS, every_ms: MINUTE_MS }
            }
            ("XL2", true) => StreamKind::PartialDepth { levels: BOOK_LEVELS, every_ms: BOOK_MS },
            _ => return None,
        };
        let number = self.market.open(symbol, kind)?;
        Arc::make_mut(&mut self.names).push(name.into());
        self.quoted.push((channel == "XQ").then_some(0));
        Some(number)
    }

    /// Says whether the events of a stream are to be made.
    pub fn want(&mut self, stream: u32, wanted: bool) {
        self.market.want(stream, wanted);
    }

    /// Lets everything happen up to and including `to` ns and returns the events that tell of it.
    ///
    /// # Errors
    /// None in practice: the market makes only what the venue has messages for.
    pub fn advance(&mut self, to: i64) -> Result<Frames> {
        let mut frames = Frames::new(Arc::clone(&self.names), Wrapping::default());
        let Self { market, told, quoted, .. } = self;
        market.advance(to, &mut |market_instruments, event| {
            if !is_told(event, &mut quoted[event.stream as usize]) {
                return Ok(());
            }
            let Event { stream, ts, first, last, .. } = *event;
            let frame = VenueFrame { stream, ts, first, last, payload: &[] };
            let value = value_of(event.records, market_instruments);
            let records = value.as_ref().unwrap_or(event.records);
            frames.push(frame, false, |_, out| encode_object(records, told, out))
        })?;
        Ok(frames)
    }

    /// The last quote of `symbol`: one object, as on the stream.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed.
    pub fn quote(&self, symbol: &str) -> Result<Vec<u8>> {
        let (mut records, mut out) = (Records::new(), Vec::new());
        self.market.quote(symbol, &mut records).ok_or_else(|| not_listed(symbol))?;
        encode_object(&records, &self.told, &mut out)?;
        Ok(out)
    }

    /// Rows of the past of `symbol` as an array of objects; the place of the last one, and whether
    /// there are more.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed, or there are no bars of that length.
    pub fn rows(&mut self, symbol: &str, wanted: Rows) -> Result<(Vec<u8>, u64, bool)> {
        let past = self.market.past(symbol, wanted)?;
        let mut out = vec![b'['];
        for records in &past.rows {
            if out.len() > 1 {
                out.push(b',');
            }
            encode_row(records, self.market.instruments(), &mut out)?;
        }
        out.push(b']');
        Ok((out, past.last, past.has_more))
    }

    /// How the instrument called `symbol` stands.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed.
    pub fn facts(&self, symbol: &str) -> Result<Facts> {
        self.market.facts(symbol).ok_or_else(|| not_listed(symbol))
    }
}

/// Whether the venue tells of an event: of bars those that are over and have trades. Quotes of
/// pairs have no number, so that of those within a millisecond only the first can be told apart.
fn is_told(event: &Event<'_>, quoted: &mut Option<i64>) -> bool {
    let Some(first) = event.records.iter().next() else { return false };
    if let Some(bar) = first.get::<Bar>() {
        return bar.closed != 0 && bar.count > 0;
    }
    match (first.get::<Quote>(), quoted) {
        (Some(_), Some(last)) => {
            let ms = event.ts / NS_PER_MS;
            std::mem::replace(last, ms) != ms
        }
        _ => true,
    }
}

/// What is told of an index: its value alone. `None`: it is none, and told as it is.
fn value_of(records: &Records, instruments: &Instruments) -> Option<Records> {
    let mark = records.iter().find_map(|record| record.get::<Mark>())?;
    let is_index = instruments.get(mark.header.instrument)?.asset_class == INDEX;
    is_index.then(|| one(&Mark { index_price: mark.mark_price, mark_price: NONE, ..mark }))
}

/// Whether a symbol is that of a pair, such as `BTC-USD`.
fn is_pair(symbol: &str) -> bool {
    symbol.contains('-')
}

fn not_listed(symbol: &str) -> Error {
    Error::invalid(format!("{symbol:?} is not listed"))
}

#[cfg(test)]
mod tests;
