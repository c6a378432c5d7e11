//! The keys of Alpaca's messages, and what its values say in an encoding.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{DecodeReason, Error, Result};
use crate::feeds::events::{Venue, EQUITY, OPTION, PERPETUAL, SPOT};
use crate::feeds::fields::{self, long_keys, unfit, Slot};
use crate::feeds::rfc3339;
use crate::feeds::scan::Span;

pub use crate::feeds::fields::Values;

long_keys! {
    BP "bp", BS "bs", AP "ap", ASK_SIZE "as", TAKER "tks", ORIGINAL_ID "oi", CORRECTED_ID "ci",
    PRICE "cp", SIZE "cs", STATUS "sc", REASON "rc", TRADES "trades", QUOTES "quotes",
    BARS "bars", TRADE "trade", QUOTE "quote", BAR "bar", SYMBOL "symbol", MESSAGE "message",
}

/// Spans of an object's values, by slot.
pub type Fields = fields::Fields<{ slot::COUNT }>;

/// How a frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As text: times are texts.
    Json,
    /// In msgpack, and told again as text: times are numbers of ns.
    Msgpack,
}

/// What was told of the book of one instrument. The venue numbers nothing: see `book.rs`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ToldBook {
    /// The number of its last update.
    pub number: u64,
    /// Prices of its bids.
    pub bids: BTreeSet<i64>,
    /// Prices of its asks.
    pub asks: BTreeSet<i64>,
}

/// By instrument.
pub type Books = BTreeMap<u32, ToldBook>;

/// What decoding knows beside the frame.
pub struct Keys<'a> {
    /// How the frame was written.
    pub encoding: Encoding,
    /// Books that were told of.
    pub books: &'a mut Books,
    /// Whether the frame has stories.
    pub has_stories: &'a mut bool,
}

impl Venue for Keys<'_> {
    fn slot_of(key: &[u8]) -> Option<Slot> {
        slot::of(key)
    }
}

/// The class of an instrument, which its symbol tells: `BTC/USD` is a pair, `BTC-PERP` a
/// perpetual, `AAPL240308C00172500` an option, and all else a stock.
pub fn class_of(symbol: &[u8]) -> u8 {
    // A search that is called would take longer than so few bytes.
    for &letter in symbol {
        if letter == b'/' {
            return SPOT;
        }
    }
    if symbol.ends_with(b"-PERP") {
        return PERPETUAL;
    }
    let split = symbol.len().saturating_sub(15);
    let (root, [day @ .., right, _, _, _, _, _, _, _, _]) = symbol.split_at(split) else {
        return EQUITY;
    };
    let strike = &symbol[symbol.len() - 8..];
    let has_digits = day.len() == 6 && day.iter().chain(strike).all(u8::is_ascii_digit);
    if !root.is_empty() && has_digits && matches!(right, b'C' | b'P') {
        return OPTION;
    }
    EQUITY
}

impl Values<'_> {
    /// A time, in ns.
    ///
    /// # Errors
    /// `Error::Decode`: it is no time (`BadNumber`), or not written as one (`WrongType`);
    /// `Error::DoesNotFit`.
    pub fn moment(&mut self, span: Span, encoding: Encoding) -> Result<i64> {
        let byte = span.start as usize;
        if encoding == Encoding::Msgpack && span.of(self.bytes)[0] != b'"' {
            return self.time_in(span, "ts_event", &[(0, 1)]);
        }
        let ts = rfc3339::parse(self.text(span)?).map_err(|why| unfit(why, "ts_event", byte))?;
        if ts < 0 {
            return Err(Error::decode(DecodeReason::BadNumber, byte));
        }
        Ok(ts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_tell_their_class() {
        for (symbol, class) in [
            ("AAPL", EQUITY),
            ("BRK.B", EQUITY),
            ("BTC/USD", SPOT),
            ("BTC-PERP", PERPETUAL),
            ("AAPL240308C00172500", OPTION),
            ("SPXW240327P04925000", OPTION),
            ("240327P04925000", EQUITY),
            ("AAPL240308X00172500", EQUITY),
            ("ABCDEFGHIJKLMNOP", EQUITY),
            ("", EQUITY),
        ] {
            assert_eq!(class_of(symbol.as_bytes()), class, "{symbol}");
        }
    }
}
