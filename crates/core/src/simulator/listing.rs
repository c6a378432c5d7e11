//! What a simulated venue lists: prices, steps and usual sizes of its instruments.

use crate::error::Result;
use crate::feeds::events::{EQUITY, INDEX, OPTION, SPOT};
use crate::instrument::Instruments;
use crate::record::{padded, Definition};

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
const CONTRACT: i64 = 100_000_000;
/// Base asset, price in cents, lot in units of 1e-8, usual size in lots.
const PAIRS: [(&str, i64, i64, i64); 3] = [
    ("BTC", 6_180_000, 10_000, 1_500),
    ("ETH", 265_000, 100_000, 2_000),
    ("SOL", 15_500, 1_000_000, 2_000),
];
const OTHER_PAIR: (&str, i64, i64, i64) = ("", 12_345, 1_000_000, 4_000);

/// One instrument as listed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The venue's symbol, upper case.
    pub symbol: String,
    /// The symbol that all venues of such an instrument share.
    pub canonical: String,
    /// The asset that pays.
    pub currency: String,
    /// As in a [`Definition`].
    pub asset_class: u8,
    /// Units of 1e-9.
    pub tick: i64,
    /// Units of 1e-8.
    pub lot: i64,
    /// Where the market opens, in ticks.
    pub price: i64,
    /// A usual size, in lots.
    pub size: i64,
    /// As in a [`Definition`].
    pub contract_size: i64,
}

impl Listing {
    /// A stock, in dollars and cents.
    pub fn stock(symbol: &str) -> Self {
        let known = STOCKS.into_iter().find(|(name, _)| *name == symbol);
        Self {
            symbol: symbol.to_owned(),
            canonical: symbol.to_owned(),
            currency: "USD".to_owned(),
            asset_class: EQUITY,
            tick: CENT,
            lot: ROUND_LOT,
            price: known.map_or(OTHER_STOCK, |(_, price)| price),
            size: 4,
            contract_size: 0,
        }
    }

    /// An option on a stock: sizes are contracts.
    pub fn option(symbol: &str) -> Self {
        Self { asset_class: OPTION, lot: CONTRACT, ..Self::stock(symbol) }
    }

    /// An index, which is no more than a value.
    pub fn index(symbol: &str) -> Self {
        Self { asset_class: INDEX, ..Self::stock(symbol) }
    }

    /// A pair of crypto, which a venue calls `symbol`, in hundredths of what it is paid in.
    pub fn pair(symbol: &str, base: &str, quote: &str) -> Self {
        let known = PAIRS.into_iter().find(|(name, ..)| *name == base);
        let (_, price, lot, size) = known.unwrap_or(OTHER_PAIR);
        Self {
            symbol: symbol.to_owned(),
            canonical: format!("{base}-{quote}"),
            currency: quote.to_owned(),
            asset_class: SPOT,
            tick: CENT,
            lot,
            price,
            size,
            contract_size: 0,
        }
    }

    /// Defines the instrument from `ts` on, for the feed of that number, and returns its id.
    ///
    /// # Errors
    /// `Error::Decode` (`TooLong`) for a symbol that fits no record.
    pub fn define(&self, instruments: &mut Instruments, feed: u8, ts: i64) -> Result<u32> {
        let id = instruments.define(feed, &self.symbol, ts)?;
        if let Some(known) = instruments.get(id) {
            let definition = Definition {
                tick_size: self.tick,
                lot_size: self.lot,
                canonical: padded(&self.canonical).unwrap_or([0; 40]),
                currency: padded(&self.currency).unwrap_or([0; 24]),
                asset_class: self.asset_class,
                status: 1,
                contract_size: self.contract_size,
                ..*known
            };
            instruments.update(&definition);
        }
        Ok(id)
    }
}
