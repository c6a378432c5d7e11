//! What the simulated venue lists: prices, steps and usual sizes of its instruments.

use crate::error::{Error, Result};
use crate::feeds::{binance::is_futures, FeedId};
use crate::instrument::Instruments;
use crate::record::{padded, Definition};

/// One instrument as listed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The venue's symbol, upper case.
    pub symbol: String,
    /// The asset that is bought.
    pub base: String,
    /// The asset that pays.
    pub quote: String,
    /// Units of 1e-9.
    pub tick: i64,
    /// Units of 1e-8.
    pub lot: i64,
    /// Where the market opens, in ticks.
    pub price: i64,
    /// A usual size, in lots.
    pub size: i64,
}

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

impl Listing {
    /// The listing of `symbol`, such as `BTCUSDT`.
    ///
    /// # Errors
    /// `Error::Invalid`: it ends in no known currency.
    pub fn of(symbol: &str, product: FeedId) -> Result<Self> {
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
        let (tick, lot) = match product {
            product if is_futures(product) => (facts[4], facts[5] / 10),
            _ => (facts[2], facts[3] / 10),
        };
        Ok(Self {
            base: base.to_owned(),
            quote: quote.to_owned(),
            tick,
            lot,
            price: facts[0] / tick,
            size: (facts[1] / 10 / lot).max(2),
            symbol,
        })
    }

    /// Defines the instrument from `ts` on, and returns its id.
    ///
    /// # Errors
    /// `Error::Decode` (`TooLong`) for a symbol that fits no record.
    pub fn define(&self, instruments: &mut Instruments, product: FeedId, ts: i64) -> Result<u32> {
        let id = instruments.define(product as u8, &self.symbol, ts)?;
        let usdm = is_futures(product);
        let suffix = if usdm { "-PERP" } else { "" };
        let canonical = format!("{}-{}{suffix}", self.base, self.quote);
        if let Some(known) = instruments.get(id) {
            let definition = Definition {
                tick_size: self.tick,
                lot_size: self.lot,
                canonical: padded(&canonical).unwrap_or([0; 40]),
                currency: padded(&self.quote).unwrap_or([0; 24]),
                asset_class: if usdm { 2 } else { 1 },
                status: 1,
                ..*known
            };
            instruments.update(&definition);
        }
        Ok(id)
    }
}
