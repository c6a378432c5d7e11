//! What the simulated Alpaca lists, by the symbols that it has.

use crate::error::{Error, Result};
use crate::feeds::alpaca::{class_of, EQUITY, SPOT};
use crate::simulator::listing::Listing;

const CENT: i64 = 10_000_000;
/// Stocks trade in round lots: an odd lot would change no bar. Units of 1e-8.
const ROUND_LOT: i64 = 100 * 100_000_000;
/// Symbol, price in cents. Any other stock opens at another price.
const STOCKS: [(&str, i64); 6] = [
    ("AAPL", 23_150),
    ("MSFT", 47_820),
    ("NVDA", 17_640),
    ("SPY", 66_210),
    ("TSLA", 41_905),
    ("FAKEPACA", 13_422),
];
const OTHER_STOCK: i64 = 5_025;
/// Base asset, price in cents, lot in units of 1e-8, usual size in lots.
const PAIRS: [(&str, i64, i64, i64); 3] = [
    ("BTC", 6_180_000, 10_000, 1_500),
    ("ETH", 265_000, 100_000, 2_000),
    ("SOL", 15_500, 1_000_000, 2_000),
];
const OTHER_PAIR: (&str, i64, i64, i64) = ("", 12_345, 1_000_000, 4_000);

/// The listing of `symbol`, such as `AAPL` or `BTC/USD`.
///
/// # Errors
/// `Error::Invalid`: it is neither a stock nor a pair.
pub fn listing_of(symbol: &str) -> Result<Listing> {
    let class = class_of(symbol.as_bytes());
    let of = |currency: &str, price: i64, lot: i64, size: i64| Listing {
        symbol: symbol.to_owned(),
        canonical: symbol.replace('/', "-"),
        currency: currency.to_owned(),
        asset_class: class,
        tick: CENT,
        lot,
        price,
        size,
        contract_size: 0,
    };
    match symbol.split_once('/') {
        Some((base, quote)) if class == SPOT && !base.is_empty() && !quote.is_empty() => {
            let known = PAIRS.into_iter().find(|(name, ..)| *name == base);
            let (_, price, lot, size) = known.unwrap_or(OTHER_PAIR);
            Ok(of(quote, price, lot, size))
        }
        None if class == EQUITY && !symbol.is_empty() => {
            let known = STOCKS.into_iter().find(|(name, _)| *name == symbol);
            Ok(of("USD", known.map_or(OTHER_STOCK, |(_, price)| price), ROUND_LOT, 4))
        }
        _ => Err(Error::invalid(format!(
            "expected stocks such as AAPL and pairs such as BTC/USD, got {symbol:?}"
        ))),
    }
}
