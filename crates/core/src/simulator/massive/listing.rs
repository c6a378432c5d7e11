//! What the simulated Massive lists, by the symbols that it has.

use crate::error::{Error, Result};
use crate::simulator::listing::Listing;

/// The listing of `symbol`, such as `AAPL` or `BTC-USD`.
///
/// # Errors
/// `Error::Invalid`: it is neither a stock nor a pair.
pub fn listing_of(symbol: &str) -> Result<Listing> {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    match symbol.split_once('-') {
        Some((base, quote)) if is_name(base) && is_name(quote) => {
            Ok(Listing::pair(symbol, base, quote))
        }
        None if is_name(symbol) => Ok(Listing::stock(symbol)),
        _ => Err(Error::invalid(format!(
            "expected stocks such as AAPL and pairs such as BTC-USD, got {symbol:?}"
        ))),
    }
}
