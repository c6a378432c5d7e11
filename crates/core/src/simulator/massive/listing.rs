//! What the simulated Massive lists, by the symbols that it has.

use crate::error::{Error, Result};
use crate::simulator::listing::Listing;

/// The listing of `symbol`, such as `AAPL`, `O:AAPL251219C00200000`, `I:SPX` or `BTC-USD`.
///
/// # Errors
/// `Error::Invalid`: it is none of these.
pub fn listing_of(symbol: &str) -> Result<Listing> {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    match symbol.split_once(':') {
        Some(("O", contract)) if is_option(contract) => return Ok(Listing::option(symbol)),
        Some(("I", name)) if is_name(name) => return Ok(Listing::index(symbol)),
        _ => {}
    }
    match symbol.split_once('-') {
        Some((base, quote)) if is_name(base) && is_name(quote) => {
            Ok(Listing::pair(symbol, base, quote))
        }
        None if is_name(symbol) => Ok(Listing::stock(symbol)),
        _ => Err(Error::invalid(format!(
            "expected stocks such as AAPL, options such as O:AAPL251219C00200000, indices such as \
             I:SPX and pairs such as BTC-USD, got {symbol:?}"
        ))),
    }
}

/// Whether `contract` is a root, a day, `C` or `P`, and a strike, as the OCC writes them.
fn is_option(contract: &str) -> bool {
    let Some(split) = contract.len().checked_sub(15).filter(|&split| split > 0) else {
        return false;
    };
    let (root, rest) = contract.as_bytes().split_at(split);
    let digits = rest[..6].iter().chain(&rest[7..]).all(u8::is_ascii_digit);
    root.iter().all(u8::is_ascii_alphanumeric) && digits && matches!(rest[6], b'C' | b'P')
}
