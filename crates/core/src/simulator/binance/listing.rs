//! What the simulated Binance lists, by the symbols that it has.

use crate::error::{Error, Result};
use crate::feeds::{binance::is_futures, FeedId};
use crate::simulator::listing::Listing;

/// Base asset, price, usual size; tick on spot, lot on spot, tick on futures, lot on futures. All
/// as billionths.
const KNOWN: [(&str, [i64; 6]); 8] = [
    ("BTC", [61_800_000_000_000, 150_000_000, 10_000_000, 10_000, 100_000_000, 1_000_000]),
    ("ETH", [2_650_000_000_000, 2_000_000_000, 10_000_000, 100_000, 10_000_000, 1_000_000]),
    ("SOL", [155_000_000_000, 20_000_000_000, 10_000_000, 1_000_000, 10_000_000, 10_000_000]),
    ("BNB", [512_000_000_000, 5_000_000_000, 100_000_000, 1_000_000, 10_000_000, 10_000_000]),
    ("XRP", [612_300_000, 900_000_000_000, 100_000, 1_000_000_000, 100_000, 100_000_000]),
    ("DOGE", [101_230_000, 5_000_000_000_000, 10_000, 1_000_000_000, 10_000, 1_000_000_000]),
    ("ADA", [341_500_000, 2_000_000_000_000, 100_000, 100_000_000, 100_000, 1_000_000_000]),
    ("LINK", [10_430_000_000, 60_000_000_000, 10_000_000, 10_000_000, 1_000_000, 10_000_000]),
];
const QUOTES: [&str; 7] = ["USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR"];
/// Of any other asset.
const UNKNOWN: [i64; 6] =
    [1_234_500_000, 400_000_000_000, 100_000, 100_000_000, 100_000, 1_000_000_000];

/// The listing of `symbol`, such as `BTCUSDT`.
///
/// # Errors
/// `Error::Invalid`: it ends in no known currency.
pub fn listing_of(symbol: &str, product: FeedId) -> Result<Listing> {
    let symbol = symbol.to_uppercase();
    let (base, quote) = QUOTES
        .iter()
        .find_map(|quote| symbol.strip_suffix(quote).map(|base| (base, *quote)))
        .filter(|(base, _)| !base.is_empty())
        .ok_or_else(|| {
            let known = QUOTES.join(", ");
            Error::invalid(format!("expected a symbol that ends in {known}, got {symbol:?}"))
        })?;
    // Paid in another asset than dollars, a price means nothing real: any will do.
    let dollars = ["USDT", "USDC", "FDUSD", "EUR"].contains(&quote);
    let facts = KNOWN.iter().find(|(name, _)| dollars && *name == base);
    let facts = facts.map_or(UNKNOWN, |(_, facts)| *facts);
    let usdm = is_futures(product);
    let (tick, lot) = if usdm { (facts[4], facts[5] / 10) } else { (facts[2], facts[3] / 10) };
    Ok(Listing {
        canonical: format!("{base}-{quote}{}", if usdm { "-PERP" } else { "" }),
        currency: quote.to_owned(),
        asset_class: if usdm { 2 } else { 1 },
        tick,
        lot,
        price: facts[0] / tick,
        size: (facts[1] / 10 / lot).max(2),
        symbol,
    })
}
