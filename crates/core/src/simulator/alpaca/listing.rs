//! What the simulated Alpaca lists, by the symbols that it has.

use crate::error::{Error, Result};
use crate::feeds::alpaca::{class_of, EQUITY, SPOT};
use crate::feeds::events::OPTION;
use crate::simulator::listing::Listing;

/// The listing of `symbol`, such as `AAPL`, `AAPL240308C00172500` or `BTC/USD`.
///
/// # Errors
/// `Error::Invalid`: it is neither a stock, an option nor a pair.
pub fn listing_of(symbol: &str) -> Result<Listing> {
    let class = class_of(symbol.as_bytes());
    match symbol.split_once('/') {
        Some((base, quote)) if class == SPOT && !base.is_empty() && !quote.is_empty() => {
            Ok(Listing::pair(symbol, base, quote))
        }
        None if class == OPTION => Ok(Listing::option(symbol)),
        None if class == EQUITY && !symbol.is_empty() => Ok(Listing::stock(symbol)),
        _ => Err(Error::invalid(format!(
            "expected stocks such as AAPL, options such as AAPL240308C00172500 and pairs such as \
             BTC/USD, got {symbol:?}"
        ))),
    }
}
