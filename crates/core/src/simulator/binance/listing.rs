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

/// What a contract of COIN-M is worth in dollars: of Bitcoin, and of any other asset.
const CONTRACT_SIZES: (i64, i64) = (100, 10);
const ONE: i64 = 100_000_000;

/// The listing of `symbol`, such as `BTCUSDT`, or `BTCUSD_PERP` of COIN-M.
///
/// # Errors
/// `Error::Invalid`: it ends in no known currency.
pub fn listing_of(symbol: &str, product: FeedId) -> Result<Listing> {
    let symbol = symbol.to_uppercase();
    if product == FeedId::BinanceCoinm {
        return inverse(symbol);
    }
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
    let facts = if dollars { facts_of(base) } else { UNKNOWN };
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
        contract_size: 0,
        symbol,
    })
}

/// A perpetual contract such as `BTCUSD_PERP`, or one that is delivered: `BTCUSD_260327`.
fn inverse(symbol: String) -> Result<Listing> {
    let (base, end) = symbol
        .split_once("USD_")
        .filter(|(base, end)| !base.is_empty() && !end.is_empty())
        .ok_or_else(|| {
            Error::invalid(format!("expected a symbol like BTCUSD_PERP, got {symbol:?}"))
        })?;
    let facts = facts_of(base);
    let dollars = if base == "BTC" { CONTRACT_SIZES.0 } else { CONTRACT_SIZES.1 };
    // A usual size is worth so many dollars.
    let worth = i128::from(facts[0]) * i128::from(facts[1]) / 1_000_000_000_000_000_000;
    Ok(Listing {
        canonical: format!("{base}-USD-{end}"),
        currency: "USD".to_owned(),
        asset_class: if end == "PERP" { 2 } else { 3 },
        tick: facts[4],
        lot: ONE,
        price: facts[0] / facts[4],
        size: (worth as i64 / dollars).max(2),
        contract_size: dollars * ONE,
        symbol,
    })
}

fn facts_of(base: &str) -> [i64; 6] {
    KNOWN.iter().find(|(name, _)| *name == base).map_or(UNKNOWN, |(_, facts)| *facts)
}
