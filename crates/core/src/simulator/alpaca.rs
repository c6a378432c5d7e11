//! The market as Alpaca tells of it: events of its streams, rows of its REST interface.
//!
//! Stocks and pairs of crypto trade in one market; a venue's path serves one of them. Each frame
//! holds the events of one instant and stream, to be put into arrays on their way out.

use std::sync::Arc;

use super::frames::{Frames, Names, VenueFrame, Wrapping};
use super::market::{Event, Facts, Market, MarketConfig};
use super::past::{one, Rows};
use super::streams::StreamKind;
use crate::error::{Error, Result};
use crate::feeds::alpaca::{self, class_of, ALPACA, EQUITY, SPOT};
use crate::feeds::events::OPTION;
use crate::instrument::Instruments;
use crate::record::{Bar, Records, Side, Trade};

mod listing;

const MINUTE_MS: u32 = 60_000;
const DAY_MS: u32 = 24 * 60 * MINUTE_MS;
/// How often price bands are told, in ms.
const BANDS_MS: u32 = 1_000;
/// How often a book tells its changes, in ms.
const BOOK_MS: u32 = 100;

/// A [`Market`] that speaks as Alpaca does.
#[derive(Debug)]
pub struct AlpacaMarket {
    market: Market,
    names: Names,
}

impl AlpacaMarket {
    /// A market of `symbols` that opens as `config` says.
    ///
    /// # Errors
    /// `Error::Invalid`: no symbols, one twice, or one that is neither a stock nor a pair.
    pub fn new(symbols: &[String], config: &MarketConfig) -> Result<Self> {
        let listings = symbols.iter().map(|symbol| listing::listing_of(symbol));
        let listings = listings.collect::<Result<Vec<_>>>()?;
        Ok(Self { market: Market::new(ALPACA, listings, config)?, names: Arc::default() })
    }

    /// The time up to which everything has happened, in ns.
    pub const fn now(&self) -> i64 {
        self.market.now()
    }

    /// The number of the stream called `name`, such as `trades.AAPL`, opened if it was not.
    /// `None`: the venue accepts the name and never sends anything.
    pub fn stream(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.names.iter().position(|known| **known == *name) {
            return Some(known as u32);
        }
        let (channel, symbol) = name.split_once('.')?;
        let kind = match channel {
            "lulds" if class_of(symbol.as_bytes()) == EQUITY => {
                StreamKind::Bands { every_ms: BANDS_MS }
            }
            "bars" | "dailyBars" if class_of(symbol.as_bytes()) == OPTION => return None,
            "trades" => StreamKind::Trade,
            "quotes" => StreamKind::BookTicker,
            "bars" => StreamKind::Kline { interval_ms: MINUTE_MS, every_ms: MINUTE_MS },
            "dailyBars" => StreamKind::Kline { interval_ms: DAY_MS, every_ms: MINUTE_MS },
            "orderbooks" if symbol.contains('/') => StreamKind::Depth { every_ms: BOOK_MS },
            _ => return None,
        };
        let number = self.market.open(symbol, kind)?;
        Arc::make_mut(&mut self.names).push(name.into());
        Some(number)
    }

    /// Says whether the frames of a stream are to be made.
    pub fn want(&mut self, stream: u32, wanted: bool) {
        self.market.want(stream, wanted);
    }

    /// Lets everything happen up to and including `to` ns and returns the events that tell of it:
    /// objects of JSON, and with `packed` of msgpack as well.
    ///
    /// # Errors
    /// None in practice: the market makes only what the venue has messages for.
    pub fn advance(&mut self, to: i64, packed: bool) -> Result<Frames> {
        let mut frames = Frames::new(Arc::clone(&self.names), Wrapping::default());
        let mut text = Vec::new();
        self.market.advance(to, &mut |instruments, event| {
            if !is_told(event) {
                return Ok(());
            }
            text.clear();
            write(event.records, instruments, &mut text)?;
            let Event { stream, ts, first, last, .. } = *event;
            let frame = VenueFrame { stream, ts, first, last, payload: &[] };
            frames.push(frame, packed, |in_msgpack, out| {
                if in_msgpack {
                    return alpaca::pack(&text, out);
                }
                out.extend_from_slice(&text);
                Ok(())
            })
        })?;
        Ok(frames)
    }

    /// The whole book of `symbol`, as the venue tells it when it is subscribed: one object.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed.
    pub fn book(&self, symbol: &str, packed: bool) -> Result<Vec<u8>> {
        let (mut records, mut text) = (Records::new(), Vec::new());
        self.market.snapshot(symbol, usize::MAX, &mut records).ok_or_else(|| not_listed(symbol))?;
        write(&records, self.market.instruments(), &mut text)?;
        packed_if(packed, text)
    }

    /// The last quote of `symbol`: one object.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not listed.
    pub fn quote(&self, symbol: &str) -> Result<Vec<u8>> {
        let (mut records, mut text) = (Records::new(), Vec::new());
        self.market.quote(symbol, &mut records).ok_or_else(|| not_listed(symbol))?;
        write(&records, self.market.instruments(), &mut text)?;
        Ok(text)
    }

    /// Rows of the past of `symbol`, oldest first, as an array of objects; the place of the last
    /// one, and whether there are more. Bars are those that are over.
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
            // The encoder has one word for the bars of all lengths.
            let minute = records.iter().find_map(|record| record.get::<Bar>());
            let minute = minute.map(|bar| one(&Bar { interval_ms: MINUTE_MS, ..bar }));
            let row = minute.as_ref().unwrap_or(records);
            write(row, self.market.instruments(), &mut out)?;
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

/// Whether the venue tells of an event: of minutes those that are over, of days the one that runs.
fn is_told(event: &Event<'_>) -> bool {
    let bar = event.records.iter().find_map(|record| record.get::<Bar>());
    bar.is_none_or(|bar| (bar.interval_ms == MINUTE_MS) == (bar.closed != 0))
}

/// Appends the object for the records of an event. Trades of stocks have no taker, and are regular;
/// those of options have no id either.
fn write(records: &Records, instruments: &Instruments, out: &mut Vec<u8>) -> Result<()> {
    let trade = records.iter().find_map(|record| record.get::<Trade>());
    let class = |id: u32| instruments.get(id).map_or(EQUITY, |known| known.asset_class);
    let changed = trade.and_then(|trade| match class(trade.header.instrument) {
        SPOT => None,
        OPTION => Some(one(&Trade { side: Side::None as u8, trade_id: 0, ..trade })),
        _ => Some(one(&Trade { side: Side::None as u8, conditions: [b'@', 0], ..trade })),
    });
    alpaca::encode_object(changed.as_ref().unwrap_or(records), instruments, out)
}

fn packed_if(packed: bool, text: Vec<u8>) -> Result<Vec<u8>> {
    if !packed {
        return Ok(text);
    }
    let mut out = Vec::new();
    alpaca::pack(&text, &mut out)?;
    Ok(out)
}

fn not_listed(symbol: &str) -> Error {
    Error::invalid(format!("{symbol:?} is not listed"))
}

#[cfg(test)]
mod tests;
